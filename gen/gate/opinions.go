package gate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// Upstream has instruments of its own for what a change does to a model: llama-perplexity --kl-divergence holds a build to a record
// of another's probabilities, llama-results --check to a file of logits. Both are asked, on a text that the model can predict, and
// their numbers are held to the bounds of ours. They are also held to ours, taken with zt-probe on the same tokens: where
// the two disagree, one of them is wrong.

// OpinionPrograms are those of the stock build, besides those of accuracy, that a Model with a Text needs.
var OpinionPrograms = []string{"llama-perplexity", "llama-results", "llama-tokenize"}

const (
	opinionContext = 512 // tokens of a chunk; the second half of each is predicted
	opinionChunks  = 16

	opinionTimeout = 10 * time.Minute // for one program, whose work takes seconds on a small model
)

// opinions asks upstream's instruments.
func (v *verifier) opinions(ctx context.Context, s *progress.Step, m Model) error {
	dir, err := os.MkdirTemp(v.scratch, "opinions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	criteria, err := criteriaFor(m.Path)
	if err != nil {
		return err
	}
	o := opinion{v: v, m: m, dir: dir, criteria: criteria, count: func(done int, doing string) { s.Count(done, 12, m.Name+" "+doing) }}
	kl, err := o.perplexity(ctx)
	if err != nil {
		return err
	}
	if err := o.results(ctx); err != nil {
		return err
	}
	s.Did("%s: llama-perplexity finds a mean KL divergence of %.6f and a perplexity of %.4f against stock's %.4f", m.Name, kl.MeanKL, math.Exp(kl.GotNLL), math.Exp(kl.RefNLL))
	return nil
}

// opinion is upstream's of one model.
type opinion struct {
	v        *verifier
	m        Model
	dir      string
	criteria []criterion
	count    func(done int, doing string)
}

func (o opinion) file(name string) string { return filepath.Join(o.dir, name) }

// run runs a program of b on the model, with flash attention on or off, and returns all it printed.
func (o opinion) run(ctx context.Context, b program.Build, name, flashAttention string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, opinionTimeout, fmt.Errorf("%s %s was not done within %v", b.Name, name, opinionTimeout))
	defer cancel()
	n := strconv.Itoa(opinionContext)
	args = append([]string{"-m", o.m.Path, "-c", n, "-b", n, "-ub", n, "-t", strconv.Itoa(o.v.Threads), "-fa", flashAttention}, args...)
	stdout, stderr, err := b.With("GGML_NO_BACKTRACE=1").Output(ctx, name, args...)
	return string(stdout) + string(stderr), err
}

// hearTries is how often a program is asked whose answer got lost: upstream's logger drops the lines still in its queue when a program
// ends, which happens on a busy machine (our patch for that is in the tuned build alone).
const hearTries = 4

// hear runs a program until read finds its answer in what it printed. exit is the error of the run that answered.
func (o opinion) hear(ctx context.Context, b program.Build, name, flashAttention string, read func(said string) error, args ...string) (exit, err error) {
	for range hearTries {
		said, exit := o.run(ctx, b, name, flashAttention, args...)
		unread := read(said)
		if unread == nil {
			return exit, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err = exit; err == nil {
			err = fmt.Errorf("%s %s %w; it said: %s", b.Name, name, unread, complaints(said))
		}
	}
	return nil, err
}

// perplexity asks llama-perplexity.
func (o opinion) perplexity(ctx context.Context) (Divergence, error) {
	v, file := o.v, o.file("record")
	o.count(0, "stock's record")
	said, err := o.run(ctx, v.stock, "llama-perplexity", "on", "-f", o.m.Text, "--chunks", strconv.Itoa(opinionChunks), "--kl-divergence-base", file)
	if err != nil {
		return Divergence{}, err
	}
	base, err := readRecord(file)
	if err != nil {
		return Divergence{}, fmt.Errorf("stock llama-perplexity on %s: %w; it said: %s", o.m.Text, err, complaints(said))
	}

	// Theirs. The record rounds probabilities, so that stock held to its own record tells what the instrument cannot see.
	var found [3]klStatistics
	for i, k := range []struct {
		build          program.Build
		flashAttention string
	}{{v.stock, "on"}, {v.stock, "off"}, {v.tuned, "on"}} {
		o.count(1+i, "llama-perplexity of "+k.build.Name)
		exit, err := o.hear(ctx, k.build, "llama-perplexity", k.flashAttention, func(said string) (err error) {
			if found[i], err = parseKL(said); err != nil {
				return fmt.Errorf("--kl-divergence: %w", err)
			}
			return nil
		}, "--kl-divergence", "--kl-divergence-base", file)
		if err = errors.Join(err, exit); err != nil {
			return Divergence{}, err
		}
	}
	same, theirOwn, theirs := found[0].divergence(found[0]), found[1].divergence(found[0]), found[2].divergence(found[0])

	// Ours.
	f, err := gguf.Open(o.m.Path)
	if err != nil {
		return Divergence{}, err
	}
	tokens := base.fed(f.Value("tokenizer.ggml.bos_token_id"))
	f.Close()
	stock, err := o.logits(ctx, v.stock, 4, "stock", tokens, "on")
	if err != nil {
		return Divergence{}, err
	}
	defer stock.Close()
	var ours [2]Divergence
	for i, k := range []struct {
		build          program.Build
		flashAttention string
	}{{v.stock, "off"}, {v.tuned, "on"}} {
		got, err := o.logits(ctx, k.build, 5+i, "got", tokens, k.flashAttention)
		if err != nil {
			return Divergence{}, err
		}
		ours[i], err = CompareRows(stock, got, base.predicted())
		got.Close()
		if err != nil {
			return Divergence{}, err
		}
	}

	text := fmt.Sprintf(", %d chunks of %d tokens", base.chunks, base.context)
	v.divergence(o.m.Name, "stock -fa off/on, zt-probe"+text, ours[0], roundedActivations, nil)
	v.divergence(o.m.Name, "zt-probe"+text, ours[1], o.criteria, &ours[0])
	v.divergence(o.m.Name, "stock against itself, llama-perplexity"+text, same, opinionCriteria, nil)
	v.divergence(o.m.Name, "stock -fa off/on, llama-perplexity"+text, theirOwn, opinionCriteria, nil)
	own := theirOwn
	if equalBits(o.criteria) {
		own = same
	}
	own.RMS = ours[0].RMS
	own = own.recorded()
	v.divergence(o.m.Name, "llama-perplexity"+text, theirs, opinionCriteria, &own)
	v.agree(o.m.Name, "stock -fa off/on, llama-perplexity and zt-probe"+text, theirOwn, ours[0])
	v.agree(o.m.Name, "llama-perplexity and zt-probe"+text, theirs, ours[1])
	return theirs, nil
}

// logits runs `zt-probe logits` on tokens, each chunk a text of its own.
func (o opinion) logits(ctx context.Context, b program.Build, done int, name string, tokens []int32, flashAttention string) (*Logits, error) {
	o.count(done, "zt-probe of "+b.Name)
	var text bytes.Buffer
	for _, t := range tokens {
		fmt.Fprintln(&text, t)
	}
	file := o.file("tokens")
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	n := strconv.Itoa(opinionContext)
	return o.v.logits(ctx, b, o.m, name, "--tokens", file, "-n", strconv.Itoa(len(tokens)), "--chunk", n, "-ub", n, "-fa", flashAttention)
}

// record is the head of what llama-perplexity --kl-divergence-base writes: "_logits_", then as little endian 32-bit numbers the
// tokens of a chunk, the size of the vocabulary, the number of chunks and their tokens. Probabilities follow.
type record struct {
	context, vocab, chunks int
	tokens                 []int32
}

const recordMagic = "_logits_"

func readRecord(path string) (record, error) {
	f, err := os.Open(path)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var head struct {
		Magic                  [len(recordMagic)]byte
		Context, Vocab, Chunks uint32
	}
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil || string(head.Magic[:]) != recordMagic {
		return record{}, fmt.Errorf("no record of probabilities")
	}
	if head.Context != opinionContext || head.Chunks == 0 || head.Chunks > opinionChunks {
		return record{}, fmt.Errorf("the record is of %d chunks of %d tokens", head.Chunks, head.Context)
	}
	b := record{context: int(head.Context), vocab: int(head.Vocab), chunks: int(head.Chunks)}
	b.tokens = make([]int32, b.context*b.chunks)
	if err := binary.Read(r, binary.LittleEndian, b.tokens); err != nil {
		return record{}, fmt.Errorf("the record is cut short: %w", err)
	}
	return b, nil
}

// fed returns the tokens as llama-perplexity feeds them: if the text begins with bos, the token for that, each chunk does, at the
// cost of its own first token.
func (b record) fed(bos any) []int32 {
	tokens := slices.Clone(b.tokens)
	if id, ok := bos.(uint32); ok && tokens[0] == int32(id) {
		for i := 0; i < len(tokens); i += b.context {
			tokens[i] = tokens[0]
		}
	}
	return tokens
}

// predicted returns the tokens after which llama-perplexity looks at the probabilities: those of the second half of a chunk but its
// last.
func (b record) predicted() []int {
	var places []int
	for c := range b.chunks {
		for i := b.context / 2; i < b.context-1; i++ {
			places = append(places, c*b.context+i)
		}
	}
	return places
}

// klStatistics is what llama-perplexity --kl-divergence prints at its end.
type klStatistics struct {
	tokens  int
	ppl     float64 // of the build that ran
	meanKL  float64 // nats
	p999KL  float64
	deltaP  float64 // root mean square, of 1
	sameTop float64 // of 1
}

var (
	klSize  = regexp.MustCompile(`computing over (\d+) chunks, n_ctx=(\d+)`)
	klLines = []struct {
		name  string
		line  *regexp.Regexp
		of    float64
		value func(*klStatistics) *float64
	}{
		{"Mean PPL(Q)", regexp.MustCompile(`(?m)^Mean PPL\(Q\)\s*:\s*(\S+)`), 1, func(k *klStatistics) *float64 { return &k.ppl }},
		{"Mean KLD", regexp.MustCompile(`(?m)^Mean\s+KLD:\s*(\S+)`), 1, func(k *klStatistics) *float64 { return &k.meanKL }},
		{"99.9% KLD", regexp.MustCompile(`(?m)^99\.9%\s+KLD:\s*(\S+)`), 1, func(k *klStatistics) *float64 { return &k.p999KL }},
		{"RMS Δp", regexp.MustCompile(`(?m)^RMS Δp\s*:\s*(\S+).*%\s*$`), 100, func(k *klStatistics) *float64 { return &k.deltaP }},
		{"Same top p", regexp.MustCompile(`(?m)^Same top p:\s*(\S+).*%\s*$`), 100, func(k *klStatistics) *float64 { return &k.sameTop }},
	}
)

// parseKL reads what llama-perplexity --kl-divergence said. It exits with 0 whatever happens: a missing line is the only sign.
func parseKL(said string) (klStatistics, error) {
	var k klStatistics
	size := klSize.FindStringSubmatch(said)
	if size == nil {
		return k, fmt.Errorf("it does not say how many chunks it computes over")
	}
	chunks, err1 := strconv.Atoi(size[1])
	context, err2 := strconv.Atoi(size[2])
	if err1 != nil || err2 != nil || chunks < 1 || context < 4 {
		return k, fmt.Errorf("it computes over %s chunks of %s tokens", size[1], size[2])
	}
	k.tokens = chunks * (context - 1 - context/2)
	for _, l := range klLines {
		m := l.line.FindStringSubmatch(said)
		if m == nil {
			return k, fmt.Errorf("it prints no %s", l.name)
		}
		x, err := strconv.ParseFloat(m[1], 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return k, fmt.Errorf("its %s is %s", l.name, m[1])
		}
		*l.value(&k) = x / l.of
	}
	return k, nil
}

// divergence is k as a Divergence from stock, of which same are the statistics against its own record. Their perplexities are
// compared, and not with the record's own, which is of rounded probabilities.
func (k klStatistics) divergence(same klStatistics) Divergence {
	return Divergence{Tokens: k.tokens, MeanKL: max(0, k.meanKL), P999KL: max(0, k.p999KL), Top1: k.sameTop, DeltaP: k.deltaP,
		RefNLL: math.Log(same.ppl), GotNLL: math.Log(k.ppl)}
}

// agree holds upstream's numbers to ours.
func (v *verifier) agree(model, what string, theirs, ours Divergence) {
	for _, a := range agreements {
		g := a.Gate
		g.Limit = a.limit(g.Limit, ours)
		v.judge(g, model, what, Measurement{Value: math.Abs(a.value(theirs) - a.value(ours)),
			Note: fmt.Sprintf("%.6g and %.6g", a.value(theirs), a.value(ours))})
	}
}

var resultsNMSE = regexp.MustCompile(`NMSE=(\S+)`)

// results asks llama-results.
func (o opinion) results(ctx context.Context) error {
	v, file, prompt := o.v, o.file("results"), o.file("prompt")
	o.count(7, "llama-tokenize")
	if err := o.prompt(ctx, prompt); err != nil {
		return err
	}
	o.count(8, "llama-results of stock")
	if _, err := o.run(ctx, v.stock, "llama-results", "on", "-f", prompt, "-o", file); err != nil {
		return err
	}
	check := func(done int, b program.Build, flashAttention string) (float64, error) {
		o.count(done, "llama-results of "+b.Name)
		var m []string
		// It fails from 1e-6 on, which is below stock's own noise with weights that meet rounded activations. Its number is what counts.
		if _, err := o.hear(ctx, b, "llama-results", flashAttention, func(said string) error {
			if m = resultsNMSE.FindStringSubmatch(said); m == nil {
				return errors.New("--check printed no NMSE")
			}
			return nil
		}, "-f", prompt, "-o", file, "--check"); err != nil {
			return 0, err
		}
		x, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, fmt.Errorf("the NMSE of %s llama-results --check is %s", b.Name, m[1])
		}
		return x, nil
	}
	theirOwn, err := check(9, v.stock, "off")
	if err != nil {
		return err
	}
	theirs, err := check(10, v.tuned, "on")
	if err != nil {
		return err
	}

	tokens, err := resultTokens(file)
	if err != nil {
		return err
	}
	stock, err := o.logits(ctx, v.stock, 11, "stock", tokens, "on")
	if err != nil {
		return err
	}
	defer stock.Close()
	got, err := o.logits(ctx, v.tuned, 12, "got", tokens, "on")
	if err != nil {
		return err
	}
	defer got.Close()
	ours, err := Compare(stock, got)
	if err != nil {
		return err
	}

	text := fmt.Sprintf(", %d tokens", len(tokens))
	g := resultsCriterion.Gate
	v.judge(g.only(), o.m.Name, "stock -fa off/on, llama-results --check"+text, Measurement{Value: theirOwn})
	own := Divergence{NMSE: theirOwn}
	if g.Limit = resultsCriterion.limit(g.Limit, own, ours); equalBits(o.criteria) {
		g.Limit, g.Why = 0, sameBits[0].Why
	}
	v.judge(g, o.m.Name, "llama-results --check"+text, Measurement{Value: theirs})
	a := resultsAgreement.Gate
	a.Limit = resultsAgreement.limit(a.Limit, ours)
	v.judge(a, o.m.Name, "llama-results and zt-probe"+text, Measurement{Value: math.Abs(theirs - ours.NMSE), Note: fmt.Sprintf("%.4g and %.4g", theirs, ours.NMSE)})
	return nil
}

// Prompts for llama-results.
const (
	promptBytes  = 1200 // to begin with
	promptTokens = 400  // at most
	promptTries  = 100
)

// prompt writes the start of the text to a file, cut so that it has a number of tokens divisible by four: llama-results reserves
// too little memory for any other, as it does not count what aligning the tokens takes, and aborts.
func (o opinion) prompt(ctx context.Context, file string) error {
	f, err := os.Open(o.m.Text)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, promptBytes))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opinionTimeout)
	defer cancel()
	for range promptTries {
		cut := bytes.LastIndexAny(text, " \n")
		if cut <= 0 {
			break
		}
		text = text[:cut]
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		stdout, _, err := o.v.stock.Output(ctx, "llama-tokenize", "-m", o.m.Path, "-f", file, "--ids", "--log-disable")
		if err != nil {
			return err
		}
		switch n := strings.Count(string(stdout), ",") + 1; {
		case n > promptTokens:
			text = text[:len(text)/2]
		case n%4 == 0:
			return nil
		}
	}
	return fmt.Errorf("no beginning of %s has a number of tokens that llama-results can take", o.m.Text)
}

// resultTokens returns the tokens in a file of llama-results.
func resultTokens(path string) ([]int32, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := f.Tensor("tokens")
	if err != nil {
		return nil, err
	}
	tokens := make([]int32, t.Size/4)
	return tokens, binary.Read(f.Data(t), binary.LittleEndian, tokens)
}

var errorLine = regexp.MustCompile(`(?m)^\S+ E (.*\S)\s*$`)

// complaints returns the errors in what a program of upstream logged, else the last line.
func complaints(log string) string {
	var said []string
	for _, m := range errorLine.FindAllStringSubmatch(log, -1) {
		said = append(said, m[1])
	}
	if said == nil {
		log = strings.TrimSpace(log)
		return log[strings.LastIndexByte(log, '\n')+1:]
	}
	return strings.Join(said, "; ")
}
