package model

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// mixture has rows of whole blocks of every type, and experts.
var mixture = Shape{
	Name: "mixture", Embd: 256, Layers: 2, FF: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Tied: true,
	Experts: 4, Used: 2, Context: 64, RopeBase: 10000,
}

// TestExperts reads a model with experts back.
func TestExperts(t *testing.T) {
	for _, c := range []struct {
		weights string
		want    map[string]gguf.Type // of tensors by name
	}{
		{"q4_K", map[string]gguf.Type{"ffn_gate_inp": gguf.F32, "ffn_gate_exps": gguf.Q4_K, "ffn_down_exps": gguf.Q4_K, "attn_k": gguf.Q4_K}},
		{"mxfp4_moe", map[string]gguf.Type{"ffn_gate_inp": gguf.F32, "ffn_up_exps": gguf.MXFP4, "ffn_down_exps": gguf.MXFP4, "attn_k": gguf.Q8_0}},
		{"f16", map[string]gguf.Type{"ffn_gate_inp": gguf.F32, "ffn_up_exps": gguf.F16, "attn_k": gguf.F16}},
	} {
		path := filepath.Join(t.TempDir(), c.weights)
		if _, err := makeModel(t, mixture, vocabulary(t, 45), 1, c.weights, path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n, used := f.Value("llama.expert_count"), f.Value("llama.expert_used_count"); n != uint32(4) || used != uint32(2) {
			t.Errorf("%v experts, %v used", n, used)
		}
		for part, typ := range c.want {
			tensor, err := f.Tensor("blk.1." + part + ".weight")
			if err != nil {
				t.Fatal(err)
			}
			if tensor.Type != typ {
				t.Errorf("%s: %s is %s, want %s", c.weights, part, tensor.Type, typ)
			}
			shape := map[string][]int64{"ffn_gate_inp": {256, 4}, "ffn_down_exps": {512, 256, 4}, "attn_k": {256, 128}}[part]
			if shape == nil {
				shape = []int64{256, 512, 4}
			}
			if !slices.Equal(tensor.Shape, shape) {
				t.Errorf("%s is %v, want %v", part, tensor.Shape, shape)
			}
		}
		if _, err := f.Tensor("blk.1.ffn_down.weight"); err == nil {
			t.Error("a layer of experts has a feed-forward network of its own")
		}
	}
}

// TestExpertsOutliers finds the outlier channels in the output of every expert.
func TestExpertsOutliers(t *testing.T) {
	for _, w := range mixture.tensors(45) {
		if _, part, _ := w.part(); part != "ffn_down_exps" {
			continue
		}
		for r := range w.rows {
			want := w.std
			if isOutlier(Seed, r%256) {
				want *= outlierGain
			}
			if got := w.size(Seed, r); got != want {
				t.Errorf("row %d of expert %d has size %v, want %v", r%256, r/256, got, want)
			}
		}
	}
}

// TestExpertsSize simulates routers.
func TestExpertsSize(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, shape := range []Shape{{Experts: 8, Used: 2}, {Experts: 64, Used: 8}, {Experts: 16, Used: 4}} {
		const tokens = 20000
		var square float64
		for range tokens {
			logits := make([]float64, shape.Experts)
			for i := range logits {
				logits[i] = routerSpread * r.NormFloat64()
			}
			slices.Sort(logits)
			var sum, squares float64
			for _, l := range logits[shape.Experts-shape.Used:] {
				sum += math.Exp(l)
				squares += math.Exp(2 * l)
			}
			square += squares / (sum * sum) / tokens
		}
		if got := shape.expertsSize() / math.Sqrt(square); math.Abs(got-1) > 0.1 {
			t.Errorf("%d of %d experts: %v times the size of a simulation", shape.Used, shape.Experts, got)
		}
	}
}

// TestSizes holds the shapes with experts to what machines with little memory and slow tests can bear.
func TestSizes(t *testing.T) {
	for name, limit := range map[string]struct {
		vocabulary int
		q4, q8     float64 // GB, the latter at most
	}{
		"moe64":    {50304, 0.4, 1.5},
		"moe8":     {32000, 0.4, 1.5},
		"tiny-moe": {32000, 0.01, 0.03},
	} {
		shape, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		size := func(typ gguf.Type) (bytes float64) {
			for _, w := range shape.tensors(limit.vocabulary) {
				if w.dims > 1 {
					bytes += float64(typ.RowBytes(w.cols) * w.rows)
				}
			}
			return bytes / 1e9
		}
		if q4, q8 := size(gguf.Q4_K), size(gguf.Q8_0); q4 < limit.q4 || q4 > 2*limit.q4 || q8 > limit.q8 {
			t.Errorf("%s has %.3f GB as Q4_K and %.3f as Q8_0, want %.3f to %.3f and at most %.3f", name, q4, q8, limit.q4, 2*limit.q4, limit.q8)
		}
	}
}
