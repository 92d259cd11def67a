package gate

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Every architecture of llama.cpp multiplies other shapes and views. Upstream's test-llama-archs writes a small random model of each
// that it knows to write, some of them both dense and with experts, in F32; stock's llama-quantize turns them into other types. Not
// among them are those that test-llama-archs says it cannot write (encoders such as BERT and T5, RWKV and some more, mostly for
// want of a vocabulary or of a way to save them), and Gemma 4, EAGLE-3 and DFlash, which it skips without a word.
//
// What this finds, tried on builds broken on purpose: a scale twice too large in one block of each matrix fails on all 126 models that
// meet a kernel; rows packed in the wrong order where they do not fill the last panel fail on the two whose matrices have such rows.

// ArchsProgram is the test of upstream that writes the models, for Options.StockTests.
const ArchsProgram = "test-llama-archs"

// archsFolder holds the models among the run's scratch files.
const archsFolder = "architectures"

const (
	archsSeed = 1 // of the weights

	// Prompts are longer than the models' sliding windows of 32 tokens and than the 64 from which flash attention works in
	// tiles, and no multiple of a tile's rows. Decoding leaves a window behind too.
	archsPrefill = 97
	archsDecode  = 40

	// archsTimeout ends a program whose work takes a fraction of a second.
	archsTimeout = time.Minute
)

// archsAsWritten is the type that test-llama-archs writes.
const archsAsWritten = "F32"

// Types to compare, by llama-quantize's names; the second list where time does not matter.
var (
	archsTypes     = []string{archsAsWritten, "Q8_0"}
	archsMoreTypes = []string{"F16", "BF16"}
)

// comparison is what became of a model. What a program of either build says that fails is a finding and not the end of the run.
type comparison struct {
	model string
	stock error  // why stock leaves nothing to compare with
	tuned error  // what went wrong with the tuned build alone
	note  string // of llama-quantize
	cases []comparedCase
}

type comparedCase struct {
	what   string
	d, own Divergence
	judged []report.Result
}

// architectures compares the builds on every model of test-llama-archs.
func (v *verifier) architectures(ctx context.Context, s *progress.Step) error {
	dir := filepath.Join(v.scratch, archsFolder)
	defer os.RemoveAll(dir)
	s.Count(0, 1, ArchsProgram)
	models, err := v.writeArchitectures(ctx, dir)
	if err != nil {
		return err
	}
	types := archsTypes
	if !v.AccuracyOnly {
		types = slices.Concat(types, archsMoreTypes)
	}

	// A prompt is for two threads, so that work is shared out; as many models are in work as there are pairs of threads.
	found := make([][]comparison, len(models))
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, v.Threads/2) {
		wg.Go(func() {
			for i := range next {
				for _, typ := range types {
					found[i] = append(found[i], v.compareArchitecture(ctx, models[i], typ))
				}
			}
		})
	}
	for i, path := range models {
		if ctx.Err() != nil {
			break
		}
		s.Count(i, len(models), modelName(path))
		next <- i
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	for i, typ := range types {
		var list []comparison
		for _, f := range found {
			list = append(list, f[i])
		}
		v.sumUp("architectures "+strings.ToLower(typ), list)
	}
	s.Did("%d models, as %s", len(models), strings.Join(types, ", "))
	return nil
}

var skippedModel = regexp.MustCompile(`(?m)(\S+) model \((\w+)\) is unsupported, skipping$`)

// writeArchitectures has stock write its models into dir and returns their paths. What it says it cannot write is recorded.
func (v *verifier) writeArchitectures(ctx context.Context, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	tests := program.Build{Name: v.stock.Name, Bin: v.StockTests}
	_, said, err := tests.Output(ctx, ArchsProgram, "-s", strconv.Itoa(archsSeed), "-o", dir)
	if err != nil {
		return nil, err
	}
	var skipped []string
	for _, m := range skippedModel.FindAllStringSubmatch(string(said), -1) {
		skipped = append(skipped, m[1]+" ("+m[2]+")")
	}
	v.judge(archsUnwritten, "architectures", ArchsProgram, Measurement{Value: float64(len(skipped)), Note: strings.Join(skipped, ", ")})
	return filepath.Glob(filepath.Join(dir, "*.gguf"))
}

// complaint is what a program said when it failed, without the call and the folder, which are gone.
func (v *verifier) complaint(err error) string {
	said := err.Error()
	if m := programFailed.FindStringSubmatch(said); m != nil {
		said = m[1]
	}
	return strings.ReplaceAll(said, filepath.Join(v.scratch, archsFolder)+"/", "")
}

var programFailed = regexp.MustCompile(`: (?:exit status \d+|signal: [^:]+): (.+)$`)

func modelName(path string) string { return strings.TrimSuffix(filepath.Base(path), ".gguf") }

// compareArchitecture compares the builds on the model at path as typ, in prefill and decode.
func (v *verifier) compareArchitecture(ctx context.Context, path, typ string) comparison {
	c := comparison{model: modelName(path)}
	dir := path + "-" + typ // for its files
	defer os.RemoveAll(dir)
	if c.stock = os.Mkdir(dir, 0o755); c.stock != nil {
		return c
	}
	if typ != archsAsWritten {
		as := filepath.Join(dir, "model.gguf")
		if c.note, c.stock = v.quantize(ctx, path, as, typ); c.stock != nil {
			return c
		}
		path = as
	}
	criteria, err := criteriaFor(path)
	if c.stock = err; err != nil {
		return c
	}

	t := trial{v: v, model: path, dir: dir}
	defer t.close()
	for _, k := range []struct {
		what string
		args []string
	}{
		{fmt.Sprintf("prefill %d", archsPrefill), []string{"-n", strconv.Itoa(archsPrefill), "-t", strconv.Itoa(min(2, v.Threads))}},
		{fmt.Sprintf("decode %d", archsDecode), []string{"-n", strconv.Itoa(archsDecode), "-t", "1", "--mode", "decode"}},
	} {
		stock, err := t.logits(ctx, v.stock, k.args...)
		if err == nil {
			_, err = Compare(stock, stock) // refuses what is no reference
		}
		if c.stock = err; err != nil {
			return c
		}
		x := comparedCase{what: k.what}
		tuned, err := t.logits(ctx, v.tuned, k.args...)
		if err == nil {
			x.d, err = Compare(stock, tuned)
		}
		if c.tuned = err; err != nil {
			return c
		}
		switch {
		case !equalBits(criteria) && len(c.cases) > 0:
			x.own = c.cases[0].own
		case !equalBits(criteria):
			x.own, c.stock = t.compare(ctx, stock, append([]string{"-fa", "off"}, k.args...)...)
		case x.d.Differing > 0:
			// Is it stock that does not repeat itself?
			x.own, c.stock = t.compare(ctx, stock, k.args...)
			if c.stock == nil && x.own.Differing > 0 {
				c.stock = fmt.Errorf("%d logits differ from one run of stock to the next", x.own.Differing)
			}
		}
		if c.stock != nil {
			return c
		}
		for _, r := range criteria {
			x.judged = append(x.judged, r.judge(c.model, k.what, x.d, &x.own))
		}
		c.cases = append(c.cases, x)
	}
	return c
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not done within %v", d))
}

// fallbackNote is llama-quantize's on rows that do not hold whole blocks.
var fallbackNote = regexp.MustCompile(`\d+ of \d+ tensor\(s\) required fallback quantization`)

// quantize has stock's llama-quantize write the model at path to another one as typ, and returns what is remarkable about it.
func (v *verifier) quantize(ctx context.Context, path, to, typ string) (note string, err error) {
	ctx, cancel := withTimeout(ctx, archsTimeout)
	defer cancel()
	_, said, err := v.stock.Output(ctx, "llama-quantize", path, to, typ, "1")
	return fallbackNote.FindString(string(said)), err
}

// trial runs both builds on one model and holds their logits.
type trial struct {
	v          *verifier
	model, dir string
	open       []*Logits
}

// logits runs `zt-probe logits`.
func (t *trial) logits(ctx context.Context, b program.Build, args ...string) (*Logits, error) {
	ctx, cancel := withTimeout(ctx, archsTimeout)
	defer cancel()
	path := filepath.Join(t.dir, strconv.Itoa(len(t.open)))
	args = append([]string{"logits", "-m", t.model, "-o", path}, args...)
	// A failed assertion says so last, and not where it was.
	if _, err := program.Run[struct{}](ctx, b.With("GGML_NO_BACKTRACE=1"), "zt-probe", args...); err != nil {
		return nil, err
	}
	l, err := OpenLogits(path)
	if err == nil {
		t.open = append(t.open, l)
	}
	return l, err
}

// compare holds another run of stock to ref.
func (t *trial) compare(ctx context.Context, ref *Logits, args ...string) (Divergence, error) {
	l, err := t.logits(ctx, t.v.stock, args...)
	if err != nil {
		return Divergence{}, err
	}
	return Compare(ref, l)
}

func (t *trial) close() {
	for _, l := range t.open {
		l.Close()
	}
}

// sumUp records what the comparisons of all models as one type come to: of each case and criterion the model nearest to its bound, which
// all others keep if it does. What was found of each model is recorded for information.
func (v *verifier) sumUp(group string, list []comparison) {
	type key struct{ what, quantity string }
	var keys []key
	worst, failed := map[key]report.Result{}, map[key]int{}
	var crashed []string
	compared := 0
	for _, c := range list {
		switch {
		case c.tuned != nil:
			crashed = append(crashed, c.model+": "+v.complaint(c.tuned))
		case c.stock != nil:
			v.judge(archsNotCompared, group, c.model, Measurement{Value: 1, Note: v.complaint(c.stock)})
		default:
			compared++
		}
		for _, x := range c.cases {
			for _, r := range x.judged {
				k := key{x.what, r.Quantity}
				w, ok := worst[k]
				if !ok {
					keys = append(keys, k)
				}
				if !ok || share(r) > share(w) {
					worst[k] = r
				}
				if r.Verdict == report.Fail {
					failed[k]++
				}
			}
		}
	}

	least := archsCompared
	if v.leastArchitectures > 0 {
		least.Limit = float64(v.leastArchitectures)
	}
	v.judge(least, group, "all", Measurement{Value: float64(compared)})
	v.judge(archsCrashed, group, "all", Measurement{Value: float64(len(crashed)), Note: strings.Join(crashed, "; ")})
	for _, k := range keys {
		r := worst[k]
		what := r.Model + " is the nearest to its bound"
		switch {
		case failed[k] == 1:
			what = r.Model + " alone fails"
		case failed[k] > 1:
			what = fmt.Sprintf("%s is the worst of %d models that fail", r.Model, failed[k])
		case share(r) == 0:
			what = ""
		}
		r.Note = join(what, r.Note)
		r.Model = group
		v.record(r)
	}
	for _, c := range list {
		for _, x := range c.cases {
			note := fmt.Sprintf("%d logits differ", x.d.Differing)
			if x.own.Tokens > 0 {
				note += fmt.Sprintf(", stock's own %s is %s", archsDetail.Quantity, report.Number(x.own.NMSE))
			}
			v.judge(archsDetail, group, c.model+" "+x.what, Measurement{Value: x.d.NMSE, Note: join(note, c.note)})
		}
	}
}

// share is how much of its bound a gated result used up: above 1 it fails.
func share(r report.Result) float64 {
	value, limit := r.Value, r.Bound.Limit
	if r.Bound.Side == report.AtLeast {
		value, limit = limit, value
	}
	switch {
	case value <= limit && limit <= 0:
		return 0
	case limit <= 0:
		return math.Inf(1)
	}
	return value / limit
}

// equalBits says whether criteria ask for nothing less than stock's bits.
func equalBits(criteria []criterion) bool { return criteria[0].Quantity == sameBits[0].Quantity }
