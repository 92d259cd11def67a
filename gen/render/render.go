// Package render lays the files of templates/ and generated ones into a llama.cpp checkout, beside upstream's own.
package render

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// Laid says what Lay did. Paths are relative to the checkout, with slashes, and sorted.
type Laid struct {
	Written   []string
	Unchanged []string
	Removed   []string // laid by an earlier run and no longer wanted
}

// suffix marks the files that are rendered.
const suffix = ".tmpl"

// manifest is the file in the checkout's git folder that lists what was laid: "SHA-256 path" lines.
const manifest = "zt-laid"

type file struct {
	text []byte
	mode fs.FileMode
	from string // for messages
}

// Lay puts every file below the folder templates at the same relative path below dst, a git checkout. Files called *.tmpl are
// rendered with data by text/template and lose the suffix, all others are copied byte for byte. generated adds files by their
// path in dst. Files that an earlier Lay put there and this one does not are removed.
//
// A file is written only if its bytes change, and replaced in one step. git in dst is told to ignore the files (info/exclude).
// Nothing is written if a template fails, or if a path belongs to a file that upstream tracks or that someone else wrote or
// edited.
func Lay(ctx context.Context, templates, dst string, data any, generated map[string][]byte) (Laid, error) {
	files, err := collect(templates, data)
	if err != nil {
		return Laid{}, err
	}
	for to, text := range generated {
		if err := add(files, to, file{text, 0o644, "a generated file"}); err != nil {
			return Laid{}, err
		}
	}
	r := git.Repo{Dir: dst}
	gitDir, err := r.GitDir(ctx)
	if err != nil {
		return Laid{}, fmt.Errorf("%s is no checkout: %w", dst, err)
	}
	before, err := readManifest(gitDir)
	if err != nil {
		return Laid{}, err
	}
	tracked, err := tracks(ctx, r)
	if err != nil {
		return Laid{}, err
	}

	var laid Laid
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if tracked[name] {
			return Laid{}, fmt.Errorf("%s would overwrite %s, a file of upstream's; change that with a patch in patches/", files[name].from, name)
		}
		now, err := os.ReadFile(filepath.Join(dst, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			laid.Written = append(laid.Written, name)
		case err != nil:
			return Laid{}, err
		case bytes.Equal(now, files[name].text):
			laid.Unchanged = append(laid.Unchanged, name)
		case !before[name][sum(now)]:
			return Laid{}, fmt.Errorf("%s is not as it was laid there; move the change to %s, then delete it", filepath.Join(dst, name), files[name].from)
		default:
			laid.Written = append(laid.Written, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, wanted := files[name]; wanted || tracked[name] {
			continue
		}
		now, err := os.ReadFile(filepath.Join(dst, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Laid{}, err
		}
		if !before[name][sum(now)] {
			return Laid{}, fmt.Errorf("%s is no longer wanted there but was edited; move it away", filepath.Join(dst, name))
		}
		laid.Removed = append(laid.Removed, name)
	}

	// Until the last line the manifest lists the old and the new bytes of every file: a killed run must not make the next one
	// take our files for someone's work.
	after := map[string]map[string]bool{}
	for _, name := range names {
		after[name] = map[string]bool{sum(files[name].text): true}
	}
	both := maps.Clone(after)
	for name, sums := range before {
		both[name] = maps.Clone(sums)
		maps.Copy(both[name], after[name])
	}
	if err := writeManifest(gitDir, both); err != nil {
		return Laid{}, err
	}
	if err := exclude(gitDir, names); err != nil {
		return Laid{}, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return Laid{}, context.Cause(ctx)
		}
		to := filepath.Join(dst, name)
		if _, same := slices.BinarySearch(laid.Unchanged, name); same {
			if err := os.Chmod(to, files[name].mode); err != nil {
				return Laid{}, err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return Laid{}, err
		}
		if err := write(gitDir, to, files[name]); err != nil {
			return Laid{}, err
		}
	}
	for _, name := range laid.Removed {
		if err := os.Remove(filepath.Join(dst, name)); err != nil {
			return Laid{}, err
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if os.Remove(filepath.Join(dst, dir)) != nil {
				break // not empty
			}
		}
	}
	return laid, writeManifest(gitDir, after)
}

// collect reads and renders the folder templates.
func collect(templates string, data any) (map[string]file, error) {
	files := map[string]file{}
	err := filepath.WalkDir(templates, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(templates, name)
		if err != nil {
			return err
		}
		from := filepath.Join(filepath.Base(templates), rel)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", from)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		to, isTemplate := strings.CutSuffix(filepath.ToSlash(rel), suffix)
		if isTemplate {
			// The template's name is what text/template puts before line and column.
			t, err := template.New(from).Option("missingkey=error").Parse(string(text))
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := t.Execute(&out, data); err != nil {
				return err
			}
			text = out.Bytes()
		}
		return add(files, to, file{text, 0o644 | info.Mode().Perm()&0o111, from})
	})
	if err != nil {
		return nil, fmt.Errorf("lay templates: %w", err)
	}
	return files, nil
}

// add adds a file by its path in the checkout.
func add(files map[string]file, to string, f file) error {
	if to != path.Clean(to) || !filepath.IsLocal(to) || to == ".git" || strings.HasPrefix(to, ".git/") {
		return fmt.Errorf("%s: %q is not a path below the checkout", f.from, to)
	}
	if other, ok := files[to]; ok {
		return fmt.Errorf("%s and %s both become %s", other.from, f.from, to)
	}
	files[to] = f
	return nil
}

// tracks returns the paths that git tracks in r.
func tracks(ctx context.Context, r git.Repo) (map[string]bool, error) {
	out, err := r.Run(ctx, "ls-files", "-z")
	if err != nil {
		return nil, err
	}
	tracked := map[string]bool{}
	for name := range strings.SplitSeq(out, "\x00") {
		tracked[name] = true
	}
	return tracked, nil
}

func sum(text []byte) string { return fmt.Sprintf("%x", sha256.Sum256(text)) }

// readManifest returns the SHA-256 sums that each laid file may have.
func readManifest(gitDir string) (map[string]map[string]bool, error) {
	text, err := os.ReadFile(filepath.Join(gitDir, manifest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sums := map[string]map[string]bool{}
	for line := range strings.Lines(string(text)) {
		s, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s has a line that is none of ours: %q; remove that file", filepath.Join(gitDir, manifest), line)
		}
		if sums[name] == nil {
			sums[name] = map[string]bool{}
		}
		sums[name][s] = true
	}
	return sums, nil
}

func writeManifest(gitDir string, sums map[string]map[string]bool) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		for _, s := range slices.Sorted(maps.Keys(sums[name])) {
			fmt.Fprintln(&text, s, name)
		}
	}
	return update(gitDir, filepath.Join(gitDir, manifest), text.String())
}

const (
	begin = "# llama-zen-turbo: laid from templates/, rewritten by mage build"
	end   = "# llama-zen-turbo: end"
)

var literal = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, " ", `\ `)

// exclude makes git ignore names, in a block of info/exclude of its own.
func exclude(gitDir string, names []string) error {
	at := filepath.Join(gitDir, "info", "exclude")
	now, err := os.ReadFile(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var text strings.Builder
	inBlock := false
	for line := range strings.Lines(string(now)) {
		switch strings.TrimSuffix(line, "\n") {
		case begin:
			inBlock = true
		case end:
			inBlock = false
		default:
			if !inBlock {
				text.WriteString(strings.TrimSuffix(line, "\n") + "\n")
			}
		}
	}
	if len(names) > 0 {
		fmt.Fprintln(&text, begin)
		for _, name := range names {
			fmt.Fprintln(&text, "/"+literal.Replace(name))
		}
		fmt.Fprintln(&text, end)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return update(gitDir, at, text.String())
}

// update writes a file if its text changes.
func update(gitDir, to, text string) error {
	if now, err := os.ReadFile(to); err == nil && string(now) == text {
		return nil
	}
	return write(gitDir, to, file{text: []byte(text), mode: 0o644})
}

// write replaces a file in one step. The half-written one lies in the git folder, where neither CMake nor git finds it.
func write(gitDir, to string, f file) error {
	half := filepath.Join(gitDir, manifest+".new")
	if err := os.WriteFile(half, f.text, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(half, f.mode); err != nil {
		return err
	}
	return os.Rename(half, to)
}
