// Package model writes synthetic models: the layer shapes and the vocabulary of real ones with random weights, so that gates can
// measure speed and compare logits where no model can be downloaded.
package model

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Seed is what Make generates from.
const Seed = 1

// recipeKey holds everything a file was made from.
const recipeKey = "general.synthetic"

// Make writes the synthetic model of the shape called name with matrices of the type or mix called weights into the workspace, with
// its vocabulary from a llama.cpp checkout, and returns its path. A file that is there already is kept.
func Make(ctx context.Context, log *progress.Log, w workspace.Workspace, checkout, name, weights string) (path string, err error) {
	shape, err := Find(name)
	if err != nil {
		return "", err
	}
	m, err := ParseMix(weights)
	if err != nil {
		return "", err
	}
	path = filepath.Join(w.Models(), fmt.Sprintf("%s-%s.gguf", shape.Name, m))
	err = log.Step(ctx, "model", func(ctx context.Context, s *progress.Step) error {
		return Write(ctx, s, shape, shape.VocabularyIn(checkout), Seed, m, path)
	})
	return path, err
}

// Write writes a model of the given shape to path, its folder included: the matrices in the types of m, norms and routers in F32, and
// the tokenizer of the GGUF file vocabulary. Weights of F32, F16, BF16 and Q8_0 are Gaussian, those of other types random blocks; both have
// the scales that keep activations and logits like a trained model's. Rows and columns of a trained shape have scales of their own
// besides, columns of random blocks not. The same arguments give the same bytes on any number of
// threads. If path holds that very model already, it is left alone; any file there that Write did not make is an error.
func Write(ctx context.Context, s *progress.Step, shape Shape, vocabulary string, seed uint64, m Mix, path string) error {
	words, err := os.ReadFile(vocabulary)
	if err != nil {
		return err
	}
	v, err := gguf.Read(bytes.NewReader(words), int64(len(words)), vocabulary)
	if err != nil {
		return err
	}
	tokens, err := gguf.Get[[]string](v, "tokenizer.ggml.tokens")
	if err != nil {
		return err
	}
	tensors := shape.tensors(len(tokens))
	if shape.Trained {
		for i, t := range tensors {
			tensors[i] = t.trained(seed)
		}
	}
	recipe := fmt.Sprintf("%+v, vocabulary sha256 %.8x, seed %d, %s, weights %016x",
		shape, sha256.Sum256(words), seed, m, fingerprint(tensors, seed))
	sources, codes, err := m.sources(tensors, shape, seed)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	description := "Random weights in the shape of a real model, for measuring. It has learnt nothing."
	if codes != 0 {
		recipe += fmt.Sprintf(", codes %016x", codes)
		description = "Random codes in the shape of a real model, for measuring speed and comparing programs. It has learnt nothing, and nothing was quantized."
	}
	metadata := append([]gguf.KV{
		{Key: "general.architecture", Value: shape.architecture()},
		{Key: "general.name", Value: "synthetic " + shape.Name},
		{Key: "general.description", Value: description},
		{Key: "general.file_type", Value: m.fileType},
		{Key: "general.quantization_version", Value: uint32(2)},
	}, shape.metadata(len(tokens))...)
	for _, kv := range v.Metadata {
		if strings.HasPrefix(kv.Key, "tokenizer.") {
			metadata = append(metadata, kv)
		}
	}
	return save(ctx, s, path, recipe, metadata, sources)
}

// save writes the tensors of a recipe to path, unless they are there already.
func save(ctx context.Context, s *progress.Step, path, recipe string, metadata []gguf.KV, sources []gguf.Source) error {
	if kept, err := holds(path, recipe, s); err != nil || kept {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	const mib = 1 << 20
	err := gguf.Write(ctx, path, slices.Insert(metadata, 1, gguf.KV{Key: recipeKey, Value: recipe}), sources, func(done, total int64) {
		s.Count(int(done/mib), int(total/mib), "MiB of "+filepath.Base(path))
	})
	if err != nil {
		return err
	}
	written, err := os.Stat(path)
	if err != nil {
		return err
	}
	var parameters int64
	for _, t := range sources {
		n := int64(1)
		for _, d := range t.Shape {
			n *= d
		}
		parameters += n
	}
	s.Did("wrote %s: %.4g million parameters, %d MiB", path, float64(parameters)/1e6, written.Size()/mib)
	return nil
}

// holds says whether path holds the model of a recipe. It is an error if path holds something that is not ours to replace.
func holds(path, recipe string, s *progress.Step) (bool, error) {
	f, err := gguf.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		s.Say("%v; writing it again", err)
		return false, nil
	}
	defer f.Close()
	switch found, ok := f.Value(recipeKey).(string); {
	case !ok:
		return false, fmt.Errorf("%s is not a synthetic model; move it away or name another path", path)
	case found == recipe:
		s.Did("kept %s", path)
		return true, nil
	}
	return false, nil
}
