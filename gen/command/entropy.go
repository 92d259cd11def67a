package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/entropy"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// What Entropy measures: a shape whose rows hold whole blocks of every type, types of floats as models come in, and types that llama-quantize
// makes without knowing which weights matter.
const entropyShape = "tiny256"

var (
	entropyFloats = []string{"bf16", "f16", "f16-of-bf16", "f32", "f32-of-bf16"}
	entropyQuants = []gguf.Type{gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1, gguf.Q8_0, gguf.IQ4_NL, gguf.MXFP4,
		gguf.Q2_K, gguf.Q3_K, gguf.Q4_K, gguf.Q5_K, gguf.Q6_K, gguf.IQ4_XS}
)

// Entropy measures how few bits weights could be stored in: of the GGUF that ZT_MODEL names, which it prints; without, of Gaussian and trained
// weights in every type, which it writes into avo/code/ENTROPY.md.
func Entropy(ctx context.Context, r Run) error {
	if path := os.Getenv("ZT_MODEL"); path != "" {
		types, err := r.entropyOf(ctx, path)
		if err == nil {
			fmt.Printf("\n%s", entropy.Report(types))
		}
		return err
	}
	return r.locked(func() error {
		t, err := target.Choose(target.Host())
		if err != nil {
			return err
		}
		stock, err := build.Stock(ctx, r.Workspace, r.Log, t, "llama-quantize")
		if err != nil {
			return err
		}
		page, err := r.entropyPage(ctx, stock)
		if err != nil {
			return err
		}
		return entropy.Models.Write(r.Workspace.Entropy(), page)
	})
}

// entropyOf measures the model at path.
func (r Run) entropyOf(ctx context.Context, path string) (types []entropy.Type, err error) {
	return types, r.Log.Step(ctx, "entropy", func(ctx context.Context, s *progress.Step) error {
		f, err := gguf.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		types, err = entropy.Measure(ctx, f, s.Count)
		s.Did("%s", filepath.Base(path))
		return err
	})
}

// entropyPage makes the models and returns the tables of what is in them.
func (r Run) entropyPage(ctx context.Context, stock build.Build) (string, error) {
	trained, err := reference.Make(ctx, r.Log, r.Workspace)
	if err != nil {
		return "", err
	}
	var floats []entropy.Named
	add := func(name, path string, typ gguf.Type) error {
		types, err := r.entropyOf(ctx, path)
		for _, t := range types {
			if t.Type == typ {
				floats = append(floats, entropy.Named{Name: name, Type: t})
			}
		}
		return err
	}
	var gaussian string // of BF16
	for _, weights := range entropyFloats {
		path, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(stock.Variant), entropyShape, weights)
		if err != nil {
			return "", err
		}
		name, origin, converted := strings.Cut(weights, "-of-")
		typ, err := gguf.ParseType(name)
		if err != nil {
			return "", err
		}
		if name = "Gaussian, " + strings.ToUpper(name); converted {
			name += " from " + strings.ToUpper(origin)
		}
		if err := add(name, path, typ); err != nil {
			return "", err
		}
		if weights == "bf16" {
			gaussian = path
		}
	}
	if err := add("trained, BF16", trained, gguf.BF16); err != nil {
		return "", err
	}
	page := entropy.FloatTable(floats)
	for _, m := range []struct{ title, path, name string }{
		{"Gaussian", gaussian, entropyShape}, {"Trained", trained, "reference"},
	} {
		quants, err := r.quantsOf(ctx, stock, m.path, m.name)
		if err != nil {
			return "", err
		}
		page += fmt.Sprintf("\n%s weights, quantized from BF16:\n\n%s", m.title, entropy.QuantTable(quants))
	}
	return page, nil
}

// quantsOf measures all quantized types of the model at path, which is called name.
func (r Run) quantsOf(ctx context.Context, stock build.Build, path, name string) ([]entropy.Type, error) {
	var list []entropy.Type
	for _, typ := range entropyQuants {
		quantized, err := r.pure(ctx, stock, path, name, typ, "")
		if err != nil {
			return nil, err
		}
		types, err := r.entropyOf(ctx, quantized)
		if err != nil {
			return nil, err
		}
		for _, t := range types {
			if t.Type == typ {
				list = append(list, t)
			}
		}
	}
	return list, nil
}
