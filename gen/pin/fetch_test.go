package pin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// world is an upstream repository, a pin of its tag v1 and an empty cache. Above the tag upstream has one more commit. npm is
// not installed.
type world struct {
	t        *testing.T
	w        workspace.Workspace
	pin      Pin
	upstream git.Repo
	later    string // tree of the commit above the tag
	said     *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, upstream: git.Repo{Dir: filepath.Join(t.TempDir(), "up stream")}, said: new(bytes.Buffer)}
	w.w.Cache = filepath.Join(t.TempDir(), "cache")
	t.Setenv("ZT_LLAMA_SRC", "")
	t.Setenv("ZT_AOCL_SRC", "")
	bin := t.TempDir()
	for _, tool := range []string{"git", "sh", "cp", "sleep"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)

	write(t, filepath.Join(w.upstream.Dir, "src/a.c"), "int a;\n")
	write(t, filepath.Join(w.upstream.Dir, ".gitignore"), "*.o\n")
	w.git("init", "--quiet", "--template=", "--initial-branch=master")
	w.git("config", "user.name", "A")
	w.git("config", "user.email", "a@example.com")
	w.git("commit", "--quiet", "--allow-empty", "-m", "root")
	w.git("add", ".")
	w.git("commit", "--quiet", "-m", "release")
	w.git("tag", "-a", "-m", "v1", "v1")
	w.pin.LlamaCpp = LlamaCpp{
		Repository: "file://" + strings.ReplaceAll(w.upstream.Dir, " ", "%20"), Tag: "v1", Tree: w.git("rev-parse", "v1^{tree}"),
		NPM: NPM{"some-package", "1.2.3", "package/some.bundle"},
	}
	w.pin.AOCLBLAS = AOCLBLAS{w.pin.LlamaCpp.Repository, "v1", w.git("rev-parse", "v1^{commit}")}
	write(t, filepath.Join(w.upstream.Dir, "src/b.c"), "int b;\n")
	w.git("add", ".")
	w.git("commit", "--quiet", "-m", "later")
	w.later = w.git("rev-parse", "HEAD^{tree}")
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, r git.Repo, args ...string) string {
	t.Helper()
	out, err := r.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w *world) git(args ...string) string { w.t.Helper(); return run(w.t, w.upstream, args...) }

// step calls f with a step that writes to w.said.
func (w *world) step(f func(ctx context.Context, s *progress.Step) error) error {
	return progress.To(w.said).Step(w.t.Context(), "pin", f)
}

func (w *world) fetch() (src Source, err error) {
	err = w.step(func(ctx context.Context, s *progress.Step) (err error) {
		src, err = w.pin.Fetch(ctx, w.w, s)
		return err
	})
	return src, err
}

func (w *world) fetchAOCL() (src Source, err error) {
	err = w.step(func(ctx context.Context, s *progress.Step) (err error) {
		src, err = w.pin.FetchAOCL(ctx, w.w, s)
		return err
	})
	return src, err
}

func (w *world) mustFetch() Source {
	w.t.Helper()
	src, err := w.fetch()
	if err != nil {
		w.t.Fatal(err)
	}
	return src
}

// unreachable points the pin at a port of this machine where nobody listens.
func (w *world) unreachable() {
	w.pin.LlamaCpp.Repository = "http://127.0.0.1:1/llama"
	w.pin.AOCLBLAS.Repository = "http://127.0.0.1:1/blis"
}

// is checks that src is what is pinned, and usable.
func (w *world) is(src Source, route string) {
	w.t.Helper()
	if src.Tree != w.pin.LlamaCpp.Tree || !src.Checked || !strings.HasPrefix(src.Route, route) {
		w.t.Errorf("%+v; want tree %s by route %s", src, w.pin.LlamaCpp.Tree, route)
	}
	dir := filepath.Join(w.t.TempDir(), "src")
	if err := src.Checkout(w.t.Context(), dir); err != nil {
		w.t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "src/a.c")); err != nil || string(text) != "int a;\n" {
		w.t.Errorf("src/a.c is %q, %v", text, err)
	}
}

// clean checks that a fetch that failed left nothing but lock files in the cache.
func (w *world) clean() {
	w.t.Helper()
	entries, err := os.ReadDir(w.w.Sources())
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			w.t.Errorf("the cache has %s", e.Name())
		}
	}
}

func (w *world) bundle(args ...string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "some.bundle")
	w.git(append([]string{"bundle", "create", "--quiet", path}, args...)...)
	return path
}

func TestFetchFromThePublicRepositoryAndTheCache(t *testing.T) {
	w := newWorld(t)
	src := w.mustFetch()
	w.is(src, w.pin.LlamaCpp.Repository)
	if !strings.Contains(w.said.String(), "fetching llama.cpp v1 from "+w.pin.LlamaCpp.Repository) {
		t.Errorf("said %q", w.said)
	}
	w.unreachable()
	w.said.Reset()
	start := time.Now()
	if again := w.mustFetch(); again != src {
		t.Errorf("from the cache: %+v, want %+v", again, src)
	}
	if took := time.Since(start); took > time.Second || strings.Contains(w.said.String(), "fetching") {
		t.Errorf("took %v and said %q", took, w.said)
	}
}

// Which route the sources took must not show in what is built from them.
func TestEveryRouteGivesTheSameCommit(t *testing.T) {
	w := newWorld(t)
	want := w.mustFetch().Commit
	w.unreachable()

	squashed := git.Repo{Dir: t.TempDir(), Env: []string{"GIT_AUTHOR_NAME=S", "GIT_AUTHOR_EMAIL=s", "GIT_COMMITTER_NAME=S", "GIT_COMMITTER_EMAIL=s"}}
	run(t, squashed, "init", "--quiet")
	run(t, squashed, "fetch", "--quiet", w.upstream.Dir, "v1")
	run(t, squashed, "update-ref", "HEAD", run(t, squashed, "commit-tree", "-m", "squashed", w.pin.LlamaCpp.Tree))
	squash := filepath.Join(t.TempDir(), "squash.bundle")
	run(t, squashed, "bundle", "create", "--quiet", squash, "HEAD")

	mirror := filepath.Join(t.TempDir(), "mirror.git")
	w.git("clone", "--quiet", "--mirror", ".", mirror)
	untagged := filepath.Join(t.TempDir(), "untagged")
	w.git("clone", "--quiet", "--no-tags", ".", untagged)
	shallow := filepath.Join(t.TempDir(), "shallow % []")
	w.git("clone", "--quiet", "--depth=1", "--branch=v1", "file://"+w.upstream.Dir, shallow)
	folder := filepath.Join(w.upstream.Dir, "untarred") // inside another repository
	write(t, filepath.Join(folder, "src/a.c"), "int a;\n")
	write(t, filepath.Join(folder, ".gitignore"), "*.o\n")

	for _, c := range []struct{ name, path string }{
		{"checkout", w.upstream.Dir},
		{"mirror", mirror},
		{"checkout without the tag", untagged},
		{"shallow checkout of the tag", shallow},
		{"bundle", w.bundle("--all")},
		{"squashed bundle", squash},
		{"folder", folder},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.w.Cache = t.TempDir()
			t.Setenv("ZT_LLAMA_SRC", c.path)
			for range 2 { // the second time the cache is filled
				src := w.mustFetch()
				w.is(src, "ZT_LLAMA_SRC="+c.path)
				if src.Commit != want {
					t.Errorf("commit %s, want %s", src.Commit, want)
				}
			}
		})
	}
}

func TestWrongTree(t *testing.T) {
	w := newWorld(t)
	wrong := strings.Repeat("0123456789", 4)
	right := w.pin.LlamaCpp.Tree
	w.pin.LlamaCpp.Tree = wrong
	_, err := w.fetch()
	fails(t, err, w.pin.LlamaCpp.Repository, right, wrong, "v1")
	w.clean()

	empty := git.Repo{Dir: t.TempDir()}
	run(t, empty, "init", "--quiet")
	noTag := git.Repo{Dir: t.TempDir()}
	w.git("clone", "--quiet", "--no-tags", ".", noTag.Dir)
	for _, c := range []struct {
		name, path string
		words      []string
	}{
		{"checkout", w.upstream.Dir, []string{right, wrong}},
		{"checkout without the tag", noTag.Dir, []string{w.later, wrong}},
		{"bundle", w.bundle("--all"), []string{right, wrong}},
		{"bundle of a branch", w.bundle("master"), []string{w.later, wrong}},
		{"folder", filepath.Join(w.upstream.Dir, "src"), []string{w.git("rev-parse", "HEAD:src"), wrong}},
		{"empty repository", empty.Dir, []string{"no commits"}},
		{"a file that is no bundle", filepath.Join(w.upstream.Dir, "src/a.c"), []string{"bundle"}},
		{"nothing", "/nowhere/at/all", []string{"no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			t.Setenv("ZT_LLAMA_SRC", c.path)
			_, err := w.fetch()
			fails(t, err, append(c.words, "ZT_LLAMA_SRC="+c.path)...)
			w.clean()
		})
	}
}

// A source the user names is held to the pin though the cache, or the public repository, has what is pinned.
func TestANamedSourceDoesNotFallThrough(t *testing.T) {
	w := newWorld(t)
	w.mustFetch()
	other := git.Repo{Dir: t.TempDir()}
	run(t, other, "init", "--quiet")
	run(t, other, "-c", "user.name=A", "-c", "user.email=a", "commit", "--quiet", "--allow-empty", "-m", "other")
	bundle := filepath.Join(t.TempDir(), "other.bundle")
	run(t, other, "bundle", "create", "--quiet", bundle, "HEAD")
	for _, path := range []string{other.Dir, bundle} {
		t.Setenv("ZT_LLAMA_SRC", path)
		_, err := w.fetch()
		fails(t, err, path, w.pin.LlamaCpp.Tree, run(t, other, "rev-parse", "HEAD^{tree}"))
	}
	t.Setenv("ZT_LLAMA_SRC", "")
	w.unreachable()
	w.is(w.mustFetch(), "file://") // the cache is still good
}

func TestNoNetworkAndNoNPM(t *testing.T) {
	w := newWorld(t)
	w.unreachable()
	start := time.Now()
	_, err := w.fetch()
	fails(t, err, w.pin.LlamaCpp.Tree, "http://127.0.0.1:1/llama: git ls-remote: unable to access",
		"npm pack some-package@1.2.3: npm is not installed", "set ZT_LLAMA_SRC to a local checkout")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	w.clean()
	_, err = w.fetchAOCL()
	fails(t, err, w.pin.AOCLBLAS.Commit, "http://127.0.0.1:1/blis", "set ZT_AOCL_SRC")
	if strings.Contains(err.Error(), "npm") {
		t.Errorf("AOCL is not to be had from npm: %v", err)
	}
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w := newWorld(t)
	w.pin.LlamaCpp.Repository = "http://" + silent.Addr().String() + "/llama"
	start := time.Now()
	_, err = w.fetch()
	fails(t, err, silent.Addr().String(), "no answer within 4s", "npm is not installed")
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("took %v", took)
	}
	w.clean()
}

func TestATagThatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.pin.LlamaCpp.Tag = "v9"
	_, err := w.fetch()
	fails(t, err, "it has no tag v9", "npm is not installed")
}

// npm puts a program of that name on PATH that answers "npm view" and does pack for "npm pack".
func (w *world) npm(view, pack string) {
	w.t.Helper()
	script := "#!/bin/sh\ncase $1 in\nview) " + view + ";;\npack) " + pack + ";;\n*) exit 9;;\nesac\n"
	path := filepath.Join(os.Getenv("PATH"), "npm")
	write(w.t, path, script)
	if err := os.Chmod(path, 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// archive makes an npm package of one file.
func (w *world) archive(name string, text []byte) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "some-package-1.2.3.tgz")
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	a := tar.NewWriter(z)
	for _, member := range []struct {
		name string
		text []byte
	}{{"package/package.json", []byte("{}")}, {name, text}} {
		if err := a.WriteHeader(&tar.Header{Name: member.name, Mode: 0o644, Size: int64(len(member.text))}); err != nil {
			w.t.Fatal(err)
		}
		if _, err := a.Write(member.text); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestFetchFromNPM(t *testing.T) {
	w := newWorld(t)
	w.unreachable()
	bundle, err := os.ReadFile(w.bundle("v1"))
	if err != nil {
		t.Fatal(err)
	}
	const good = "[ \"$2\" = some-package@1.2.3 ]"
	w.npm(good, good+" && cp "+w.archive("package/some.bundle", bundle)+" .")
	w.is(w.mustFetch(), "npm pack some-package@1.2.3")
	if !strings.Contains(w.said.String(), "with npm pack some-package@1.2.3") {
		t.Errorf("said %q", w.said)
	}

	other, err := os.ReadFile(w.bundle("master^^" + "..master"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(w.bundle("master"))
	if err != nil {
		t.Fatal(err)
	}
	cut := w.archive("package/some.bundle", bytes.Repeat([]byte("x"), 1<<20))
	if err := os.Truncate(cut, 600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.tgz")
	write(t, page, "<html>login</html>")
	for _, c := range []struct {
		name, view, pack string
		words            []string
	}{
		{"no such version", "echo 'npm error code E404' >&2; echo 'npm error 404 No match found for version 1.2.3' >&2; exit 1", "exit 1",
			[]string{"npm view: code E404, 404 No match found for version 1.2.3"}},
		{"a failure without a word", "exit 7", "exit 7", []string{"npm view: exit status 7"}},
		{"no archive", "true", "true", []string{"npm pack left 0 archives"}},
		{"no bundle in it", "true", "cp " + w.archive("package/other", nil) + " .", []string{"the package has no package/some.bundle"}},
		{"half an archive", "true", "cp " + cut + " .", []string{"some.bundle", "unexpected EOF"}},
		{"no archive but a page", "true", "cp " + page + " .", []string{"archive", "gzip"}},
		{"no bundle but text", "true", "cp " + w.archive("package/some.bundle", []byte("x")) + " .", []string{"bundle"}},
		{"a bundle that is incomplete", "true", "cp " + w.archive("package/some.bundle", other) + " .", []string{"git fetch", "prerequisite"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.w.Cache = t.TempDir()
			w.npm(c.view, c.pack)
			_, err := w.fetch()
			fails(t, err, append(c.words, "npm pack some-package@1.2.3: ", "ZT_LLAMA_SRC")...)
			w.clean()
		})
	}
	t.Run("another tree", func(t *testing.T) {
		w := *w
		w.t = t
		w.w.Cache = t.TempDir()
		w.npm("true", "cp "+w.archive("package/some.bundle", wrong)+" .")
		// The bundle's history has the pinned tree; this pin is of one that it lacks.
		w.pin.LlamaCpp.Tree = strings.Repeat("ab", 20)
		_, err := w.fetch()
		fails(t, err, "npm pack some-package@1.2.3", w.later, w.pin.LlamaCpp.Tree)
		w.clean()
	})
	t.Run("no answer", func(t *testing.T) {
		old := reach
		reach = 300 * time.Millisecond
		defer func() { reach = old }()
		w := *w
		w.t = t
		w.w.Cache = t.TempDir()
		w.npm("sleep 60", "sleep 60")
		start := time.Now()
		_, err := w.fetch()
		fails(t, err, "npm view: no answer within 600ms")
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestAnInterruptedFetch(t *testing.T) {
	t.Run("while downloading", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.unreachable()
		w.npm("true", "echo > "+filepath.Join(w.w.Cache, "started")+"; sleep 60")
		if err := os.MkdirAll(w.w.Cache, 0o755); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := os.Stat(filepath.Join(w.w.Cache, "started")); err == nil {
					cancel()
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		start := time.Now()
		err := progress.To(io.Discard).Step(ctx, "pin", func(ctx context.Context, s *progress.Step) error {
			_, err := w.pin.Fetch(ctx, w.w, s)
			return err
		})
		fails(t, err, "context canceled")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		w.clean()
	})
	t.Run("that was killed", func(t *testing.T) {
		w := newWorld(t)
		c := cache{upstream{name: "llama.cpp", tree: w.pin.LlamaCpp.Tree}, w.w.Sources()}
		stale := c.path() + ".partial-123"
		write(t, filepath.Join(stale, "objects/half"), "x")
		// A repository that is whole but of nothing, as if the rename had come too early.
		run(t, git.Repo{Dir: t.TempDir()}, "init", "--quiet", "--bare", c.path())
		w.is(w.mustFetch(), "file://")
		if _, err := os.Stat(stale); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", stale, err)
		}
	})
	t.Run("beside another", func(t *testing.T) {
		w := newWorld(t)
		c := cache{upstream{name: "llama.cpp", tree: w.pin.LlamaCpp.Tree}, w.w.Sources()}
		if err := os.MkdirAll(c.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(c.path() + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(300*time.Millisecond, func() { f.Close() })
		w.is(w.mustFetch(), "file://")
		if !strings.Contains(w.said.String(), "waiting for another run") {
			t.Errorf("said %q", w.said)
		}
	})
}

func TestFetchAOCL(t *testing.T) {
	w := newWorld(t)
	src, err := w.fetchAOCL()
	if err != nil {
		t.Fatal(err)
	}
	w.is(src, w.pin.AOCLBLAS.Repository)
	w.unreachable()
	if again, err := w.fetchAOCL(); err != nil || again != src {
		t.Errorf("from the cache: %+v, %v; want %+v", again, err, src)
	}

	for _, path := range []string{w.upstream.Dir, w.bundle("--all")} {
		t.Setenv("ZT_AOCL_SRC", path)
		w.w.Cache = t.TempDir()
		named, err := w.fetchAOCL()
		if err != nil {
			t.Fatal(err)
		}
		w.is(named, "ZT_AOCL_SRC="+path)
	}

	folder := t.TempDir()
	write(t, filepath.Join(folder, "src/a.c"), "int a;\n")
	t.Setenv("ZT_AOCL_SRC", folder)
	unpacked, err := w.fetchAOCL()
	if err != nil {
		t.Fatal(err)
	}
	if unpacked.Checked || unpacked.Dir == src.Dir {
		t.Errorf("a folder, which has no commit to compare, gives %+v", unpacked)
	}
	if err := unpacked.Checkout(t.Context(), filepath.Join(t.TempDir(), "blis")); err != nil {
		t.Error(err)
	}

	t.Setenv("ZT_AOCL_SRC", w.upstream.Dir)
	right := w.pin.AOCLBLAS.Commit
	w.pin.AOCLBLAS.Commit = strings.Repeat("ab", 20)
	_, err = w.fetchAOCL()
	fails(t, err, "ZT_AOCL_SRC="+w.upstream.Dir, right, w.pin.AOCLBLAS.Commit)
	t.Setenv("ZT_AOCL_SRC", "")
	w.pin.AOCLBLAS.Repository = w.upstream.Dir
	_, err = w.fetchAOCL()
	fails(t, err, w.upstream.Dir, right, w.pin.AOCLBLAS.Commit, "commit")
}

func TestProgressOfADownload(t *testing.T) {
	var said bytes.Buffer
	err := progress.To(&said).Step(t.Context(), "pin", func(_ context.Context, s *progress.Step) error {
		c := counter{step: s}
		fmt.Fprint(&c, "remote: Counting obj")
		fmt.Fprint(&c, "ects:  50% (5/10)\rReceiving objects: 100% (10/10), done.\nnonsense\n")
		if len(c.line) != 0 {
			t.Errorf("%q is left over", c.line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := counts.FindStringSubmatch("Receiving objects:  12% (123/1000), 4 MiB | 1 MiB/s"); m == nil || m[1] != "Receiving objects" || m[2] != "123" || m[3] != "1000" {
		t.Errorf("git's progress line parses as %q", m)
	}
	if m := counts.FindStringSubmatch("remote: Enumerating objects: 10, done."); m != nil {
		t.Errorf("a line without a total parses as %q", m)
	}
}

// The real sources, if this machine has them without a download.
func TestTheRealPin(t *testing.T) {
	p, err := Read(pinned)
	if err != nil {
		t.Fatal(err)
	}
	w, err := workspace.Find()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("ZT_LLAMA_SRC") != "" {
		w.Cache = t.TempDir()
	} else if _, ok := (cache{upstream{name: "llama.cpp", tree: p.LlamaCpp.Tree}, w.Sources()}).lookup(t.Context()); !ok {
		t.Skip("llama.cpp is not in the cache; mage build fetches it, or set ZT_LLAMA_SRC")
	}
	err = progress.To(io.Discard).Step(t.Context(), "pin", func(ctx context.Context, s *progress.Step) error {
		src, err := p.Fetch(ctx, w, s)
		if err != nil {
			return err
		}
		dir := filepath.Join(t.TempDir(), "src")
		if err := src.Checkout(ctx, dir); err != nil {
			return err
		}
		if got := run(t, git.Repo{Dir: dir}, "rev-parse", "HEAD^{tree}"); got != p.LlamaCpp.Tree {
			t.Errorf("tree %s, want %s", got, p.LlamaCpp.Tree)
		}
		_, err = os.Stat(filepath.Join(dir, "ggml/src/ggml-cpu/traits.h"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
