package llama

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// Recipe is how to train. The optimizer is AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization") with a rate that rises
// linearly during the warm-up and then falls along a cosine to a tenth.
type Recipe struct {
	Steps  int
	Batch  int // sequences of a step
	Rate   float64
	WarmUp int // steps
	Decay  float64
	Seed   uint64
}

// AdamW's other constants, and the norm that a step's gradient is scaled down to.
const (
	beta1, beta2 = 0.9, 0.95
	epsilon      = 1e-8
	clip         = 1
)

// chunk is how many weights one goroutine updates at a time.
const chunk = 1 << 16

// Train trains m on random stretches of tokens, each with its first token replaced by begin. step hears of every step's number, from 1,
// and mean loss in nats per token; an error of it, or of ctx, ends the training and is returned.
func (m *Model) Train(ctx context.Context, tokens []int32, begin int32, r Recipe, step func(n int, loss float64) error) error {
	random := rand.New(rand.NewPCG(r.Seed, 1))
	n := m.Shape.Context
	total := empty(m.Shape)
	first, second := make([]float32, len(m.data)), make([]float32, len(m.data))
	decays := make([]float32, len(m.data))
	at := 0
	for _, t := range m.Tensors {
		if t.Rows > 1 {
			for i := range t.Data {
				decays[at+i] = float32(r.Decay)
			}
		}
		at += len(t.Data)
	}
	sequences := make([]sequence, r.Batch)
	for i := range sequences {
		sequences[i] = sequence{pass: newPass(m.Shape), grad: empty(m.Shape)}
	}
	for number := 1; number <= r.Steps; number++ {
		for i := range sequences {
			start := random.IntN(len(tokens) - n)
			sequences[i].tokens = append(append(sequences[i].tokens[:0], begin), tokens[start+1:start+n]...)
			sequences[i].targets = tokens[start+1 : start+1+n]
		}
		each(len(sequences), func(i int) { sequences[i].gradient(m, 1/float32(n*r.Batch)) })
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		loss := 0.0
		for i := range sequences {
			loss += sequences[i].loss
		}
		chunks := (len(m.data) + chunk - 1) / chunk
		squares := make([]float64, chunks)
		each(chunks, func(c int) {
			lo, hi := c*chunk, min((c+1)*chunk, len(m.data))
			sum := total.data[lo:hi]
			copy(sum, sequences[0].grad.data[lo:hi])
			for _, s := range sequences[1:] {
				add(sum, s.grad.data[lo:hi])
			}
			for _, g := range sum {
				squares[c] += float64(g) * float64(g)
			}
		})
		norm := 0.0
		for _, s := range squares {
			norm += s
		}
		scale := float32(1)
		if norm = math.Sqrt(norm); norm > clip {
			scale = float32(clip / norm)
		}
		rate := r.rate(number)
		unbias1 := float32(1 / (1 - math.Pow(beta1, float64(number))))
		unbias2 := float32(1 / (1 - math.Pow(beta2, float64(number))))
		each(chunks, func(c int) {
			for i := c * chunk; i < min((c+1)*chunk, len(m.data)); i++ {
				g := total.data[i] * scale
				first[i] += (g - first[i]) * (1 - beta1)
				second[i] += (g*g - second[i]) * (1 - beta2)
				root := float32(math.Sqrt(float64(second[i] * unbias2)))
				m.data[i] -= rate * (first[i]*unbias1/(root+epsilon) + decays[i]*m.data[i])
			}
		})
		if err := step(number, loss/float64(n*r.Batch)); err != nil {
			return err
		}
	}
	return nil
}

func (r Recipe) rate(step int) float32 {
	if step <= r.WarmUp {
		return float32(r.Rate * float64(step) / float64(r.WarmUp))
	}
	done := float64(step-r.WarmUp) / float64(max(1, r.Steps-r.WarmUp))
	return float32(r.Rate * (0.1 + 0.9*0.5*(1+math.Cos(math.Pi*done))))
}

// sequence is one of a batch, with memory of its own.
type sequence struct {
	pass            *pass
	grad            *Model
	tokens, targets []int32
	loss            float64
}

// gradient sets grad and loss. weight is that of a token's loss.
func (s *sequence) gradient(m *Model, weight float32) {
	clear(s.grad.data)
	s.pass.forward(m, s.tokens)
	s.loss = s.pass.loss(s.targets, 0, weight)
	s.pass.backward(m, &s.grad.weights)
}

// Loss returns the mean loss in nats per token the way llama-perplexity measures it: tokens in chunks of Context without the rest, the
// first of each replaced by begin, and the second half predicted.
func (m *Model) Loss(tokens []int32, begin int32) float64 {
	n := m.Shape.Context
	sums := make([]float64, len(tokens)/n)
	passes := sync.Pool{New: func() any { return newPass(m.Shape) }}
	each(len(sums), func(i int) {
		p := passes.Get().(*pass)
		defer passes.Put(p)
		text := tokens[i*n:][:n]
		p.forward(m, append([]int32{begin}, text[1:]...))
		sums[i] = p.loss(text[1:], n/2, 0)
	})
	sum := 0.0
	for _, s := range sums {
		sum += s
	}
	return sum / float64(len(sums)*(n-1-n/2))
}

// each calls f for 0 to n-1 on all CPUs.
func each(n int, f func(int)) {
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		done.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	done.Wait()
}
