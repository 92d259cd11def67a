package build

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// runGuarded renders the guard for t, links it into a program that prints "started", and runs that.
func runGuarded(tb testing.TB, t target.Target) (stdout, stderr string, code int) {
	tb.Helper()
	// A constructor shows that the guard runs ahead of them: it would print too.
	const program = `#include <stdio.h>
extern const char zt_guard_passed[];
__attribute__((constructor)) static void first(void) { puts("constructor"); fflush(stdout); }
int main(void) { printf("started %s\n", zt_guard_passed); return 0; }
`
	dir := compileGuard(tb, t, program, "-o", "guarded", "guard.c", "main.c")
	return run(tb, exec.Command(filepath.Join(dir, "guarded")))
}

// runPreloaded renders the guard for t, links it into a library, and preloads that into a program of the system.
func runPreloaded(tb testing.TB, t target.Target) (stdout, stderr string, code int) {
	tb.Helper()
	dir := compileGuard(tb, t, "", "-DZT_GUARD_LIBRARY", "-fPIC", "-shared", "-o", "guard.so", "guard.c")
	cmd := exec.Command("echo", "started")
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+filepath.Join(dir, "guard.so"))
	return run(tb, cmd)
}

// compileGuard compiles guard.c for t, and main.c, with the given arguments, and returns the folder where that happened.
func compileGuard(tb testing.TB, t target.Target, program string, args ...string) (dir string) {
	tb.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		tb.Skip(err)
	}
	text, err := template.ParseFiles("../../templates/ggml/src/ggml-cpu/zen5/guard.c.tmpl")
	if err != nil {
		tb.Fatal(err)
	}
	var guard bytes.Buffer
	if err := text.Execute(&guard, header{Target: t, Version: "1.2.3", BLAS: "none"}); err != nil {
		tb.Fatal(err)
	}
	dir = tb.TempDir()
	for name, source := range map[string]string{"guard.c": guard.String(), "main.c": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command(cc, append([]string{"-Wall", "-Wextra", "-Werror", "-march=x86-64", "-mgeneral-regs-only"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return dir
}

func run(tb testing.TB, cmd *exec.Cmd) (stdout, stderr string, code int) {
	tb.Helper()
	var outs, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &outs, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return outs.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestGuard runs every target's guard on this CPU: it must decide as the target table does.
func TestGuard(t *testing.T) {
	for _, tgt := range target.All() {
		t.Run(tgt.Name, func(t *testing.T) {
			stdout, stderr, code := runGuarded(t, tgt)
			if err := tgt.Accepts(target.Host()); err != nil {
				if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "llama-zen-turbo requires ") || !strings.Contains(stderr, target.Host().Vendor) {
					t.Errorf("%v, but the guard ended with %d, stdout %q, stderr %q", err, code, stdout, stderr)
				}
				if tgt.Name == "zen5" && !strings.HasPrefix(stderr, "llama-zen-turbo requires AMD Zen 5 processor; found ") {
					t.Errorf("stderr %q", stderr)
				}
				return
			}
			if code != 0 || !strings.Contains(stdout, "started llama-zen-turbo 1.2.3, target "+tgt.Name+", BLAS: none") || stderr != "" {
				t.Errorf("a CPU that the target accepts: exit %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

// TestGuardOfLibrary preloads every target's guard into a program that knows nothing of it.
func TestGuardOfLibrary(t *testing.T) {
	for _, tgt := range target.All() {
		t.Run(tgt.Name, func(t *testing.T) {
			stdout, stderr, code := runPreloaded(t, tgt)
			if err := tgt.Accepts(target.Host()); err != nil {
				// The line has to say where it comes from.
				if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "libzenturbo-preload.so of llama-zen-turbo requires ") || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%v, but the guard ended with %d, stdout %q, stderr %q", err, code, stdout, stderr)
				}
			} else if code != 0 || stdout != "started\n" || stderr != "" {
				t.Errorf("a CPU that the target accepts: exit %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

// TestGuardNamesMissingFeature asks for a bit that CPUID leaf 7 reserves.
func TestGuardNamesMissingFeature(t *testing.T) {
	bringup, err := target.Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	bringup.Features = []target.Feature{{FeatureID: cpuid.CLDEMOTE, Leaf: 7, Subleaf: 0, Register: 3, Bit: 0}}
	stdout, stderr, code := runGuarded(t, bringup)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "without CLDEMOTE") {
		t.Errorf("exit %d, stdout %q, stderr %q; want a refusal that names the feature", code, stdout, stderr)
	}
}

// TestFeatureBits holds the table's CPUID bits to the cpuid package on this CPU: where it reports a feature, so must the guard,
// one feature at a time.
func TestFeatureBits(t *testing.T) {
	bringup, err := target.Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	if !target.Host().Has(cpuid.AVX512F) {
		t.Skip("this CPU lacks AVX-512, whose registers the guard wants saved")
	}
	for _, f := range bringup.Features {
		one := bringup
		one.Features = []target.Feature{f}
		if _, stderr, code := runGuarded(t, one); (code == 0) != target.Host().Has(f.FeatureID) {
			t.Errorf("%s: the cpuid package says %v, the guard ended with %d: %s", f.FeatureID, target.Host().Has(f.FeatureID), code, stderr)
		}
	}
}
