package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Options says what to verify.
type Options struct {
	Stock, Tuned string // folders of the programs of the two builds
	Models       []Model

	AccuracyOnly bool // no timing: for machines that others use too
	Threads      int  // of every program; 0: one for each CPU
	Rounds       int  // A B pairs of each speed measurement; 0: 3

	// VNNIPeak measures the int8 operations a second (a multiply and an add are two) that Threads threads reach together.
	// nil: prefill is reported without its share of it.
	VNNIPeak func() (opsPerSecond float64)

	Date        time.Time          // of the report
	Environment report.Environment // what the caller knows of the builds; the machine's part is filled in

	vendor string // CPUID vendor of the host, for tests; empty: of this one
}

// Model is a model and what to measure on it.
type Model struct {
	Name string // as in the report
	Path string

	Prefill  []int // accuracy: prompts of these many tokens
	Decode   int   // accuracy: tokens fed one by one
	Greedy   int   // tokens made greedily
	Identity bool  // bits must not depend on threads, batch size and place in the batch
	Speed    bool  // unless Options.AccuracyOnly
}

// Tiny asks for everything but speed: for a model small enough that this takes seconds.
func Tiny(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256, 33, 7}, Decode: 256, Greedy: 200, Identity: true}
}

// Full asks for speed and, on fewer tokens, accuracy.
func Full(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256, 33, 7}, Decode: 64, Speed: true}
}

// verifier is one run of Verify.
type verifier struct {
	Options
	stock, tuned build
	scratch      string                // folder for logits
	own          map[string]Divergence // of stock from itself, by model path
	results      []report.Result
}

// Verify measures the tuned build against the stock one, writes the report to w.Report() and returns it. The error names
// every gate that fails; the report is written all the same. Any other error (a missing program, one that crashes) leaves
// an earlier report as it was. The caller holds the workspace's lock.
func Verify(ctx context.Context, w workspace.Workspace, log *progress.Log, o Options) (report.Report, error) {
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.vendor == "" {
		o.vendor = target.Host().Vendor
	}
	o.Environment = environment(o.Environment) // before the runs below load the machine
	v := &verifier{Options: o, stock: build{name: "stock", bin: o.Stock}, tuned: build{name: "tuned", bin: o.Tuned},
		own: map[string]Divergence{}}
	need := programs
	if o.AccuracyOnly {
		need = programs[:1]
		v.Rounds = 0
	}
	for _, b := range []build{v.stock, v.tuned} {
		if err := b.check(need...); err != nil {
			return report.Report{}, err
		}
	}
	if len(o.Models) == 0 {
		return report.Report{}, errors.New("no model to verify with")
	}
	for _, m := range o.Models {
		if _, err := os.Stat(m.Path); err != nil {
			return report.Report{}, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	if err := os.MkdirAll(w.Report(), 0o755); err != nil {
		return report.Report{}, err
	}
	var err error
	if v.scratch, err = os.MkdirTemp(w.Report(), "logits-"); err != nil {
		return report.Report{}, err
	}
	defer os.RemoveAll(v.scratch)

	for _, m := range o.Models {
		for _, part := range []struct {
			name string
			want bool
			run  func(context.Context, *progress.Step, Model) error
		}{
			{"accuracy", len(m.Prefill) > 0 || m.Decode > 0, v.accuracy},
			{"identity", m.Identity, v.identity},
			{"greedy", m.Greedy > 0, v.greedy},
			{"load", m.Speed && !o.AccuracyOnly, v.load},
			{"speed", m.Speed && !o.AccuracyOnly, v.speed},
		} {
			if !part.want {
				continue
			}
			err := log.Step(ctx, part.name, func(ctx context.Context, s *progress.Step) error { return part.run(ctx, s, m) })
			if err != nil {
				return report.Report{}, err
			}
		}
	}
	if err := finite(v.results); err != nil {
		return report.Report{}, err
	}

	r := report.Report{
		Version: report.Version, Date: o.Date, Environment: o.Environment,
		Threads: v.Threads, Rounds: v.Rounds, AccuracyOnly: o.AccuracyOnly, Results: v.results,
	}
	if err := r.Write(w.Report()); err != nil {
		return r, err
	}
	return r, failure(r)
}

// environment completes what the caller knows with what the machine says.
func environment(caller report.Environment) report.Environment {
	e := report.Host()
	e.Target, e.Compiler, e.BLAS, e.Pins = caller.Target, caller.Compiler, caller.BLAS, caller.Pins
	e.Toolchain, e.Notes = caller.Toolchain, caller.Notes
	return e
}

// judge records what g says of a measurement.
func (v *verifier) judge(g Gate, model, what string, m Measurement) {
	v.results = append(v.results, g.Judge(model, what, m))
}

// logits runs `zt-probe logits` and opens what it wrote. Closing it is the caller's; the file goes with the scratch folder.
func (v *verifier) logits(ctx context.Context, b build, m Model, file string, args ...string) (*Logits, error) {
	path, err := v.logitsFile(ctx, b, m, file, args...)
	if err != nil {
		return nil, err
	}
	return OpenLogits(path)
}

func (v *verifier) logitsFile(ctx context.Context, b build, m Model, file string, args ...string) (string, error) {
	path := filepath.Join(v.scratch, b.name+"-"+file)
	args = append([]string{"logits", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-o", path}, args...)
	_, err := run[struct{}](ctx, b, "zt-probe", args...)
	return path, err
}

// compare runs a and b with their own arguments and compares the logits.
func (v *verifier) compare(ctx context.Context, m Model, a, b build, argsA, argsB []string) (Divergence, error) {
	ref, err := v.logits(ctx, a, m, "ref", argsA...)
	if err != nil {
		return Divergence{}, err
	}
	defer ref.Close()
	got, err := v.logits(ctx, b, m, "got", argsB...)
	if err != nil {
		return Divergence{}, err
	}
	defer got.Close()
	return Compare(ref, got)
}

// accuracy compares the logits of given tokens, all at once and one by one.
func (v *verifier) accuracy(ctx context.Context, s *progress.Step, m Model) error {
	type kase struct {
		name string
		args []string
	}
	var cases []kase
	for _, n := range m.Prefill {
		cases = append(cases, kase{fmt.Sprintf("prefill %d", n), []string{"-n", strconv.Itoa(n)}})
	}
	if m.Decode > 0 {
		cases = append(cases, kase{fmt.Sprintf("decode %d", m.Decode), []string{"-n", strconv.Itoa(m.Decode), "--mode", "decode"}})
	}

	s.Count(0, len(cases)+1, m.Name+" stock against itself")
	own, err := v.stocksOwn(ctx, m)
	if err != nil {
		return err
	}

	worst := 0.0
	for i, c := range cases {
		s.Count(i+1, len(cases)+1, m.Name+" "+c.name)
		d, err := v.compare(ctx, m, v.stock, v.tuned, c.args, c.args)
		if err != nil {
			return err
		}
		v.divergence(m.Name, c.name, d, &own)
		worst = max(worst, d.MeanKL)
	}
	s.Did("%s: mean KL divergence up to %s, stock's own %s", m.Name, report.Number(worst), report.Number(own.MeanKL))
	return nil
}

// ownTokens is the length of the text on which stock is held to itself.
const ownTokens = 256

// stocksOwn is how far stock is from itself on m with another order of sums, the scale on which to read all other differences. It
// is measured once and reported.
func (v *verifier) stocksOwn(ctx context.Context, m Model) (Divergence, error) {
	if own, ok := v.own[m.Path]; ok {
		return own, nil
	}
	n := strconv.Itoa(ownTokens)
	own, err := v.compare(ctx, m, v.stock, v.stock, []string{"-fa", "on", "-n", n}, []string{"-fa", "off", "-n", n})
	if err != nil {
		return own, err
	}
	v.own[m.Path] = own
	v.divergence(m.Name, "stock -fa off/on "+n, own, nil)
	return own, nil
}

// divergence records d: gated by stock's own, or for information where own is nil.
func (v *verifier) divergence(model, what string, d Divergence, own *Divergence) {
	scaleOf := Divergence{}
	if own != nil {
		scaleOf = *own
	}
	for _, x := range []struct {
		gate  Gate
		value float64
	}{
		{meanKL.times(scaleOf.MeanKL), d.MeanKL},
		{p999KL.times(scaleOf.P999KL), d.P999KL},
		{top1, d.Top1},
		{flipGap.times(scaleOf.MaxAbs), d.FlipGap},
		{maxAbs.times(scaleOf.MaxAbs), d.MaxAbs},
		{nmse.times(scaleOf.NMSE), d.NMSE},
		{scale, math.Abs(d.Scale)},
	} {
		if own == nil || x.gate.Quantity == top1.Quantity && d.Tokens < minAgreement {
			x.gate = x.gate.only()
		}
		v.judge(x.gate, model, what, Measurement{Value: x.value})
	}
}

// same is a set of runs whose logits are the same bits if an operator's arithmetic depends on nothing but its row.
type same struct {
	name string
	runs [][]string // arguments of zt-probe logits; the first run is what the others are held to
}

// identities are the sets to check with up to threads threads. Stock's own operators keep them apart: flash attention sums in
// another order from 64 query rows a graph on (tiles), and for single tokens from 512 cached ones on (it splits the cache
// by threads); without it the attention's matrix products have another order for single rows.
func identities(threads int) []same {
	t := strconv.Itoa(max(2, threads))
	return []same{
		{"33 tokens", [][]string{
			{"-n", "33", "-fa", "on", "-t", "1"},
			{"-n", "33", "-fa", "on", "-t", t},
			{"-n", "33", "-fa", "on", "-t", t, "-ub", "7"},
			{"-n", "33", "-fa", "on", "-t", "1", "--mode", "decode"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "decode"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "batch", "--seqs", "4", "--slot", "0"},
			{"-n", "33", "-fa", "on", "-t", "1", "--mode", "batch", "--seqs", "9", "--slot", "7"},
		}},
		{"300 tokens", [][]string{
			{"-n", "300", "-fa", "off", "-t", "1"},
			{"-n", "300", "-fa", "off", "-t", t},
			{"-n", "300", "-fa", "off", "-t", t, "-ub", "64"},
			{"-n", "300", "-fa", "off", "-t", t, "-ub", "7"},
			{"-n", "300", "-fa", "off", "-t", "1", "-ub", "2"},
		}},
		{"300 tokens with flash attention", [][]string{
			{"-n", "300", "-fa", "on", "-t", "1", "-ub", "7"},
			{"-n", "300", "-fa", "on", "-t", t, "-ub", "33"},
			{"-n", "300", "-fa", "on", "-t", "1", "--mode", "decode"},
		}},
	}
}

// identity checks that the tuned build gives the same bits where stock does, and from one run to the next.
func (v *verifier) identity(ctx context.Context, s *progress.Step, m Model) error {
	sets := identities(v.Threads)
	done, total := 0, 1
	for _, set := range sets {
		total += 2 * len(set.runs)
	}
	hash := func(b build, args []string) ([sha256.Size]byte, error) {
		s.Count(done, total, m.Name+" "+b.name)
		done++
		path, err := v.logitsFile(ctx, b, m, "bits", args...)
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		return hashFile(path)
	}

	kept, checked := 0, 0
	for i, set := range sets {
		var first, stockFirst [sha256.Size]byte
		for j, args := range set.runs {
			got, err := hash(v.tuned, args)
			if err != nil {
				return err
			}
			stock, err := hash(v.stock, args)
			if err != nil {
				return err
			}
			if j == 0 {
				first, stockFirst = got, stock
				if i == 0 {
					again, err := hash(v.tuned, args)
					if err != nil {
						return err
					}
					v.judge(repeatable, m.Name, "run twice", Measurement{Value: count(again != first)})
				}
				continue
			}
			g, note := identical, ""
			if stock != stockFirst {
				g, note = identical.only(), "stock's differs here too"
			} else {
				checked++
				kept += 1 - int(count(got != first))
			}
			v.judge(g, m.Name, set.name+": "+short(args)+" / "+short(set.runs[0]), Measurement{Value: count(got != first), Note: note})
		}
	}
	s.Did("%s: %d of stock's %d identities kept", m.Name, kept, checked)
	return nil
}

func count(differs bool) float64 {
	if differs {
		return 1
	}
	return 0
}

// short leaves out of args what the set's name says.
func short(args []string) string {
	text := ""
	for i := 4; i+1 < len(args); i += 2 {
		if text != "" {
			text += " "
		}
		text += args[i] + " " + args[i+1]
	}
	return text
}

func hashFile(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}

// greedy compares the tokens that greedy decoding makes.
func (v *verifier) greedy(ctx context.Context, s *progress.Step, m Model) error {
	args := []string{"greedy", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-n", strconv.Itoa(m.Greedy)}
	own, err := v.stocksOwn(ctx, m)
	if err != nil {
		return err
	}
	s.Count(0, 2, m.Name+" stock")
	stock, err := run[Step](ctx, v.stock, "zt-probe", args...)
	if err != nil {
		return err
	}
	s.Count(1, 2, m.Name+" tuned")
	tuned, err := run[Step](ctx, v.tuned, "zt-probe", args...)
	if err != nil {
		return err
	}
	result, err := judgeGreedy(m.Name, stock, tuned, own.MaxAbs)
	if err != nil {
		return err
	}
	v.results = append(v.results, result)
	s.Did("%s: %s", m.Name, result.Note)
	return nil
}

// judgeGreedy holds the first difference of two runs to greedyMargin with stock's own largest logit difference. Equal runs have a
// margin of 0.
func judgeGreedy(model string, stock, tuned []Step, own float64) (report.Result, error) {
	at, err := FirstDifference(stock, tuned)
	if err != nil {
		return report.Result{}, err
	}
	m := Measurement{Note: fmt.Sprintf("all %d tokens equal", len(stock))}
	if at >= 0 {
		m = Measurement{Value: stock[at].Margin, Note: fmt.Sprintf("%d of %d tokens equal before it", at, len(stock))}
	}
	return greedyMargin.times(own).Judge(model, fmt.Sprintf("greedy %d", len(stock)), m), nil
}
