package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// stock returns stock's programs and a llama.cpp checkout, where `mage verify` left them and this CPU runs them.
func stock(t *testing.T, programs ...string) (b program.Build, checkout string) {
	t.Helper()
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	host, err := target.Choose(target.Host())
	if err != nil {
		t.Skip(err)
	}
	if err := host.Accepts(target.Host()); err != nil {
		t.Skip(err)
	}
	v := workspace.Variant{Target: host.Name, Stock: true}
	b = program.Build{Name: "stock", Bin: filepath.Join(w.Build(v), "bin")}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(b.Bin, name)); err != nil {
			t.Skipf("no stock %s; `mage verify` builds it: %v", name, err)
		}
	}
	return b, w.Src(v)
}

// write writes a model whose vocabulary is in a checkout.
func write(t *testing.T, checkout string, shape model.Shape, weights, path string) {
	t.Helper()
	m, err := model.ParseMix(weights)
	if err != nil {
		t.Fatal(err)
	}
	err = progress.To(t.Output()).Step(t.Context(), "model", func(ctx context.Context, s *progress.Step) error {
		return model.Write(ctx, s, shape, shape.VocabularyIn(checkout), model.Seed, m, path)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spread returns the standard deviation of the logits in a file of `zt-probe logits`, which are all finite.
func spread(t *testing.T, path string) float64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, vocabulary := int(binary.LittleEndian.Uint32(text[8:])), int(binary.LittleEndian.Uint32(text[12:]))
	text = text[16+4*n:]
	if len(text) != 4*n*vocabulary {
		t.Fatalf("%d bytes of logits for %d tokens of %d", len(text), n, vocabulary)
	}
	var mean, square float64
	for i := 0; i < len(text); i += 4 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(text[i:])))
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("logit %d is %v", i/4, x)
		}
		mean += x / float64(n*vocabulary)
		square += x * x / float64(n*vocabulary)
	}
	return math.Sqrt(square - mean*mean)
}

// TestStock has stock llama.cpp run a model of each type and of some mixes, with experts and without: each loads, and the logits are finite
// and of the size that follows from the embedding's, the last norm leaving nothing of the sizes before. Those TestBlocks sees to.
func TestStock(t *testing.T) {
	b, checkout := stock(t, "zt-probe")
	dense := model.Shape{
		Name: "dense", Vocabulary: "ggml-vocab-llama-spm.gguf",
		Embd: 256, Layers: 3, FF: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Tied: true, Context: 64, RopeBase: 10000,
	}
	experts := dense
	experts.Name, experts.Experts, experts.Used = "experts", 6, 2
	type recipe struct {
		shape   model.Shape
		weights string
	}
	recipes := []recipe{{dense, "f16"}, {dense, "q4_k_m"}, {dense, "q3_k_l"}, {experts, "f16"}, {experts, "q4_k_m"}, {experts, "mxfp4_moe"}}
	for _, s := range weight.Specs() {
		recipes = append(recipes, recipe{dense, strings.ToLower(s.Name)}, recipe{experts, strings.ToLower(s.Name)})
	}
	for _, r := range recipes {
		t.Run(r.shape.Name+"-"+r.weights, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.gguf")
			write(t, checkout, r.shape, r.weights, path)
			logits := filepath.Join(dir, "logits")
			if _, _, err := b.Output(t.Context(), "zt-probe", "logits", "-m", path, "-o", logits, "-n", "16"); err != nil {
				t.Fatal(err)
			}
			if got := spread(t, logits); got < 2 || got > 5 {
				t.Errorf("logits spread by %v", got)
			} else {
				t.Logf("logits spread by %.2f", got)
			}
		})
	}
}

// TestStockAdapter has stock llama.cpp complete a text with and without an adapter, which must be read whole and must matter.
func TestStockAdapter(t *testing.T) {
	b, checkout := stock(t, "llama-completion")
	for _, name := range []string{"tiny", "tiny-moe"} {
		shape, err := model.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		path, adapter := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "adapter.gguf")
		write(t, checkout, shape, "q8_0", path)
		err = progress.To(t.Output()).Step(t.Context(), "adapter", func(ctx context.Context, s *progress.Step) error {
			return model.WriteAdapter(ctx, s, shape, model.Seed, model.Rank, model.Alpha, adapter)
		})
		if err != nil {
			t.Fatal(err)
		}
		complete := func(args ...string) string {
			args = append([]string{"-m", path, "-p", "Hello", "-n", "8", "--temp", "0", "-no-cnv", "-t", "1"}, args...)
			text, _, err := b.Output(t.Context(), "llama-completion", args...)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		plain := complete()
		if complete("--lora", adapter) == plain {
			t.Errorf("%s: the adapter changes nothing of %q", name, plain)
		}
		if got := complete("--lora-scaled", adapter+":0"); got != plain {
			t.Errorf("%s: scaled by 0 the adapter makes %q of %q", name, got, plain)
		}
	}
}

// TestStockEncoder asks stock's llama-server for embeddings and for scores of texts, which differ from text to text.
func TestStockEncoder(t *testing.T) {
	b, checkout := stock(t, "llama-server")
	shape, err := model.Find("tiny-bert")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	write(t, checkout, shape, "q4_K", path)

	var embeddings struct {
		Data []struct{ Embedding []float64 }
	}
	ask(t, b, path, "--embedding", "/v1/embeddings", `{"input": ["A bear of China.", "Paris is in France."]}`, &embeddings)
	if len(embeddings.Data) != 2 || len(embeddings.Data[0].Embedding) != shape.Embd {
		t.Fatalf("embeddings: %+v", embeddings)
	}
	var dot float64 // of two unit vectors
	for i, x := range embeddings.Data[0].Embedding {
		dot += x * embeddings.Data[1].Embedding[i]
	}
	if !(dot > -0.99 && dot < 0.99) {
		t.Errorf("two texts have embeddings with the product %v", dot)
	}

	var ranks struct {
		Results []struct {
			Score float64 `json:"relevance_score"`
		}
	}
	ask(t, b, path, "--reranking", "/v1/rerank", `{"query": "What is a panda?", "documents": ["A bear of China.", "Paris is in France."]}`, &ranks)
	if len(ranks.Results) != 2 || !(math.Abs(ranks.Results[0].Score-ranks.Results[1].Score) > 1e-3) {
		t.Errorf("scores: %+v", ranks)
	}
}

// ask starts a llama-server with a model and an option, and reads its answer to one request.
func ask(t *testing.T, b program.Build, path, option, url, request string, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := child.Command(ctx, filepath.Join(b.Bin, "llama-server"),
		"-m", path, option, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "-t", "1")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	for {
		call, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", port, url), strings.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(call)
		if err == nil {
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			switch {
			case err != nil:
				t.Fatal(err)
			case response.StatusCode == http.StatusOK:
				if err := json.Unmarshal(text, answer); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				return
			case response.StatusCode != http.StatusServiceUnavailable: // still loading
				t.Fatalf("%s: %s", response.Status, text)
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("llama-server: %v\n%s", err, log.String())
		case <-ctx.Done():
			t.Fatalf("llama-server gave no answer within a minute: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
