package report

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

func sample() Report {
	return Report{
		Version:     Version,
		Date:        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Environment: Environment{CPU: "a CPU", Cores: 2, Kernel: "6.1", Compiler: "clang 19", Switches: map[string]string{"ZT_LOG": "1"}},
		Threads:     2,
		Rounds:      3,
		Results: []Result{
			{Model: "tiny", Case: "prefill 256", Quantity: "mean KL divergence", Unit: "nats", Value: 2e-4,
				Bound: &Bound{Side: AtMost, Limit: 1e-3, Why: "because"}, Verdict: Pass},
			{Model: "1b", Case: "pp512", Quantity: "speed over stock", Value: 2.5, Samples: []float64{2.4, 2.5, 2.6},
				Interval: &statistics.Interval{Low: 2.4, High: 2.6}, Bound: &Bound{Side: AtLeast, Limit: 3, Why: "goal"}, Verdict: Fail},
			{Model: "1b", Case: "pp512", Quantity: "speed", Unit: "t/s", Value: 12345.678, Verdict: Info},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	want := sample()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
	var names []string
	for _, dir := range []string{dir, filepath.Join(dir, HistoryName)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	if want := []string{"history", "index.html", "verify.json", "20260102T030405Z.json"}; !slices.Equal(names, want) {
		t.Errorf("the folders hold %q, want %q", names, want)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "mage verify") {
		t.Errorf("no report: %v, want the remedy", err)
	}
	for content, want := range map[string]string{
		`{"version": 99}`: "layout version 99",
		`{"version":`:     "unexpected end",
	} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %q", content, err, want)
		}
	}
}

func TestFailed(t *testing.T) {
	failed := sample().Failed()
	if len(failed) != 1 || failed[0].Name() != "1b pp512 speed over stock" {
		t.Errorf("Failed = %v, want the pp512 gate alone", failed)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 256: "256", 1320000000: "1320000000", 0.00012346: "0.0001235", 3.14159: "3.142", 98765.4: "98765", -0.5: "-0.5",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestHost(t *testing.T) {
	t.Setenv("ZT_TEST_SWITCH", "on")
	e := Host()
	if e.Cores < 1 || e.CPU == "" || e.Kernel == "" || e.MemoryBytes < 1<<26 {
		t.Errorf("Host = %+v, want CPU, cores, kernel and memory", e)
	}
	if e.Switches["ZT_TEST_SWITCH"] != "on" {
		t.Errorf("Switches = %v, want the one set", e.Switches)
	}
}
