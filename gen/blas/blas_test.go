package blas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// blisH declares what the check and ggml use of BLIS.
const blisH = `enum { CblasRowMajor = 101, CblasNoTrans = 111, CblasTrans = 112 };
void bli_thread_set_num_threads(long n);
const char * bli_info_get_version_str(void);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float * a, int lda,
                 const float * b, int ldb, float beta, float * c, int ldc);
`

// gemm multiplies as the check asks for: row-major A times transposed B. extra spoils every product.
const gemm = `#include "blis.h"
void bli_thread_set_num_threads(long n) { (void) n; }
const char * bli_info_get_version_str(void) { return "%s"; }
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float * a, int lda,
                 const float * b, int ldb, float beta, float * c, int ldc) {
    (void) order; (void) ta; (void) tb; (void) beta;
    for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {
        float sum = %s;
        for (int l = 0; l < k; l++) sum += alpha * a[i * lda + l] * b[j * ldb + l];
        c[i * ldc + j] = sum;
    }
}
`

func compiler(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"clang-19", "clang", "gcc", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no C compiler to make a library with")
	return ""
}

// library lays a static BLIS of our own making at include and lib below root.
func library(t *testing.T, root, include, lib, archive, version, extra string) {
	t.Helper()
	include, lib = filepath.Join(root, include), filepath.Join(root, lib)
	write(t, filepath.Join(include, "blis.h"), blisH)
	write(t, filepath.Join(include, "cblas.h"), blisH)
	src := filepath.Join(t.TempDir(), "blis.c")
	write(t, src, fmt.Sprintf(gemm, version, extra))
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	object := strings.TrimSuffix(src, "c") + "o"
	for _, args := range [][]string{
		{compiler(t), "-c", "-O1", "-I", include, src, "-o", object},
		{"ar", "rcs", filepath.Join(lib, archive), object},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
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

// newFinder finds in empty folders, with no package that could be installed and no source.
func newFinder(t *testing.T) *finder {
	t.Helper()
	t.Setenv("AOCL_ROOT", "")
	t.Setenv("ZT_AOCL_SRC", "")
	host := target.Target{Name: "bringup"} // accepts every CPU, so that products are always checked
	return &finder{
		w: workspace.Workspace{Out: t.TempDir(), Cache: t.TempDir()}, t: host, tc: toolchain.Toolchain{CC: compiler(t)},
		pin: pin.AOCLBLAS{Tag: "5.1", Commit: strings.Repeat("1", 40)},
		ensure: func(_ context.Context, _ *progress.Step, needs ...packages.Need) error {
			for _, n := range needs {
				if !n.Have() {
					return errors.New("missing " + n.Name)
				}
			}
			return nil
		},
		fetch: func(context.Context, workspace.Workspace, *progress.Step) (pin.Source, error) {
			return pin.Source{}, fmt.Errorf("%w to aocl-blas", pin.ErrNoRoute)
		},
		distribution: t.TempDir(),
	}
}

func (f *finder) in(t *testing.T) (b BLAS, err error) {
	t.Helper()
	_ = progress.To(io.Discard).Step(t.Context(), "blas", func(ctx context.Context, s *progress.Step) error {
		f.s = s
		b, err = f.find(ctx)
		return nil
	})
	return b, err
}

func TestInstalledAOCL(t *testing.T) {
	for _, layout := range layouts {
		for _, archive := range []string{"libblis-mt.a", "libblis.a"} {
			f := newFinder(t)
			root := t.TempDir()
			library(t, root, layout[0], layout[1], archive, "AOCL-BLAS 5.1.0 Build 20250428", "0")
			write(t, filepath.Join(root, "LICENSE.txt"), "terms")
			t.Setenv("AOCL_ROOT", root)
			b, err := f.in(t)
			if err != nil {
				t.Fatal(err)
			}
			if b.Name != "AOCL-BLAS 5.1.0" || b.Version != "5.1.0" || b.License != filepath.Join(root, "LICENSE.txt") {
				t.Errorf("%v: %q version %q license %q", layout, b.Name, b.Version, b.License)
			}
			if want := filepath.Join(root, layout[1], archive); !slices.Equal(b.Archives, []string{want}) || b.CMake["BLAS_LIBRARIES"] != want+";-lpthread;-lm" {
				t.Errorf("archives %v, BLAS_LIBRARIES %s; want %s", b.Archives, b.CMake["BLAS_LIBRARIES"], want)
			}
			if want := filepath.Join(root, layout[0]); b.CMake["BLAS_INCLUDE_DIRS"] != want {
				t.Errorf("BLAS_INCLUDE_DIRS %s, want %s", b.CMake["BLAS_INCLUDE_DIRS"], want)
			}
		}
	}
}

// AOCL_ROOT that leads to upstream BLIS is used, under its own name.
func TestInstalledUpstream(t *testing.T) {
	f := newFinder(t)
	root := t.TempDir()
	library(t, root, "include/blis", "lib", "libblis.a", "2.0", "0")
	t.Setenv("AOCL_ROOT", root)
	b, err := f.in(t)
	if want := "upstream BLIS 2.0, not AOCL (AOCL_ROOT=" + root + ")"; err != nil || b.String() != want {
		t.Errorf("got %v, %v; want %s", b, err, want)
	}
}

func TestUnusableRoot(t *testing.T) {
	for name, test := range map[string]struct {
		lay  func(t *testing.T, root string)
		want string
	}{
		"empty":          {func(*testing.T, string) {}, "it has no include/"},
		"headers only":   {func(t *testing.T, root string) { write(t, filepath.Join(root, "include/blis.h"), blisH) }, "it has no include/"},
		"not an archive": {func(t *testing.T, root string) { broken(t, root) }, "libblis.a"},
		"wrong products": {func(t *testing.T, root string) {
			library(t, root, "include", "lib", "libblis.a", "AOCL-BLAS 5.1.0", "1")
		}, "multiplies wrongly or not at all: row 0 column 0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFinder(t)
			// A fallback that works must not hide that AOCL_ROOT does not.
			library(t, f.distribution, "include/x/blis-pthread", "lib/x/blis-pthread", "libblis.a", "0.9.0", "0")
			root := t.TempDir()
			test.lay(t, root)
			t.Setenv("AOCL_ROOT", root)
			b, err := f.in(t)
			if err == nil || !strings.Contains(err.Error(), "AOCL_ROOT="+root) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error with AOCL_ROOT=%s and %q", b, err, root, test.want)
			}
		})
	}
}

func broken(t *testing.T, root string) {
	t.Helper()
	write(t, filepath.Join(root, "include/blis.h"), blisH)
	write(t, filepath.Join(root, "include/cblas.h"), blisH)
	write(t, filepath.Join(root, "lib/libblis.a"), "!<arch>\n")
}

func TestFallback(t *testing.T) {
	f := newFinder(t)
	if b, err := f.in(t); err == nil || !strings.Contains(err.Error(), "missing BLIS") || !strings.Contains(err.Error(), "AOCL_ROOT") {
		t.Errorf("with no BLIS at all: %v, %v", b, err)
	}
	for i := len(flavours) - 1; i >= 0; i-- { // each is preferred to those before
		flavour := flavours[i]
		library(t, f.distribution, "include/x/blis-"+flavour, "lib/x/blis-"+flavour, "libblis.a", "0.9.0", "0")
		license := filepath.Join(f.distribution, "share/doc/libblis-"+flavour+"-dev/copyright")
		write(t, license, "terms")
		b, err := f.in(t)
		archive := filepath.Join(f.distribution, "lib/x/blis-"+flavour, "libblis.a")
		if err != nil || b.Name != "upstream BLIS 0.9.0, not AOCL" || !slices.Equal(b.Archives, []string{archive}) || b.License != license {
			t.Errorf("%s: %v, archives %v, license %s, %v", flavour, b, b.Archives, b.License, err)
		}
	}
}

func TestUnreachableIsRemembered(t *testing.T) {
	f := newFinder(t)
	library(t, f.distribution, "include/blis", "lib64", "libblis.a", "0.9.0", "0")
	asked, answer := 0, error(fmt.Errorf("%w to aocl-blas", pin.ErrNoRoute))
	f.fetch = func(context.Context, workspace.Workspace, *progress.Step) (pin.Source, error) {
		asked++
		return pin.Source{}, answer
	}
	find := func(want int) {
		t.Helper()
		if _, err := f.in(t); err != nil {
			t.Fatal(err)
		}
		if asked != want {
			t.Errorf("the repository was asked %d times, want %d", asked, want)
		}
	}
	find(1)
	find(1)
	old := time.Now().Add(-retry - time.Minute)
	if err := os.Chtimes(f.unreachable(), old, old); err != nil {
		t.Fatal(err)
	}
	find(2)
	find(2)
	t.Setenv("ZT_AOCL_SRC", "somewhere")
	find(3)
	t.Setenv("ZT_AOCL_SRC", "")

	// What is not a matter of reach is an error each time, and is not remembered.
	if err := os.Remove(f.unreachable()); err != nil {
		t.Fatal(err)
	}
	answer = errors.New("it has commit 2, but pin.toml pins commit 1")
	for range 2 {
		if b, err := f.in(t); !errors.Is(err, answer) {
			t.Errorf("got %v, %v; want %v", b, err, answer)
		}
	}
	if asked != 5 || exists(f.unreachable()) {
		t.Errorf("asked %d times, want 5; remembered %v, want false", asked, exists(f.unreachable()))
	}
}

// What a command says on both its outputs arrives whole, and its end is in the error.
func TestStep(t *testing.T) {
	const lines = 2000
	talk := fmt.Sprintf("for i in $(seq %d); do echo Compiling $i; echo warning $i >&2; done", lines)
	out, err := finder{}.step(t.Context(), t.TempDir(), io.Discard, "sh", "-c", talk)
	if n, m := strings.Count(out, "Compiling "), strings.Count(out, "warning "); err != nil || n != lines || m != lines {
		t.Errorf("%d and %d lines arrived of %d each, %v", n, m, lines, err)
	}
	if _, err := (finder{}).step(t.Context(), t.TempDir(), io.Discard, "sh", "-c", "echo bad header >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "bad header") {
		t.Errorf("got %v, want the command's words", err)
	}
}
