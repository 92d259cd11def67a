package patch

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// Extract rewrites the queue from the commits above the pinned tree in the checkout dir, one file for each. A patch that says
// the same as before (only line numbers, hashes or dates moved) keeps its old text; files of commits that are gone are removed.
// Changes in tracked files that are not committed are an error.
func Extract(ctx context.Context, dir, queue string) error {
	r := git.Repo{Dir: dir}
	if err := r.Recover(ctx); err != nil {
		return err
	}
	base, head := r.Hash(ctx, git.Base), r.Hash(ctx, "HEAD")
	if base == "" || head == "" {
		return fmt.Errorf("%s is no checkout made by mage build: it has no %s", dir, git.Base)
	}
	dirty, err := r.Dirty(ctx)
	if err != nil {
		return err
	}
	if dirty != nil {
		return fmt.Errorf("%s has changes that are in no commit (%s); commit or stash them, patches are made of commits", dir, list(dirty))
	}
	old, err := read(queue)
	if err != nil {
		return err
	}
	files, _, err := extract(ctx, r, base, head, old)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, f := range files {
		keep[f.name] = true
		path := filepath.Join(queue, f.name)
		if text, err := os.ReadFile(path); err == nil && bytes.Equal(text, f.text) {
			continue
		}
		if err := write(path, f.text); err != nil {
			return err
		}
	}
	for _, f := range old {
		if !keep[f.name] {
			if err := os.Remove(filepath.Join(queue, f.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// extract returns the queue that describes base..head, and the number of commits there. Of patches that say the same as one of
// old the old text is used.
func extract(ctx context.Context, r git.Repo, base, head string, old []file) ([]file, int, error) {
	if _, err := r.Run(ctx, "merge-base", "--is-ancestor", base, head); err != nil {
		return nil, 0, fmt.Errorf("HEAD of %s does not descend from zt-base; rebase your commits on it (git rebase --onto zt-base)", r.Dir)
	}
	out, err := r.Run(ctx, "rev-list", "--reverse", "--topo-order", "--parents", base+".."+head)
	if err != nil || out == "" {
		return nil, 0, err
	}
	var commits []string
	for line := range strings.Lines(out) {
		c := strings.Fields(line)
		if len(c) != 2 {
			return nil, 0, fmt.Errorf("%s has a merge (%.12s); patches are made of a straight line of commits", r.Dir, c[0])
		}
		commits = append(commits, c[0])
	}
	dir, err := os.MkdirTemp("", "zt-patches-")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	// Whatever git's defaults or a configuration could change is spelled out. Blob hashes are long enough to stay unique.
	if _, err := r.Run(ctx, "format-patch", "--quiet", "--output-directory="+dir, "--no-numbered", "--start-number=1", "--zero-commit",
		"--no-signature", "--no-stat", "--patch", "--unified=3", "--inter-hunk-context=0", "--abbrev=12", "--no-full-index",
		"--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--diff-algorithm=myers", "--indent-heuristic",
		"--src-prefix=a/", "--dst-prefix=b/", "--subject-prefix=PATCH", "--no-attach", "--no-thread", "--no-cover-letter", "--no-notes",
		"--no-signoff", "--no-encode-email-headers", base+".."+head); err != nil {
		return nil, 0, err
	}
	files, err := read(dir)
	if err != nil {
		return nil, 0, err
	}
	// Depending on its version git makes no file, or one without a diff, of a commit that changes nothing.
	empty := len(files) != len(commits)
	for _, f := range files {
		empty = empty || diff(f.text) == nil
	}
	if empty {
		return nil, 0, fmt.Errorf("%s has a commit that changes nothing; drop it with git rebase -i zt-base", r.Dir)
	}
	before := map[string]file{}
	for _, f := range old {
		before[essence(f.text)] = f
	}
	parent := base
	for i, f := range files {
		if o, ok := before[essence(f.text)]; ok && gives(ctx, r, parent, o, commits[i]) {
			files[i].text = o.text
		} else if !gives(ctx, r, parent, f, commits[i]) {
			return nil, 0, fmt.Errorf("the message of commit %.12s (%s) does not survive in a patch: git takes a part of it for the diff; reword it",
				commits[i], f.name)
		}
		parent = commits[i]
	}
	return files, len(commits), nil
}

// gives reports whether a patch applied to parent leads to the files and message of want. Line numbers are a patch's only
// word on which of two alike places it means, so a text whose line numbers are old must be tried.
func gives(ctx context.Context, r git.Repo, parent string, f file, want string) bool {
	tree, err := merge(ctx, r, parent, f.text)
	if err != nil {
		return false
	}
	got, err := commit(ctx, r, parent, tree, f)
	if err != nil {
		return false
	}
	const what = "--format=%T%n%an <%ae>%n%s%n%n%b"
	a, errA := r.Run(ctx, "show", "--no-patch", what, got)
	b, errB := r.Run(ctx, "show", "--no-patch", what, want)
	return errA == nil && errB == nil && strings.TrimSpace(a) == strings.TrimSpace(b)
}

// equal reports whether the commits base..head are those that files describe, and how many there are.
func equal(ctx context.Context, r git.Repo, base, head string, files []file) (bool, int, error) {
	got, n, err := extract(ctx, r, base, head, files)
	if err != nil {
		return false, 0, err
	}
	return id(base, got) == id(base, files), n, nil
}

// Check reports, as an error, whether the queue does not apply to base, a commit in repo, or is not what extracting it again
// would write. It leaves nothing behind in repo.
func Check(ctx context.Context, repo, base, queue string) error {
	r := git.Repo{Dir: repo}
	files, err := read(queue)
	if err != nil {
		return err
	}
	objects, err := r.Run(ctx, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "zt-objects-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.Env = append(r.Env, "GIT_OBJECT_DIRECTORY="+dir, "GIT_ALTERNATE_OBJECT_DIRECTORIES="+objects)
	commits, err := build(ctx, r, base, queue, files)
	if err != nil {
		return err
	}
	if len(commits) == 0 {
		return nil
	}
	again, _, err := extract(ctx, r, base, commits[len(commits)-1], files)
	if err != nil {
		return err
	}
	const remedy = "run mage patch:apply and mage patch:extract, and commit the result"
	zero := []byte("From " + strings.Repeat("0", 40) + " ")
	for i, f := range files {
		name := filepath.Join(filepath.Base(queue), f.name)
		switch {
		case !bytes.HasPrefix(f.text, zero):
			return fmt.Errorf("%s does not begin with a zeroed From hash; %s", name, remedy)
		case f.name != again[i].name:
			return fmt.Errorf("%s would be called %s when extracted again; %s", name, again[i].name, remedy)
		case !bytes.Equal(f.text, again[i].text):
			return fmt.Errorf("%s is not what extracting it again gives; %s", name, remedy)
		}
	}
	return nil
}
