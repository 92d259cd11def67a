package topology

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/cpuid/v2"
)

// choice is the last line of zt-host bandwidth and kept: how many threads generate tokens by a curve, and where that is kept.
type choice struct {
	Machine, Kept string
	All, Knee     int
	Decode        int `json:"decode_threads"`
}

// point is one of the lines before it.
type point struct {
	Threads int
	Rates   []int64 `json:"bytes_per_second"`
}

// govern runs zt-host with a cache folder of its own.
func govern(t *testing.T, root, cache, command string, args ...string) (choice, []point) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), append([]string{command}, args...)...)
	cmd.Env = append(os.Environ(), "ZT_SYSFS="+root, "XDG_CACHE_HOME="+cache, "ASAN_OPTIONS=detect_leaks=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zt-host: %v\n%s", err, &stderr)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var c choice
	if err := json.Unmarshal(lines[len(lines)-1], &c); err != nil {
		t.Fatal(err)
	}
	points := make([]point, len(lines)-1)
	for i, l := range lines[:len(lines)-1] {
		if err := json.Unmarshal(l, &points[i]); err != nil {
			t.Fatal(err)
		}
	}
	return c, points
}

// kept is the file of a curve: rates in GB/s by threads from 1, a list for each of five rounds.
func kept(machine string, rounds ...[]float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "llama-zen-turbo bandwidth 1\n%s\n", machine)
	for i := range rounds[0] {
		fmt.Fprint(&b, i+1)
		for _, r := range rounds {
			fmt.Fprintf(&b, " %.0f", r[i]*1e9)
		}
		fmt.Fprintln(&b)
	}
	return b.String() + "end\n"
}

// same is a curve whose rounds are equal.
func same(rates ...float64) [][]float64 { return slices.Repeat([][]float64{rates}, 5) }

// TestKnee gives curves of memory as it is known to behave, and as noise makes it look. None was recorded.
func TestKnee(t *testing.T) {
	root, cache := write(t, Ryzen9950X), t.TempDir()
	flat := []float64{34, 60, 71, 79, 81, 81, 81, 81, 81, 81, 81, 80, 80, 80, 80, 80}
	slow := make([]float64, len(flat)) // all of a round at a third
	for i, r := range flat {
		slow[i] = r / 3
	}
	with := func(rates []float64, i int, rate float64) []float64 {
		rates = slices.Clone(rates)
		rates[i] = rate
		return rates
	}
	linear := make([]float64, 16)
	for i := range linear {
		linear[i] = 5 * float64(i+1)
	}
	for _, c := range []struct {
		name         string
		rounds       [][]float64
		knee, decode int
	}{
		{"a knee at 4", same(flat...), 4, 6},
		{"one thread takes all", same(slices.Repeat([]float64{20}, 16)...), 1, 2},
		{"every thread counts", same(linear...), 16, 16},
		{"a knee at 9: too few to spare", same(10, 20, 30, 40, 50, 60, 70, 76, 79, 80, 80, 80, 80, 80, 80, 80), 9, 14},
		{"a knee at 10", same(8, 16, 24, 32, 40, 48, 56, 64, 72, 79, 80, 80, 80, 80, 80, 80), 10, 16},
		{"more threads are slower", same(40, 75, 80, 78, 76, 74, 72, 70, 68, 66, 64, 62, 60, 58, 56, 54), 3, 6},
		{"memory that is slow for two rounds", [][]float64{flat, slow, flat, slow, flat}, 4, 6},
		{"one lucky sample of two threads", [][]float64{with(flat, 1, 90), flat, flat, flat, flat}, 4, 6},
		{"three lucky samples of two threads", [][]float64{with(flat, 1, 81), with(flat, 1, 81), with(flat, 1, 81), flat, flat}, 4, 6},
		{"two unlucky samples of four", [][]float64{with(flat, 3, 50), with(flat, 3, 50), flat, flat, flat}, 5, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			none, _ := govern(t, root, cache, "kept")
			if err := os.MkdirAll(filepath.Dir(none.Kept), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(none.Kept, []byte(kept(none.Machine, c.rounds...)), 0o644); err != nil {
				t.Fatal(err)
			}
			got, points := govern(t, root, cache, "kept")
			if len(points) != 16 || got.Knee != c.knee || got.Decode != c.decode {
				t.Errorf("%d points, a knee at %d, %d threads generate; not at %d, %d", len(points), got.Knee, got.Decode, c.knee, c.decode)
			}
		})
	}
}

// TestKept has files that must not be trusted.
func TestKept(t *testing.T) {
	root, cache := write(t, Ryzen9950X), t.TempDir()
	none, points := govern(t, root, cache, "kept")
	if none.Knee != 0 || none.Decode != 16 || len(points) != 0 {
		t.Fatalf("without a file: a knee at %d, %d threads", none.Knee, none.Decode)
	}
	if want := filepath.Join(cache, "llama-zen-turbo"); filepath.Dir(none.Kept) != want {
		t.Fatalf("kept in %s, not in %s", none.Kept, want)
	}
	if other, _ := govern(t, write(t, EPYC9755), cache, "kept"); other.Kept == none.Kept {
		t.Error("two machines share a file")
	}
	whole := kept(none.Machine, same(slices.Repeat([]float64{20}, 16)...)...)
	lines := strings.SplitAfter(whole, "\n")
	if err := os.MkdirAll(filepath.Dir(none.Kept), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		trusted    bool
	}{
		{"whole", whole, true},
		{"empty", "", false},
		{"another version", strings.Replace(whole, "bandwidth 1", "bandwidth 2", 1), false},
		{"another machine", strings.Replace(whole, "cores", "cars", 1), false},
		{"cut off", strings.TrimSuffix(whole, "end\n"), false},
		{"cut in a number", whole[:len(whole)-20], false},
		{"a word", strings.Replace(whole, "20000000000", "fast", 1), false},
		{"not a number", strings.Replace(whole, "20000000000", "nan", 1), false},
		{"nothing read", strings.Replace(whole, "20000000000", "0", 1), false},
		{"less than nothing", strings.Replace(whole, "20000000000", "-5", 1), false},
		{"a round too few", strings.Replace(whole, " 20000000000\n", "\n", 1), false},
		{"fewer threads", strings.Join(slices.Delete(slices.Clone(lines), 17, 18), ""), false},
		{"no points", lines[0] + lines[1] + "end\n", false},
		{"in disorder", strings.Join(append(append(slices.Clone(lines[:2]), lines[3], lines[2]), lines[4:]...), ""), false},
		{"bytes", string(bytes.Repeat([]byte{0, 255}, 1000)), false},
		{"too long", whole + strings.Repeat("x", 2<<20), false},
	} {
		if err := os.WriteFile(none.Kept, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, points := govern(t, root, cache, "kept")
		if c.trusted != (got.Knee == 1 && len(points) == 16) || !c.trusted && (got.Knee != 0 || got.Decode != 16) {
			t.Errorf("%s: a knee at %d, %d points", c.name, got.Knee, len(points))
		}
	}
	if c, _ := govern(t, root, "not/absolute", "kept"); strings.Contains(c.Kept, "absolute") {
		t.Errorf("a relative XDG_CACHE_HOME is used: %s", c.Kept)
	}
}

// TestBandwidth measures this machine: not how fast it is, but that there is a curve.
func TestBandwidth(t *testing.T) {
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512")
	}
	start := time.Now()
	c, points := govern(t, "", t.TempDir(), "bandwidth")
	if elapsed := time.Since(start); elapsed > 10*time.Second {
		t.Errorf("took %v", elapsed)
	}
	if len(points) == 0 {
		t.Skip("too little memory is free, or other programs keep the CPUs")
	}
	if len(points) != min(c.All, 16) || points[len(points)-1].Threads != c.All || c.Knee < 1 || c.Knee > c.All || c.Decode < c.Knee || c.Decode > c.All {
		t.Errorf("%d points for %d threads, a knee at %d, %d threads generate", len(points), c.All, c.Knee, c.Decode)
	}
	for _, p := range points {
		if len(p.Rates) != 5 || slices.Min(p.Rates) < 1e8 || slices.Max(p.Rates) > 1e13 {
			t.Errorf("%d threads read %v bytes a second", p.Threads, p.Rates)
		}
	}
}

// TestBandwidthOfNone has a machine that is not there, on whose CPUs threads wait for each other: the measurement must give up, and all threads
// generate.
func TestBandwidthOfNone(t *testing.T) {
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512")
	}
	c, _ := govern(t, write(t, Ryzen9950X), t.TempDir(), "bandwidth")
	if c.All != 16 || c.Decode < 1 || c.Decode > 16 || c.Knee == 0 && c.Decode != 16 {
		t.Errorf("a knee at %d, %d of %d threads generate", c.Knee, c.Decode, c.All)
	}
}
