package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// TestMain turns the test binary into one `mage build` for the tests that kill it.
func TestMain(m *testing.M) {
	if root := os.Getenv("ZT_TEST_BUILD"); root != "" {
		if err := buildOnce(context.Background(), root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func buildOnce(ctx context.Context, root string) error {
	p := project{w: workspace.Workspace{Root: root, Out: filepath.Join(root, "out"), Cache: filepath.Join(root, "cache")}}
	return progress.To(&p.log).Step(ctx, "compile", func(ctx context.Context, s *progress.Step) (err error) {
		bringup, err := target.Find("bringup")
		if err != nil {
			return err
		}
		p.tc, err = find(ctx, p.w, s, bringup, noInstall)
		if err != nil {
			return err
		}
		if err := p.tc.Configure(ctx, s, p.config()); err != nil {
			return err
		}
		_, err = p.tc.Build(ctx, s, p.config().Build)
		return err
	})
}

func noInstall(_ context.Context, _ *progress.Step, needs ...packages.Need) error {
	for _, n := range needs {
		if !n.Optional && !n.Have() {
			return fmt.Errorf("no %s here", n.Name)
		}
		n.Have()
	}
	return nil
}

// project is a small CMake project laid out as llama.cpp is in a workspace.
type project struct {
	w   workspace.Workspace
	tc  Toolchain
	log bytes.Buffer
}

var tuned = workspace.Variant{Target: "bringup"}

func (p *project) config() Config {
	return Config{Source: p.w.Src(tuned), Build: p.w.Build(tuned), Flags: []string{"-march=znver4"}, Cache: map[string]string{
		"GREETING": "hello",
		// cmake's own checks of the compiler would be most of these tests' time.
		"CMAKE_C_COMPILER_FORCED": "ON", "CMAKE_CXX_COMPILER_FORCED": "ON",
	}}
}

const cmakeLists = `cmake_minimum_required(VERSION 3.18)
project(zt C CXX ASM)
add_compile_definitions(GREETING="${GREETING}")
add_library(parts STATIC one.c two.S)
add_custom_command(OUTPUT made.c COMMAND sh ${CMAKE_SOURCE_DIR}/make.sh VERBATIM DEPENDS ${CMAKE_SOURCE_DIR}/make.sh)
add_executable(zt main.cpp made.c)
target_link_libraries(zt parts)
`

var sources = map[string]string{
	"CMakeLists.txt": cmakeLists,
	"one.c":          "int one(void) { return 1; }\n",
	"two.S":          ".text\n.globl two\ntwo:\n\tmov $2, %eax\n\tret\n.section .note.GNU-stack,\"\",@progbits\n",
	"make.sh":        "echo 'int three(void) { return 3; }' > made.c\n",
	"main.cpp": `#include <iostream>
extern "C" { int one(void); int two(void); int three(void); }
int main() { std::cout << GREETING << " " << __FILE__ << " " << one() + two() + three() << std::endl; }
`,
}

// newProject lays the project down below root and finds the tools of this machine, or skips.
func newProject(t *testing.T, root string) *project {
	t.Helper()
	p := &project{w: workspace.Workspace{Root: root, Out: filepath.Join(root, "out"), Cache: filepath.Join(root, "cache")}}
	p.write(t, sources)
	tc, err := hostTools()
	if err != nil {
		t.Skip(err)
	}
	p.tc = tc
	p.tc.objects, p.tc.base = p.w.CCache(), p.w.Out
	return p
}

var hostTools = sync.OnceValues(func() (tc Toolchain, err error) {
	bringup, err := target.Find("bringup")
	if err != nil {
		return Toolchain{}, err
	}
	err = progress.To(io.Discard).Step(context.Background(), "tools", func(ctx context.Context, s *progress.Step) (err error) {
		tc, err = find(ctx, workspace.Workspace{}, s, bringup, noInstall)
		return err
	})
	return tc, err
})

func (p *project) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(p.w.Src(tuned), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *project) step(ctx context.Context, f func(context.Context, *progress.Step) error) error {
	return progress.To(&p.log).Step(ctx, "compile", f)
}

func (p *project) build(ctx context.Context) (compiled int, err error) {
	err = p.step(ctx, func(ctx context.Context, s *progress.Step) (err error) {
		if err := p.tc.Configure(ctx, s, p.config()); err != nil {
			return err
		}
		compiled, err = p.tc.Build(ctx, s, p.config().Build)
		return err
	})
	return compiled, err
}

// mustBuild builds and checks how much was compiled and what the program prints.
func (p *project) mustBuild(t *testing.T, compiled int, prints string) {
	t.Helper()
	n, err := p.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n != compiled {
		t.Errorf("compiled %d sources, want %d", n, compiled)
	}
	out, err := exec.Command(filepath.Join(p.config().Build, "zt")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != prints {
		t.Errorf("the program printed %q (%v), want %q", out, err, prints)
	}
}

func TestBuildsOnlyWhatChanged(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.mustBuild(t, 4, "hello main.cpp 6")
	stamp := filepath.Join(p.config().Build, "CMakeCache.txt")
	before, err := os.Stat(stamp)
	if err != nil {
		t.Fatal(err)
	}
	p.mustBuild(t, 0, "hello main.cpp 6")
	if after, err := os.Stat(stamp); err != nil || after.ModTime() != before.ModTime() {
		t.Error("an unchanged configuration ran cmake again")
	}
	p.write(t, map[string]string{"one.c": "int one(void) { return 10; }\n"})
	p.mustBuild(t, 1, "hello main.cpp 15")
}

func TestConfigurationChangesAreSeen(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.mustBuild(t, 4, "hello main.cpp 6")
	change := func(t *testing.T, edit func(*Config)) {
		t.Helper()
		c := p.config()
		edit(&c)
		if err := p.step(t.Context(), func(ctx context.Context, s *progress.Step) error { return p.tc.Configure(ctx, s, c) }); err != nil {
			t.Fatal(err)
		}
	}
	cache := func() string {
		text, err := os.ReadFile(filepath.Join(p.config().Build, "CMakeCache.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	change(t, func(c *Config) { c.Cache = map[string]string{"GREETING": "bye"} })
	if !strings.Contains(cache(), "GREETING:UNINITIALIZED=bye") {
		t.Error("the new entry did not arrive")
	}
	change(t, func(c *Config) { c.Cache = nil })
	if strings.Contains(cache(), "GREETING") {
		t.Error("an entry that is no longer given stayed in cmake's cache")
	}
	marker := filepath.Join(p.config().Build, "zt")
	if _, err := os.Stat(marker); err != nil {
		t.Error("a new configuration threw the objects away")
	}
	p.tc.Banner = "another compiler"
	change(t, func(*Config) {})
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another compiler kept the objects of the last (%v)", err)
	}
}

func TestRefusesAFolderOfSomethingElse(t *testing.T) {
	p := newProject(t, t.TempDir())
	precious := filepath.Join(p.config().Build, "thesis.tex")
	if err := os.MkdirAll(p.config().Build, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p.build(t.Context()); err == nil || !strings.Contains(err.Error(), p.config().Build) {
		t.Errorf("%v, want an error that names the folder", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// A stamp that was cut short, or a configuration that never ended, is done again.
func TestUnfinishedConfigurationIsDoneAgain(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.write(t, map[string]string{"CMakeLists.txt": cmakeLists + "message(FATAL_ERROR \"not today\")\n"})
	if _, err := p.build(t.Context()); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Fatalf("%v, want cmake's own words", err)
	}
	p.write(t, map[string]string{"CMakeLists.txt": cmakeLists})
	p.mustBuild(t, 4, "hello main.cpp 6")
	if err := os.Truncate(filepath.Join(p.config().Build, stampName), 5); err != nil {
		t.Fatal(err)
	}
	p.mustBuild(t, 4, "hello main.cpp 6")
}

func TestCompileErrorIsShownInFull(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.write(t, map[string]string{"one.c": "#warning look here\nint one(void) { return first; }\n"})
	_, err := p.build(t.Context())
	var failed *BuildError
	if !errors.As(err, &failed) {
		t.Fatalf("%v, want a BuildError", err)
	}
	if !slices.Contains(failed.Failed, "CMakeFiles/parts.dir/one.c.o") {
		t.Errorf("failed: %q", failed.Failed)
	}
	for _, want := range []string{"one.c:1", "look here", "one.c:2", "first"} {
		if !strings.Contains(failed.Output, want) {
			t.Errorf("the output lacks %q:\n%s", want, failed.Output)
		}
	}
	for _, noise := range []string{"ninja: ", "Entering directory", "-O3", "\x01"} {
		if strings.Contains(failed.Output, noise) {
			t.Errorf("the output holds %q:\n%s", noise, failed.Output)
		}
	}
}

// slow makes made.c in two halves with a long wait between, and says when it waits.
const slow = "echo 'int three(void) {' > made.c\ntouch waiting\nsleep 60\necho 'return 3; }' >> made.c\n"

func awaitFile(t *testing.T, path string) {
	t.Helper()
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not appear", path)
}

// running reports whether a process works in the folder.
func running(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

func TestCancelledBuildIsOverAndRecovers(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.write(t, map[string]string{"make.sh": slow})
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("interrupted by the test")
	go func() {
		awaitFile(t, filepath.Join(p.config().Build, "waiting"))
		cancel(because)
	}()
	start := time.Now()
	if _, err := p.build(ctx); !errors.Is(err, because) {
		t.Errorf("%v, want the cause of the cancellation", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the cancelled build took %v", took)
	}
	if left := running(t, p.config().Build); left != nil {
		t.Errorf("still running: %q", left)
	}
	p.write(t, map[string]string{"make.sh": sources["make.sh"]})
	if _, err := p.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mustBuild(t, 0, "hello main.cpp 6")
}

// Killing mage gives it no chance to clean up: the kernel ends ninja, and the next run makes what was half written.
func TestKilledBuildIsOverAndRecovers(t *testing.T) {
	p := newProject(t, t.TempDir())
	p.write(t, map[string]string{"make.sh": slow})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ZT_TEST_BUILD="+p.w.Root)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(p.config().Build, "waiting"))
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for range 500 {
		if running(t, p.config().Build) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left := running(t, p.config().Build); left != nil {
		t.Errorf("still running: %q", left)
	}
	p.write(t, map[string]string{"make.sh": sources["make.sh"]})
	if _, err := p.build(t.Context()); err != nil {
		t.Fatalf("%v\nthe killed build said:\n%s", err, output.String())
	}
	p.mustBuild(t, 0, "hello main.cpp 6")
}

// Stock and tuned trees, and clones of the checkout, share objects; and what is compiled does not depend on the folder.
func TestClonesShareObjects(t *testing.T) {
	first := newProject(t, filepath.Join(t.TempDir(), "a"))
	if first.tc.CCache == "" {
		t.Skip("no ccache here")
	}
	if os.Getenv("CCACHE_DISABLE") != "" {
		t.Skip("CCACHE_DISABLE is set")
	}
	first.mustBuild(t, 4, "hello main.cpp 6")
	second := newProject(t, filepath.Join(t.TempDir(), "a longer 'name' (with signs)"))
	second.tc.objects = first.tc.objects
	hits := func() int {
		cmd := exec.Command(first.tc.CCache, "--print-stats")
		cmd.Env = first.tc.environ()
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("ccache --print-stats: %v", err)
		}
		sum := 0
		for line := range strings.Lines(string(out)) {
			var n int
			if _, err := fmt.Sscanf(line, "direct_cache_hit\t%d", &n); err == nil {
				sum += n
			} else if _, err := fmt.Sscanf(line, "preprocessed_cache_hit\t%d", &n); err == nil {
				sum += n
			}
		}
		return sum
	}
	before := hits()
	second.mustBuild(t, 4, "hello main.cpp 6")
	if got := hits() - before; got != 3 {
		t.Errorf("%d of 3 C and C++ sources of the second clone came from the cache", got)
	}
	third := newProject(t, t.TempDir())
	third.tc.CCache = ""
	third.mustBuild(t, 4, "hello main.cpp 6")
	var programs [3][]byte
	for i, p := range []*project{first, second, third} {
		var err error
		if programs[i], err = os.ReadFile(filepath.Join(p.config().Build, "zt")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("two clones built different programs")
	}
	if !bytes.Equal(programs[0], programs[2]) {
		t.Error("ccache changed the program")
	}
}

func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	p := newProject(t, t.TempDir())
	build := p.config().Build
	if err := os.MkdirAll(build, 0o755); err != nil {
		t.Fatal(err)
	}
	// Enough for cmake's own checks, too little for a program that carries its C++ library.
	if err := syscall.Mount("tmpfs", build, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(build, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p.write(t, map[string]string{"make.sh": "head -c 4000000 /dev/zero > filler\necho 'int three(void) { return 3; }' > made.c\n"})
	_, err := p.build(t.Context())
	if err == nil || !strings.Contains(err.Error(), "disk full") || !strings.Contains(err.Error(), build) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want one line that says the disk is full and names %s", err, build)
	}
	// With room again the same folder completes.
	if err := os.Remove(filepath.Join(build, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", build, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	p.write(t, map[string]string{"make.sh": sources["make.sh"]})
	if _, err := p.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mustBuild(t, 0, "hello main.cpp 6")
}

func TestNinjaOutput(t *testing.T) {
	var out bytes.Buffer
	var n ninjaOutput
	err := progress.To(&out).Step(t.Context(), "compile", func(_ context.Context, s *progress.Step) error {
		n.step = s
		for line := range strings.Lines("ninja: Entering directory `b'\n" +
			"\x011 4\x01Building C object CMakeFiles/a.dir/a.c.o\n" +
			"a.c:1: warning: unused\n" +
			"\x012 4\x01Building CXX object CMakeFiles/a.dir/b.cpp.o\n" +
			"\x013 4\x01Linking C static library liba.a\n" +
			"\x014 4\x01Building C object CMakeFiles/a.dir/c.c.o\n" +
			"FAILED: [code=1] CMakeFiles/a.dir/c.c.o \n" +
			"/usr/bin/cc -c c.c\n" +
			"c.c:1: error: [1/2] is no status\n" +
			"\x015 4\x01Building C object CMakeFiles/a.dir/d.c.o\n" +
			"FAILED: CMakeFiles/a.dir/d.c.o\n" +
			"/usr/bin/cc -c d.c\n" +
			"d.c:9: error: no newline at the end") {
			n.line(line)
		}
		n.line("ninja: build stopped: subcommand failed.\n")
		n.line("ninja: error: rebuilding 'build.ninja': subcommand failed\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.compiled != 4 {
		t.Errorf("compiled %d, want 4", n.compiled)
	}
	if want := []string{"CMakeFiles/a.dir/c.c.o", "CMakeFiles/a.dir/d.c.o"}; !slices.Equal(n.failed, want) {
		t.Errorf("failed %q, want %q", n.failed, want)
	}
	want := "c.c:1: error: [1/2] is no status\nd.c:9: error: no newline at the end\nninja: error: rebuilding 'build.ninja': subcommand failed\n"
	if n.errors.String() != want {
		t.Errorf("errors %q, want %q", n.errors.String(), want)
	}
}

func TestShorten(t *testing.T) {
	for doing, want := range map[string]string{
		"Building CXX object common/CMakeFiles/llama-common.dir/arg.cpp.o": "common/arg.cpp",
		"Linking CXX executable bin/llama-bench":                           "bin/llama-bench",
		"Re-running CMake...":                                              "CMake...",
		"":                                                                 "",
	} {
		if got := shorten(doing); got != want {
			t.Errorf("shorten(%q) = %q, want %q", doing, got, want)
		}
	}
}
