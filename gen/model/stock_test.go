package model_test

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// stock returns stock's programs and a llama.cpp checkout, where `mage verify` left them and this CPU runs them.
func stock(t *testing.T, programs ...string) (b program.Build, checkout string) {
	t.Helper()
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	host, err := target.Choose(target.Host())
	if err != nil {
		t.Skip(err)
	}
	if err := host.Accepts(target.Host()); err != nil {
		t.Skip(err)
	}
	v := workspace.Variant{Target: host.Name, Stock: true}
	b = program.Build{Name: "stock", Bin: filepath.Join(w.Build(v), "bin")}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(b.Bin, name)); err != nil {
			t.Skipf("no stock %s; `mage verify` builds it: %v", name, err)
		}
	}
	return b, w.Src(v)
}

// write writes a model whose vocabulary is in a checkout.
func write(t *testing.T, checkout string, shape model.Shape, weights, path string) {
	t.Helper()
	m, err := model.ParseMix(weights)
	if err != nil {
		t.Fatal(err)
	}
	err = progress.To(t.Output()).Step(t.Context(), "model", func(ctx context.Context, s *progress.Step) error {
		return model.Write(ctx, s, shape, shape.VocabularyIn(checkout), model.Seed, m, path)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spread returns the standard deviation of the logits in a file of `zt-probe logits`, which are all finite.
func spread(t *testing.T, path string) float64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, vocabulary := int(binary.LittleEndian.Uint32(text[8:])), int(binary.LittleEndian.Uint32(text[12:]))
	text = text[16+4*n:]
	if len(text) != 4*n*vocabulary {
		t.Fatalf("%d bytes of logits for %d tokens of %d", len(text), n, vocabulary)
	}
	var mean, square float64
	for i := 0; i < len(text); i += 4 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(text[i:])))
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("logit %d is %v", i/4, x)
		}
		mean += x / float64(n*vocabulary)
		square += x * x / float64(n*vocabulary)
	}
	return math.Sqrt(square - mean*mean)
}

// TestStock has stock llama.cpp run a model of each type and of some mixes, with experts and without: each loads, and the logits are finite
// and of the size that follows from the embedding's, the last norm leaving nothing of the sizes before. Those TestBlocks sees to.
func TestStock(t *testing.T) {
	b, checkout := stock(t, "zt-probe")
	dense := model.Shape{
		Name: "dense", Vocabulary: "ggml-vocab-llama-spm.gguf",
		Embd: 256, Layers: 3, FF: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Tied: true, Context: 64, RopeBase: 10000,
	}
	experts := dense
	experts.Name, experts.Experts, experts.Used = "experts", 6, 2
	type recipe struct {
		shape   model.Shape
		weights string
	}
	recipes := []recipe{{dense, "f16"}, {dense, "q4_k_m"}, {dense, "q3_k_l"}, {experts, "f16"}, {experts, "q4_k_m"}, {experts, "mxfp4_moe"}}
	for _, s := range weight.Specs() {
		recipes = append(recipes, recipe{dense, strings.ToLower(s.Name)}, recipe{experts, strings.ToLower(s.Name)})
	}
	for _, r := range recipes {
		t.Run(r.shape.Name+"-"+r.weights, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.gguf")
			write(t, checkout, r.shape, r.weights, path)
			logits := filepath.Join(dir, "logits")
			if _, _, err := b.Output(t.Context(), "zt-probe", "logits", "-m", path, "-o", logits, "-n", "16"); err != nil {
				t.Fatal(err)
			}
			if got := spread(t, logits); got < 2 || got > 5 {
				t.Errorf("logits spread by %v", got)
			} else {
				t.Logf("logits spread by %.2f", got)
			}
		})
	}
}
