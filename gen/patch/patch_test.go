package patch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// world is a checkout of an upstream with two files, src/a.c and b.c, of 40 numbered lines each, and an empty queue.
type world struct {
	t          *testing.T
	dir, queue string
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{t, filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "patches")}
	w.write(filepath.Join(w.queue, "pin.toml"), "not a patch\n")
	w.put("src/a.c", lines("a", 1, 40))
	w.put("b.c", lines("b", 1, 40))
	w.git("init", "--quiet", "--template=", "--initial-branch=zt")
	w.git("config", "user.name", "Dev Eloper")
	w.git("config", "user.email", "dev@example.com")
	w.commit("upstream")
	w.git("update-ref", git.Base, "HEAD")
	return w
}

func lines(prefix string, from, to int) string {
	var s strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&s, "%s %d\n", prefix, i)
	}
	return s.String()
}

func (w world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) put(name, text string) { w.t.Helper(); w.write(filepath.Join(w.dir, name), text) }

func (w world) get(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// edit replaces a line of a file in the checkout.
func (w world) edit(name, old, new string) {
	w.t.Helper()
	text := w.get(name)
	if !strings.Contains(text, old+"\n") {
		w.t.Fatalf("%s has no line %q", name, old)
	}
	w.put(name, strings.Replace(text, old+"\n", new+"\n", 1))
}

func (w world) git(args ...string) string {
	w.t.Helper()
	out, err := git.Repo{Dir: w.dir}.Run(w.t.Context(), args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w world) commit(message string) {
	w.t.Helper()
	w.git("add", ".")
	w.git("commit", "--quiet", "-m", message)
}

func (w world) apply() error   { return Apply(w.t.Context(), w.dir, w.queue) }
func (w world) extract() error { return Extract(w.t.Context(), w.dir, w.queue) }
func (w world) check() error {
	return Check(w.t.Context(), w.dir, w.git("rev-parse", git.Base), w.queue)
}

func (w world) mustApply() {
	w.t.Helper()
	if err := w.apply(); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) mustExtract() {
	w.t.Helper()
	if err := w.extract(); err != nil {
		w.t.Fatal(err)
	}
}

// patches returns the queue by file name.
func (w world) patches() map[string]string {
	w.t.Helper()
	files, err := read(w.queue)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		all[f.name] = string(f.text)
	}
	return all
}

func (w world) names(want ...string) {
	w.t.Helper()
	if got := slices.Sorted(maps.Keys(w.patches())); !slices.Equal(got, want) {
		w.t.Errorf("queue %v, want %v", got, want)
	}
}

const (
	first  = "0001-Hook-a-at-two-places.patch"
	second = "0002-Hook-b.patch"
)

// twoPatches fills the queue with two patches and leaves the checkout at upstream.
func (w world) twoPatches() {
	w.t.Helper()
	w.edit("src/a.c", "a 10", "a 10 hooked")
	w.edit("src/a.c", "a 30", "a 30 hooked")
	w.commit("Hook a at two places\n\nThe body says why,\nin two lines.")
	w.edit("b.c", "b 20", "b 20 hooked")
	w.commit("Hook b")
	w.mustExtract()
	w.names(first, second)
	w.git("reset", "--quiet", "--hard", git.Base)
}

// upstream replaces the pinned tree by one with other files, as a new pin does. The checkout is left there.
func (w world) upstream(change func()) {
	w.t.Helper()
	w.git("reset", "--quiet", "--hard", git.Base)
	change()
	w.git("add", ".")
	w.git("commit", "--quiet", "--amend", "-m", "upstream, later")
	w.git("update-ref", git.Base, "HEAD")
}

// fails expects an error with every one of words in it.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not mention %q", err, word)
		}
	}
}

func TestApply(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.mustApply()
	if !strings.Contains(w.get("src/a.c"), "a 30 hooked") || !strings.Contains(w.get("b.c"), "b 20 hooked") {
		t.Error("the patches are not in the files")
	}
	if got := w.git("log", "--format=%s|%an <%ae>", "zt-base.."); got != "Hook b|Dev Eloper <dev@example.com>\nHook a at two places|Dev Eloper <dev@example.com>" {
		t.Errorf("commits:\n%s", got)
	}
	if got := w.git("log", "-1", "--format=%b", "HEAD~"); got != "The body says why,\nin two lines.\n" {
		t.Errorf("body %q", got)
	}
	if got := w.git("status", "--porcelain"); got != "" {
		t.Errorf("status:\n%s", got)
	}
	if got := w.git("branch", "--show-current"); got != "zt" {
		t.Errorf("on branch %q", got)
	}
}

// The commit hash ends up in the programs' version, so it must depend on the pin and the queue only.
func TestApplyMakesTheSameCommitsEverywhere(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.mustApply()
	want := w.git("rev-parse", "HEAD")
	w.git("reset", "--quiet", "--hard", git.Base)
	w.git("config", "user.name", "Someone Else")
	t.Setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
	t.Setenv("TZ", "Asia/Tokyo")
	w.mustApply()
	if got := w.git("rev-parse", "HEAD"); got != want {
		t.Errorf("HEAD %s, want %s", got, want)
	}
}

func TestApplyTouchesOnlyWhatChanges(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.mustApply()
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, name := range []string{"src/a.c", "b.c"} {
		if err := os.Chtimes(filepath.Join(w.dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(w.queue, second)); err != nil {
		t.Fatal(err)
	}
	w.mustApply()
	if got := w.get("b.c"); got != lines("b", 1, 40) {
		t.Errorf("b.c is still patched:\n%s", got)
	}
	if info, err := os.Stat(filepath.Join(w.dir, "src/a.c")); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("src/a.c, which the dropped patch does not change, was written: %v, %v", info.ModTime(), err)
	}
}

func TestApplyOfTheEmptyQueue(t *testing.T) {
	w := newWorld(t)
	if err := Apply(t.Context(), w.dir, ""); err != nil {
		t.Fatal(err)
	}
	w.edit("b.c", "b 1", "b one")
	fails(t, Apply(t.Context(), w.dir, ""), "b.c", "commit them")
	w.git("checkout", "--quiet", "b.c")
	fails(t, Apply(t.Context(), w.dir, filepath.Join(w.queue, "missing")), "missing", "patch queue")
}

func TestApplyNamesTheHunkThatFails(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.upstream(func() { w.edit("src/a.c", "a 29", "a 29 rewritten by upstream"); w.edit("src/a.c", "a 30", "a 30 too") })
	before := w.git("rev-parse", "HEAD")
	err := w.apply()
	fails(t, err, "patches/"+first+" does not apply: src/a.c, hunk 2 (@@ -27,7 +27,7 @@)", w.dir, "git am -3", "mage patch:extract")
	var conflict *Conflict
	if !errors.As(err, &conflict) || conflict.Parent != before || len(conflict.At) != 1 {
		t.Errorf("%+v; want one place, and the base as parent", conflict)
	}
	if after := w.git("rev-parse", "HEAD"); after != before || w.git("status", "--porcelain") != "" {
		t.Error("the checkout is not as it was")
	}
	fails(t, w.check(), "patches/"+first+" does not apply: src/a.c, hunk 2 (@@ -27,7 +27,7 @@)")
}

func TestApplyNamesEveryFileThatFails(t *testing.T) {
	w := newWorld(t)
	w.edit("src/a.c", "a 10", "a 10 hooked")
	w.edit("b.c", "b 20", "b 20 hooked")
	w.commit("Hook both")
	w.mustExtract()
	w.upstream(func() { w.edit("src/a.c", "a 10", "a ten"); w.edit("b.c", "b 20", "b twenty") })
	fails(t, w.apply(), "b.c, hunk 1 (@@ -17,7 +17,7 @@)", "src/a.c, hunk 1 (@@ -7,7 +7,7 @@)")
	w.upstream(func() { w.put("src/a.c", lines("a", 1, 40)); w.git("rm", "--quiet", "b.c") })
	fails(t, w.apply(), "patches/0001-Hook-both.patch does not apply: b.c: does not exist in index")
}

func TestApplyOfAFileThatIsNoPatch(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	text := w.patches()[second]
	if err := os.Remove(filepath.Join(w.queue, second)); err != nil {
		t.Fatal(err)
	}
	from := strings.Index(text, "\nFrom: ") + 1
	for _, bad := range []string{
		"hello\n",
		text[strings.Index(text, "diff --git"):],
		text[:from] + text[from+strings.Index(text[from:], "\n")+1:],
	} {
		w.write(filepath.Join(w.queue, "0003-x.patch"), bad)
		fails(t, w.apply(), "patches/0003-x.patch", "not in the form of git format-patch")
	}
}

func TestApplyMergesWithTheBlobThePatchNames(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	// A line of the context changes, which plain git apply does not forgive, but not the one that the patch replaces.
	w.upstream(func() { w.edit("src/a.c", "a 8", "a eight") })
	w.mustApply()
	if got := w.get("src/a.c"); !strings.Contains(got, "a eight\na 9\na 10 hooked\n") {
		t.Errorf("src/a.c:\n%s", got)
	}
}

func TestApplyKeepsADevelopersWork(t *testing.T) {
	setup := func(t *testing.T) world {
		w := newWorld(t)
		w.twoPatches()
		w.mustApply()
		return w
	}
	// newQueue changes the queue so that Apply has something to do.
	newQueue := func(w world) {
		if err := os.Remove(filepath.Join(w.queue, second)); err != nil {
			w.t.Fatal(err)
		}
	}
	refuses := func(w world, file string, current bool) {
		w.t.Helper()
		before := w.get(file)
		err := w.apply()
		var work *Work
		if !errors.As(err, &work) || work.Current != current {
			w.t.Fatalf("%v; want a *Work with Current %v", err, current)
		}
		if w.get(file) != before {
			w.t.Error("the work is gone")
		}
	}
	t.Run("changes", func(t *testing.T) {
		w := setup(t)
		w.edit("b.c", "b 1", "b 1 work")
		refuses(w, "b.c", true)
		newQueue(w)
		refuses(w, "b.c", false)
		fails(t, w.apply(), w.dir, "b.c", "mage patch:extract")
		w.git("checkout", "--quiet", "b.c")
		w.mustApply()
	})
	t.Run("staged changes", func(t *testing.T) {
		w := setup(t)
		w.put("new.c", "new\n")
		w.git("add", "new.c")
		newQueue(w)
		refuses(w, "new.c", false)
	})
	t.Run("a deleted file", func(t *testing.T) {
		w := setup(t)
		if err := os.Remove(filepath.Join(w.dir, "b.c")); err != nil {
			t.Fatal(err)
		}
		newQueue(w)
		fails(t, w.apply(), "b.c")
	})
	t.Run("commits", func(t *testing.T) {
		w := setup(t)
		w.edit("b.c", "b 1", "b 1 work")
		w.commit("Work")
		refuses(w, "b.c", true)
		newQueue(w)
		refuses(w, "b.c", false)
		fails(t, w.apply(), w.dir, "3 above", "mage patch:extract", "git reset --hard zt-base")
	})
	t.Run("commits on the base", func(t *testing.T) {
		w := newWorld(t)
		w.edit("b.c", "b 1", "b 1 work")
		w.commit("Work")
		refuses(w, "b.c", false)
	})
	t.Run("fewer commits than patches", func(t *testing.T) {
		w := setup(t)
		w.git("commit", "--quiet", "--amend", "-m", "Hook b, reworded")
		refuses(w, "b.c", true)
	})
	t.Run("an untracked file in a patch's way", func(t *testing.T) {
		w := newWorld(t)
		w.put("new.c", "by a patch\n")
		w.commit("Add new.c")
		w.mustExtract()
		w.git("reset", "--quiet", "--hard", git.Base)
		w.put("new.c", "by a developer\n")
		fails(t, w.apply(), "new.c", "move it away")
		if got := w.get("new.c"); got != "by a developer\n" {
			t.Errorf("new.c is %q", got)
		}
		w.put("new.c", "by a patch\n")
		w.mustApply()
	})
	t.Run("an untracked file elsewhere", func(t *testing.T) {
		w := newWorld(t)
		w.twoPatches()
		w.put("notes.txt", "mine\n")
		w.mustApply()
		if got := w.get("notes.txt"); got != "mine\n" {
			t.Errorf("notes.txt is %q", got)
		}
	})
	t.Run("a git am that stopped", func(t *testing.T) {
		w := newWorld(t)
		w.twoPatches()
		w.upstream(func() { w.edit("b.c", "b 20", "b twenty") })
		if _, err := (git.Repo{Dir: w.dir}).Run(t.Context(), "am", filepath.Join(w.queue, second)); err == nil {
			t.Fatal("git am worked")
		}
		fails(t, w.apply(), w.dir, "git am", "finish or abort")
	})
}

func TestApplyAcceptsWorkThatTheQueueHas(t *testing.T) {
	t.Run("commits", func(t *testing.T) {
		w := newWorld(t)
		w.twoPatches()
		w.mustApply()
		want := w.git("rev-parse", "HEAD^{tree}")
		w.edit("b.c", "b 1", "b 1 work")
		w.commit("Work")
		w.mustExtract()
		w.mustApply()
		if got := w.git("rev-parse", "HEAD~^{tree}"); got != want {
			t.Errorf("tree below the new patch is %s, want %s", got, want)
		}
		if w.git("rev-parse", "HEAD") != w.git("rev-parse", git.Applied) {
			t.Error("HEAD is not what the queue leads to")
		}
	})
	t.Run("changes", func(t *testing.T) {
		w := newWorld(t)
		w.twoPatches()
		w.edit("src/a.c", "a 10", "a 10 hooked")
		w.edit("src/a.c", "a 30", "a 30 hooked")
		fails(t, w.apply(), "src/a.c")
		w.edit("b.c", "b 20", "b 20 hooked")
		w.mustApply()
		if got := w.git("log", "--format=%s", "zt-base.."); got != "Hook b\nHook a at two places" {
			t.Errorf("commits:\n%s", got)
		}
	})
}

func TestApplyRecoversFromAKilledOne(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.put(".git/index.lock", "") // makes the reset at the end fail where a kill would stop it
	if err := w.apply(); err == nil {
		t.Fatal("Apply worked with a locked index")
	}
	w.put("src/a.c", "half a fi")
	w.mustApply()
	if !strings.Contains(w.get("src/a.c"), "a 30 hooked") || w.git("status", "--porcelain") != "" {
		t.Error("the checkout is not what the queue leads to")
	}
}

func TestTheUsersGitDoesNotInterfere(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.mustApply()
	wantHead, want := w.git("rev-parse", "HEAD"), w.patches()

	home := t.TempDir()
	w.write(filepath.Join(home, ".gitconfig"), "[commit]\n gpgSign = true\n[gpg]\n program = /bin/false\n[am]\n threeWay = true\n keepcr = true\n"+
		"[core]\n autocrlf = true\n hooksPath = "+home+"\n[format]\n numbered = true\n signOff = true\n subjectPrefix = RFC\n attach = x\n"+
		"[diff]\n noprefix = true\n context = 9\n renames = copies\n algorithm = patience\n[user]\n name = U\n[color]\n ui = always\n")
	for _, hook := range []string{"pre-commit", "applypatch-msg", "post-checkout", "reference-transaction"} {
		w.write(filepath.Join(home, hook), "#!/bin/sh\nexit 1\n")
		if err := os.Chmod(filepath.Join(home, hook), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GIT_DIR", home)
	// The checkout's own configuration is the developer's as well.
	w.git("config", "format.signOff", "true")
	w.git("config", "diff.noprefix", "true")
	w.git("config", "diff.context", "9")
	w.git("config", "format.subjectPrefix", "RFC")
	w.git("config", "format.numbered", "true")
	w.git("config", "color.ui", "always")
	for name := range want {
		if err := os.Remove(filepath.Join(w.queue, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.mustExtract()
	if got := w.patches(); !maps.Equal(got, want) {
		t.Errorf("extracted otherwise:\n%v\nwant\n%v", got, want)
	}
	w.git("reset", "--quiet", "--hard", git.Base)
	w.mustApply()
	if got := w.git("rev-parse", "HEAD"); got != wantHead {
		t.Errorf("HEAD %s, want %s", got, wantHead)
	}
}

func TestExtractWritesFormatPatch(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	text := w.patches()[first]
	for _, want := range []string{
		"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: Dev Eloper <dev@example.com>\nDate: ",
		"\nSubject: [PATCH] Hook a at two places\n\nThe body says why,\nin two lines.\n",
		"\n@@ -7,7 +7,7 @@ a 6\n a 7\n a 8\n a 9\n-a 10\n+a 10 hooked\n a 11\n a 12\n a 13\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.HasSuffix(text, "\n a 33\n") {
		t.Errorf("something follows the last hunk:\n%s", text)
	}
}

func TestExtractKeepsAFileWhoseLinesOnlyMoved(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	// Written by another git, on another day, from another commit.
	old := w.patches()[first]
	old = strings.Replace(old, strings.Repeat("0", 40), strings.Repeat("1", 40), 1) + "-- \n2.17.1\n\n"
	w.write(filepath.Join(w.queue, first), old)
	before := w.patches()
	w.upstream(func() { w.put("src/a.c", "new first line\n"+lines("a", 1, 40)) })
	w.mustApply()
	w.git("commit", "--quiet", "--amend", "--no-edit", "--date=2001-01-01T00:00:00Z")
	w.mustExtract()
	if after := w.patches(); !maps.Equal(before, after) {
		t.Errorf("queue changed from\n%v\nto\n%v", before, after)
	}
}

// Only its line number says which of two alike places a hunk means.
func TestExtractRewritesAFileWhosePlaceMoved(t *testing.T) {
	w := newWorld(t)
	block := "{\n1\n2\n3\nhook here\n3\n2\n1\n}\n"
	w.upstream(func() { w.put("b.c", strings.Repeat(block, 3)) })
	w.put("b.c", strings.Replace(strings.Repeat(block, 3), "hook here", "hooked", 1))
	w.commit("Hook b")
	w.mustExtract()
	w.git("reset", "--quiet", "--hard", git.Base)
	w.put("b.c", block+block+strings.Replace(block, "hook here", "hooked", 1))
	w.commit("Hook b")
	want := w.get("b.c")
	w.mustExtract()
	w.git("reset", "--quiet", "--hard", git.Base)
	w.mustApply()
	if got := w.get("b.c"); got != want {
		t.Errorf("the queue hooks another place:\n%s", got)
	}
}

func TestExtractFollowsTheCommits(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	w.mustApply()
	before := w.patches()

	// One in front: the others get new numbers and keep their text.
	w.git("reset", "--quiet", "--hard", git.Base)
	w.edit("b.c", "b 1", "b one")
	w.commit("Come first")
	w.git("cherry-pick", git.Applied+"~2.."+git.Applied)
	w.mustExtract()
	w.names("0001-Come-first.patch", "0002-Hook-a-at-two-places.patch", "0003-Hook-b.patch")
	if got := w.patches()["0002-Hook-a-at-two-places.patch"]; got != before[first] {
		t.Errorf("the second patch changed to\n%s", got)
	}

	// The last one dropped, the one before changed.
	w.git("reset", "--quiet", "--hard", "HEAD~")
	w.edit("src/a.c", "a 10 hooked", "a 10 hooked better")
	w.git("commit", "--quiet", "--amend", "--all", "--no-edit")
	w.mustExtract()
	w.names("0001-Come-first.patch", "0002-Hook-a-at-two-places.patch")
	if got := w.patches()["0002-Hook-a-at-two-places.patch"]; !strings.Contains(got, "hooked better") {
		t.Errorf("the second patch is still\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(w.queue, "pin.toml")); err != nil {
		t.Error(err)
	}

	w.git("reset", "--quiet", "--hard", git.Base)
	w.mustExtract()
	w.names()
}

func TestExtractRefuses(t *testing.T) {
	t.Run("changes", func(t *testing.T) {
		w := newWorld(t)
		w.edit("b.c", "b 1", "b 1 work")
		fails(t, w.extract(), w.dir, "b.c", "commit or stash")
	})
	t.Run("a merge", func(t *testing.T) {
		w := newWorld(t)
		w.git("checkout", "--quiet", "-b", "side")
		w.edit("b.c", "b 1", "b 1 side")
		w.commit("Side")
		w.git("checkout", "--quiet", "zt")
		w.edit("src/a.c", "a 1", "a 1 main")
		w.commit("Main")
		w.git("merge", "--quiet", "-m", "Merge", "side")
		fails(t, w.extract(), "merge", "straight line")
	})
	t.Run("a commit without changes", func(t *testing.T) {
		w := newWorld(t)
		w.git("commit", "--quiet", "--allow-empty", "-m", "Nothing")
		fails(t, w.extract(), "changes nothing", "git rebase -i zt-base")
	})
	t.Run("another history", func(t *testing.T) {
		w := newWorld(t)
		w.git("checkout", "--quiet", "--orphan", "other")
		w.commit("Other")
		fails(t, w.extract(), "zt-base", "rebase")
	})
	t.Run("a message that git takes for a diff", func(t *testing.T) {
		w := newWorld(t)
		w.edit("b.c", "b 1", "b 1 work")
		w.commit("Subject\n\nfirst\n---\nsecond")
		fails(t, w.extract(), "0001-Subject.patch", "reword")
	})
	t.Run("a folder that is no checkout", func(t *testing.T) {
		w := newWorld(t)
		w.git("update-ref", "-d", git.Base)
		fails(t, w.extract(), w.dir, "zt-base")
		fails(t, w.apply(), w.dir, "zt-base")
	})
}

func TestMessagesSurvive(t *testing.T) {
	for _, message := range []string{
		"Plain",
		"Subject\n\nBody\n\n    indented\n\nSigned-off-by: A <a@example.com>",
		"Grüße aus Zürich – naïve façade\n\nKörper: 日本語",
		"[CPU] A tag in brackets",
		"cpu: colons: everywhere",
		"A subject that goes on and on until it is far longer than the seventy-eight columns at which a mail header is folded",
		"Trailing dots...",
		"diff: a word that begins like a diff\n\ndifferent lines\nIndex\n-- \nno signature",
	} {
		w := newWorld(t)
		w.edit("b.c", "b 20", "b 20 hooked")
		w.git("add", ".")
		w.git("-c", "user.name=Jürgen Ø", "commit", "--quiet", "-m", message)
		want := w.git("show", "--no-patch", "--format=%an|%s|%b", "HEAD")
		if err := w.extract(); err != nil {
			t.Errorf("%q: %v", message, err)
			continue
		}
		if err := w.check(); err != nil {
			t.Errorf("%q: %v", message, err)
		}
		w.git("reset", "--quiet", "--hard", git.Base)
		w.mustApply()
		if got := w.git("show", "--no-patch", "--format=%an|%s|%b", "HEAD"); got != want {
			t.Errorf("%q became\n%s\nwant\n%s", message, got, want)
		}
	}
}

func TestDifficultFiles(t *testing.T) {
	w := newWorld(t)
	w.put("crlf.txt", "one\r\ntwo\r\nthree\r\n")
	w.put("no newline.txt", "x")
	w.put("bytes.bin", "\x00\xff\x00latin \xe9\n")
	w.put("latin.txt", "caf\xe9\n")
	w.put("run.sh", "#!/bin/sh\n")
	w.commit("upstream has odd files")
	w.git("update-ref", git.Base, "HEAD")
	w.put("crlf.txt", "one\r\nTWO\r\nthree\r\n")
	w.put("no newline.txt", "y")
	w.put("bytes.bin", "\x00\xfe\x00latin \xe8\n")
	w.put("latin.txt", "th\xe9\n")
	w.put("dir/with space/née.txt", "new\n")
	if err := os.Chmod(filepath.Join(w.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.git("mv", "b.c", "moved.c")
	w.commit("Change them all")
	want := w.git("rev-parse", "HEAD^{tree}")
	w.mustExtract()
	if err := w.check(); err != nil {
		t.Error(err)
	}
	w.git("reset", "--quiet", "--hard", git.Base)
	w.mustApply()
	if got := w.git("rev-parse", "HEAD^{tree}"); got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.twoPatches()
	objects := w.git("count-objects", "-v")
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	if after := w.git("count-objects", "-v"); after != objects {
		t.Errorf("Check left objects behind:\n%s\nbefore\n%s", after, objects)
	}
	good := w.patches()
	for _, c := range []struct {
		name   string
		change func(text string) string
		want   string
	}{
		{"a hash", func(s string) string { return strings.Replace(s, strings.Repeat("0", 40), strings.Repeat("a", 40), 1) }, "zeroed From hash"},
		{"a diffstat", func(s string) string { return strings.Replace(s, "\ndiff ", "\n---\n src/a.c | 4 ++--\n\ndiff ", 1) }, "not what extracting"},
		{"less context", func(s string) string {
			return strings.Replace(s, "@@ -7,7 +7,7 @@ a 6\n a 7\n", "@@ -8,6 +8,6 @@ a 7\n", 1)
		}, "not what extracting"},
		{"another subject", func(s string) string { return strings.Replace(s, "Hook a at", "Hook the a at", 1) }, "would be called 0001-Hook-the-a-at-two-places.patch"},
	} {
		text := c.change(good[first])
		if text == good[first] {
			t.Fatalf("%s: nothing changed in\n%s", c.name, text)
		}
		w.write(filepath.Join(w.queue, first), text)
		err := w.check()
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		fails(t, err, "patches/"+first, c.want, "mage patch:extract")
	}
}
