package gate

import (
	"math"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/catalog"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// TestCriteriaByType checks that a model is judged by the type of its weights that has kernels, and by identity of bits without one.
func TestCriteriaByType(t *testing.T) {
	for typ, want := range map[gguf.Type][]criterion{gguf.Q8_0: roundedActivations, gguf.F32: sameBits, gguf.BF16: sameBits, gguf.Q4_0: roundedActivations} {
		got, err := criteriaFor(writeModelOf(t, typ, true))
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Quantity != want[0].Quantity || len(got) != len(want) {
			t.Errorf("%v is judged by %d criteria from %q on; want %d from %q on", typ, len(got), got[0].Quantity, len(want), want[0].Quantity)
		}
	}
	if _, err := criteriaFor("/nowhere/x.gguf"); err == nil {
		t.Error("a missing model has criteria")
	}
}

// TestEveryKernelHasCriteria keeps a type from getting kernels without bounds.
func TestEveryKernelHasCriteria(t *testing.T) {
	for _, kernels := range catalog.Types() {
		typ, err := gguf.ParseType(kernels.Name)
		if err != nil {
			t.Fatal(err)
		}
		if byType[typ] == nil {
			t.Errorf("there are kernels for %v, which byType has no criteria for", typ)
		}
	}
}

// TestSameBits checks that a model which meets no kernel of ours must give stock's bits, however small the difference.
func TestSameBits(t *testing.T) {
	path := writeModelOf(t, gguf.F32, true)
	if _, _, err := verify(t, "", "", Small("tiny", path), Options{AccuracyOnly: true, Threads: 2}); err != nil {
		t.Error(err)
	}
	_, _, err := verify(t, "", "threads", Small("tiny", path), Options{AccuracyOnly: true, Threads: 2})
	if err == nil || strings.Contains(err.Error(), "differing logits") {
		t.Errorf("%v; want the identity gate alone to fail, since accuracy runs no such case", err)
	}
	_, _, err = verify(t, "", "other noise", Small("tiny", path), Options{AccuracyOnly: true, Threads: 2})
	if want := "tiny prefill 256 differing logits is 128000, not at most 0"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q in it", err, want)
	}
}

// TestStockOrder checks which models must give stock's bits though our kernels meet them: those whose matrices all have a type of which stock
// adds in our order, in rows that its kernels take.
func TestStockOrder(t *testing.T) {
	whole := map[string][]int64{"token_embd.weight": {256, 96}, "blk.0.attn_q.weight": {256, 32}, "blk.0.attn_norm.weight": {256}}
	odd := map[string][]int64{"token_embd.weight": {256, 96}, "blk.0.attn_q.weight": {256, 36}}
	unread := map[string][]int64{"token_embd.weight": {256, 97}, "output.weight": {256, 96}}
	experts := map[string][]int64{"token_embd.weight": {256, 96}, "blk.0.ffn_up_exps.weight": {256, 32, 4}}
	for _, c := range []struct {
		typ    gguf.Type
		shapes map[string][]int64
		want   order
	}{
		{gguf.Q4_0, whole, order{true, true}},
		{gguf.Q4_0, odd, order{}},
		{gguf.Q4_0, unread, order{true, true}},
		{gguf.Q4_0, experts, order{}},
		{gguf.Q4_K, whole, order{false, true}},
		{gguf.IQ3_S, whole, order{true, false}},
		{gguf.Q8_0, whole, order{}},
	} {
		got, err := stockOrder(writeTensors(t, c.typ, c.shapes))
		if err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%v %v: %+v, want %+v", c.typ, c.shapes, got, c.want)
		}
	}

	model := Model{Name: "tiny", Path: writeTensors(t, gguf.Q4_K, whole), Prefill: []int{256, 7}, Decode: 64}
	if _, _, err := verify(t, "", "", model, Options{AccuracyOnly: true, Threads: 2}); err != nil {
		t.Error(err)
	}
	_, _, err := verify(t, "", "other noise", model, Options{AccuracyOnly: true, Threads: 2})
	if err == nil || !strings.Contains(err.Error(), "tiny decode 64 differing logits is 32000, not at most 0") || strings.Contains(err.Error(), "prefill") {
		t.Errorf("%v; want differing logits of decode alone, where stock adds in our order", err)
	}
}

// TestWorseOwn checks that a model with experts is held to the worse of two of stock's orders, and any other to one.
func TestWorseOwn(t *testing.T) {
	for tied, want := range map[bool]int{true: 1, false: 2} { // the untied one has experts
		r, _, err := verify(t, "", "", Model{Name: "tiny", Path: writeModel(t, tied), Prefill: []int{256}}, Options{AccuracyOnly: true, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		orders := map[string]bool{}
		for _, x := range r.Results {
			if strings.HasPrefix(x.Case, "stock -") {
				orders[x.Case] = true
			}
		}
		if len(orders) != want {
			t.Errorf("stock was run in the orders %v, want %d", orders, want)
		}
	}
	a, b := Divergence{MeanKL: 1, Top1: 0.5, MaxAbs: 3, Tokens: 256}, Divergence{MeanKL: 2, Top1: 0.9, MaxAbs: 1, Tokens: 7}
	if got, want := a.worse(b), (Divergence{MeanKL: 2, Top1: 0.5, MaxAbs: 3, Tokens: 256}); got != want {
		t.Errorf("the worse of two is %+v, want %+v", got, want)
	}
}

// judgeAll is what the criteria say of d where stock differs from itself by own.
func judgeAll(t *testing.T, criteria []criterion, d, own Divergence) (failed []string) {
	t.Helper()
	v := &verifier{}
	v.divergence("m", "c", d, criteria, &own)
	for _, r := range v.results {
		if r.Verdict == report.Fail {
			failed = append(failed, r.Quantity)
		}
	}
	return failed
}

// TestFloor checks what a model on which stock equals itself may differ by: errors of noiseFloor pass, ten times as large ones fail
// each criterion that they touch.
func TestFloor(t *testing.T) {
	own := Divergence{Tokens: 256, Top1: 1, RMS: 2}
	of := func(size float64) Divergence {
		e := size * own.RMS
		return Divergence{Tokens: 256, Differing: 1, Top1: 1, RMS: own.RMS, MeanKL: e * e / 2, P999KL: 5 * e * e, MaxAbs: 5 * e, NMSE: size * size}
	}
	if failed := judgeAll(t, roundedActivations, of(noiseFloor), own); failed != nil {
		t.Errorf("an error of the floor's size fails %v", failed)
	}
	if failed := judgeAll(t, roundedActivations, of(10*noiseFloor), own); len(failed) != 4 {
		t.Errorf("an error of ten times the floor's size fails %v alone", failed)
	}
	// One near tie that went the other way is allowed, a handful of them is not.
	d := of(noiseFloor)
	d.Top1 = 255.0 / 256
	if failed := judgeAll(t, roundedActivations, d, own); failed != nil {
		t.Errorf("one other token of 256 fails %v", failed)
	}
	d.Top1 = 240.0 / 256
	if failed := judgeAll(t, roundedActivations, d, own); len(failed) != 1 || failed[0] != "top-1 agreement" {
		t.Errorf("16 other tokens of 256 fail %v", failed)
	}
}

func TestPerplexity(t *testing.T) {
	// The token that follows has id 0: p is 1/2 in ref and 1/4 in got. The second row is the last: nothing follows.
	ref := logits(t, log32(.5, .25, .25), log32(.5, .25, .25))
	d, err := Compare(ref, logits(t, log32(.25, .25, .5), log32(.5, .25, .25)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"perplexity of ref", math.Exp(d.RefNLL), 2}, {"perplexity of got", math.Exp(d.GotNLL), 4},
		{"perplexity ratio", pplRatio(d), 2}, {"difference of p", d.DeltaP, 0.25},
	} {
		if math.Abs(c.got-c.want) > 1e-7*c.want { // the logits are float32
			t.Errorf("%s is %v, want %v", c.what, c.got, c.want)
		}
	}

	// Rows without the first: what follows is not known.
	if d, err = CompareRows(ref, ref, []int{1}); err != nil || d.Tokens != 1 || d.RefNLL != 0 {
		t.Errorf("the last row alone: %+v, %v", d, err)
	}

	own := Divergence{Tokens: 256, Top1: 1, MeanKL: 1e-4, RMS: 1}
	at := func(ratio float64) []string {
		return judgeAll(t, roundedActivations, Divergence{Tokens: 256, Top1: 1, GotNLL: math.Log(ratio)}, own)
	}
	// Four standard errors are 4 sqrt(2e-4/256) = 3.5e-3.
	if failed := at(1.003); failed != nil {
		t.Errorf("a ratio of 1.003 fails %v", failed)
	}
	if failed := at(1.005); len(failed) != 1 || failed[0] != perplexity {
		t.Errorf("a ratio of 1.005 fails %v", failed)
	}
}
