package reference

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/bpe"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/corpus"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/llama"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// The model and its training. In the last hundred of these steps, four times through the text, the held-out loss no longer fell.
var (
	shape = llama.Shape{
		Vocabulary: 1696, Embedding: 256, Inner: 768, Layers: 4, Heads: 4, KVHeads: 2, HeadSize: 64, Context: Context,
	}
	recipe = llama.Recipe{Steps: 2000, Batch: 4, Rate: 3e-3, WarmUp: 100, Decay: 0.1, Seed: 1}
)

// text is a corpus in tokens.
type text struct {
	tokenizer      *bpe.Tokenizer
	train, heldOut []int32
}

func tokenize(c corpus.Corpus, vocabulary int) text {
	t := text{tokenizer: bpe.Train(strings.Join(c.Train, "\n"), vocabulary)}
	for _, document := range c.Train {
		t.train = append(append(t.train, bpe.End), t.tokenizer.Encode(document)...)
	}
	t.heldOut = t.tokenizer.Encode(c.HeldOut)
	return t
}

// Retrain trains the model from the pinned sources, writes it to the workspace as reference-retrained.gguf with the held-out text beside
// it, and says whether both are the fixture's, bit for bit. It takes about half an hour of processor time and needs AVX-512.
func Retrain(ctx context.Context, log *progress.Log, w workspace.Workspace, source pin.Source) error {
	if err := unfused(); err != nil {
		return err
	}
	path := filepath.Join(w.Models(), "reference-retrained.gguf")
	return log.Step(ctx, "reference", func(ctx context.Context, s *progress.Step) error {
		c, err := corpus.Read(ctx, source.Dir, source.Commit)
		if err != nil {
			return err
		}
		t := tokenize(c, shape.Vocabulary)
		if t.tokenizer.Size() != shape.Vocabulary {
			return fmt.Errorf("the text yields %d tokens of %d; it is too short", t.tokenizer.Size(), shape.Vocabulary)
		}
		m := llama.New(shape, recipe.Seed)
		bytesPerToken := float64(len(c.HeldOut)) / float64(len(t.heldOut))
		s.Say("%d parameters, %d tokens to train on, %d held out of %.2f bytes each; a uniform guess has perplexity %d, %.2f bits per byte",
			m.Parameters(), len(t.train), len(t.heldOut), bytesPerToken, shape.Vocabulary, math.Log2(float64(shape.Vocabulary))/bytesPerToken)
		judge := func(n int) {
			loss := m.Loss(t.heldOut, bpe.End)
			s.Say("step %d of %d: held-out perplexity %.3f, %.3f bits per byte", n, recipe.Steps, math.Exp(loss), loss/math.Ln2/bytesPerToken)
		}
		err = m.Train(ctx, t.train, bpe.End, recipe, func(n int, loss float64) error {
			s.Count(n, recipe.Steps, fmt.Sprintf("steps, loss %.3f", loss))
			if n%200 == 0 && n < recipe.Steps {
				judge(n)
			}
			return nil
		})
		if err != nil {
			return err
		}
		m.Round()
		judge(recipe.Steps)
		if err := os.MkdirAll(w.Models(), 0o755); err != nil {
			return err
		}
		if err := write(filepath.Join(w.Models(), "reference-retrained-heldout.txt"), []byte(c.HeldOut)); err != nil {
			return err
		}
		if err := encode(ctx, path, m, t.tokenizer); err != nil {
			return err
		}
		made, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch {
		case digest(made) != sum:
			return fmt.Errorf("%s has SHA-256 %s, the fixture %s: not the same model", path, digest(made), sum)
		case c.HeldOut != heldOut:
			return fmt.Errorf("the held-out text is not the fixture's")
		}
		s.Did("%s is the fixture, bit for bit", path)
		return nil
	})
}

// unfused refuses a Go compiler setting that joins multiplications and additions, which changes the last bits.
func unfused() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, setting := range info.Settings {
		if setting.Key == "GOAMD64" && setting.Value >= "v3" {
			return fmt.Errorf("GOAMD64=%s lets Go fuse multiplications with additions; unset it to get the fixture's bits", setting.Value)
		}
	}
	return nil
}

// encode writes m to path: matrices as BF16, norms as F32.
func encode(ctx context.Context, path string, m *llama.Model, t *bpe.Tokenizer) error {
	metadata := append([]gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.name", Value: "llama-zen-turbo reference"},
		{Key: "general.description", Value: "Trained on the documents and comments of llama.cpp, to judge kernels by. It has nothing to say."},
		{Key: "general.license", Value: "mit"},
		{Key: "general.file_type", Value: uint32(32)}, // LLAMA_FTYPE_MOSTLY_BF16
		{Key: "llama.block_count", Value: uint32(m.Shape.Layers)},
		{Key: "llama.context_length", Value: uint32(m.Shape.Context)},
		{Key: "llama.embedding_length", Value: uint32(m.Shape.Embedding)},
		{Key: "llama.feed_forward_length", Value: uint32(m.Shape.Inner)},
		{Key: "llama.attention.head_count", Value: uint32(m.Shape.Heads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(m.Shape.KVHeads)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(llama.NormEpsilon)},
		{Key: "llama.rope.dimension_count", Value: uint32(m.Shape.HeadSize)},
		{Key: "llama.rope.freq_base", Value: float32(llama.RopeBase)},
		{Key: "llama.vocab_size", Value: uint32(m.Shape.Vocabulary)},
	}, t.Metadata()...)
	var sources []gguf.Source
	for _, w := range m.Tensors {
		source := gguf.Source{Name: w.Name, Type: gguf.BF16, Shape: []int64{int64(w.Cols), int64(w.Rows)}}
		if w.Rows == 1 {
			source.Type, source.Shape = gguf.F32, source.Shape[:1]
		}
		row := source.Type.RowBytes(int64(w.Cols))
		source.Rows = func(dst []byte, first int64) error {
			from := int(first) * w.Cols
			gguf.Encode(dst, source.Type, w.Data[from:from+int(int64(len(dst))/row)*w.Cols])
			return nil
		}
		sources = append(sources, source)
	}
	return gguf.Write(ctx, path, metadata, sources, nil)
}
