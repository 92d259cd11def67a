package model

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

const (
	// Rank and Alpha are those of the adapters that MakeAdapter writes. llama.cpp multiplies products by their quotient.
	Rank  = 8
	Alpha = 16

	// adapted is the size of what an adapter adds to a product, in sizes of the product: enough to change every token.
	adapted = 0.3
)

// MakeAdapter writes an adapter for models of the shape called name, of any types, into the workspace and returns its path. A file that is
// there already is kept.
func MakeAdapter(ctx context.Context, log *progress.Log, w workspace.Workspace, name string) (path string, err error) {
	shape, err := Find(name)
	if err != nil {
		return "", err
	}
	path = filepath.Join(w.Models(), shape.Name+"-lora.gguf")
	err = log.Step(ctx, "adapter", func(ctx context.Context, s *progress.Step) error {
		return WriteAdapter(ctx, s, shape, Seed, Rank, Alpha, path)
	})
	return path, err
}

// WriteAdapter writes a LoRA adapter (Hu and others 2021) of some rank for models of a shape to path: two F32 matrices, Gaussian, for each
// matrix of each layer but routers. The metadata and names are what src/llama-adapter.cpp reads. What is at path already is
// treated as by Write.
func WriteAdapter(ctx context.Context, s *progress.Step, shape Shape, seed uint64, rank int, alpha float32, path string) error {
	if rank < 1 || !(alpha > 0) {
		return fmt.Errorf("%s: an adapter of rank %d and alpha %v; both must be above 0", path, rank, alpha)
	}
	var tensors []tensor
	var sources []gguf.Source
	for _, t := range shape.tensors(1) { // no tensor of a layer depends on the vocabulary
		if _, part, inLayer := t.part(); !inLayer || t.dims == 1 || part == "ffn_gate_inp" {
			continue
		}
		for _, half := range t.adapter(rank, float64(alpha)) {
			tensors = append(tensors, half)
			sources = append(sources, half.source(seed, gguf.F32, nil))
		}
	}
	recipe := fmt.Sprintf("adapter for %+v, seed %d, rank %d, alpha %v, weights %016x", shape, seed, rank, alpha, fingerprint(tensors, seed))
	return save(ctx, s, path, recipe, []gguf.KV{
		{Key: "general.architecture", Value: shape.architecture()},
		{Key: "general.type", Value: "adapter"},
		{Key: "general.name", Value: "synthetic " + shape.Name + " adapter"},
		{Key: "general.description", Value: "Random weights that fit a synthetic model, for comparing programs. It has learnt nothing."},
		{Key: "adapter.type", Value: "lora"},
		{Key: "adapter.lora.alpha", Value: alpha},
	}, sources)
}

// adapter returns the two matrices whose product adapts t: a keeps the size of its input, b makes it adapted times that of t's output.
func (t tensor) adapter(rank int, alpha float64) [2]tensor {
	experts, rows := int(max(1, t.experts)), int(t.rows/max(1, t.experts))
	output := float64(t.std) / keeping(int(t.cols))
	a := matrix(t.name+".lora_a", int(t.cols), rank, keeping(int(t.cols)))
	b := matrix(t.name+".lora_b", rank, rows, adapted*output*keeping(rank)/(alpha/float64(rank)))
	if t.experts != 0 {
		a, b = a.each(experts), b.each(experts)
	}
	return [2]tensor{a, b}
}
