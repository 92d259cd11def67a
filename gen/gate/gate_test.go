package gate

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// logits writes rows as a file and opens it.
func logits(t *testing.T, rows ...[]float32) *Logits {
	t.Helper()
	var all []float32
	for _, r := range rows {
		all = append(all, r...)
	}
	path := filepath.Join(t.TempDir(), "logits")
	if err := os.WriteFile(path, logitsBytes(make([]int32, len(rows)), len(rows[0]), all), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLogits(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// log32 returns the logarithms of probabilities: logits whose softmax they are.
func log32(p ...float64) []float32 {
	x := make([]float32, len(p))
	for i := range p {
		x[i] = float32(math.Log(p[i]))
	}
	return x
}

func TestKLKnown(t *testing.T) {
	// KL((1/2,1/4,1/4) || (1/4,1/4,1/2)) = 1/2 log 2 - 1/4 log 2. The logits are float32, hence 1e-7.
	d, err := Compare(logits(t, log32(.5, .25, .25)), logits(t, log32(.25, .25, .5)))
	if err != nil {
		t.Fatal(err)
	}
	if want := math.Log(2) / 4; math.Abs(d.MeanKL-want) > 1e-7 {
		t.Errorf("KL is %v, want %v", d.MeanKL, want)
	}
	if d.Top1 != 0 || math.Abs(d.FlipGap-math.Log(2)) > 1e-7 || math.Abs(d.MaxAbs-math.Log(2)) > 1e-7 {
		t.Errorf("%+v; want another top token that had trailed by log 2", d)
	}
	ref := 0.0
	for _, p := range []float64{.5, .25, .25} {
		ref += math.Log(p) * math.Log(p)
	}
	if want := 2 * math.Log(2) * math.Log(2) / ref; math.Abs(d.NMSE-want) > 1e-7 {
		t.Errorf("NMSE is %v, want %v", d.NMSE, want)
	}
}

func TestCompareShiftAndScale(t *testing.T) {
	a := []float32{3, -1, 2, 0.5, 100}
	same := logits(t, a, a)
	d, err := Compare(same, same)
	want := Divergence{Tokens: 2, Top1: 1, RMS: d.RMS, RefNLL: d.RefNLL, GotNLL: d.RefNLL}
	if err != nil || d != want {
		t.Errorf("a file differs from itself: %+v, %v", d, err)
	}
	shifted, doubled := make([]float32, len(a)), make([]float32, len(a))
	for i := range a {
		shifted[i], doubled[i] = a[i]+64, 2*a[i]
	}
	if d, err = Compare(same, logits(t, shifted, shifted)); err != nil || d.MeanKL > 1e-12 || d.MaxAbs != 64 || d.Top1 != 1 {
		t.Errorf("logits 64 higher: %+v, %v; want no divergence", d, err)
	}
	if d, err = Compare(same, logits(t, doubled, doubled)); err != nil || d.Scale != 1 || d.NMSE != 1 {
		t.Errorf("doubled logits: %+v, %v; want scale and NMSE 1", d, err)
	}
	// One of two tokens differs.
	if d, err = Compare(same, logits(t, a, []float32{3, -1, 102, 0.5, 100})); err != nil || d.Top1 != 0.5 || d.FlipGap != 98 {
		t.Errorf("one of two top tokens changed: %+v, %v", d, err)
	}
}

func TestCompareRefuses(t *testing.T) {
	a := logits(t, []float32{1, 2})
	if _, err := Compare(a, logits(t, []float32{1, 2}, []float32{1, 2})); err == nil || !strings.Contains(err.Error(), "different tokens") {
		t.Errorf("another length: %v", err)
	}
	if _, err := Compare(a, logits(t, []float32{1, 2, 3})); err == nil {
		t.Error("another vocabulary was compared")
	}
	inf := float32(math.Inf(1))
	if _, err := Compare(a, logits(t, []float32{1, inf})); err == nil || !strings.Contains(err.Error(), "id 1 after token 0 is +Inf") {
		t.Errorf("an infinite logit: %v", err)
	}
	if _, err := Compare(logits(t, []float32{0, 0}), a); err == nil {
		t.Error("logits that are all 0 were a reference")
	}
}

func TestOpenLogitsRefuses(t *testing.T) {
	good := logitsBytes([]int32{1, 2}, 3, make([]float32, 6))
	for name, content := range map[string][]byte{
		"empty":       nil,
		"other magic": append([]byte("ZTLOGIT9"), good[8:]...),
		"cut":         good[:len(good)-1],
		"row missing": good[:len(good)-12],
		"too long":    append(append([]byte(nil), good...), 0),
		"no tokens":   logitsBytes(nil, 3, nil),
		"huge counts": append([]byte(logitsMagic+"\xff\xff\xff\xff\xff\xff\xff\xff"), good[16:]...),
	} {
		path := filepath.Join(t.TempDir(), "logits")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLogits(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
}

func TestJudge(t *testing.T) {
	least := Gate{"speed", "x", report.AtLeast, 3, "goal"}
	most := Gate{"error", "", report.AtMost, 0.1, "noise"}
	for _, c := range []struct {
		name string
		gate Gate
		m    Measurement
		want report.Verdict
	}{
		{"on the limit", least, Measurement{Value: 3}, report.Pass},
		{"below", least, Measurement{Value: 2.99}, report.Fail},
		{"the median above but the low end below", least, Measurement{Samples: []float64{2.9, 3.1, 3.2}}, report.Fail},
		{"above, but what three samples tell is not", least, Measurement{Samples: []float64{3, 3.1, 3.2}}, report.Fail},
		{"well above", least, Measurement{Samples: []float64{3.3, 3.4, 3.5}}, report.Pass},
		{"well above for a machine that repeats itself to 10 %", least, Measurement{Samples: []float64{3.3, 3.4, 3.5}, Same: []float64{0.9, 1.1}}, report.Fail},
		{"at most", most, Measurement{Value: 0.1}, report.Pass},
		{"the median below but the high end above", most, Measurement{Samples: []float64{0.01, 0.02, 0.2}}, report.Fail},
		{"not a number", most, Measurement{Value: math.NaN()}, report.Fail},
		{"no bound", most.only(), Measurement{Value: 99}, report.Info},
	} {
		r := c.gate.Judge("m", "c", c.m)
		if r.Verdict != c.want {
			t.Errorf("%s: %s, want %s", c.name, r.Verdict, c.want)
		}
		if (r.Bound != nil) != (c.gate.Side != "") {
			t.Errorf("%s: bound is %v", c.name, r.Bound)
		}
	}
}

// TestBoundsSayWhy keeps every gate's bound explained.
func TestBoundsSayWhy(t *testing.T) {
	gates := []Gate{greedyMargin, identical, repeatable, ppSpeed, tgSpeed, tgOfRead, loadTime, resident}
	for _, criteria := range append(slices.Collect(maps.Values(byType)), sameBits) {
		for _, c := range criteria {
			gates = append(gates, c.Gate)
		}
	}
	gates = append(gates, notSlower)
	for _, g := range speedGoals {
		gates = append(gates, g)
	}
	for _, g := range gates {
		if g.Quantity == "" || g.Why == "" || g.Side != report.AtLeast && g.Side != report.AtMost {
			t.Errorf("%+v lacks its quantity, side or reason", g)
		}
	}
}

func TestFirstDifference(t *testing.T) {
	a := []Step{{Token: 1}, {Token: 2}, {Token: 3}}
	b := []Step{{Token: 1}, {Token: 5}, {Token: 9}}
	if at, err := FirstDifference(a, b); at != 1 || err != nil {
		t.Errorf("differs at %d, %v; want 1", at, err)
	}
	if at, err := FirstDifference(a, a); at != -1 || err != nil {
		t.Errorf("a run differs from itself at %d, %v", at, err)
	}
	if _, err := FirstDifference(a, b[:2]); err == nil {
		t.Error("runs of different lengths were compared")
	}
	if _, err := FirstDifference(nil, nil); err == nil {
		t.Error("no tokens were equal")
	}
}

// sample parses real output of a program of the pinned tree.
func sample[T any](t *testing.T, name string) []T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := program.Lines[T](text)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestRealOutput(t *testing.T) {
	speed, err := summarize(sample[speedLine](t, "zt-probe-speed.jsonl"))
	if err != nil || speed.percent <= 0 || speed.read <= 0 || speed.token <= 0 {
		t.Errorf("zt-probe speed: %+v, %v", speed, err)
	}
	load := sample[loadLine](t, "zt-probe-load.jsonl")
	if len(load) != 3 || load[0].When != "load" || load[0].MS <= 0 || load[2].When != "decode" || load[2].RSS <= 0 {
		t.Errorf("zt-probe load: %+v", load)
	}
	greedy := sample[Step](t, "zt-probe-greedy.jsonl")
	if len(greedy) != 5 || greedy[4].Step != 4 || greedy[4].Margin <= 0 || greedy[4].Token == greedy[4].Second {
		t.Errorf("zt-probe greedy: %+v", greedy)
	}
}

func TestSummarize(t *testing.T) {
	// Tokens at 50 GB/s and 40 GB/s between reads at 100, 100 and 50 GB/s.
	lines := []speedLine{{WeightBytes: 1e9, ReadBytes: 2e9}, {ReadNS: 2e7}, {TokenNS: 2e7, ReadNS: 2e7}, {TokenNS: 2.5e7, ReadNS: 4e7}, {}}
	s, err := summarize(lines)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "percent", s.percent, (50+100*40/75.)/2)
	near(t, "token rate", s.token, 45e9)
	near(t, "read rate", s.read, 100e9)
	if _, err := summarize(lines[:2]); err == nil {
		t.Error("a run without tokens had a speed")
	}
}
