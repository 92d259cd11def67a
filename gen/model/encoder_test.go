package model

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

var encoder = Shape{Name: "encoder", Embd: 256, Layers: 2, FF: 512, Heads: 4, Encoder: true, Context: 64}

// TestEncoder reads an encoder back: quantized matrices, and the rest in F32.
func TestEncoder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encoder")
	if _, err := makeModel(t, encoder, vocabulary(t, 45), 1, "q6_K", path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{
		"general.architecture": "bert", "bert.pooling_type": uint32(1), "bert.attention.causal": false, "bert.context_length": uint32(64),
	} {
		if got := f.Value(key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for name, want := range map[string]struct {
		typ   gguf.Type
		shape []int64
	}{
		"token_embd.weight":             {gguf.Q6_K, []int64{256, 45}},
		"position_embd.weight":          {gguf.F32, []int64{256, 64}},
		"token_types.weight":            {gguf.F32, []int64{256, 2}},
		"token_embd_norm.bias":          {gguf.F32, []int64{256}},
		"blk.1.attn_q.weight":           {gguf.Q6_K, []int64{256, 256}},
		"blk.1.ffn_up.bias":             {gguf.F32, []int64{512}},
		"blk.1.ffn_down.weight":         {gguf.Q6_K, []int64{512, 256}},
		"blk.0.layer_output_norm.bias":  {gguf.F32, []int64{256}},
		"blk.0.attn_output_norm.weight": {gguf.F32, []int64{256}},
		"cls.weight":                    {gguf.Q6_K, []int64{256, 256}},
		"cls.output.weight":             {gguf.F32, []int64{256}},
		"cls.output.bias":               {gguf.F32, []int64{1}},
	} {
		got, err := f.Tensor(name)
		if err != nil {
			t.Error(err)
		} else if got.Type != want.typ || !slices.Equal(got.Shape, want.shape) {
			t.Errorf("%s is %s %v, want %s %v", name, got.Type, got.Shape, want.typ, want.shape)
		}
	}
}
