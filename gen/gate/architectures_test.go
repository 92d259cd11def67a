package gate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// fakeModels are the models that the fake test-llama-archs writes.
var fakeModels = []string{"alpha-dense", "beta-dense", "beta-moe"}

func fakeArchs(fault string, args []string) error {
	f := flag.NewFlagSet(ArchsProgram, flag.ContinueOnError)
	out := f.String("o", "", "")
	f.String("s", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, line := range []string{"0.00.000.351 I main: using seed 1, stdev 0.100000", "0.00.000.379 I save_models: clip model (dense) is unsupported, skipping",
		"0.01.208.000 I save_models: gpt-j model (MoE) is unsupported, skipping"} {
		fmt.Fprintln(os.Stderr, line)
	}
	models := fakeModels
	if fault == "lazy" {
		models = models[:1]
	}
	for _, m := range models {
		if err := writeTensor(filepath.Join(*out, m+".gguf"), gguf.F32); err != nil {
			return err
		}
	}
	return nil
}

func fakeQuantize(fault string, args []string) error {
	if fault == "odd rows" && strings.Contains(args[0], "beta-moe") {
		return errors.New("rows of beta-moe are odd")
	}
	fmt.Fprintln(os.Stderr, "llama_model_quantize_impl: WARNING: 6 of 98 tensor(s) required fallback quantization")
	// Mixes, and types whose blocks are longer than the matrix's rows, become Q8_0.
	typ, err := gguf.ParseType(args[2])
	switch {
	case fault == "quantizes otherwise" && args[2] == "Q6_K":
		typ = gguf.F16
	case err != nil || typ != gguf.F32 && typ != gguf.F16 && typ != gguf.BF16:
		typ = gguf.Q8_0
	}
	return writeTensor(args[1], typ)
}

// writeTensor writes a GGUF file with one matrix.
func writeTensor(path string, typ gguf.Type) error {
	rows := func(dst []byte, _ int64) error {
		clear(dst)
		return nil
	}
	return gguf.Write(context.Background(), path, []gguf.KV{{Key: "general.architecture", Value: "any"}},
		[]gguf.Source{{Name: "blk.0.attn_q.weight", Type: typ, Shape: []int64{32, 32}, Rows: rows}}, func(int64, int64) {})
}

// compareArchitectures runs the part on builds with the given faults.
func compareArchitectures(t *testing.T, stock, tuned string, all bool) []report.Result {
	t.Helper()
	bin := fakeBuild(t, stock)
	v := &verifier{stock: program.Build{Name: "stock", Bin: bin}, tuned: program.Build{Name: "tuned", Bin: fakeBuild(t, tuned)}, scratch: t.TempDir()}
	v.StockTests, v.Threads, v.AccuracyOnly, v.leastArchitectures = bin, 4, !all, len(fakeModels)
	if err := progress.To(io.Discard).Step(context.Background(), "architectures", v.architectures); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(v.scratch); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	return v.results
}

func TestArchitectures(t *testing.T) {
	for i, c := range []struct {
		stock, tuned string
		fail         []string // the gates that fail, with what their notes say
	}{
		{"", "", nil},
		{"", "one ulp on beta-moe.gguf", []string{"architectures f32 prefill 97 differing logits: beta-moe alone fails",
			"architectures f32 decode 40 differing logits: beta-moe alone fails"}},
		{"", "one ulp on Q8_0", nil},
		{"", "other noise on Q8_0", nil},
		{"", "wrong scale on alpha-dense.gguf-Q8_0", []string{
			"architectures q8_0 prefill 97 perplexity ratio: alpha-dense alone fails, perplexity ",
			"architectures q8_0 decode 40 perplexity ratio: alpha-dense alone fails, perplexity ",
			"architectures q8_0 prefill 97 scale error of logits: alpha-dense alone fails",
			"architectures q8_0 decode 40 scale error of logits: alpha-dense alone fails"}},
		{"", "crash on beta-moe.gguf-Q8_0", []string{"architectures q8_0 all models compared: ",
			"architectures q8_0 all models that stock alone runs: beta-moe: zt-probe: out of cheese"}},
		{"", "not a number on beta-moe.gguf", []string{"architectures f32 all models compared: ", "architectures f32 all models that stock alone runs: beta-moe: ",
			"architectures q8_0 all models compared: ", "architectures q8_0 all models that stock alone runs: beta-moe: "}},
		{"crash on beta-moe.gguf-Q8_0", "crash on beta-moe.gguf-Q8_0", []string{"architectures q8_0 all models compared: "}},
		{"not a number on beta-moe.gguf", "", []string{"architectures f32 all models compared: ", "architectures q8_0 all models compared: "}},
		{"unrepeatable on beta-moe.gguf", "one ulp on beta-moe.gguf", []string{"architectures f32 all models compared: "}},
		{"odd rows", "", []string{"architectures q8_0 all models compared: "}},
		{"lazy", "", []string{"architectures f32 all models compared: ", "architectures q8_0 all models compared: "}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			var failed []string
			for _, r := range compareArchitectures(t, c.stock, c.tuned, false) {
				if r.Verdict == report.Fail {
					failed = append(failed, r.Name()+": "+r.Note)
				}
			}
			slices.Sort(failed)
			slices.Sort(c.fail)
			if !slices.EqualFunc(failed, c.fail, strings.HasPrefix) {
				t.Errorf("stock %q, tuned %q fail:\n%s\nwant:\n%s", c.stock, c.tuned, strings.Join(failed, "\n"), strings.Join(c.fail, "\n"))
			}
		})
	}
}

// TestArchitecturesTold checks what is recorded besides the gates: every model, and why one was left out.
func TestArchitecturesTold(t *testing.T) {
	results := compareArchitectures(t, "crash on beta-moe.gguf-Q8_0", "", true)
	for _, want := range []struct{ name, note string }{
		{"architectures test-llama-archs models it cannot write", "clip (dense), gpt-j (MoE)"},
		{"architectures q8_0 beta-moe models not compared", "zt-probe: out of cheese"},
		{"architectures f32 beta-moe prefill 97 NMSE of logits", "0 logits differ"},
		{"architectures bf16 alpha-dense decode 40 NMSE of logits", "0 logits differ, 6 of 98 tensor(s) required fallback quantization"},
		{"architectures q8_0 alpha-dense decode 40 NMSE of logits", "0 logits differ, stock's own NMSE of logits is 0.000"},
	} {
		i := slices.IndexFunc(results, func(r report.Result) bool { return r.Name() == want.name && r.Verdict == report.Info })
		if i < 0 || !strings.HasPrefix(results[i].Note, want.note) {
			t.Errorf("no result %q for information with note %q", want.name, want.note)
		}
	}
	for _, typ := range []string{"f32", "q8_0", "f16", "bf16"} {
		if !slices.ContainsFunc(results, func(r report.Result) bool {
			return r.Model == "architectures "+typ && r.Quantity == archsCompared.Quantity
		}) {
			t.Errorf("no models were compared as %s", typ)
		}
	}
}

func TestArchitecturesMissing(t *testing.T) {
	good := fakeBuild(t, "")
	o := Options{Stock: good, Tuned: good, StockTests: t.TempDir(), AccuracyOnly: true, Models: []Model{Small("tiny", writeModel(t, true))}}
	_, err := Verify(context.Background(), workspace.Workspace{Out: t.TempDir()}, progress.To(io.Discard), o)
	if err == nil || !strings.Contains(err.Error(), "the stock build has no test-llama-archs") {
		t.Errorf("%v, want the missing program", err)
	}
}

// TestArchitecturesStop checks that a run that is called off ends early and says so.
func TestArchitecturesStop(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 300*time.Millisecond, errors.New("called off"))
	defer cancel()
	bin := fakeBuild(t, "hang on beta")
	v := &verifier{stock: program.Build{Name: "stock", Bin: bin}, tuned: program.Build{Name: "tuned", Bin: bin}, scratch: t.TempDir()}
	v.StockTests, v.Threads, v.AccuracyOnly = bin, 1, true
	if err := progress.To(io.Discard).Step(ctx, "architectures", v.architectures); err == nil || !strings.Contains(err.Error(), "called off") {
		t.Errorf("%v, want that it was called off", err)
	}
}

func TestComplaint(t *testing.T) {
	v := &verifier{scratch: "/s"}
	for said, want := range map[string]string{
		"stock zt-probe logits -m x.gguf -n 5: exit status 1: zt-probe: load x.gguf: no memory": "zt-probe: load x.gguf: no memory",
		"stock zt-probe logits -m x: signal: aborted (core dumped): ops.cpp:136: no such type":  "ops.cpp:136: no such type",
		"not done within 1m0s": "not done within 1m0s",
		"/s/architectures/x.gguf-F32/1: the logit of id 499 after token 96 is NaN": "x.gguf-F32/1: the logit of id 499 after token 96 is NaN",
	} {
		if got := v.complaint(errors.New(said)); got != want {
			t.Errorf("of %q remains %q, want %q", said, got, want)
		}
	}
}
