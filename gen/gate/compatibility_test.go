package gate

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// fakeServer is llama-server with the given fault. It ends when it is killed.
func fakeServer(args []string, fault string) error {
	value := func(name string) string { return args[slices.Index(args, name)+1] }
	if fault == "server ends" {
		return errors.New("no such model")
	}
	vector := func(i, size int) []float64 {
		x := make([]float64, size)
		rng, noise := rand.New(rand.NewPCG(3, uint64(i))), rand.New(rand.NewPCG(4, uint64(i)))
		for j := range x {
			x[j] = rng.NormFloat64()
			e := 0.01 * noise.NormFloat64()
			if value("-fa") == "off" {
				x[j] += e
			}
			if fault == "embeds otherwise" && size > 1 || fault == "ranks otherwise" && size == 1 {
				x[j] += 0.1 * noise.NormFloat64()
			}
			if fault == "all texts alike" {
				x[j] = 1
			}
		}
		return x
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v1/embeddings", func(w http.ResponseWriter, r *http.Request) {
		var ask struct{ Input []string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || !slices.Contains(args, "--embedding") {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		if fault == "embeds fewer" {
			ask.Input = ask.Input[1:]
		}
		var data []any
		for i := range ask.Input {
			data = append(data, map[string]any{"index": i, "embedding": vector(i, 16)})
		}
		json.NewEncoder(w).Encode(map[string]any{"data": data})
	})
	mux.HandleFunc("/v1/rerank", func(w http.ResponseWriter, r *http.Request) {
		var ask struct{ Documents []string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || !slices.Contains(args, "--reranking") {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		var results []any
		for i := range ask.Documents {
			results = append(results, map[string]any{"index": i, "relevance_score": vector(i, 1)[0]})
		}
		slices.Reverse(results) // the server sorts them
		json.NewEncoder(w).Encode(map[string]any{"results": results})
	})
	var asked atomic.Int32
	mux.HandleFunc("/completion", func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			Prompt  string
			Predict int `json:"n_predict"`
		}
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		if fault == "stops short" {
			ask.Predict--
		}
		tokens := make([]int, ask.Predict)
		for i := range tokens {
			tokens[i] = len(ask.Prompt) + i
		}
		n := asked.Add(1) // the first ones come alone
		if fault == "slots mix" && n > slotClients && len(ask.Prompt) > 40 {
			tokens[len(tokens)-1]++
		}
		id := n % slotClients
		if fault == "one slot" {
			id = 0
		}
		json.NewEncoder(w).Encode(map[string]any{"id_slot": id, "tokens": tokens})
	})
	return http.ListenAndServe("127.0.0.1:"+value("--port"), mux)
}

func TestCompatibilityGates(t *testing.T) {
	path := writeModel(t, true)
	adapter := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := os.WriteFile(adapter, []byte("GGUF"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := Model{Name: "m", Path: path}
	c := &Compatibility{Adapted: []Adapted{{m, adapter}}, Cached: []Model{m}, Served: []Model{m}, Encoders: []Model{{Name: "encoder", Path: path}}, Quantized: path}
	for _, x := range []struct {
		stock, tuned string
		want         string // in the error; "" if all gates hold
	}{
		{"", "", ""},
		{"", "adapter ignored", "m adapter, prefill 128 mean KL divergence is"},
		{"adapter ignored", "adapter ignored", "m adapter / none divergence that the adapter makes is 0, not at least 0.1"},
		{"", "noisy", "m -ctk q8_0 -ctv q8_0, decode 128 mean KL divergence is"},
		{"cache not quantized", "cache not quantized", "m -ctk q8_0 -ctv q8_0 / f16 logits that the cache changes is 0, not at least 1"},
		{"", "packs regardless", "m --no-repack differing logits is 1, not at most 0"},
		{"", "cannot be disabled", "m ZT_DISABLE=1 differing logits is 1, not at most 0"},
		{"", "wrong by BLAS", "1 gates fail: ZT_BLAS=slices f32,m=161,k=14336,n=514 NMSE of products is 0.0001, not at most 1e-10"},
		{"", "quantizes otherwise", "llama-quantize Q6_K differing files is 1, not at most 0"},
		{"", "embeds otherwise", "encoder embeddings NMSE of embeddings is"},
		{"", "ranks otherwise", "encoder ranks NMSE of scores is"},
		{"all texts alike", "all texts alike", "encoder, embeddings of stock: the texts are not told apart"},
		{"", "embeds fewer", "encoder, embeddings: text 7 has vectors of 16 and 0 numbers, not 16"},
		{"", "slots mix", "m 4 clients answers that change in company is 2, not at most 0"},
		{"slots mix", "", ""},
		{"", "one slot", "m 4 clients slots used at once is 1, not at least 4"},
		{"", "stops short", "/completion: 63 tokens, not 64"},
		{"", "server ends", "tuned llama-server"},
	} {
		t.Run(x.stock+"/"+x.tuned, func(t *testing.T) {
			t.Parallel()
			r, _, err := verify(t, x.stock, x.tuned, Model{Name: "other", Path: path}, Options{AccuracyOnly: true, Threads: 2, Compatibility: c})
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("error is %v; want %q in it", err, x.want)
			}
			for _, f := range r.Failed() {
				if f.Part != "compatibility" {
					t.Errorf("%s of %s fails", f.Name(), f.Part)
				}
			}
			if x.stock == "slots mix" && !slices.ContainsFunc(r.Results, func(y report.Result) bool {
				return y.Build == "stock" && y.Quantity == compatAnswers.Quantity && y.Value == 2 && y.Verdict == report.Info
			}) {
				t.Error("what stock does to answers is not told")
			}
		})
	}
}

func TestCompatibilityMissing(t *testing.T) {
	path := writeModel(t, true)
	m := Model{Name: "m", Path: path}
	_, _, err := verify(t, "", "", m, Options{AccuracyOnly: true, Threads: 2, Compatibility: &Compatibility{Adapted: []Adapted{{m, "/nowhere/lora.gguf"}}, Quantized: path}})
	if err == nil || !strings.Contains(err.Error(), "compatibility: stat /nowhere/lora.gguf") {
		t.Errorf("%v, want what is missing", err)
	}
}

func TestApart(t *testing.T) {
	ref := [][]float64{{1, 2}, {3, 6}}
	got := [][]float64{{1, 2.5}, {3, 6}}
	if x, err := apart(ref, got); err != nil || x != 0.25/(1+1+4+4) {
		t.Errorf("apart by %v, %v", x, err)
	}
	for _, bad := range [][][]float64{{{1, 2}, {3}}, {{1, 2}, nil}, {{1, 2}, {3, 1 / zero}}} {
		if x, err := apart(ref, bad); err == nil {
			t.Errorf("%v is apart by %v", bad, x)
		}
	}
	if x, err := apart([][]float64{{1}, {1}}, [][]float64{{1}, {1}}); err == nil {
		t.Errorf("equal vectors are apart by %v", x)
	}
}

var zero float64
