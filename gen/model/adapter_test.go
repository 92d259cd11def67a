package model

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

func makeAdapter(t *testing.T, shape Shape, rank int, alpha float32, path string) error {
	t.Helper()
	var said bytes.Buffer
	return progress.To(&said).Step(t.Context(), "adapter", func(ctx context.Context, s *progress.Step) error {
		return WriteAdapter(ctx, s, shape, 1, rank, alpha, path)
	})
}

// TestAdapter reads adapters back: for each matrix of a layer two that fit it and each other.
func TestAdapter(t *testing.T) {
	for _, shape := range []Shape{small, mixture, encoder} {
		path := filepath.Join(t.TempDir(), shape.Name)
		if err := makeAdapter(t, shape, 4, 8, path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for key, want := range map[string]any{
			"general.type": "adapter", "general.architecture": shape.architecture(), "adapter.type": "lora", "adapter.lora.alpha": float32(8),
		} {
			if got := f.Value(key); got != want {
				t.Errorf("%s: %s is %v, want %v", shape.Name, key, got, want)
			}
		}
		pairs := 0
		for _, w := range shape.tensors(45) {
			a, aErr := f.Tensor(w.name + ".lora_a")
			b, bErr := f.Tensor(w.name + ".lora_b")
			if !strings.HasPrefix(w.name, "blk.") || w.dims == 1 || strings.Contains(w.name, "ffn_gate_inp") {
				if aErr == nil || bErr == nil {
					t.Errorf("%s: %s is adapted", shape.Name, w.name)
				}
				continue
			}
			if aErr != nil || bErr != nil {
				t.Fatal(aErr, bErr)
			}
			pairs++
			wantA, wantB := w.shape(), w.shape()
			wantA[1], wantB[0] = 4, 4
			if !slices.Equal(a.Shape, wantA) || !slices.Equal(b.Shape, wantB) {
				t.Errorf("%s: %s %v is adapted by %v and %v", shape.Name, w.name, w.shape(), a.Shape, b.Shape)
			}
		}
		if len(f.Tensors) != 2*pairs {
			t.Errorf("%s: %d tensors for %d matrices", shape.Name, len(f.Tensors), pairs)
		}
	}
}

// TestAdapterSize multiplies: what an adapter adds is the wanted part of what its matrix gives.
func TestAdapterSize(t *testing.T) {
	const alpha, rank = 16, 8
	product := func(w tensor, x []float64) []float64 {
		y, row := make([]float64, w.rows), make([]float32, w.cols)
		for r := range w.rows {
			w.row(row, 1, r)
			for i, v := range row {
				y[r] += float64(v) * x[i]
			}
		}
		return y
	}
	size := func(x []float64) float64 {
		var squares float64
		for _, v := range x {
			squares += v * v
		}
		return math.Sqrt(squares / float64(len(x)))
	}
	for _, w := range wide.tensors(45) {
		if _, _, inLayer := w.part(); !inLayer || w.dims != 2 {
			continue
		}
		w.outlier = 0
		x32, x := make([]float32, w.cols), make([]float64, w.cols)
		gaussians(7).fill(x32)
		for i, v := range x32 {
			x[i] = float64(v)
		}
		halves := w.adapter(rank, alpha)
		added := size(product(halves[1], product(halves[0], x))) * alpha / rank
		// There are but rank numbers between the two matrices, so that the size varies from input to input.
		if got := added / size(product(w, x)); got < adapted/3 || got > adapted*3 {
			t.Errorf("%s: the adapter adds %v of the product, want about %v", w.name, got, adapted)
		}
	}
}

func TestAdapterBadInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adapter")
	for _, c := range []struct {
		rank  int
		alpha float32
	}{{0, 16}, {-1, 16}, {8, 0}, {8, -1}, {8, float32(math.NaN())}} {
		if err := makeAdapter(t, small, c.rank, c.alpha, path); err == nil || !strings.Contains(err.Error(), "above 0") {
			t.Errorf("rank %d and alpha %v: %v", c.rank, c.alpha, err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a failed run left %s: %v", path, err)
	}
	words := vocabulary(t, 45)
	if err := os.Rename(words, path); err != nil {
		t.Fatal(err)
	}
	if err := makeAdapter(t, small, 8, 16, path); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("somebody else's file: %v", err)
	}
}
