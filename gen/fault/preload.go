package fault

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// preloaded is the library that gives other programs the page policy and a BLAS, and preloadTests holds memory to its promises under it.
const (
	preloaded    = "libzenturbo-preload.so"
	preloadTests = "zt-preload-test"
)

// PreloadTests are what the scenarios of the preload library need of a build besides programs: a program, and a BLAS whose products are as they
// should be and one whose products are twice that.
var PreloadTests = []string{preloadTests, "zt-blas-1", "zt-blas-2"}

var preloadScenarios = []scenario{
	{"preload library: what memory promises", "as without it, and in huge pages", preloadPromises},
	{"preload library: what memory promises, in pages of the pool", "as without it; all pages given back", preloadPool},
	{"preload library: the pool runs dry between two blocks", "the rest comes from elsewhere, said once; a child has its copies", preloadDry},
	{"preload library: memory freed twice", "one line says so, and the program aborts", preloadFreed},
	{"preload library: cblas_sgemm", "goes to the library that is named, else the program's own, else one line says that there is none", preloadBLAS},
	{"preload library: stock llama.cpp", "the same logits, weights in huge pages", preloadStock},
	{"preload library: programs of the system", "as without it", preloadSystem},
	{"preload library: what it exports", "the functions it is there for, and nothing else", preloadExports},
}

// preload is c with the library, and others behind it.
func (l *lab) preload(c call, behind ...string) call {
	return c.env("LD_PRELOAD=" + strings.Join(append([]string{filepath.Join(l.tuned.Bin, preloaded)}, behind...), ":"))
}

// smallest is the threshold in MiB that tests run with: less to fill than the library's own, and they have it from the environment.
const smallest = "ZT_HUGEPAGES_MIN=4"

// promises are the tests of preloadTests that nothing has to be arranged for.
var promises = []string{"functions", "threshold", "parts", "realloc", "calloc", "stress", "threads", "fork", "fork-threads"}

// test is the call of one of preloadTests, which wants large blocks in those pages: thp, pool, off, or any.
func (l *lab) test(name, pages string) call {
	return call{build: l.tests, name: preloadTests, args: []string{name, pages}}.env(smallest)
}

// passes runs a program that must end well.
func (l *lab) passes(ctx context.Context, c call) (end, error) {
	e, err := l.run(ctx, c)
	if err == nil {
		err = e.failed()
	}
	return e, err
}

func preloadPromises(ctx context.Context, l *lab) (string, error) {
	for _, name := range promises {
		// without the library too: a test that asks for more than is promised proves nothing
		calls := []call{l.preload(l.test(name, "off")).env("ZT_HUGEPAGES=off")}
		if name != "threshold" {
			calls = append(calls, l.test(name, "any"), l.preload(l.test(name, "any")).env("ZT_DISABLE=1"))
		}
		if transparent() {
			calls = append(calls, l.preload(l.test(name, "thp")))
		}
		for _, c := range calls {
			if _, err := l.passes(ctx, c); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d tests pass with and without", len(promises)), nil
}

// transparent says whether the kernel has transparent huge pages for those who ask.
func transparent() bool {
	raw, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	return err == nil && !strings.Contains(string(raw), "[never]")
}

func preloadPool(ctx context.Context, l *lab) (got string, err error) {
	const n = 128 // for some of the tests' blocks, and not for all
	restore, err := l.setPool(n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	for _, name := range promises {
		if _, err := l.passes(ctx, l.preload(l.test(name, "pool")).env("ZT_HUGEPAGES=hugetlb")); err != nil {
			return "", l.poolError("%w", err)
		}
		if err := l.settled(ctx, pages{total: n, free: n}); err != nil {
			return "", fmt.Errorf("after %s: %w", name, err)
		}
	}
	// what nobody asked for is not taken
	if _, err := l.passes(ctx, l.preload(l.test("functions", "thp"))); err != nil && transparent() {
		return "", err
	}
	return fmt.Sprintf("%d tests pass; %d pages given back", len(promises), n), nil
}

func preloadDry(ctx context.Context, l *lab) (got string, err error) {
	const n = 16 // what the test expects to be too little
	restore, err := l.setPool(n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	e, err := l.passes(ctx, l.preload(l.test("dry", "pool")).env("ZT_HUGEPAGES=hugetlb"))
	if err == nil {
		_, err = e.said(saysShort)
	}
	if err != nil {
		return "", l.poolError("%w", err)
	}
	err = l.settled(ctx, pages{total: n, free: n})
	return fmt.Sprintf("falls back after %d pages", n), err
}

// aborted is nil if e ended as a program does whose C library finds its memory in disorder, and one line said why.
func (e end) aborted(phrase string) error {
	if e.signal != syscall.SIGABRT {
		return fmt.Errorf("exit status %d, %v; it should have aborted: %s%s", e.code, e.signal, e.call, e.last())
	}
	_, err := e.said(phrase)
	return err
}

func preloadFreed(ctx context.Context, l *lab) (string, error) {
	for name, phrase := range map[string]string{"free-twice": "which is free already", "free-inside": "which is inside a block"} {
		e, err := l.run(ctx, l.preload(l.test(name, "any")))
		if err == nil {
			err = e.aborted(phrase)
		}
		if err != nil {
			return "", err
		}
	}
	return "aborts; freed twice, or inside a block", nil
}

func preloadBLAS(ctx context.Context, l *lab) (string, error) {
	const (
		none  = "119 134 287 320, 119 134 287 320\n" // of FACTOR 1
		twice = "235 262 565 628, 235 262 565 628\n" // of FACTOR 2
	)
	library := func(factor string) string { return filepath.Join(l.tests.Bin, "libzt-blas-"+factor+".so") }
	c := l.test("blas", "any")
	for _, x := range []struct {
		call     call
		want     string
		warnings int
	}{
		{l.preload(c).env("ZT_PRELOAD_BLAS=" + library("2")), twice, 0},
		{l.preload(c, library("1")).env("ZT_PRELOAD_BLAS=" + library("2")), twice, 0},
		{l.preload(c, library("1")), none, 0},
		{l.preload(c, library("1")).env("ZT_PRELOAD_BLAS=" + library("none")), none, 1},
	} {
		e, err := l.passes(ctx, x.call)
		if err == nil {
			err = same(e.call, e.stdout, x.want)
		}
		if err == nil && strings.Count(e.stderr, "\n") != x.warnings {
			err = fmt.Errorf("%q, not %d lines: %s", e.stderr, x.warnings, e.call)
		}
		if err != nil {
			return "", err
		}
	}
	for _, c := range []call{l.preload(c), l.preload(c).env("ZT_PRELOAD_BLAS=" + library("none"))} {
		e, err := l.run(ctx, c)
		if err == nil {
			err = e.aborted("cblas_sgemm is called and there is none")
		}
		if err != nil {
			return "", err
		}
	}
	return "each where it should be", nil
}

// preloadStock runs stock's programs, which know nothing of huge pages.
func preloadStock(ctx context.Context, l *lab) (got string, err error) {
	st, err := os.Stat(l.model)
	if err != nil {
		return "", err
	}
	// what is read into memory asks for it; mapped files do not
	stock := func(c call) call {
		c.build = l.stock
		return c
	}
	greedy := stock(l.greedy(l.model)).with("-lm", "none")
	want, err := l.answer(ctx, greedy)
	if err != nil {
		return "", err
	}
	server := staged(stock(l.service(l.model)))
	reply, err := l.serverAnswer(ctx, server)
	if err != nil {
		return "", err
	}
	const pool = 64
	modes := map[string]string{}
	if transparent() {
		modes["thp"] = "anon_huge"
	}
	restore, poolErr := l.setPool(pool)
	if poolErr == nil {
		defer func() { err = errors.Join(err, restore()) }()
		modes["hugetlb"] = "hugetlb"
	}
	for mode, field := range modes {
		with := func(c call) call { return l.preload(c).env("ZT_HUGEPAGES="+mode, "ZT_HUGEPAGES_MIN=1") }
		e, err := l.passes(ctx, with(greedy))
		if err == nil {
			err = same(e.call, e.stdout, want)
		}
		if err != nil {
			return "", err
		}
		e, err = l.passes(ctx, with(stock(l.load(l.model)).with("-lm", "none")))
		if err != nil {
			return "", err
		}
		lines, err := program.Lines[map[string]any]([]byte(e.stdout))
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.call, err)
		}
		if n, _ := lines[len(lines)-1][field].(float64); int64(n) < st.Size()/2 {
			return "", l.poolError("%.0f bytes in huge pages, of a model of %d: %s", n, st.Size(), e.call)
		}
		s, err := l.serve(ctx, with(server), 0)
		if err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err == nil {
			err = same(s.call, answer, reply)
		}
		if err != nil {
			return "", err
		}
		e, err = s.stop(ctx)
		if err == nil {
			err = e.failed()
		}
		if err == nil && poolErr == nil {
			err = l.settled(ctx, pages{total: pool, free: pool})
		}
		if err != nil {
			return "", err
		}
	}
	if len(modes) == 0 {
		return "", skip("there are neither transparent huge pages here nor a pool: %v", poolErr)
	}
	return fmt.Sprintf("the same bits and answers in %d kinds of huge pages", len(modes)), nil
}

// preloadSystem runs what people have around: programs that start others, load libraries, map files and have allocators of their own.
func preloadSystem(ctx context.Context, l *lab) (string, error) {
	const python = "import subprocess, threading\n" +
		"b = bytearray(3 << 20)\n" +
		"for i in range(40): b += bytes([i]) * (1 << 20)\n" +
		"ts = [threading.Thread(target=lambda: bytearray(9 << 20).find(b'x')) for _ in range(4)]\n" +
		"[t.start() for t in ts]; [t.join() for t in ts]\n" +
		"print(len(b), sum(b[::4096]), subprocess.run(['echo', 'child'], capture_output=True).stdout)\n"
	var ran []string
	for _, words := range [][]string{
		{"ls", "/"},
		{"bash", "-c", "x=$(seq 20000 | tr '\\n' ' '); for i in 1 2 3; do echo ${#x} | (read y; echo $y $((y + i))); done"},
		{"git", "--version"},
		{"sort", "--parallel=4", "-r", "/proc/filesystems"},
		{"python3", "-c", python},
	} {
		path, err := exec.LookPath(words[0])
		if err != nil {
			continue // not everywhere
		}
		c := call{build: program.Build{Name: "system", Bin: filepath.Dir(path)}, name: filepath.Base(path), args: words[1:]}
		want, err := l.passes(ctx, c)
		if err != nil {
			return "", err
		}
		e, err := l.passes(ctx, l.preload(c).env(smallest))
		if err == nil {
			err = same(e.call, e.stdout+e.stderr, want.stdout+want.stderr)
		}
		if err != nil {
			return "", err
		}
		ran = append(ran, words[0])
	}
	return strings.Join(ran, ", ") + " as without", nil
}

// exports is what the library may put in the place of the C library's functions, and of BLAS's.
var exports = strings.Fields(`malloc calloc realloc reallocarray free free_sized free_aligned_sized malloc_usable_size
	posix_memalign aligned_alloc memalign valloc pvalloc mmap mmap64 munmap mremap mprotect madvise cblas_sgemm cblas_dgemm`)

func preloadExports(_ context.Context, l *lab) (string, error) {
	f, err := elf.Open(filepath.Join(l.tuned.Bin, preloaded))
	if err != nil {
		return "", err
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return "", err
	}
	var found []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF {
			found = append(found, s.Name)
		}
	}
	slices.Sort(found)
	if want := slices.Sorted(slices.Values(exports)); !slices.Equal(found, want) {
		return "", fmt.Errorf("%s exports %q, not %q", preloaded, found, want)
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return "", err
	}
	for _, name := range libraries {
		if !slices.ContainsFunc([]string{"libc.", "libm.", "libdl.", "libpthread.", "ld-linux-"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return "", fmt.Errorf("%s would bring %s into every program", preloaded, name)
		}
	}
	return fmt.Sprintf("%d functions; needs %s", len(found), strings.Join(libraries, ", ")), nil
}
