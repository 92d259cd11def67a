package pin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// Branch is the branch that a checkout is on.
const Branch = "zt"

// Checkout makes dir a git work tree of the sources: Source.Commit, marked by the ref git.Base, on Branch, with no remote and
// an identity of its own for commits. A checkout that is there already stays as it is, with whatever was committed or applied
// on top. If it is of another pin it is moved to this one, unless that would lose work, which is an error. A folder that
// holds anything else is left alone, with an error.
func (s Source) Checkout(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) == 0 {
		return s.clone(ctx, dir)
	}
	r := git.Repo{Dir: dir}
	if _, err := r.GitDir(ctx); err == nil {
		if err := r.Recover(ctx); err != nil { // first: it may move the mark
			return err
		}
	}
	base := r.Hash(ctx, git.Base+"^{commit}")
	if base == "" || r.Hash(ctx, "HEAD") == "" {
		return fmt.Errorf("%s holds files but is no checkout of %s made here; move or remove it", dir, s.Name)
	}
	if base == s.Commit {
		return nil
	}
	return s.move(ctx, r, base)
}

// clone makes the checkout beside dir and renames it, so that a half-made one never has dir's name.
func (s Source) clone(ctx context.Context, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	partial, err := newPartial(ctx, dir, "--initial-branch="+Branch)
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial)
	r := git.Repo{Dir: partial}
	for _, kv := range [][2]string{
		{"user.name", "llama-zen-turbo"}, {"user.email", email}, {"commit.gpgSign", "false"},
		{"core.autocrlf", "false"}, {"core.eol", "lf"}, {"core.safecrlf", "false"}, {"core.hooksPath", "/dev/null"},
	} {
		if _, err := r.Run(ctx, "config", kv[0], kv[1]); err != nil {
			return err
		}
	}
	if _, err := r.Run(ctx, "fetch", "--quiet", "--no-tags", fileURL(s.Dir), root); err != nil {
		return s.damaged(err)
	}
	if err := r.Reset(ctx, s.Commit, git.Base); err != nil {
		return err
	}
	return replace(partial, dir)
}

// damaged explains a fetch from the cache that failed. git hashes every object on the way, so this is where damage is found.
func (s Source) damaged(err error) error {
	return fmt.Errorf("the cached sources in %s are damaged; remove that folder to fetch them again: %w", s.Dir, err)
}

// move takes a checkout of another pin to this one. The old objects stay, so that patches can be merged with what they were
// made for.
func (s Source) move(ctx context.Context, r git.Repo, base string) error {
	head := r.Hash(ctx, "HEAD")
	dirty, err := r.Dirty(ctx)
	if err != nil {
		return err
	}
	if head != base && head != r.Hash(ctx, git.Applied) || len(dirty) > 0 {
		what := "commits that are not in the patch queue"
		if len(dirty) > 0 {
			what = "changes in " + strings.Join(dirty, ", ")
		}
		return fmt.Errorf("%s is a checkout of another pin of %s and has %s; put them in the queue with that pin "+
			"(commit, then mage patch:extract) or remove the folder", r.Dir, s.Name, what)
	}
	if _, err := r.Run(ctx, "fetch", "--quiet", "--no-tags", fileURL(s.Dir), root); err != nil {
		return s.damaged(err)
	}
	return r.Reset(ctx, s.Commit, git.Base)
}

// newPartial makes an empty repository beside path for what will become path, and removes what killed runs left there.
func newPartial(ctx context.Context, path string, init ...string) (string, error) {
	stale, err := filepath.Glob(escapeGlob(path) + ".partial-*")
	if err != nil {
		return "", err
	}
	for _, dir := range stale {
		// A git orphaned by the killed run may still be writing there. What it leaves is removed the next time.
		_ = os.RemoveAll(dir)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".partial-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	_, err = git.Repo{Dir: dir}.Run(ctx, append([]string{"init", "--quiet", "--template="}, append(init, ".")...)...)
	return dir, err
}

// escapeGlob makes filepath.Glob take path literally.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// replace renames from to path, in place of what is there.
func replace(from, path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Rename(from, path)
}
