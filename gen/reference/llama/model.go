// Package llama trains models of the llama architecture on the CPU: forward and backward pass written out by hand, AdamW, nothing else.
// It computes what llama.cpp's graph of that architecture does (src/models/llama.cpp) in float32.
//
// Results do not depend on the number of threads: every sequence of a batch sums its gradient on its own, and these are added in order.
package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Shape is the size of a model. Vocabulary, Embedding, Inner, HeadSize and Context are multiples of 32, and Embedding is Heads * HeadSize.
type Shape struct {
	Vocabulary int // tokens
	Embedding  int // width of the residual stream
	Inner      int // width of the feed-forward network
	Layers     int
	Heads      int // of queries
	KVHeads    int // of keys and values, a divisor of Heads
	HeadSize   int
	Context    int // tokens of a sequence
}

// What every model here has in common.
const (
	NormEpsilon = 1e-5
	RopeBase    = 10000
)

// Tensor is a matrix of weights, or a vector of norm weights with one row. Row i yields element i of a product.
type Tensor struct {
	Name       string // llama.cpp's
	Rows, Cols int
	Data       []float32
}

// Model is a model's weights.
type Model struct {
	Shape   Shape
	Tensors []Tensor

	data []float32 // of all tensors
	weights
}

// weights are the tensors by their use. A gradient has the same form.
type weights struct {
	embedding, outputNorm, output []float32
	layers                        []layer
}

type layer struct{ attentionNorm, q, k, v, o, innerNorm, gate, up, down []float32 }

// New returns a model with random weights: Gaussian with deviation 0.02, in matrices that write to the residual stream divided by
// sqrt(2 * Layers), and norms of 1 (Radford et al., "Language Models are Unsupervised Multitask Learners").
func New(s Shape, seed uint64) *Model {
	m := empty(s)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, t := range m.Tensors {
		for i := range t.Data {
			if t.Data[i] = 1; t.Rows > 1 {
				t.Data[i] = float32(0.02 * r.NormFloat64())
			}
		}
	}
	scale := float32(1 / math.Sqrt(float64(2*s.Layers)))
	for _, l := range m.layers {
		for _, w := range [][]float32{l.o, l.down} {
			for i := range w {
				w[i] *= scale
			}
		}
	}
	return m
}

// empty returns a model of zeros.
func empty(s Shape) *Model {
	m := &Model{Shape: s}
	kv := s.KVHeads * s.HeadSize
	type use struct {
		to         *[]float32
		name       string
		rows, cols int
	}
	m.layers = make([]layer, s.Layers)
	uses := []use{{&m.embedding, "token_embd.weight", s.Vocabulary, s.Embedding}}
	for i := range m.layers {
		l, name := &m.layers[i], func(part string) string { return fmt.Sprintf("blk.%d.%s.weight", i, part) }
		uses = append(uses,
			use{&l.attentionNorm, name("attn_norm"), 1, s.Embedding},
			use{&l.q, name("attn_q"), s.Embedding, s.Embedding},
			use{&l.k, name("attn_k"), kv, s.Embedding},
			use{&l.v, name("attn_v"), kv, s.Embedding},
			use{&l.o, name("attn_output"), s.Embedding, s.Embedding},
			use{&l.innerNorm, name("ffn_norm"), 1, s.Embedding},
			use{&l.gate, name("ffn_gate"), s.Inner, s.Embedding},
			use{&l.up, name("ffn_up"), s.Inner, s.Embedding},
			use{&l.down, name("ffn_down"), s.Embedding, s.Inner})
	}
	uses = append(uses, use{&m.outputNorm, "output_norm.weight", 1, s.Embedding}, use{&m.output, "output.weight", s.Vocabulary, s.Embedding})
	total := 0
	for _, u := range uses {
		total += u.rows * u.cols
	}
	m.data = make([]float32, total)
	rest := m.data
	for _, u := range uses {
		n := u.rows * u.cols
		*u.to, rest = rest[:n:n], rest[n:]
		m.Tensors = append(m.Tensors, Tensor{u.name, u.rows, u.cols, *u.to})
	}
	return m
}

// Parameters returns how many weights there are.
func (m *Model) Parameters() int { return len(m.data) }

// Round rounds the matrices to the nearest bfloat16.
func (m *Model) Round() {
	for _, t := range m.Tensors {
		if t.Rows == 1 {
			continue
		}
		for i, x := range t.Data {
			b := math.Float32bits(x)
			t.Data[i] = math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
		}
	}
}
