package model

import (
	"fmt"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// What the weights of an encoder aim at.
const (
	rankSpread = 2.0  // standard deviation of the scores that texts are ranked by
	geluSize   = 0.65 // root mean square of gelu(x) for inputs of size 1
	tanhSize   = 0.63 // and of tanh(x)
	biasSize   = 0.1  // standard deviation of biases
)

// poolingMean is llama.cpp's number (enum llama_pooling_type) for an embedding that is the mean over a text's tokens.
const poolingMean = 1

// encoderMetadata returns the bert.* keys of a model of this shape.
func (s Shape) encoderMetadata() []gguf.KV {
	return []gguf.KV{
		{Key: "bert.block_count", Value: uint32(s.Layers)},
		{Key: "bert.context_length", Value: uint32(s.Context)},
		{Key: "bert.embedding_length", Value: uint32(s.Embd)},
		{Key: "bert.feed_forward_length", Value: uint32(s.FF)},
		{Key: "bert.attention.head_count", Value: uint32(s.Heads)},
		{Key: "bert.attention.layer_norm_epsilon", Value: float32(1e-12)},
		{Key: "bert.attention.causal", Value: false},
		{Key: "bert.pooling_type", Value: uint32(poolingMean)},
	}
}

// encoderTensors returns the tensors of an encoder: BERT (Devlin and others 2018), each block followed by its norm, with the two
// matrices of a head that gives a text one score. llama-server embeds with it, and ranks with --reranking.
func (s Shape) encoderTensors(vocabulary int) []tensor {
	embd, ff := s.Embd, s.FF
	list := []tensor{
		matrix("token_embd.weight", embd, vocabulary, 1),
		matrix("token_types.weight", embd, 2, 0.5),
		matrix("position_embd.weight", embd, s.Context, 0.5),
		gain("token_embd_norm.weight", embd), bias("token_embd_norm.bias", embd, normSpread),
	}
	for i := range s.Layers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s", i, part) }
		linear := func(part string, in, out int, std float64) {
			list = append(list, matrix(name(part+".weight"), in, out, std), bias(name(part+".bias"), out, biasSize))
		}
		linear("attn_q", embd, embd, peak*keeping(embd))
		linear("attn_k", embd, embd, keeping(embd))
		linear("attn_v", embd, embd, keeping(embd))
		linear("attn_output", embd, embd, keeping(embd)/attentionSize)
		list = append(list, gain(name("attn_output_norm.weight"), embd), bias(name("attn_output_norm.bias"), embd, normSpread))
		linear("ffn_up", embd, ff, keeping(embd))
		linear("ffn_down", ff, embd, keeping(ff)/geluSize)
		list = append(list, gain(name("layer_output_norm.weight"), embd), bias(name("layer_output_norm.bias"), embd, normSpread))
	}
	score := matrix("cls.output.weight", embd, 1, rankSpread*keeping(embd)/tanhSize)
	score.dims = 1
	return append(list,
		matrix("cls.weight", embd, embd, keeping(embd)), bias("cls.bias", embd, biasSize),
		score, bias("cls.output.bias", 1, biasSize))
}

// gain is a norm of a model without outlier channels.
func gain(name string, n int) tensor {
	t := norm(name, n)
	t.outlier = 0
	return t
}

func bias(name string, n int, std float32) tensor {
	return tensor{name: name, cols: int64(n), rows: 1, dims: 1, std: std}
}
