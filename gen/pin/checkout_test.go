package pin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

func (w *world) checkout(src Source, dir string) git.Repo {
	w.t.Helper()
	if err := src.Checkout(w.t.Context(), dir); err != nil {
		w.t.Fatal(err)
	}
	return git.Repo{Dir: dir}
}

// nextPin moves the pin to the commit above the tag.
func (w *world) nextPin() Source {
	w.t.Helper()
	w.git("tag", "v2", "master")
	w.pin.LlamaCpp.Tag, w.pin.LlamaCpp.Tree = "v2", w.later
	return w.mustFetch()
}

func TestCheckout(t *testing.T) {
	w := newWorld(t)
	src := w.mustFetch()
	dir := filepath.Join(t.TempDir(), "out", "src")
	write(t, dir+".partial-1/src/a.c", "half made by a run that was killed")
	r := w.checkout(src, dir)
	if _, err := os.Stat(dir + ".partial-1"); !os.IsNotExist(err) {
		t.Errorf("the half-made checkout is still there: %v", err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"rev-parse", "HEAD"}, src.Commit},
		{[]string{"rev-parse", "zt-base"}, src.Commit},
		{[]string{"rev-parse", "HEAD^{tree}"}, w.pin.LlamaCpp.Tree},
		{[]string{"branch", "--show-current"}, Branch},
		{[]string{"remote"}, ""},
		{[]string{"tag"}, ""},
		{[]string{"rev-list", "--count", "HEAD"}, "1"},
		{[]string{"status", "--porcelain"}, ""},
		{[]string{"config", "core.autocrlf"}, "false"},
	} {
		if got := run(t, r, c.args...); got != c.want {
			t.Errorf("git %s: %q, want %q", strings.Join(c.args, " "), got, c.want)
		}
	}

	// A commit works on a machine where git knows nobody, and stays, like a change, when the checkout is asked for again.
	t.Setenv("HOME", t.TempDir())
	write(t, filepath.Join(dir, "src/a.c"), "int work;\n")
	run(t, r, "commit", "--quiet", "--all", "-m", "work")
	head := run(t, r, "rev-parse", "HEAD")
	write(t, filepath.Join(dir, "src/a.c"), "int more;\n")
	w.checkout(src, dir)
	if text, _ := os.ReadFile(filepath.Join(dir, "src/a.c")); run(t, r, "rev-parse", "HEAD") != head || string(text) != "int more;\n" {
		t.Error("a second Checkout lost work")
	}
	leftovers, _ := filepath.Glob(dir + ".*")
	if leftovers != nil {
		t.Errorf("left behind: %v", leftovers)
	}
}

func TestCheckoutIntoAnEmptyFolder(t *testing.T) {
	w := newWorld(t)
	w.checkout(w.mustFetch(), t.TempDir())
}

func TestCheckoutLeavesOtherFoldersAlone(t *testing.T) {
	w := newWorld(t)
	src := w.mustFetch()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "thesis.tex"), "years of work")
	fails(t, src.Checkout(t.Context(), dir), dir, "move or remove it")
	fails(t, src.Checkout(t.Context(), w.upstream.Dir), w.upstream.Dir, "move or remove it")
	if text, err := os.ReadFile(filepath.Join(dir, "thesis.tex")); err != nil || string(text) != "years of work" {
		t.Errorf("thesis.tex is %q, %v", text, err)
	}
}

func TestCheckoutFollowsThePin(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "src")
	r := w.checkout(w.mustFetch(), dir)
	src := w.nextPin()

	write(t, filepath.Join(dir, "src/a.c"), "int work;\n")
	fails(t, src.Checkout(t.Context(), dir), dir, "another pin", "changes in src/a.c", "mage patch:extract")
	run(t, r, "commit", "--quiet", "--all", "-m", "work")
	fails(t, src.Checkout(t.Context(), dir), dir, "another pin", "commits", "mage patch:extract")
	if text, _ := os.ReadFile(filepath.Join(dir, "src/a.c")); string(text) != "int work;\n" {
		t.Errorf("the work became %q", text)
	}

	run(t, r, "update-ref", git.Applied, "HEAD") // now it is what the queue had led to
	w.checkout(src, dir)
	for _, rev := range []string{"HEAD", "zt-base"} {
		if got := run(t, r, "rev-parse", rev+"^{tree}"); got != w.later {
			t.Errorf("%s has tree %s, want %s", rev, got, w.later)
		}
	}
	if got := run(t, r, "status", "--porcelain"); got != "" {
		t.Errorf("status:\n%s", got)
	}
}

func TestCheckoutFinishesAMoveThatWasKilled(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "src")
	r := w.checkout(w.mustFetch(), dir)
	src := w.nextPin()
	write(t, filepath.Join(dir, ".git/index.lock"), "") // stops the move where a kill would
	if err := src.Checkout(t.Context(), dir); err == nil {
		t.Fatal("Checkout worked with a locked index")
	}
	write(t, filepath.Join(dir, "src/a.c"), "half a fi")
	w.checkout(src, dir)
	if got := run(t, r, "rev-parse", "zt-base^{tree}"); got != w.later || run(t, r, "status", "--porcelain") != "" {
		t.Errorf("tree %s, want %s and no changes", got, w.later)
	}
}

func TestCheckoutFindsADamagedCache(t *testing.T) {
	w := newWorld(t)
	src := w.mustFetch()
	err := filepath.WalkDir(filepath.Join(src.Dir, "objects"), func(path string, e os.DirEntry, err error) error {
		// Keep the commit and the tree: only a file's content is gone.
		if hash := filepath.Base(filepath.Dir(path)) + e.Name(); err == nil && !e.IsDir() &&
			(hash == w.git("rev-parse", "v1:src/a.c") || strings.HasSuffix(path, ".pack")) {
			if err := os.Chmod(path, 0o644); err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "src")
	fails(t, src.Checkout(t.Context(), dir), src.Dir, "damaged; remove that folder")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a half-made checkout was left: %v", err)
	}
}
