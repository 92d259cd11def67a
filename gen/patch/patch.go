// Package patch keeps the queue of patches over the pinned llama.cpp: numbered files in the form of git format-patch, which
// are applied to a checkout and extracted from its commits again.
//
// Patches are applied the way git am does it (message and author from the mail header, then the diff, then a three-way merge
// with the blobs the patch names), but in an index of their own. The work tree changes once, at the end and only in the files
// that differ: a patch that fails leaves it as it was, and an unchanged file keeps its time, so that it is not compiled again.
package patch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// identity of the commits that Apply makes. With the author's date as their date their hashes depend on base and queue only.
const (
	committer = "llama-zen-turbo"
	email     = "build@llama-zen-turbo.invalid"
)

// stamp is the file in a checkout's git folder that holds the id of the queue that git.Applied was made from.
const stamp = "zt-queue"

// Conflict is a patch that does not apply.
type Conflict struct {
	Patch string // path from the repository root: "patches/0002-name.patch"
	// At names the places: "ggml/src/ggml.c, hunk 2 (@@ -10,6 +10,7 @@)". Each is the first hunk of its file that fails.
	At     []string
	Parent string // commit that the patch was applied to: the base and the patches before it
	Dir    string // the checkout that has Parent, if one has
}

func (c *Conflict) Error() string {
	text := fmt.Sprintf("%s does not apply: %s", c.Patch, strings.Join(c.At, "; "))
	if c.Dir != "" {
		text += fmt.Sprintf("\nto mend it by hand, in %s: git reset --hard %.12s; git am -3 this patch and those after it; mage patch:extract", c.Dir, c.Parent)
	}
	return text
}

// Work is what Apply refuses to lose: a developer's commits, or changes in tracked files, that are not in the queue.
type Work struct {
	Dir     string
	Commits int
	Files   []string // changed and not committed
	// Current says that the queue is the one last applied, so that the tree is the queue and the work on top.
	Current bool
}

func (w *Work) Error() string {
	if len(w.Files) > 0 {
		return fmt.Sprintf("%s has changes that are in no commit (%s); commit them and run mage patch:extract, or drop them with git restore",
			w.Dir, list(w.Files))
	}
	return fmt.Sprintf("%s has commits that are not in the patch queue (%d above the pinned tree); run mage patch:extract, "+
		"or drop them with git reset --hard zt-base", w.Dir, w.Commits)
}

func list(files []string) string {
	const most = 4
	if len(files) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(files[:most], ", "), len(files)-most)
	}
	return strings.Join(files, ", ")
}

// Apply makes the checkout dir the pinned tree plus the queue, a folder of patches. An empty queue name is the empty queue:
// that keeps a stock checkout as it should be.
//
// The error is a *Work where that would lose work, or a *Conflict where a patch does not apply; the checkout is then as it was.
func Apply(ctx context.Context, dir, queue string) error {
	r := git.Repo{Dir: dir}
	gitDir, err := r.GitDir(ctx)
	if err != nil {
		return fmt.Errorf("%s is no checkout: %w", dir, err)
	}
	if err := r.Recover(ctx); err != nil {
		return err
	}
	base, head, applied := r.Hash(ctx, git.Base), r.Hash(ctx, "HEAD"), r.Hash(ctx, git.Applied)
	if base == "" || head == "" {
		return fmt.Errorf("%s is no checkout made by mage build: it has no %s", dir, git.Base)
	}
	files, err := read(queue)
	if err != nil {
		return err
	}
	last, err := os.ReadFile(filepath.Join(gitDir, stamp))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	current := applied != "" && string(last) == id(base, files)
	dirty, err := r.Dirty(ctx)
	if err != nil {
		return err
	}
	if current && head == applied && dirty == nil {
		return nil
	}
	for _, busy := range []string{"rebase-apply", "rebase-merge", "MERGE_HEAD", "CHERRY_PICK_HEAD"} {
		if _, err := os.Stat(filepath.Join(gitDir, busy)); err == nil {
			return fmt.Errorf("%s is in the middle of a git am, rebase, merge or cherry-pick; finish or abort it (git status says how)", dir)
		}
	}

	work := &Work{Dir: dir, Current: current}
	if head != base && head != applied {
		same, n, err := equal(ctx, r, base, head, files)
		if err != nil {
			return err
		}
		if !same {
			work.Commits = n
			return work
		}
	}
	commits, err := build(ctx, r, base, queue, files)
	if err != nil {
		if conflict := (*Conflict)(nil); errors.As(err, &conflict) {
			conflict.Dir = dir
		}
		return err
	}
	result := base
	if len(commits) > 0 {
		result = commits[len(commits)-1]
	}
	if dirty != nil {
		tree, err := workTree(ctx, r, gitDir)
		if err != nil {
			return err
		}
		if tree != r.Hash(ctx, result+"^{tree}") {
			work.Files = dirty
			return work
		}
	}
	if err := untracked(ctx, r, head, result); err != nil {
		return err
	}
	if err := r.Reset(ctx, result, git.Applied); err != nil {
		return err
	}
	return write(filepath.Join(gitDir, stamp), []byte(id(base, files)))
}

// workTree returns the tree that committing every change in tracked files would give.
func workTree(ctx context.Context, r git.Repo, gitDir string) (string, error) {
	index, err := os.ReadFile(filepath.Join(gitDir, "index"))
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "zt-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "index")
	if err := os.WriteFile(copied, index, 0o644); err != nil {
		return "", err
	}
	r.Env = append(r.Env, "GIT_INDEX_FILE="+copied)
	if _, err := r.Run(ctx, "add", "--update"); err != nil {
		return "", err
	}
	return r.Run(ctx, "write-tree")
}

// untracked refuses to let a file that a patch adds take the place of one that git does not know.
func untracked(ctx context.Context, r git.Repo, head, result string) error {
	added, err := r.Run(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", head, result)
	if err != nil {
		return err
	}
	for path := range strings.SplitSeq(added, "\x00") {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(filepath.Join(r.Dir, path)); err != nil {
			continue
		}
		// --no-filters: the content as it is.
		if on, err := r.Run(ctx, "hash-object", "--no-filters", "--", path); err != nil || on != r.Hash(ctx, result+":"+path) {
			return fmt.Errorf("a patch adds %s, but %s has another file there that is in no commit; move it away", path, r.Dir)
		}
	}
	return nil
}

// build commits the patches on base, one after the other, and returns the commits. It needs no work tree.
func build(ctx context.Context, r git.Repo, base, queue string, files []file) ([]string, error) {
	var commits []string
	parent := base
	for _, f := range files {
		if diff(f.text) == nil {
			return nil, fmt.Errorf("%s is not in the form of git format-patch: no diff after a header", filepath.Join(filepath.Base(queue), f.name))
		}
		tree, err := merge(ctx, r, parent, f.text)
		var failed *git.Error
		if errors.As(err, &failed) && ctx.Err() == nil {
			return nil, &Conflict{
				Patch:  filepath.Join(filepath.Base(queue), f.name),
				At:     places(f.text, failed.Stderr),
				Parent: parent,
			}
		}
		if err != nil {
			return nil, err
		}
		commit, err := commit(ctx, r, parent, tree, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(filepath.Base(queue), f.name), err)
		}
		commits = append(commits, commit)
		parent = commit
	}
	return commits, nil
}

// merge applies the diff of a patch to a commit and returns the resulting tree. Where the diff does not fit, the blobs it names
// serve as the base of a three-way merge, if they are there; where that fails too the *git.Error is that of the first try.
func merge(ctx context.Context, r git.Repo, parent string, text []byte) (string, error) {
	dir, err := os.MkdirTemp("", "zt-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	r.Env = append(r.Env, "GIT_INDEX_FILE="+filepath.Join(dir, "index"))
	if _, err := r.Run(ctx, "read-tree", parent); err != nil {
		return "", err
	}
	if _, err := r.Feed(ctx, diff(text), "apply", "--cached"); err != nil {
		if _, err3 := r.Feed(ctx, diff(text), "apply", "--cached", "--3way"); err3 != nil {
			return "", err
		}
	}
	return r.Run(ctx, "write-tree")
}

var failedAt = regexp.MustCompile(`(?m)^error: patch failed: (.+):(\d+)$`)

// places says where a patch did not apply, from what git apply wrote to standard error.
func places(text []byte, stderr string) []string {
	var at []string
	for _, m := range failedAt.FindAllStringSubmatch(stderr, -1) {
		line, _ := strconv.Atoi(m[2])
		place := m[1] + ", line " + m[2]
		for _, h := range hunks(text) {
			if h.file == m[1] && h.line == line {
				place = fmt.Sprintf("%s, hunk %d (%s)", h.file, h.number, h.header)
				break
			}
		}
		at = append(at, place)
	}
	if at == nil { // a file that is missing, or there already, or no diff at all
		for line := range strings.Lines(stderr) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "error: "); ok {
				at = append(at, text)
			}
		}
	}
	return at
}

// commit makes the commit that git am would make of a patch whose tree is known.
func commit(ctx context.Context, r git.Repo, parent, tree string, f file) (string, error) {
	dir, err := os.MkdirTemp("", "zt-mail-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	message := filepath.Join(dir, "message")
	info, err := r.Feed(ctx, f.text, "mailinfo", "-b", "--encoding=UTF-8", message, os.DevNull)
	if err != nil {
		return "", err
	}
	field := map[string]string{}
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
			field[key] = value
		}
	}
	for _, key := range []string{"Author", "Email", "Date", "Subject"} {
		if field[key] == "" {
			return "", fmt.Errorf("not in the form of git format-patch: no %s in its header", strings.ToLower(key))
		}
	}
	body, err := os.ReadFile(message)
	if err != nil {
		return "", err
	}
	text := field["Subject"] + "\n"
	if body = bytes.Trim(body, "\n"); len(body) > 0 {
		text += "\n" + string(body) + "\n"
	}
	r.Env = append(r.Env,
		"GIT_AUTHOR_NAME="+field["Author"], "GIT_AUTHOR_EMAIL="+field["Email"], "GIT_AUTHOR_DATE="+field["Date"],
		"GIT_COMMITTER_NAME="+committer, "GIT_COMMITTER_EMAIL="+email, "GIT_COMMITTER_DATE="+field["Date"])
	return r.Feed(ctx, []byte(text), "commit-tree", "-p", parent, tree)
}

// write replaces a file in one step.
func write(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
