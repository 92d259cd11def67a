package reference

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/bpe"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/corpus"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference/llama"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

func testWorkspace(t *testing.T) workspace.Workspace {
	t.Helper()
	t.Setenv("ZT_OUT", filepath.Join(t.TempDir(), "out"))
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// makeModel makes the files in a workspace and returns where, with what was logged.
func makeModel(t *testing.T, w workspace.Workspace) (Files, string) {
	t.Helper()
	var log bytes.Buffer
	path, err := Make(t.Context(), progress.To(&log), w)
	if err != nil {
		t.Fatal(err)
	}
	files := In(w)
	if path != files.Model {
		t.Errorf("Make wrote %s, In says %s", path, files.Model)
	}
	return files, log.String()
}

// TestMake makes the files, twice, and again after each was damaged.
func TestMake(t *testing.T) {
	w := testWorkspace(t)
	files, _ := makeModel(t, w)
	all := []string{files.Model, files.HeldOut, files.Tokens}
	original := map[string][]byte{}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		original[path] = b
	}
	if got := digest(original[files.Model]); got != sum {
		t.Errorf("the model's SHA-256 is %s, want %s", got, sum)
	}
	if string(original[files.HeldOut]) != HeldOut() {
		t.Error("the held-out text is another")
	}
	if _, log := makeModel(t, w); !strings.Contains(log, "0 of 3 files written") {
		t.Errorf("a second time: %s", log)
	}
	for _, path := range all {
		if err := os.WriteFile(path, original[path][1:], 0o644); err != nil {
			t.Fatal(err)
		}
		_, log := makeModel(t, w)
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, original[path]) || !strings.Contains(log, "1 of 3 files written") {
			t.Errorf("%s was damaged: %v, %s", path, err, log)
		}
	}
	left, err := filepath.Glob(filepath.Join(w.Models(), "*.partial"))
	if err != nil || left != nil {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestDamagedFixture cuts it, breaks its compression, and packs another model.
func TestDamagedFixture(t *testing.T) {
	broken := bytes.Clone(packed)
	broken[len(broken)/2] ^= 1
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cut": packed[:len(packed)/2], "broken": broken, "other": w.EncodeAll([]byte("GGUF"), nil), "empty": nil} {
		if _, err := unpack(b); err == nil || !strings.Contains(err.Error(), "gen/reference/fixture is damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fixture returns the fixture as a file and, with the weights it holds, as a model.
func fixture(t *testing.T) (*gguf.File, *llama.Model) {
	t.Helper()
	b, err := unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Read(bytes.NewReader(b), int64(len(b)), "the reference model")
	if err != nil {
		t.Fatal(err)
	}
	m := llama.New(shape, 0)
	if len(f.Tensors) != len(m.Tensors) {
		t.Fatalf("%d tensors, want %d", len(f.Tensors), len(m.Tensors))
	}
	for _, w := range m.Tensors {
		tensor, err := f.Tensor(w.Name)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, tensor.Size)
		if _, err := f.Data(tensor).ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		switch {
		case tensor.Type == gguf.BF16 && slices.Equal(tensor.Shape, []int64{int64(w.Cols), int64(w.Rows)}):
			for i := range w.Data {
				w.Data[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
			}
		case tensor.Type == gguf.F32 && w.Rows == 1 && slices.Equal(tensor.Shape, []int64{int64(w.Cols)}):
			for i := range w.Data {
				w.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
			}
		default:
			t.Fatalf("%s is %s %v", w.Name, tensor.Type, tensor.Shape)
		}
	}
	return f, m
}

// TestFixture checks what the gates need of the model: its size, rows that every block size divides, and few enough bytes.
func TestFixture(t *testing.T) {
	f, m := fixture(t)
	if n := m.Parameters(); n < 4e6 || n > 8e6 {
		t.Errorf("%d parameters", n)
	}
	if len(packed) > 8e6 {
		t.Errorf("the fixture takes %d bytes", len(packed))
	}
	for _, tensor := range f.Tensors {
		if tensor.Shape[0]%256 != 0 {
			t.Errorf("%s has rows of %d", tensor.Name, tensor.Shape[0])
		}
	}
}

// TestPerplexity measures the model on the text that it never saw. The result is a number that a change of the model, the text, the
// tokenizer or the arithmetic would move.
func TestPerplexity(t *testing.T) {
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512F, which the matrix product needs")
	}
	f, m := fixture(t)
	tokenizer, err := bpe.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	got := math.Exp(m.Loss(tokenizer.Encode(HeldOut()), bpe.End))
	if math.Abs(got-Perplexity) > 1e-4*Perplexity {
		t.Errorf("perplexity %.5f, want %.5f", got, Perplexity)
	}
}

// TestApart reads the pinned tree: the held-out text is the fixture's, and no line of it worth remembering is in the text to train on.
func TestApart(t *testing.T) {
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := w.Src(workspace.Variant{})
	if (git.Repo{Dir: dir}).Hash(t.Context(), git.Base+"^{commit}") == "" {
		t.Skip("no llama.cpp in out/src; `mage build` puts it there")
	}
	c, err := corpus.Read(t.Context(), dir, git.Base)
	if err != nil {
		t.Fatal(err)
	}
	if c.HeldOut != HeldOut() {
		t.Error("the pinned tree's held-out documents are not the fixture")
	}
	trained := map[string]bool{}
	for _, document := range c.Train {
		for line := range strings.Lines(document) {
			trained[strings.TrimSpace(line)] = true
		}
	}
	for line := range strings.Lines(HeldOut()) {
		if line = strings.TrimSpace(line); len(line) >= 24 && trained[line] {
			t.Errorf("%q is in both", line)
		}
	}
}

// TestTokens has llama.cpp's own tokenizer read the held-out text and some that is hard to split.
func TestTokens(t *testing.T) {
	real, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(real.Bin(), "llama-tokenize")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("no llama-tokenize; `mage build` makes it: %v", err)
	}
	w := testWorkspace(t)
	files, _ := makeModel(t, w)
	f, err := gguf.Open(files.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tokenizer, err := bpe.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "odd.txt")
	text := "It's  they'd\t\tx\r\n\r\n  déjà-vu 日本語 12½ 🟡🟡 <|none|> \u00a0\u2003end \n\n\n"
	if err := os.WriteFile(odd, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{files.HeldOut: HeldOut(), odd: text} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, "-m", files.Model, "-f", path, "--ids", "--log-disable").Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		var got []int32
		for _, id := range strings.FieldsFunc(string(out), func(r rune) bool { return r < '0' || r > '9' }) {
			n, err := strconv.Atoi(id)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, int32(n))
		}
		if want := append([]int32{bpe.End}, tokenizer.Encode(text)...); !slices.Equal(got, want) {
			t.Errorf("%s: llama-tokenize finds %d tokens, we %d", path, len(got), len(want))
		}
	}
}

func TestTooLittleText(t *testing.T) {
	if got := tokenize(corpus.Corpus{Train: []string{"one", "two"}, HeldOut: "two"}, 400); got.tokenizer.Size() != 257 || len(got.train) != 8 || len(got.heldOut) != 3 {
		t.Errorf("%d tokens known, %v, %v", got.tokenizer.Size(), got.train, got.heldOut)
	}
}
