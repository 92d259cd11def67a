package gate

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// writeModel writes a GGUF file with the tensors of two small layers, in Q8_0.
func writeModel(t *testing.T, tied bool) string {
	t.Helper()
	return writeModelOf(t, gguf.Q8_0, tied)
}

func writeModelOf(t *testing.T, typ gguf.Type, tied bool) string {
	t.Helper()
	shapes := map[string][]int64{
		"token_embd.weight": {32, 100}, "output_norm.weight": {32},
		"blk.0.attn_q.weight": {32, 32}, "blk.0.ffn_up.weight": {32, 64}, "blk.0.attn_norm.weight": {32},
		"blk.1.attn_q.weight": {32, 32}, "blk.1.ffn_up.weight": {32, 64},
	}
	if !tied {
		shapes["output.weight"] = []int64{32, 100}
		shapes["blk.0.ffn_up_exps.weight"] = []int64{32, 64, 8}
	}
	return writeTensors(t, typ, shapes)
}

// writeTensors writes a model with matrices of a type.
func writeTensors(t *testing.T, typ gguf.Type, shapes map[string][]int64) string {
	t.Helper()
	var sources []gguf.Source
	for name, shape := range shapes {
		kind := typ
		if len(shape) == 1 {
			kind = gguf.F32
		}
		sources = append(sources, gguf.Source{Name: name, Type: kind, Shape: shape, Rows: func(dst []byte, _ int64) error {
			clear(dst)
			return nil
		}})
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	err := gguf.Write(context.Background(), path, []gguf.KV{
		{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(2)},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(fakeBOS)},
		{Key: "llama.expert_count", Value: uint32(8)}, {Key: "llama.expert_used_count", Value: uint32(2)},
	}, sources, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// verify runs Verify on builds with the given faults and returns what it reported and where.
func verify(t *testing.T, stock, tuned string, model Model, o Options) (report.Report, string, error) {
	t.Helper()
	out := t.TempDir()
	o.Stock, o.Tuned, o.Models = fakeBuild(t, stock), fakeBuild(t, tuned), []Model{model}
	o.Date, o.unwatched = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), true
	r, err := Verify(context.Background(), workspace.Workspace{Out: out}, progress.To(io.Discard), o)
	return r, filepath.Join(out, "report"), err
}

func TestAccuracyGates(t *testing.T) {
	path := writeModel(t, true)
	for _, c := range []struct {
		stock, tuned string
		want         string // in the error; "" if all gates hold
	}{
		{"", "", ""},
		{"", "other noise", ""}, // as far from stock as stock is from itself
		{"", "noisy", "tiny prefill 256 mean KL divergence is"},
		{"", "wrong scale", "tiny prefill 256 scale error of logits is 0.01, not at most 0.004"},
		{"", "one row", "tiny prefill 256 99.9 % KL divergence"},
		{"", "threads", "tiny 33 tokens: -t 2 --mode decode / -t 1 differing outputs is 1, not at most 0"},
		{"", "batch", "tiny 300 tokens: -t 2 -ub 7 / -t 1 differing outputs"},
		{"batch", "batch", ""}, // stock does not keep it either
		{"", "other bits without a plan", "tiny 33 tokens: -t 2 --mode decode, ZT_GRAPH=0 differing outputs is 1"},
		{"", "unrepeatable", "tiny run twice differing outputs is 1"},
		{"", "token off at 100", "tiny greedy 200 stock's margin at the first difference is 1, not at most 0."},
		{"", "token off at a tie", ""},
	} {
		t.Run(c.stock+"/"+c.tuned, func(t *testing.T) {
			t.Parallel()
			r, dir, err := verify(t, c.stock, c.tuned, Small("tiny", path), Options{AccuracyOnly: true, Threads: 2})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error is %v; want %q in it", err, c.want)
			}
			written, rerr := report.Read(dir)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if len(written.Results) != len(r.Results) || len(written.Failed()) != len(r.Failed()) || (err == nil) != (len(r.Failed()) == 0) {
				t.Errorf("the report has %d results with %d failed; Verify returned %d with %d and the error %v",
					len(written.Results), len(written.Failed()), len(r.Results), len(r.Failed()), err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 3 { // verify.json, index.html, history
				t.Errorf("left in the report folder: %v", entries)
			}
		})
	}
}

// TestIdentityIsStocks checks that an identity stock does not keep is still reported.
func TestIdentityIsStocks(t *testing.T) {
	r, _, err := verify(t, "batch", "batch", Model{Name: "m", Path: writeModel(t, true), Identity: true}, Options{AccuracyOnly: true, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Results, func(x report.Result) bool { return x.Case == "300 tokens: -t 2 -ub 7 / -t 1" })
	if i < 0 || r.Results[i].Verdict != report.Info || r.Results[i].Value != 1 || r.Results[i].Ungated == "" {
		t.Errorf("results are %+v; want that identity for information, broken, with the reason", r.Results)
	}
}

func TestErrorsWriteNoReport(t *testing.T) {
	path := writeModel(t, true)
	for fault, want := range map[string]string{
		"crash in greedy": "tuned zt-probe greedy",
		"cut short":       "do not make a file of",
		"not a number":    "is NaN",
	} {
		_, dir, err := verify(t, "", fault, Small("tiny", path), Options{AccuracyOnly: true, Threads: 2})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", fault, err, want)
		}
		if fault == "crash in greedy" && !strings.HasSuffix(err.Error(), "zt-probe: out of cheese") {
			t.Errorf("%v; want what the program said last", err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "verify.journal" {
			t.Errorf("%s left %v in the report folder, want what the next run goes on with", fault, entries)
		}
	}
}

func TestMissing(t *testing.T) {
	w := workspace.Workspace{Out: t.TempDir()}
	log := progress.To(io.Discard)
	good := fakeBuild(t, "")
	model := Small("tiny", writeModel(t, true))
	for want, o := range map[string]Options{
		"the tuned build has no zt-probe":  {Stock: good, Tuned: t.TempDir(), Models: []Model{model}},
		"the stock build has no zt-probe":  {Stock: t.TempDir(), Tuned: good, Models: []Model{model}},
		"no model to verify":               {Stock: good, Tuned: good},
		"model gone: stat /nowhere/x.gguf": {Stock: good, Tuned: good, Models: []Model{Small("gone", "/nowhere/x.gguf")}},
	} {
		if _, err := Verify(context.Background(), w, log, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	bin := fakeBuild(t, "")
	if err := os.Remove(filepath.Join(bin, "llama-bench")); err != nil {
		t.Fatal(err)
	}
	model.Speed = true
	if _, err := Verify(context.Background(), w, log, Options{Stock: good, Tuned: bin, Models: []Model{model}}); err == nil ||
		!strings.Contains(err.Error(), "the tuned build has no llama-bench") {
		t.Errorf("%v, want the missing program", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	build := fakeBuild(t, "")
	w := workspace.Workspace{Out: t.TempDir()}
	_, err := Verify(ctx, w, progress.To(io.Discard), Options{Stock: build, Tuned: build, Models: []Model{Small("m", writeModel(t, true))}})
	if err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%v, want that it was canceled", err)
	}
}

// fakeRoofline is the limits of a machine that does 1 GOP a second.
func fakeRoofline(context.Context, func(int, int, string)) (roofline.Limits, error) {
	return roofline.Limits{Points: []roofline.Point{
		{Threads: 1, Small: roofline.Rate{9e9, 10e9, 8e9}, VNNI: roofline.Rate{0.5e9, 1e9, 0.75e9}},
		{Threads: 2, Small: roofline.Rate{19e9, 20e9, 18e9}, VNNI: roofline.Rate{1e9, 2e9, 1.5e9}},
	}}, nil
}

// TestRoofline checks the arithmetic rate against the fake's times and the model's shape.
func TestRoofline(t *testing.T) {
	r, _, err := verify(t, "", "fast", Model{Name: "m", Path: writeModel(t, true), Speed: true},
		Options{Threads: 1, Rounds: 2, Roofline: fakeRoofline})
	if err != nil {
		t.Fatal(err)
	}
	// Per token two attn_q and the first ffn_up, per prompt the last ffn_up and the output; the median of 25 and 25.5 ms.
	ops := 2 * (512*(2*32*32+32*64) + 32*64 + 32*100.0)
	rate := ops / 0.02525
	found := 0
	for _, x := range r.Results {
		if x.Case != "pp512" || x.Build != "tuned" {
			continue
		}
		switch x.Quantity {
		case opsPerSecond.Quantity:
			found++
			near(t, "GOP/s", x.Value, rate/1e9)
		case ofVNNIPeak.Quantity:
			found++
			near(t, "percent of peak", x.Value, 100*rate/1e9)
		}
	}
	if found != 2 {
		t.Errorf("found %d of the two roofline results", found)
	}
}

func TestShape(t *testing.T) {
	s, err := ReadShape(writeModel(t, false))
	if err != nil {
		t.Fatal(err)
	}
	perToken := 2*32*32.0 + 32*64 + 32*64*8*2/8
	if s.perToken != perToken || s.perPrompt != 32*64+32*100 {
		t.Errorf("shape is %+v; want %v a token and %v a prompt", s, perToken, 32*64+32*100)
	}
	if _, err := ReadShape(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing model has a shape")
	}
}

func TestAccuracyOnlyTimesNothing(t *testing.T) {
	for _, fault := range []string{"crash in llama-bench", "crash in load", "crash in speed"} {
		r, _, err := verify(t, "", fault, Full("m", writeModel(t, true)), Options{AccuracyOnly: true, Threads: 2})
		if err != nil || !r.AccuracyOnly || r.Rounds != 0 {
			t.Errorf("%s: %v, accuracy only %v, %d rounds", fault, err, r.AccuracyOnly, r.Rounds)
		}
	}
}
