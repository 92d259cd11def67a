// Package corpus is the text that the reference model is trained and measured on: the documents of the pinned llama.cpp tree and the
// comments of its sources, by its MIT license.
//
// The held-out text is a few documents that training never sees. A line that one of them shares with another file (options are
// documented in several places) is removed from the other file.
package corpus

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// heldOut are the documents that training never sees: prose, commands, tables and figures in about the mixture of the others.
var heldOut = []string{
	"docs/backend/CANN.md",
	"docs/multi-gpu.md",
	"docs/speculative.md",
	"tools/quantize/README.md",
}

// sources are the files whose comments are read, by how a comment begins.
var sources = map[string]string{
	".c": "//", ".cpp": "//", ".h": "//", ".hpp": "//", ".cu": "//", ".cuh": "//", ".metal": "//", ".py": "#",
}

const (
	repeated = 24 // bytes of text from which on a line counts as copied if it occurs elsewhere
	passage  = 60 // bytes below which consecutive comment lines are not worth reading
)

// Corpus is the text of a tree.
type Corpus struct {
	Train   []string // documents, in the order of their paths, those made of comments last
	HeldOut string
}

// File is a file of a tree.
type File struct{ Path, Text string }

// Read returns the text of a commit in the git repository dir.
func Read(ctx context.Context, dir, commit string) (Corpus, error) {
	args := []string{"archive", "--format=tar", commit, "--", ":(glob)**/*.md"}
	for ext := range sources {
		args = append(args, ":(glob)**/*"+ext)
	}
	out, err := git.Repo{Dir: dir}.Run(ctx, args...)
	if err != nil {
		return Corpus{}, err
	}
	var files []File
	for archive := tar.NewReader(strings.NewReader(out)); ; {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return Split(files)
		}
		if err != nil {
			return Corpus{}, fmt.Errorf("commit %s of %s: %w", commit, dir, err)
		}
		if entry.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return Corpus{}, fmt.Errorf("commit %s of %s: %s: %w", commit, dir, entry.Name, err)
		}
		files = append(files, File{entry.Name, string(text)})
	}
}

// Split returns the text of files, in any order, with the held-out documents apart. Files of other authors (vendor folders, and
// comments with a copyright notice) are left out.
func Split(files []File) (Corpus, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var c Corpus
	var documents, comments []string
	found := 0
	for _, f := range files {
		ext := path.Ext(f.Path)
		switch {
		case foreign.MatchString(f.Path):
		case slices.Contains(heldOut, f.Path):
			c.HeldOut += f.Text
			found++
		case ext == ".md":
			documents = append(documents, f.Text)
		case sources[ext] != "":
			comments = append(comments, passages(f.Text, sources[ext]))
		}
	}
	if found < len(heldOut) {
		return Corpus{}, fmt.Errorf("the tree has %d of the held-out documents %s; name others in gen/reference/corpus", found, strings.Join(heldOut, " "))
	}
	seen := map[string]bool{}
	unseen(c.HeldOut, seen)
	for _, text := range append(documents, comments...) {
		if text = unseen(text, seen); strings.TrimSpace(text) != "" {
			c.Train = append(c.Train, text)
		}
	}
	return c, nil
}

var foreign = regexp.MustCompile(`(^|/)vendors?/`)

// unseen returns text without the long lines that are in seen, and adds its own to seen.
func unseen(text string, seen map[string]bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		key := strings.TrimSpace(line)
		if len(key) >= repeated && seen[key] {
			continue
		}
		seen[key] = true
		b.WriteString(line)
	}
	return blank.ReplaceAllString(b.String(), "\n\n")
}

// blank matches the blank lines that are left between removed ones.
var blank = regexp.MustCompile(`\n\s*\n\s*\n`)

// passages returns the comments of a source file that begin with mark: consecutive lines make a passage, and a blank line ends it.
func passages(text, mark string) string {
	var all, here strings.Builder
	end := func() {
		if s := here.String(); len(s) >= passage && !strings.Contains(s, "Copyright") {
			all.WriteString(s)
			all.WriteByte('\n')
		}
		here.Reset()
	}
	for line := range strings.Lines(text) {
		said, ok := strings.CutPrefix(strings.TrimSpace(line), mark)
		if said = strings.TrimPrefix(said, " "); !ok {
			end()
		} else {
			here.WriteString(said)
			here.WriteByte('\n')
		}
	}
	end()
	return all.String()
}
