package gate

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

func TestSpeedGates(t *testing.T) {
	path := writeModel(t, true)
	model := Model{Name: "m", Path: path, Speed: true}
	for _, c := range []struct {
		tuned string
		want  []string
	}{
		{"fast", nil},
		{"", []string{"m pp128 speed over stock is 1, not at least 3", "m tg, 8 sequences speed over stock is 1, not at least 2.5"}},
		{"slow", []string{"m tg128 speed over stock is 0.25, not at least 1", "m decode share of the read loop is 24.75, not at least 97",
			"m load mode none load time over stock is 4, not at most 1.2"}},
		{"fat", []string{"m load mode auto resident memory over stock is 1.05, not at most 1.03"}},
	} {
		r, _, err := verify(t, "", c.tuned, model, Options{Threads: 2, Rounds: 3, Roofline: fakeRoofline, vendor: boundVendor})
		if (err == nil) != (c.want == nil) {
			t.Errorf("%q: %v", c.tuned, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error is %v; want %q in it", c.tuned, err, want)
			}
		}
		if r.Rounds != 3 || r.Threads != 2 {
			t.Errorf("%q: the report says %d rounds and %d threads", c.tuned, r.Rounds, r.Threads)
		}
		for _, x := range r.Results {
			if x.Samples != nil && len(x.Samples) != 3 {
				t.Errorf("%q: %s has %d samples, want one a round", c.tuned, x.Name(), len(x.Samples))
			}
		}
	}
}

// TestSpeedElsewhere checks that on a host that the bounds on time were not agreed for a build must still not be slower than stock, that
// the other bounds on time do not count, and that accuracy and memory are gated all the same.
func TestSpeedElsewhere(t *testing.T) {
	model := Model{Name: "m", Path: writeModel(t, true), Speed: true}
	elsewhere := Options{Threads: 2, Rounds: 2, vendor: "GenuineIntel"}
	for _, tuned := range []string{"fast", ""} {
		r, _, err := verify(t, "", tuned, model, elsewhere)
		if err != nil {
			t.Fatalf("%q: %v", tuned, err)
		}
		for _, x := range r.Results {
			switch x.Quantity {
			case loadTime.Quantity, tgOfRead.Quantity:
				if x.Bound != nil && (x.Gated() || !strings.Contains(x.Ungated, "agreed for AMD")) {
					t.Errorf("%q: %s has verdict %s, %q", tuned, x.Name(), x.Verdict, x.Ungated)
				}
			case report.SpeedOverStock:
				want := ""
				if limit := speedGoals[x.Case].Limit; limit > 1 {
					want = "at least " + report.Number(limit) + " on AMD"
				}
				if x.Verdict != report.Pass || x.Bound.Limit != 1 || !strings.Contains(x.Note, want) {
					t.Errorf("%q: %s is %s against %v, %q", tuned, x.Name(), x.Verdict, x.Bound, x.Note)
				}
			}
		}
	}
	_, _, err := verify(t, "", "slow", model, elsewhere)
	for name := range speedGoals {
		if want := "m " + name + " speed over stock is 0.25, not at least 1"; err == nil || !strings.Contains(err.Error(), want+";") && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("a slow build elsewhere: %v; want %q", err, want)
		}
	}
	if _, _, err := verify(t, "", "fat", model, elsewhere); err == nil || !strings.Contains(err.Error(), "resident memory over stock") {
		t.Errorf("a fat build elsewhere: %v", err)
	}
	model = Model{Name: "m", Path: model.Path, Prefill: []int{256}, Speed: true}
	if _, _, err := verify(t, "", "noisy", model, elsewhere); err == nil {
		t.Error("noise passed where speed is not gated")
	}
}

// TestSpeedResults checks what a reader finds of each workload.
func TestSpeedResults(t *testing.T) {
	r, _, err := verify(t, "", "fast", Model{Name: "m", Path: writeModel(t, true), Speed: true}, Options{Threads: 2, Rounds: 4, Roofline: fakeRoofline})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]report.Result{}
	for _, x := range r.Results {
		if x.Part == "throughput" {
			found[strings.Join([]string{x.Case, x.Build, x.Quantity}, "/")] = x
		}
	}
	for name := range speedGoals {
		ratio, ok := found[name+"//"+report.SpeedOverStock]
		if !ok || ratio.Value != 4 || ratio.Interval == nil || math.Abs(ratio.Interval.Low-4) > 1e-9 || len(ratio.Samples) != 4 || ratio.Bound == nil {
			t.Errorf("%s: %+v", name, ratio)
		}
		if noise, ok := found[name+"//"+report.Noise]; !ok || noise.Value != 0 || !strings.Contains(noise.Note, "4 ratios") {
			t.Errorf("%s: %+v", name, noise)
		}
		for _, build := range []string{"stock", "tuned"} {
			if x := found[name+"/"+build+"/"+report.Speed]; len(x.Samples) != 4 || x.Value <= 0 {
				t.Errorf("%s: %+v", name, x)
			}
		}
	}
	// The model has 4096 + 2048 weights in blocks and 3200 in its output, of which a prompt of 128 tokens meets 128 times 6144 - 2048 and
	// once 5248; speed reads 1e6 bytes of weights a token; two threads do 2 GOP/s and read 20 GB/s.
	const perToken, perPrompt = 2*32*32 + 32*64, 32*64 + 32*100
	for name, want := range map[string]float64{
		"pp128//" + report.Intensity:                2 * (128*perToken + perPrompt) / 1e6,
		"pp2048//" + report.Intensity:               2 * (2048*perToken + perPrompt) / 4e6,
		"tg128//" + report.Intensity:                2 * (perToken + perPrompt) / 1e6,
		"tg, 4 sequences//" + report.Intensity:      4 * 2 * (perToken + perPrompt) / 1e6,
		"tg, 4 sequences/tuned/" + report.Speed:     40,
		"tg128 at depth 4096/tuned/" + report.Speed: 40,
		"tg128/stock/" + report.WeightArithmetic:    128 * 2 * (perToken + perPrompt) / 0.101 / 1e9,
		"tg128/stock/" + ofReadBandwidth.Quantity:   100 * 128 * 1e6 / 20e9 / 0.101,
		// 100 bytes of context for each of 4096 tokens.
		"tg128 at depth 4096/tuned/" + ofReadBandwidth.Quantity: 100 * (1e6 + 409600) / 20e9 / 0.025,
		"pp512/tuned/" + ofVNNIPeak.Quantity:                    100 * 2 * (512*perToken + perPrompt) / 2e9 / 0.02525,
		"chat/tuned/" + ofBoth.Quantity:                         100 * (2*(328*perToken+perPrompt)/2e9 + 104*1e6/20e9) / ((328*1e-3 + 104*0.1) / 4),
	} {
		if x, ok := found[name]; !ok || math.Abs(x.Value-want) > 1e-3*want {
			t.Errorf("%s is %v, want %v", name, x.Value, want)
		}
	}
	for name := range found {
		if strings.Contains(name, "llama-bench") || strings.HasPrefix(name, "pp512+tg128") {
			t.Errorf("%s is for peers, and there are none", name)
		}
	}
}

func TestPeersAreReported(t *testing.T) {
	lame := fakeBuild(t, "")
	if err := os.Remove(filepath.Join(lame, "llama-batched-bench")); err != nil {
		t.Fatal(err)
	}
	peers := []program.Build{{Name: "ik", Bin: fakeBuild(t, "fast")}, {Name: "lame", Bin: lame}, {Name: "broken", Bin: fakeBuild(t, "crash in llama-bench")}}
	r, _, err := verify(t, "", "fast", Model{Name: "m", Path: writeModel(t, true), Speed: true}, Options{Threads: 2, Rounds: 2, Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, x := range r.Results {
		if x.Quantity == report.SpeedOverStock || strings.HasPrefix(x.Quantity, "speed over ") {
			found[x.Case+"/"+x.Build+"/"+x.Quantity] = x.Value
			if x.Build != "" && x.Gated() {
				t.Errorf("%s of %s is gated", x.Name(), x.Build)
			}
		}
	}
	for name, want := range map[string]float64{
		"pp512/ik/speed over stock": 4, "pp512//speed over ik": 1, "pp512//speed over lame": 4, "tg, 8 sequences/ik/speed over stock": 4,
		"pp512+tg128/ik/speed over stock": 4, "tg128 at depth 4096, llama-bench//speed over lame": 4,
		"pp512//speed over broken": 0, "tg, 8 sequences//speed over lame": 0, "tg, 8 sequences//speed over broken": 4, "chat//speed over ik": 0,
	} {
		if math.Abs(found[name]-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, found[name], want)
		}
	}
	notes := strings.Join(r.Environment.Notes, "\n")
	for _, want := range []string{"m, pp512: broken did not run: ", "m, tg, 8 sequences: lame did not run: "} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes are %q, want %q", notes, want)
		}
	}
}
