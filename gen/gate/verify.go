package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Options says what to verify.
type Options struct {
	Stock, Tuned string // folders of the programs of the two builds
	Tests        string // folder of UpstreamTests of the tuned build; empty: Tuned
	StockTests   string // folder of ArchsProgram of the stock build; empty: the architectures it writes are not compared
	Models       []Model

	Compatibility *Compatibility // nil: that part is left out

	AccuracyOnly bool // no timing: for machines that others use too
	SpeedOnly    bool // nothing but timing, at leisure: benchRounds turns where Rounds does not say
	Threads      int  // of every program; 0: one for each CPU
	Rounds       int  // turns of each speed measurement; 0: as many as a quarter of an hour allows

	// Peers are builds of other engines, whose speeds are measured as far as their programs allow.
	Peers []program.Build

	// Roofline measures what this machine can do at best, Threads threads included; count takes its progress. nil: speeds are
	// reported without their share of it.
	Roofline func(ctx context.Context, count func(done, total int, doing string)) (roofline.Limits, error)

	Date        time.Time          // of the report
	Environment report.Environment // what the caller knows of the builds; the machine's part is filled in

	// For tests.
	vendor             string // CPUID vendor of the host; empty: of this one
	unwatched          bool   // what else runs does not matter to programs that only pretend to work
	leastArchitectures int    // instead of the limit of archsCompared
}

// Model is a model and what to measure on it.
type Model struct {
	Name string // as in the report
	Path string

	// Tokens is a file of token ids that accuracy is measured on, one a line; empty: seeded ones. Text is a file of a text that the model can
	// predict, which upstream's instruments are asked about; empty: they are not asked.
	Tokens, Text string

	Prefill   []int // accuracy: prompts of these many tokens
	Decode    int   // accuracy: tokens fed one by one
	Greedy    int   // tokens made greedily
	Floats    int   // of a model of float weights: tokens made greedily with each code, which like all else must be stock's to the bit
	Stored    bool  // of a model of float weights: what llama-zen-pack makes of it
	Identity  bool  // bits must not depend on threads, batch size and place in the batch
	Operators bool  // the operators of its graph are tested one by one; for models that load fast
	Speed     bool  // unless Options.AccuracyOnly
}

// Small asks for everything but speed: for a model small enough that this takes seconds.
func Small(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256, 33, 7}, Decode: 256, Greedy: 200, Identity: true, Operators: true}
}

// Float asks for stock's bits: for a model of float weights.
func Float(name, path string) Model {
	return Model{Name: name, Path: path, Floats: 1000, Stored: true}
}

// FloatExperts is Float for a model with experts.
func FloatExperts(name, path string) Model {
	return Model{Name: name, Path: path, Floats: 200, Stored: true}
}

// Brief asks for the accuracy of a prompt and of some tokens: for one of many models.
func Brief(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256}, Decode: 32}
}

// Experts is Small for a model with experts. Few tokens say little of it: one that a last bit sends to another expert outweighs the others.
func Experts(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256}, Decode: 128, Greedy: 100, Identity: true, Operators: true}
}

// Full asks for speed and, on fewer tokens, accuracy.
func Full(name, path string) Model {
	return Model{Name: name, Path: path, Prefill: []int{256, 33, 7}, Decode: 64, Speed: true}
}

// verifier is one run of Verify.
type verifier struct {
	Options
	stock, tuned program.Build
	tests        program.Build         // upstream's, of the tuned build
	scratch      string                // folder for logits and the like
	own          map[string]Divergence // of stock from itself, by model path
	limits       roofline.Limits       // of this machine; none before the roofline part
	journal      *journal.Journal      // of what is finished
	part         string                // being run
	types        []string              // of weights that operators are examined on; nil: all
	weights      []string              // models of Types
	pace         float64               // of Types, as throughput.Setup has it; 0: not measured
	results      []report.Result
}

// Verify measures the tuned build against the stock one, writes the report to w.Report() and returns it. The error names
// every gate that fails; the report is written all the same. Any other error (a missing program, one that crashes) leaves
// an earlier report as it was. What was measured by then is kept, and the next run with the same builds, models and options goes on
// from there. With SpeedOnly the report is in w.Bench() instead. The caller holds the workspace's lock.
func Verify(ctx context.Context, w workspace.Workspace, log *progress.Log, o Options) (report.Report, error) {
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.vendor == "" {
		o.vendor = target.Host().Vendor
	}
	o.Environment = environment(o.Environment) // before the runs below load the machine
	v := &verifier{Options: o, stock: program.Build{Name: "stock", Bin: o.Stock}, tuned: program.Build{Name: "tuned", Bin: o.Tuned},
		own: map[string]Divergence{}}
	v.tests = program.Build{Name: "tuned", Bin: o.Tests}
	if o.Tests == "" {
		v.tests.Bin = o.Tuned
	}
	need, folder, name := programs, w.Report(), "verify"
	if o.AccuracyOnly {
		need = programs[:1]
		v.Rounds = 0
	}
	if o.SpeedOnly {
		folder, name = w.Bench(), "bench"
		if v.Rounds == 0 {
			v.Rounds = benchRounds
		}
	}
	for _, b := range []program.Build{v.stock, v.tuned} {
		if err := b.Check(need...); err != nil {
			return report.Report{}, err
		}
	}
	if !o.SpeedOnly {
		if err := errors.Join(v.tuned.Check("zt-selftest"), v.tests.Check(UpstreamTests...)); err != nil {
			return report.Report{}, err
		}
	}
	if !o.SpeedOnly && slices.ContainsFunc(o.Models, func(m Model) bool { return m.Stored }) {
		if err := v.tuned.Check(StoredPrograms...); err != nil {
			return report.Report{}, err
		}
	}
	archs := o.StockTests != "" && !o.SpeedOnly
	if archs {
		if err := errors.Join(v.stock.Check("llama-quantize"), program.Build{Name: "stock", Bin: o.StockTests}.Check(ArchsProgram)); err != nil {
			return report.Report{}, err
		}
	}
	if !o.SpeedOnly && slices.ContainsFunc(o.Models, func(m Model) bool { return m.Text != "" }) {
		if err := errors.Join(v.stock.Check(OpinionPrograms...), v.tuned.Check(OpinionPrograms[:2]...)); err != nil {
			return report.Report{}, err
		}
	}
	if o.Compatibility != nil && !o.SpeedOnly {
		if err := errors.Join(v.stock.Check(CompatibilityPrograms...), v.tuned.Check(CompatibilityPrograms...), o.Compatibility.check()); err != nil {
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
		for _, path := range []string{m.Tokens, m.Text} {
			if _, err := os.Stat(path); path != "" && err != nil {
				return report.Report{}, fmt.Errorf("text of model %s: %w", m.Name, err)
			}
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return report.Report{}, err
	}
	// A fixed name, so that the next run removes what a killed one leaves. The workspace's lock keeps runs apart.
	v.scratch = filepath.Join(folder, "scratch")
	err := os.RemoveAll(v.scratch)
	if err == nil {
		err = os.Mkdir(v.scratch, 0o755)
	}
	if err != nil {
		return report.Report{}, err
	}
	defer os.RemoveAll(v.scratch)
	if v.Environment.Programs, err = v.programs(); err != nil {
		return report.Report{}, err
	}
	if err := v.resume(ctx, log, w.Journal(name)); err != nil {
		return report.Report{}, err
	}
	defer v.journal.Close()

	if o.Roofline != nil && !o.AccuracyOnly {
		if err := v.step(ctx, log, "roofline", "", v.roofline); err != nil {
			return report.Report{}, err
		}
	}
	if !o.SpeedOnly {
		if err := v.step(ctx, log, "operators", "", v.operators); err != nil {
			return report.Report{}, err
		}
	}
	if !o.SpeedOnly {
		if err := v.step(ctx, log, "shapes", "", v.sweep); err != nil {
			return report.Report{}, err
		}
	}
	if o.Compatibility != nil && !o.SpeedOnly {
		if err := v.step(ctx, log, "compatibility", "", v.compatibility); err != nil {
			return report.Report{}, err
		}
	}
	for _, m := range o.Models {
		for _, part := range []struct {
			name string
			want bool
			run  func(context.Context, *progress.Step, Model) error
		}{
			{"accuracy", !o.SpeedOnly && (len(m.Prefill) > 0 || m.Decode > 0), v.accuracy},
			{"opinions", !o.SpeedOnly && m.Text != "", v.opinions},
			{"identity", !o.SpeedOnly && m.Identity, v.identity},
			{"greedy", !o.SpeedOnly && m.Greedy > 0, v.greedy},
			{report.FloatsPart, !o.SpeedOnly && m.Floats > 0, v.floats},
			{"stored", !o.SpeedOnly && m.Stored, v.stored},
			{"load", m.Speed && !o.AccuracyOnly, v.load},
			{"throughput", m.Speed && !o.AccuracyOnly, v.speed},
		} {
			if !part.want {
				continue
			}
			err := v.step(ctx, log, part.name, m.Name, func(ctx context.Context, s *progress.Step) error { return part.run(ctx, s, m) })
			if err != nil {
				return report.Report{}, err
			}
		}
	}
	if archs {
		if err := v.step(ctx, log, "architectures", "", v.architectures); err != nil {
			return report.Report{}, err
		}
	}

	rounds := v.Rounds
	if rounds == 0 && !o.AccuracyOnly {
		rounds = leastTurns
	}
	r := report.Report{
		Version: report.Version, Date: o.Date, Environment: v.Environment,
		Threads: v.Threads, Rounds: rounds, AccuracyOnly: o.AccuracyOnly, Results: v.results,
	}
	if err := r.Write(folder); err != nil {
		return r, err
	}
	if err := v.journal.Remove(); err != nil {
		return r, err
	}
	return r, failure(r)
}

// programs returns the hashes of all programs of our builds, so that a release can be held to what was measured, and of those
// that peers run.
func (v *verifier) programs() (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for i, b := range append([]program.Build{v.stock, v.tuned}, v.Peers...) {
		var names []string
		if i > 1 {
			names = programs
		}
		var err error
		if all[b.Name], err = sums(b.Bin, names); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// environment completes what the caller knows with what the machine says.
func environment(caller report.Environment) report.Environment {
	e := report.Host()
	e.Target, e.Compiler, e.BLAS, e.Pins = caller.Target, caller.Compiler, caller.BLAS, caller.Pins
	e.Toolchain, e.Notes = caller.Toolchain, caller.Notes
	return e
}

// note adds what a reader of the report must know.
func (v *verifier) note(text string) {
	v.Environment.Notes = append(slices.Clip(v.Environment.Notes), text)
}

// judge records what g says of a measurement.
func (v *verifier) judge(g Gate, model, what string, m Measurement) {
	v.record(g.Judge(model, what, m))
}

func (v *verifier) record(r report.Result) {
	r.Part = v.part
	v.results = append(v.results, r)
}
