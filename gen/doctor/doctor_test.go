package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

func text(t *testing.T, f facts) string {
	t.Helper()
	var out strings.Builder
	if err := f.write(&out); err != nil {
		t.Fatal(err)
	}
	// Columns are as wide as what is in them; their words are what matters.
	return regexp.MustCompile(` +`).ReplaceAllString(out.String(), " ")
}

func holds(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line ends with %q in\n%s", line, text)
		}
	}
}

func zen5(has func(cpuid.FeatureID) bool) facts {
	return facts{
		cpu:    target.CPU{Vendor: "AuthenticAMD", Name: "Ryzen 9 9950X", Family: 0x1a, Model: 0x44, Has: has},
		chosen: "zen5", blas: "AOCL-BLAS 5.1.0 (AOCL_ROOT=/opt/aocl)",
		tools: toolchain.Toolchain{CC: "/usr/bin/clang-19", Family: "clang", Version: "19.1.7", Banner: "clang version 19.1.7",
			CMakeVersion: "3.25.1", NinjaVersion: "1.11.1", StaticOpenSSL: true},
		pin:       pin.Pin{LlamaCpp: pin.LlamaCpp{Tag: "v1", Tree: strings.Repeat("a", 40)}},
		folders:   []folder{{"built", "/x/out", -1}, {"sources", "/y", 3 << 29}},
		host:      report.Environment{Cores: 32, MemoryBytes: 64 << 30, TransparentPages: "madvise", HugePages: 1024, HugePagesFree: 256},
		available: 40 << 30,
		value:     func(name string) string { return map[string]string{"ZT_LOG": "1"}[name] },
	}
}

func TestTopology(t *testing.T) {
	dir := t.TempDir()
	b := program.Build{Name: "tuned", Bin: dir}
	if got := topology(t.Context(), b); got != "" {
		t.Errorf("%q without programs", got)
	}
	for script, want := range map[string]string{
		`echo '{"text":"2 cores, 1 L3"}'; echo '{"cpu":0}'; echo '{"default_threads":2}'`: "2 cores, 1 L3; threads without -t: 2",
		"echo refused >&2; exit 1": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, "zt-host"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := topology(t.Context(), b); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	f := zen5(func(cpuid.FeatureID) bool { return true })
	f.topology = "2 cores"
	holds(t, text(t, f), "for programs 2 cores")
}

func TestProductHost(t *testing.T) {
	got := text(t, zen5(func(cpuid.FeatureID) bool { return true }))
	holds(t, got,
		"this machine Ryzen 9 9950X (AuthenticAMD family 1Ah model 44h), 32 logical CPUs",
		"zen5 runs here: AMD Zen 5 (Ryzen 9000, EPYC 9005)",
		"mage build builds zen5",
		"compiler clang 19.1.7 (clang version 19.1.7) at /usr/bin/clang-19",
		"ccache missing",
		"OpenSSL linked statically",
		"would link AOCL-BLAS 5.1.0 (AOCL_ROOT=/opt/aocl)",
		"llama.cpp v1, tree aaaaaaaaaaaa",
		"built nothing yet in /x/out",
		"sources 1.5 GiB in /y",
		"memory 64.0 GiB, 40.0 GiB available",
		"2 MiB pool 2.0 GiB, 512.0 MiB free",
		"transparent madvise: used where the pool has no room",
		"ZT_LOG run 0|1 0 print one line for each decision of the runtime on stderr; mage verify: every result (set to 1)",
	)
	for _, s := range switches.All() {
		if !strings.Contains(got, " "+s.Name+" ") {
			t.Errorf("%s is not listed", s.Name)
		}
	}
}

func TestPoorHost(t *testing.T) {
	f := zen5(func(id cpuid.FeatureID) bool { return id != cpuid.AVX512VNNI })
	f.cpu.Model = 0x50 // Zen 6
	f.host.HugePages, f.host.HugePagesFree, f.host.TransparentPages = 0, 0, "never"
	f.tools, f.missing, f.remedy = toolchain.Toolchain{}, []string{"ninja"}, "type: sudo apt-get install ninja-build"
	f.toolsErr = errors.New("CC=gcc-12 refuses -march=znver5")
	holds(t, text(t, f),
		"zen5 does not run here: Ryzen 9 9950X (AuthenticAMD family 1Ah model 50h) is not AMD Zen 5 (Ryzen 9000, EPYC 9005)",
		"bringup does not run here: Ryzen 9 9950X (AuthenticAMD family 1Ah model 50h) lacks AVX512VNNI",
		"compiler none: CC=gcc-12 refuses -march=znver5",
		"missing ninja",
		"to get it type: sudo apt-get install ninja-build",
		"2 MiB pool empty; for 8 GiB of weights type: sudo sysctl vm.nr_hugepages=4096",
		"transparent never; type: echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
	)
}

// The report on this machine, whatever it has, with a bad ZT_TARGET that must not end it.
func TestThisMachine(t *testing.T) {
	t.Setenv("ZT_TARGET", "zen1")
	t.Setenv("ZT_OUT", "")
	t.Setenv("ZT_CACHE", t.TempDir())
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	w.Out = t.TempDir()
	if err := os.WriteFile(filepath.Join(w.Out, "program"), make([]byte, 3<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Report(t.Context(), w, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{target.Host().String(), `no target "zen1"`, "3.0 KiB in " + w.Out, "nothing yet in " + w.CCache(), "(set to zen1)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if entries, err := os.ReadDir(w.Cache); err != nil || len(entries) > 0 {
		t.Errorf("the report left %v in the cache, %v", entries, err)
	}
}
