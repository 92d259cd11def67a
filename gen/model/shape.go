package model

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// Shape is the size of every layer of a model in the llama architecture, or of an encoder.
type Shape struct {
	Name       string
	Vocabulary string // file below models/ in the llama.cpp tree that the tokenizer, and with it the vocabulary's size, comes from

	Embd    int // elements of the residual stream
	Layers  int
	FF      int // elements between the matrices of the feed-forward network, of one expert's where there are experts
	Heads   int
	KVHeads int
	HeadDim int
	Tied    bool // token_embd serves as the output matrix too

	Experts int // feed-forward networks of a layer, 0 for one without a router
	Used    int // of which each token goes through so many

	// An encoder is a BERT that embeds and ranks texts. It has Heads keys and values, of Embd elements in all, no RoPE and no experts.
	Encoder bool

	Trained bool // rows and columns differ in scale as in a trained model

	Context    int     // tokens, what general tools take as the model's limit
	RopeBase   float32 // of the rotary embedding's frequencies
	RopeFactor float64 // by which Llama 3.1 and later stretch the slow ones, 0 for none
}

var shapes = []Shape{
	{
		// meta-llama/Llama-3.2-1B, config.json.
		Name: "1b", Vocabulary: "ggml-vocab-llama-bpe.gguf",
		Embd: 2048, Layers: 16, FF: 8192, Heads: 32, KVHeads: 8, HeadDim: 64, Tied: true,
		Context: 131072, RopeBase: 500000, RopeFactor: 32,
	},
	{
		// Qwen/Qwen2.5-0.5B, config.json, without the biases of its keys, queries and values. Rows of 896 weights hold no whole blocks of 256,
		// and its layers are so narrow that what is done between two products takes its share of a token's time.
		Name: "0.5b", Vocabulary: "ggml-vocab-qwen2.gguf",
		Embd: 896, Layers: 24, FF: 4864, Heads: 14, KVHeads: 2, HeadDim: 64, Tied: true,
		Context: 32768, RopeBase: 1e6,
	},
	{
		// Three of the 16 layers of allenai/OLMoE-1B-7B-0924, and its embedding as the output matrix too.
		Name: "moe64", Vocabulary: "ggml-vocab-gpt-neox.gguf",
		Embd: 2048, Layers: 3, FF: 1024, Heads: 16, KVHeads: 16, HeadDim: 128, Tied: true,
		Experts: 64, Used: 8,
		Context: 4096, RopeBase: 10000,
	},
	{
		// Three layers of half the width of mistralai/Mixtral-8x7B-v0.1's.
		Name: "moe8", Vocabulary: "ggml-vocab-llama-spm.gguf",
		Embd: 2048, Layers: 3, FF: 7168, Heads: 16, KVHeads: 4, HeadDim: 128, Tied: true,
		Experts: 8, Used: 2,
		Context: 32768, RopeBase: 1e6,
	},
	{
		// Rows hold whole blocks of 256 weights, one of them and two.
		Name: "tiny-moe", Vocabulary: "ggml-vocab-llama-spm.gguf",
		Embd: 256, Layers: 2, FF: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Tied: true,
		Experts: 16, Used: 4,
		Context: 2048, RopeBase: 10000,
	},
	{
		// For llama-server's embeddings and reranking.
		Name: "tiny-bert", Vocabulary: "ggml-vocab-bert-bge.gguf",
		Embd: 256, Layers: 3, FF: 1024, Heads: 4, Encoder: true, Context: 512,
	},
	{
		// Rows hold whole blocks of 256 weights, two of them and five, as types with such blocks want it. Values, keys and the vocabulary
		// fill no tile of 32 rows: there are 80 and 50257.
		Name: "tiny256", Vocabulary: "ggml-vocab-gpt-2.gguf",
		Embd: 512, Layers: 4, FF: 1280, Heads: 16, KVHeads: 1, HeadDim: 80, Tied: true,
		Context: 2048, RopeBase: 10000,
	},
	{
		// Rows hold two and a half blocks of 128 weights, as float types are coded in, and three and a half; the vocabulary of 30522 rows
		// is no multiple of 4.
		Name: "tiny64", Vocabulary: "ggml-vocab-bert-bge.gguf",
		Embd: 320, Layers: 2, FF: 448, Heads: 5, KVHeads: 1, HeadDim: 64, Tied: true,
		Context: 2048, RopeBase: 10000,
	},
	{
		// Nothing but the embedding fills whole tiles of 32 rows: keys and values have 80, the network 416 = 13 * 32, which 64 does
		// not divide, and the vocabulary 50257.
		Name: "tiny", Vocabulary: "ggml-vocab-gpt-2.gguf",
		Embd: 160, Layers: 4, FF: 416, Heads: 4, KVHeads: 2, HeadDim: 40, Tied: true,
		Context: 2048, RopeBase: 10000,
	},
}

// Find returns the shape called name, or the one called so before "-trained" with the statistics of trained weights.
func Find(name string) (Shape, error) {
	base, trained := strings.CutSuffix(name, trainedSuffix)
	var names []string
	for _, s := range shapes {
		if s.Name == base && !(trained && s.Encoder) {
			s.Name, s.Trained = name, trained
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Shape{}, fmt.Errorf("no synthetic model %q; there are %s, and with %s after all but encoders those with trained statistics",
		name, strings.Join(names, ", "), trainedSuffix)
}

// VocabularyIn returns the path of the shape's vocabulary in a llama.cpp checkout.
func (s Shape) VocabularyIn(checkout string) string {
	return filepath.Join(checkout, "models", s.Vocabulary)
}

// architecture is what llama.cpp calls a model of this shape.
func (s Shape) architecture() string {
	if s.Encoder {
		return "bert"
	}
	return "llama"
}

// metadata returns the keys of a model of this shape that its architecture has.
func (s Shape) metadata(vocabulary int) []gguf.KV {
	if s.Encoder {
		return s.encoderMetadata()
	}
	list := []gguf.KV{
		{Key: "llama.block_count", Value: uint32(s.Layers)},
		{Key: "llama.context_length", Value: uint32(s.Context)},
		{Key: "llama.embedding_length", Value: uint32(s.Embd)},
		{Key: "llama.feed_forward_length", Value: uint32(s.FF)},
		{Key: "llama.attention.head_count", Value: uint32(s.Heads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(s.KVHeads)},
		{Key: "llama.attention.key_length", Value: uint32(s.HeadDim)},
		{Key: "llama.attention.value_length", Value: uint32(s.HeadDim)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "llama.rope.dimension_count", Value: uint32(s.HeadDim)},
		{Key: "llama.rope.freq_base", Value: s.RopeBase},
		{Key: "llama.vocab_size", Value: uint32(vocabulary)},
	}
	if s.Experts != 0 {
		list = append(list,
			gguf.KV{Key: "llama.expert_count", Value: uint32(s.Experts)},
			gguf.KV{Key: "llama.expert_used_count", Value: uint32(s.Used)})
	}
	return list
}

// keeping is the standard deviation of weights that keeps the size of n independent inputs.
func keeping(n int) float64 { return 1 / math.Sqrt(float64(n)) }

// tensors returns the tensors of a model of this shape in the order of a converted one.
func (s Shape) tensors(vocabulary int) []tensor {
	if s.Encoder {
		return s.encoderTensors(vocabulary)
	}
	embd, ff, q, kv := s.Embd, s.FF, s.Heads*s.HeadDim, s.KVHeads*s.HeadDim

	// The scales keep the model's numbers like a trained one's. With elements of the embedding of size unit, the product of
	// a normalized state, whose norm is sqrt(embd), and a token's row spreads by logitSpread.
	unit := logitSpread / math.Sqrt(float64(embd))

	list := []tensor{matrix("token_embd.weight", embd, vocabulary, unit)}
	if s.RopeFactor != 0 {
		list = append(list, s.ropeFactors())
	}
	for i := range s.Layers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s.weight", i, part) }
		list = append(list,
			norm(name("attn_norm"), embd),
			matrix(name("attn_q"), embd, q, peak*keeping(embd)),
			matrix(name("attn_k"), embd, kv, keeping(embd)),
			matrix(name("attn_v"), embd, kv, keeping(embd)),
			matrix(name("attn_output"), q, embd, unit*blockGain*keeping(q)/attentionSize).outliers(),
			norm(name("ffn_norm"), embd),
		)
		down := unit * blockGain * keeping(ff) / gateSize
		if s.Experts == 0 {
			list = append(list,
				matrix(name("ffn_gate"), embd, ff, keeping(embd)),
				matrix(name("ffn_up"), embd, ff, keeping(embd)),
				matrix(name("ffn_down"), ff, embd, down).outliers(),
			)
			continue
		}
		list = append(list,
			matrix(name("ffn_gate_inp"), embd, s.Experts, routerSpread*keeping(embd)),
			matrix(name("ffn_gate_exps"), embd, ff, keeping(embd)).each(s.Experts),
			matrix(name("ffn_up_exps"), embd, ff, keeping(embd)).each(s.Experts),
			matrix(name("ffn_down_exps"), ff, embd, down/s.expertsSize()).outliers().each(s.Experts),
		)
	}
	// With tied embeddings the token just read would win every time, its row being part of the state. Alternating signs in the last
	// norm cancel the product of the row with itself and change nothing for the others.
	list = append(list, norm("output_norm.weight", embd).alternating())
	if !s.Tied {
		list = append(list, matrix("output.weight", embd, vocabulary, unit))
	}
	return list
}

// expertsSize returns the root mean square of the weighted sum of the used experts' outputs, for independent outputs of size 1. Weights are
// the softmax of the used experts' logits, the largest of all. Those are taken at normal quantiles.
func (s Shape) expertsSize() float64 {
	var sum, squares float64
	for i := range s.Used {
		rank := (float64(s.Experts-i) - 0.5) / float64(s.Experts)
		w := math.Exp(routerSpread * math.Sqrt2 * math.Erfinv(2*rank-1))
		sum += w
		squares += w * w
	}
	return math.Sqrt(squares) / sum
}

// ropeFactors is what Llama 3.1 divides the rotary frequencies by (use_scaled_rope in meta-llama/llama-models): 1 for wavelengths
// below a quarter of the 8192 tokens it was first trained with, RopeFactor above all of them, and between the two the inverse of
// a frequency-linear mix.
func (s Shape) ropeFactors() tensor {
	const (
		low, high = 1.0, 4.0
		trained   = 8192
	)
	t := tensor{name: "rope_freqs.weight", cols: int64(s.HeadDim / 2), rows: 1, dims: 1}
	for i := range s.HeadDim / 2 {
		turns := trained / (2 * math.Pi * math.Pow(float64(s.RopeBase), float64(2*i)/float64(s.HeadDim))) // over the trained context
		mix := min(max((turns-low)/(high-low), 0), 1)
		t.values = append(t.values, float32(1/((1-mix)/s.RopeFactor+mix)))
	}
	return t
}
