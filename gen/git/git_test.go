package git

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"context"
	"errors"
)

// newRepo returns a repository with two commits, HEAD~ and HEAD, whose file a.txt says "one" and "two".
func newRepo(t *testing.T) Repo {
	t.Helper()
	r := Repo{Dir: t.TempDir()}
	must(t, r, "init", "--quiet", "--template=")
	must(t, r, "config", "user.name", "A")
	must(t, r, "config", "user.email", "a@example.com")
	for _, text := range []string{"one\n", "two\n"} {
		put(t, r, "a.txt", text)
		must(t, r, "add", ".")
		must(t, r, "commit", "--quiet", "-m", text)
	}
	return r
}

func must(t *testing.T, r Repo, args ...string) string {
	t.Helper()
	out, err := r.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(t *testing.T, r Repo, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheUsersGitDoesNotInterfere(t *testing.T) {
	want := must(t, newRepo(t), "rev-parse", "HEAD^{tree}")

	home := t.TempDir()
	hooks := filepath.Join(home, "hooks")
	if err := os.Mkdir(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hooks, "pre-commit"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "[commit]\n gpgSign = true\n[gpg]\n program = /bin/false\n[core]\n autocrlf = true\n hooksPath = " + hooks + "\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", filepath.Join(home, "elsewhere")) // as in a hook
	t.Setenv("GIT_INDEX_FILE", filepath.Join(home, "index"))
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	r := newRepo(t)
	if got := must(t, r, "rev-parse", "HEAD^{tree}"); got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
	put(t, r, "a.txt", "two\r\n")
	if dirty, err := r.Dirty(t.Context()); err != nil || len(dirty) != 1 {
		t.Errorf("Dirty = %v, %v; want a.txt, whose line ending changed", dirty, err)
	}
}

func TestAFolderInARepositoryIsNoRepository(t *testing.T) {
	r := newRepo(t)
	inner := filepath.Join(r.Dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err := (Repo{Dir: inner}).GitDir(t.Context()); err == nil {
		t.Errorf("GitDir = %s, want an error", dir)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cause := errors.New("the test's patience")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, cause)
	defer cancel()
	start := time.Now()
	_, err = Repo{Dir: t.TempDir()}.Run(ctx, "ls-remote", "http://"+silent.Addr().String()+"/x")
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "ls-remote") {
		t.Errorf("%v; want the context's cause and the command", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestMissingGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := (Repo{Dir: t.TempDir()}).Run(t.Context(), "version"); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("%v; want an error that says to install git", err)
	}
}

func TestRecoverFinishesAReset(t *testing.T) {
	r := newRepo(t)
	first := must(t, r, "rev-parse", "HEAD~")
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := must(t, r, "rev-parse", "HEAD"); got == first {
		t.Fatal("Recover moved HEAD though nothing was interrupted")
	}
	// What a killed git leaves: its lock, and files written in part.
	put(t, r, ".git/index.lock", "")
	put(t, r, ".git/refs/heads/"+must(t, r, "branch", "--show-current")+".lock", "")
	put(t, r, "a.txt", "on")
	if err := r.Reset(t.Context(), first, Base); err == nil {
		t.Fatal("Reset worked with an index that is locked")
	}
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if head, base := r.Hash(t.Context(), "HEAD"), r.Hash(t.Context(), Base); head != first || base != first {
		t.Errorf("HEAD %s, %s %s; want %s", head, Base, base, first)
	}
	if dirty, err := r.Dirty(t.Context()); err != nil || dirty != nil {
		t.Errorf("Dirty = %v, %v", dirty, err)
	}
	put(t, r, "a.txt", "a developer's edit\n")
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dirty, _ := r.Dirty(t.Context()); len(dirty) != 1 {
		t.Error("a second Recover reset the tree again")
	}
}

func TestErrorSaysWhatGitSaid(t *testing.T) {
	_, err := newRepo(t).Run(t.Context(), "rev-parse", "--verify", "nothing-of-that-name")
	if err == nil || err.Error() != "git rev-parse: Needed a single revision" {
		t.Errorf("got %v", err)
	}
}
