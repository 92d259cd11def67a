// Package reference provides the model that quantization, compression and every tuned kernel are judged on where no model can be
// downloaded: small, but trained, so that its weights and activations have the statistics and outliers that random ones lack.
//
// It has the llama architecture, about four million parameters and a byte-pair vocabulary of its own, all rows a multiple of 256
// elements long, and knows the documents and comments of the pinned llama.cpp tree. fixture/ holds it, BF16, with the held-out text;
// `mage reference` trains it again from the pin and says whether the result is the same file.
package reference

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/bpe"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Context is the length in tokens of the sequences the model was trained on. It knows no further positions.
const Context = 512

// Perplexity is the model's on the held-out text, in the way of llama-perplexity -c 512: chunks of Context tokens, the second half of each
// predicted. A uniform guess has one of 1696, the size of the vocabulary.
const Perplexity = 36.93528

//go:embed fixture/reference-bf16.gguf.zst
var packed []byte

//go:embed fixture/heldout.txt
var heldOut string

// sum is the SHA-256 of the unpacked model.
const sum = "30bd36202098d14f1e26cd51b3df62a864518bd62db14e0342c37f6e338c25d5"

// Files are what Make leaves in the workspace.
type Files struct {
	Model   string // GGUF, BF16
	HeldOut string // text that no training step saw
	Tokens  string // the text's tokens, one a line, with the token that begins a document before them; zt-probe reads it
}

// In returns where the files of a workspace are.
func In(w workspace.Workspace) Files {
	return Files{
		Model:   filepath.Join(w.Models(), "reference-bf16.gguf"),
		HeldOut: filepath.Join(w.Models(), "reference-heldout.txt"),
		Tokens:  filepath.Join(w.Models(), "reference-heldout.tokens"),
	}
}

// HeldOut returns the text that no training step saw.
func HeldOut() string { return heldOut }

// Make writes the Files into the workspace and returns the model's path. What is there already and as it should be is kept.
func Make(ctx context.Context, log *progress.Log, w workspace.Workspace) (path string, err error) {
	files := In(w)
	return files.Model, log.Step(ctx, "reference", func(_ context.Context, s *progress.Step) error {
		model, err := unpack(packed)
		if err != nil {
			return err
		}
		tokens, err := encodeHeldOut(model)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(w.Models(), 0o755); err != nil {
			return err
		}
		written := 0
		for path, contents := range map[string][]byte{files.Model: model, files.HeldOut: []byte(heldOut), files.Tokens: tokens} {
			if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, contents) {
				continue
			}
			if err := write(path, contents); err != nil {
				return err
			}
			written++
		}
		s.Did("%s (%d of %d files written)", files.Model, written, 3)
		return nil
	})
}

// encodeHeldOut returns the held-out text in tokens of the model, one a line.
func encodeHeldOut(model []byte) ([]byte, error) {
	f, err := gguf.Read(bytes.NewReader(model), int64(len(model)), "the reference model")
	if err != nil {
		return nil, err
	}
	t, err := bpe.Read(f)
	if err != nil {
		return nil, err
	}
	out := fmt.Appendln(nil, bpe.End)
	for _, id := range t.Encode(heldOut) {
		out = fmt.Appendln(out, id)
	}
	return out, nil
}

func unpack(packed []byte) ([]byte, error) {
	const damaged = "the reference model in gen/reference/fixture is damaged; restore it with git checkout"
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	model, err := d.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", damaged, err)
	}
	if got := digest(model); got != sum {
		return nil, fmt.Errorf("%s: its SHA-256 is %s, not %s", damaged, got, sum)
	}
	return model, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// write makes path hold b, never part of it.
func write(path string, b []byte) error {
	if err := os.WriteFile(path+".partial", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}
