package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Compatibility says on what to try that whatever else people do with llama.cpp does what it does in stock.
type Compatibility struct {
	Adapted   []Adapted // models with an adapter
	Cached    []Model   // generate with a quantized cache: their heads' sizes are multiples of 32
	Served    []Model   // generate for several clients at once
	Encoders  []Model   // embed texts, and rank them
	Quantized string    // a model of float weights whose rows are multiples of 256 long, for llama-quantize
}

// Adapted is a model and a LoRA adapter for it.
type Adapted struct {
	Model
	Adapter string // path
}

// CompatibilityPrograms are those of both builds that the compatibility part runs.
var CompatibilityPrograms = []string{"zt-probe", "llama-quantize", "llama-server"}

// files are all that c names.
func (c *Compatibility) files() []string {
	paths := []string{c.Quantized}
	for _, a := range c.Adapted {
		paths = append(paths, a.Path, a.Adapter)
	}
	for _, m := range slices.Concat(c.Cached, c.Served, c.Encoders) {
		paths = append(paths, m.Path)
	}
	return paths
}

// check says what of c is not there.
func (c *Compatibility) check() error {
	for _, path := range c.files() {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("compatibility: %w", err)
		}
	}
	return nil
}

// compatibility tries the tuned build on what is in v.Compatibility.
func (v *verifier) compatibility(ctx context.Context, s *progress.Step) error {
	c := v.Compatibility
	type task struct {
		doing string
		run   func(context.Context) error
	}
	var tasks []task
	plain := map[string]Model{} // by path
	for _, a := range c.Adapted {
		tasks = append(tasks, task{a.Name + " adapter", func(ctx context.Context) error { return v.adapter(ctx, a) }})
		plain[a.Path] = a.Model
	}
	for _, m := range c.Cached {
		tasks = append(tasks, task{m.Name + " quantized cache", func(ctx context.Context) error { return v.cache(ctx, m) }})
		plain[m.Path] = m
	}
	for _, path := range slices.Sorted(maps.Keys(plain)) {
		tasks = append(tasks, task{plain[path].Name + " --no-repack", func(ctx context.Context) error { return v.switchedOff(ctx, plain[path]) }})
	}
	tasks = append(tasks, task{"llama-quantize", v.quantizer}, task{"ZT_BLAS=slices", v.sliced})
	for _, m := range c.Encoders {
		tasks = append(tasks, task{m.Name + " embeddings", func(ctx context.Context) error { return v.encoder(ctx, m) }})
	}
	for _, m := range c.Served {
		tasks = append(tasks, task{m.Name + " slots", func(ctx context.Context) error { return v.slots(ctx, m) }})
	}
	for i, t := range tasks {
		s.Count(i, len(tasks), t.doing)
		if err := t.run(ctx); err != nil {
			return err
		}
	}
	s.Did("adapters, quantized caches, switches, llama-quantize, embeddings, ranks and slots of %d models", len(plain)+len(c.Encoders))
	return nil
}

// compatTokens is the length of the texts that logits are compared on.
const compatTokens = 128

// compatFeed is the arguments of zt-probe for such a text. Results do not depend on the number of threads, other parts see to that; one
// does not wait for others on a busy machine.
func compatFeed(m Model) []string { return append(m.feed(compatTokens), "-t", "1") }

// bothModes compares logits with arguments that what says, all at once and one by one. Stock differs from itself by own.
func (v *verifier) bothModes(ctx context.Context, m Model, what string, args []string, own Divergence) error {
	criteria, err := criteriaFor(m.Path)
	if err != nil {
		return err
	}
	for _, mode := range []string{"prefill", "decode"} {
		inMode := append(slices.Clone(args), "--mode", mode)
		d, err := v.compare(ctx, m, v.stock, v.tuned, inMode, inMode)
		if err != nil {
			return err
		}
		v.divergence(m.Name, fmt.Sprintf("%s, %s %d", what, mode, compatTokens), d, criteria, &own)
	}
	return nil
}

// adapter compares logits with an adapter, which must matter.
func (v *verifier) adapter(ctx context.Context, a Adapted) error {
	m := a.Model
	plain := compatFeed(m)
	adapted := append(compatFeed(m), "--lora", a.Adapter)
	own, err := v.compare(ctx, m, v.stock, v.stock, append(slices.Clone(adapted), "-fa", "on"), append(slices.Clone(adapted), "-fa", "off"))
	if err != nil {
		return err
	}
	if err := v.bothModes(ctx, m, "adapter", adapted, own); err != nil {
		return err
	}
	d, err := v.compare(ctx, m, v.tuned, v.tuned, plain, adapted)
	if err != nil {
		return err
	}
	v.judge(compatAdapter, m.Name, "adapter / none", Measurement{Value: d.MeanKL})
	return nil
}

// cache compares logits with a quantized cache, which must matter.
func (v *verifier) cache(ctx context.Context, m Model) error {
	plain := append(compatFeed(m), "-fa", "on")
	cached := append(slices.Clone(plain), "-ctk", "q8_0", "-ctv", "q8_0")
	own, err := v.stocksOwn(ctx, m)
	if err != nil {
		return err
	}
	if err := v.bothModes(ctx, m, "-ctk q8_0 -ctv q8_0", cached, own); err != nil {
		return err
	}
	d, err := v.compare(ctx, m, v.tuned, v.tuned, plain, cached)
	if err != nil {
		return err
	}
	v.judge(compatCache, m.Name, "-ctk q8_0 -ctv q8_0 / f16", Measurement{Value: float64(d.Differing)})
	return nil
}

// switchedOff compares logits with our kernels switched off in both ways that there are.
func (v *verifier) switchedOff(ctx context.Context, m Model) error {
	args := compatFeed(m)
	noRepack := append(slices.Clone(args), "--no-repack")
	for _, c := range []struct {
		what  string
		tuned program.Build
		args  []string
	}{
		{"--no-repack", v.tuned, noRepack},
		{"ZT_DISABLE=1", v.tuned.With("ZT_DISABLE=1"), args},
	} {
		d, err := v.compare(ctx, m, v.stock, c.tuned, c.args, c.args)
		if err != nil {
			return err
		}
		v.judge(compatOff, m.Name, c.what, Measurement{Value: float64(d.Differing), Note: fmt.Sprintf("of %d tokens", compatTokens)})
	}
	return nil
}

// compatTypes are the types and mixes that llama-quantize is asked for: with scales of each kind, with blocks of 32 and of 256, with grids.
var compatTypes = []string{"Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_L", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ2_0", "MXFP4_MOE"}

// quantizer compares what the llama-quantize of both builds make of a model.
func (v *verifier) quantizer(ctx context.Context) error {
	for _, typ := range compatTypes {
		var sums [2][32]byte
		for i, b := range []program.Build{v.stock, v.tuned} {
			path := filepath.Join(v.scratch, "quantized.gguf")
			if _, _, err := b.Output(ctx, "llama-quantize", v.Compatibility.Quantized, path, typ, "1"); err != nil {
				return err
			}
			f, err := gguf.Open(path)
			if err != nil {
				return fmt.Errorf("%s llama-quantize: %w", b.Name, err)
			}
			f.Close()
			if sums[i], err = hashFile(path); err != nil {
				return err
			}
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		v.judge(compatQuantize, "", "llama-quantize "+typ, Measurement{Value: count(sums[0] != sums[1])})
	}
	return nil
}

// texts are embedded and ranked. They differ in length and in subject.
var texts = []string{
	"Paris is the capital of France.",
	"The giant panda is a bear species endemic to China.",
	"A compiler turns a program that people can read into one that a machine can run.",
	"Rain.",
	"To bake bread, mix flour, water, salt and yeast; let the dough rise for an hour, shape it, let it rise again, and bake it in a hot oven until it sounds hollow.",
	"The memory of a computer is slower than its processor, so that programs are arranged around what is near.",
	"How many legs has a spider?",
	"In 1969 people first walked on the moon and came back to tell of it.",
}

const query = "What does a panda eat?"

// contested is a line of `zt-probe gemm`: whose product it was, and how far from stock's.
type contested struct {
	Name string  `json:"name"`
	NMSE float64 `json:"nmse"`
}

// sliced compares a product that BLAS is asked for with stock's: of rows so long and tokens so many that it is, and of weight rows that fill
// neither a panel nor a slice.
func (v *verifier) sliced(ctx context.Context) error {
	const shape = "f32,m=161,k=14336,n=514"
	lines, err := program.Run[contested](ctx, v.tuned.With("ZT_BLAS=slices"), "zt-probe", "gemm", "-t", strconv.Itoa(v.Threads), "-n", "1", "--shape", shape)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(lines, func(l contested) bool { return l.Name == report.Ours })
	if i < 0 {
		return fmt.Errorf("zt-probe gemm --shape %s says nothing of our product", shape)
	}
	note := ""
	if lines[i].NMSE == 0 {
		note = "stock's bits: the linked BLAS has no AVX-512 kernels for this CPU and is not asked"
	}
	v.judge(compatBLAS, "", "ZT_BLAS=slices "+shape, Measurement{Value: lines[i].NMSE, Note: note})
	return nil
}

// encoder compares embeddings and ranks.
func (v *verifier) encoder(ctx context.Context, m Model) error {
	kinds := []struct {
		name, option string
		bound        Gate
		ask          func(context.Context, server) ([][]float64, error)
	}{
		{"embeddings", "--embedding", compatEmbeddings, func(ctx context.Context, s server) ([][]float64, error) {
			var answer struct {
				Data []struct {
					Index     int
					Embedding []float64
				}
			}
			if err := s.post(ctx, "/v1/embeddings", map[string]any{"input": texts}, &answer); err != nil {
				return nil, err
			}
			vectors := make([][]float64, len(texts))
			for _, d := range answer.Data {
				if d.Index < 0 || d.Index >= len(texts) {
					return nil, fmt.Errorf("an embedding of text %d, of %d", d.Index, len(texts))
				}
				vectors[d.Index] = d.Embedding
			}
			return vectors, nil
		}},
		{"ranks", "--reranking", compatRanks, func(ctx context.Context, s server) ([][]float64, error) {
			var answer struct {
				Results []struct {
					Index int
					Score float64 `json:"relevance_score"`
				}
			}
			if err := s.post(ctx, "/v1/rerank", map[string]any{"query": query, "documents": texts}, &answer); err != nil {
				return nil, err
			}
			scores := make([][]float64, len(texts))
			for _, r := range answer.Results {
				if r.Index < 0 || r.Index >= len(texts) {
					return nil, fmt.Errorf("a rank of text %d, of %d", r.Index, len(texts))
				}
				scores[r.Index] = []float64{r.Score}
			}
			return scores, nil
		}},
	}
	for _, k := range kinds {
		get := func(b program.Build, flashAttention string) (vectors [][]float64, err error) {
			err = serve(ctx, b, m, []string{"-t", "1", k.option, "-fa", flashAttention}, func(ctx context.Context, s server) error {
				vectors, err = k.ask(ctx, s)
				return err
			})
			return vectors, err
		}
		stock, err := get(v.stock, "on")
		if err != nil {
			return err
		}
		off, err := get(v.stock, "off")
		if err != nil {
			return err
		}
		tuned, err := get(v.tuned, "on")
		if err != nil {
			return err
		}
		own, err := apart(stock, off)
		if err != nil {
			return fmt.Errorf("%s, %s of stock: %w", m.Name, k.name, err)
		}
		value, err := apart(stock, tuned)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", m.Name, k.name, err)
		}
		v.judge(k.bound.only(), m.Name, "stock -fa off/on, "+k.name, Measurement{Value: own})
		v.judge(k.bound.times(max(own, noiseFloor*noiseFloor)), m.Name, k.name, Measurement{Value: value})
	}
	return nil
}

// apart is how far got is from ref, both a vector for each text: the sum of squared differences over that of what tells the texts of ref apart.
func apart(ref, got [][]float64) (float64, error) {
	n, size := len(ref), len(ref[0])
	mean := make([]float64, size)
	for i := range ref {
		if size == 0 || len(ref[i]) != size || len(got[i]) != size {
			return 0, fmt.Errorf("text %d has vectors of %d and %d numbers, not %d", i, len(ref[i]), len(got[i]), size)
		}
		for j, x := range ref[i] {
			mean[j] += x / float64(n)
		}
	}
	var squares, all float64
	for i := range ref {
		for j, x := range ref[i] {
			squares += (got[i][j] - x) * (got[i][j] - x)
			all += (x - mean[j]) * (x - mean[j])
		}
	}
	if !(all > 1e-12) || math.IsNaN(squares+all) || math.IsInf(squares+all, 0) {
		return 0, errors.New("the texts are not told apart")
	}
	return squares / all, nil
}

const (
	slotClients = 4
	slotTokens  = 64 // of each answer
	slotContext = 256
)

// slots has clients of llama-server ask alone and all at once. Prompts, answers and the server's options are within what stock's attention
// computes in one order of sums (gen/soak), so that an answer has no reason to depend on the others'.
func (v *verifier) slots(ctx context.Context, m Model) error {
	args := []string{"-t", "1", "-np", strconv.Itoa(slotClients), "-c", strconv.Itoa(slotClients * slotContext), "-fa", "on", "--no-kv-unified", "--cache-ram", "0"}
	for _, b := range []program.Build{v.stock, v.tuned} {
		var alone, together []slotAnswer
		err := serve(ctx, b, m, args, func(ctx context.Context, s server) error {
			for i := range slotClients {
				a, err := s.answer(ctx, texts[i])
				if err != nil {
					return err
				}
				alone = append(alone, a)
			}
			together = make([]slotAnswer, slotClients)
			errs := make([]error, slotClients)
			var all sync.WaitGroup
			for i := range slotClients {
				all.Go(func() { together[i], errs[i] = s.answer(ctx, texts[i]) })
			}
			all.Wait()
			return errors.Join(errs...)
		})
		if err != nil {
			return err
		}
		others, used := 0, map[int]bool{}
		for i := range alone {
			others += int(count(!slices.Equal(alone[i].Tokens, together[i].Tokens)))
			used[together[i].Slot] = true
		}
		answers, slots := compatAnswers, compatSlots
		if b.Name == v.stock.Name {
			answers, slots = answers.only(), slots.only()
		}
		what := fmt.Sprintf("%d clients", slotClients)
		v.judge(answers, m.Name, what, Measurement{Value: float64(others), Build: b.Name})
		v.judge(slots, m.Name, what, Measurement{Value: float64(len(used)), Build: b.Name})
	}
	return nil
}

// slotAnswer is what llama-server says to a prompt.
type slotAnswer struct {
	Slot   int   `json:"id_slot"`
	Tokens []int `json:"tokens"`
}

func (s server) answer(ctx context.Context, prompt string) (a slotAnswer, err error) {
	err = s.post(ctx, "/completion", map[string]any{
		"prompt": prompt, "n_predict": slotTokens, "temperature": 0, "cache_prompt": false, "ignore_eos": true, "return_tokens": true,
	}, &a)
	if err == nil && len(a.Tokens) != slotTokens {
		err = fmt.Errorf("/completion: %d tokens, not %d", len(a.Tokens), slotTokens)
	}
	return a, err
}
