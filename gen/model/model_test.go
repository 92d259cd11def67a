package model

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// small fills no tile of 32 rows and has every part that a real shape has.
var small = Shape{Name: "small", Embd: 96, Layers: 2, FF: 160, Heads: 3, KVHeads: 1, HeadDim: 32, Tied: true, Context: 64, RopeBase: 10000, RopeFactor: 32}

// vocabulary writes a GGUF with a tokenizer of n words and nothing else.
func vocabulary(t *testing.T, n int) string {
	t.Helper()
	words, scores := make([]string, n), make([]int32, n)
	for i := range words {
		words[i] = strings.Repeat("a", 1+i)
		scores[i] = 1
	}
	path := filepath.Join(t.TempDir(), "vocabulary.gguf")
	err := gguf.Write(t.Context(), path, []gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.tokens", Value: words},
		{Key: "tokenizer.ggml.token_type", Value: scores},
	}, nil, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// makeModel writes a model and returns what the step said.
func makeModel(t *testing.T, shape Shape, words string, seed uint64, weights, path string) (string, error) {
	t.Helper()
	m, err := ParseMix(weights)
	if err != nil {
		return "", err
	}
	var said bytes.Buffer
	err = progress.To(&said).Step(t.Context(), "model", func(ctx context.Context, s *progress.Step) error {
		return Write(ctx, s, shape, words, seed, m, path)
	})
	return said.String(), err
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDeterministic writes the same model on one thread and on many, and another seed.
func TestDeterministic(t *testing.T) {
	words, dir := vocabulary(t, 45), t.TempDir()
	for _, typ := range []string{"f32", "f16", "bf16", "q8_0", "q4_0", "mxfp4"} {
		var first []byte
		for _, threads := range []int{1, 2, 7} {
			before := runtime.GOMAXPROCS(threads)
			path := filepath.Join(dir, typ+"-"+strings.Repeat("x", threads))
			_, err := makeModel(t, small, words, 3, typ, path)
			runtime.GOMAXPROCS(before)
			if err != nil {
				t.Fatal(err)
			}
			if text := read(t, path); first == nil {
				first = text
			} else if !bytes.Equal(first, text) {
				t.Errorf("%s: %d threads give other bytes", typ, threads)
			}
		}
		other := filepath.Join(dir, typ+"-other")
		if _, err := makeModel(t, small, words, 4, typ, other); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(first, read(t, other)) {
			t.Errorf("%s: another seed gives the same bytes", typ)
		}
	}
}

// TestContents reads a model back: the tensors that a llama needs, the tokenizer as it was, and weights that are finite, not all
// alike, and of the size that keeps activations level.
func TestContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	if _, err := makeModel(t, small, vocabulary(t, 45), 1, "f32", path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words, err := gguf.Get[[]string](f, "tokenizer.ggml.tokens")
	if err != nil || len(words) != 45 {
		t.Errorf("%d words, %v", len(words), err)
	}
	for name, dims := range map[string][]int64{
		"token_embd.weight":        {96, 45},
		"output_norm.weight":       {96},
		"blk.1.attn_q.weight":      {96, 96},
		"blk.1.attn_k.weight":      {96, 32},
		"blk.0.attn_v.weight":      {96, 32},
		"blk.0.attn_output.weight": {96, 96},
		"blk.0.ffn_gate.weight":    {96, 160},
		"blk.0.ffn_down.weight":    {160, 96},
	} {
		tensor, err := f.Tensor(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.Equal(tensor.Shape, dims) {
			t.Errorf("%s is %v, want %v", name, tensor.Shape, dims)
		}
		raw, err := io.ReadAll(f.Data(tensor))
		if err != nil {
			t.Fatal(err)
		}
		var sum, squares float64
		n := len(raw) / 4
		for i := range n {
			v := float64(math.Float32frombits(uint32(raw[4*i]) | uint32(raw[4*i+1])<<8 | uint32(raw[4*i+2])<<16 | uint32(raw[4*i+3])<<24))
			sum += v
			squares += v * v
		}
		if rms := math.Sqrt(squares / float64(n)); !(rms > 0.005 && rms < 3) {
			t.Errorf("%s: root mean square %v", name, rms)
		}
		if len(dims) == 2 && math.Abs(sum/float64(n)) > 0.1*math.Sqrt(squares/float64(n)) {
			t.Errorf("%s: mean %v is far from zero", name, sum/float64(n))
		}
	}
	if _, err := f.Tensor("output.weight"); err == nil {
		t.Error("a tied model has an output matrix of its own")
	}
}

// TestReuse writes twice: the second run keeps the file, another recipe replaces it, as does any where it is damaged, and a model
// that Write did not make stays.
func TestReuse(t *testing.T) {
	words, path := vocabulary(t, 45), filepath.Join(t.TempDir(), "small.gguf")
	if _, err := makeModel(t, small, words, 1, "f16", path); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := makeModel(t, small, words, 1, "f16", path); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same model was written again: %v", err)
	}
	old := read(t, path)
	if _, err := makeModel(t, small, words, 2, "f16", path); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(old, read(t, path)) {
		t.Error("a model of another seed was taken for this one")
	}
	if err := os.WriteFile(path, old[:100], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := makeModel(t, small, words, 1, "f16", path); err != nil || !bytes.Equal(old, read(t, path)) {
		t.Errorf("a damaged file was not written again: %v", err)
	}
	foreign := read(t, words)
	if err := os.WriteFile(path, foreign, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := makeModel(t, small, words, 1, "f16", path); err == nil || !bytes.Equal(foreign, read(t, path)) {
		t.Errorf("somebody else's model: %v, want an error and the file as it was", err)
	}
}

func TestBadInput(t *testing.T) {
	if _, err := Find("9b"); err == nil || !strings.Contains(err.Error(), `"9b"`) || !strings.Contains(err.Error(), "tiny") {
		t.Errorf("an unknown shape: %v", err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "small.gguf")
	if _, err := makeModel(t, small, filepath.Join(dir, "missing.gguf"), 1, "f16", path); err == nil || !strings.Contains(err.Error(), "missing.gguf") {
		t.Errorf("no vocabulary: %v", err)
	}
	for _, name := range []string{"q8_1", "i32", "q9_9"} {
		if _, err := ParseMix(name); err == nil || !strings.Contains(err.Error(), name) ||
			!strings.Contains(err.Error(), "iq2_xxs") || !strings.Contains(err.Error(), "q4_k_m") {
			t.Errorf("weights that are not written: %v", err)
		}
	}
	for _, name := range []string{"q4_K", "q4_k_m"} {
		if _, err := makeModel(t, small, vocabulary(t, 45), 1, name, path); err == nil || !strings.Contains(err.Error(), "256") || !strings.Contains(err.Error(), "96") {
			t.Errorf("rows that do not hold whole blocks of %s: %v", name, err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a failed run left %s: %v", path, err)
	}
}
