package llama

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// small has a context of more than a block of keys, and two heads of queries for one of keys.
var small = Shape{Vocabulary: 64, Embedding: 64, Inner: 96, Layers: 2, Heads: 2, KVHeads: 1, HeadSize: 32, Context: 160}

func skipWithoutAVX512(t *testing.T) {
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512F, which the matrix product needs")
	}
}

// TestGradient holds the gradient of every tensor to finite differences of the loss, in a random direction that leans to the gradient, so
// that the slope is not lost in rounding. The weights are larger than a new model's: attention is far from uniform.
func TestGradient(t *testing.T) {
	skipWithoutAVX512(t)
	r := rand.New(rand.NewPCG(3, 4))
	m := New(small, 1)
	for _, w := range m.Tensors {
		for i := range w.Data {
			w.Data[i] = w.Data[i]*3 + float32(r.NormFloat64())*0.02
		}
	}
	s := sequence{pass: newPass(small), grad: empty(small)}
	for range small.Context {
		s.tokens = append(s.tokens, int32(r.IntN(small.Vocabulary)))
		s.targets = append(s.targets, int32(r.IntN(small.Vocabulary)))
	}
	s.gradient(m, 1)
	for i, w := range m.Tensors {
		gradient := s.grad.Tensors[i].Data
		direction := make([]float64, len(gradient))
		var length, slope float64
		for j, g := range gradient {
			direction[j] = r.NormFloat64() + float64(g)
			length += direction[j] * direction[j]
		}
		for j, g := range gradient {
			direction[j] /= math.Sqrt(length)
			slope += direction[j] * float64(g)
		}
		old := slices.Clone(w.Data)
		at := func(step float64) float64 {
			for j, d := range direction {
				w.Data[j] = float32(float64(old[j]) + step*d)
			}
			s.pass.forward(m, s.tokens)
			loss := s.pass.loss(s.targets, 0, 0)
			copy(w.Data, old)
			return loss
		}
		// The differences of fourth order leave an error of h^4, and rounding one of 1e-4/h or so.
		const h = 1e-3
		found := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
		if math.Abs(found-slope) > 2e-3*math.Abs(slope) {
			t.Errorf("%s: the loss changes by %g, the gradient says %g", w.Name, found, slope)
		}
	}
}

// TestTrain has a model learn to count, twice: the second time on one thread, which must not change a bit.
func TestTrain(t *testing.T) {
	skipWithoutAVX512(t)
	tokens := make([]int32, 1000)
	for i := range tokens {
		tokens[i] = int32(1 + i%50)
	}
	recipe := Recipe{Steps: 60, Batch: 3, Rate: 1e-2, WarmUp: 5, Decay: 0.1, Seed: 7}
	train := func() (*Model, float64) {
		m := New(small, 1)
		var last float64
		if err := m.Train(t.Context(), tokens, 0, recipe, func(_ int, loss float64) error { last = loss; return nil }); err != nil {
			t.Fatal(err)
		}
		return m, last
	}
	before := New(small, 1).Loss(tokens, 0)
	m, last := train()
	if after := m.Loss(tokens, 0); before < 3 || last > 0.1 || after > 0.1 {
		t.Errorf("loss %.3f before, %.3f in the last step and %.3f after", before, last, after)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if again, _ := train(); !slices.Equal(again.data, m.data) {
		t.Error("another model on one thread")
	}
}

func TestTrainStops(t *testing.T) {
	skipWithoutAVX512(t)
	tokens := make([]int32, 1000)
	recipe := Recipe{Steps: 5, Batch: 1, Rate: 1e-3, WarmUp: 1}
	enough := errors.New("enough")
	steps := 0
	err := New(small, 1).Train(t.Context(), tokens, 0, recipe, func(n int, _ float64) error {
		if steps = n; n == 2 {
			return enough
		}
		return nil
	})
	if err != enough || steps != 2 {
		t.Errorf("%v after %d steps", err, steps)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if err := New(small, 1).Train(ctx, tokens, 0, recipe, func(int, float64) error { t.Error("a step"); return nil }); err != enough {
		t.Errorf("cancelled: %v", err)
	}
}

// TestUniform gives a model that knows nothing: all weights zero.
func TestUniform(t *testing.T) {
	skipWithoutAVX512(t)
	if got, want := empty(small).Loss(make([]int32, 3*small.Context+1), 0), math.Log(64); math.Abs(got-want) > 1e-6 {
		t.Errorf("loss %v, want log 64 = %v", got, want)
	}
}

func TestRate(t *testing.T) {
	r := Recipe{Steps: 110, Rate: 1, WarmUp: 10}
	for step, want := range map[int]float64{1: 0.1, 5: 0.5, 10: 1, 60: 0.55, 110: 0.1} {
		if got := r.rate(step); math.Abs(float64(got)-want) > 1e-6 {
			t.Errorf("step %d: rate %v, want %v", step, got, want)
		}
	}
}

func TestExp(t *testing.T) {
	for x := -86.9; x < 88; x += 0.00137 {
		if got, want := float64(exp(float32(x))), math.Exp(float64(float32(x))); math.Abs(got-want) > 0x1p-21*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	if exp(-88) != 0 || exp(0) != 1 || !math.IsInf(float64(exp(89)), 1) {
		t.Errorf("exp of -88, 0 and 89: %v %v %v", exp(-88), exp(0), exp(89))
	}
}

// TestRound holds rounding to what a BF16 tensor of a file keeps.
func TestRound(t *testing.T) {
	m := New(small, 1)
	exact := slices.Clone(m.embedding)
	m.outputNorm[0] = 1.2345678
	m.Round()
	if m.outputNorm[0] != 1.2345678 {
		t.Error("a norm was rounded")
	}
	b := make([]byte, 2*len(exact))
	gguf.Encode(b, gguf.BF16, exact)
	for i, x := range m.embedding {
		if want := math.Float32frombits(uint32(b[2*i])<<16 | uint32(b[2*i+1])<<24); x != want {
			t.Fatalf("%v rounds to %v, want %v", exact[i], x, want)
		}
	}
}
