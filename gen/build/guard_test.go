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
	// A constructor shows that the guard runs ahead of them: it would print too.
	const program = `#include <stdio.h>
extern const char zt_guard_passed[];
__attribute__((constructor)) static void first(void) { puts("constructor"); fflush(stdout); }
int main(void) { printf("started %s\n", zt_guard_passed); return 0; }
`
	dir := tb.TempDir()
	for name, source := range map[string]string{"guard.c": guard.String(), "main.c": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command(cc, "-Wall", "-Wextra", "-Werror", "-march=x86-64", "-mgeneral-regs-only", "-o", "guarded", "guard.c", "main.c")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	var outs, errs bytes.Buffer
	cmd = exec.Command(filepath.Join(dir, "guarded"))
	cmd.Stdout, cmd.Stderr = &outs, &errs
	err = cmd.Run()
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
