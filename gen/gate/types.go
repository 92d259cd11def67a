package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// MinTypeRounds is the smallest number of turns of Types: one block. It is less than MinRounds, because all models together say how
// noisy the machine is.
const MinTypeRounds = 2

// Weights is a synthetic model with matrices of one type.
type Weights struct {
	Name    string  // as in the report
	Type    string  // as avo/weight calls it; of float weights, a key of floatGoals
	Bits    float64 // of a weight, with its share of the scales
	Grid    bool    // weights are entries of a table
	Experts bool    // the model has experts: only a prompt and a generation are measured
	Code    string  // of float weights: what ZT_CODE is for the tuned build; empty for others

	Path string
	// Write writes the model to Path. It is called before the first measurement that needs it.
	Write func(context.Context, *progress.Step) error
	Kept  bool // Path was there before; else it is removed after the last measurement
}

// TypesOptions says what Types measures.
type TypesOptions struct {
	Stock, Tuned string // folders of the programs of the two builds
	Weights      []Weights
	Some         bool // Weights are not all there are: what an earlier run of the same builds on this machine found of the others is kept
	Threads      int  // of every program; 0: one for each CPU
	Rounds       int  // turns of each measurement; 0: MinTypeRounds

	Date        time.Time
	Environment report.Environment // what the caller knows of the builds; the machine's part is filled in

	// For tests, as in Options.
	vendor    string
	unwatched bool
}

// Types measures the speed of the two builds on each model in turn, holds it to the goals for its type, writes the report to w.Report()
// as report.TypesName and returns it. The error names every gate that fails. A run that is interrupted is resumed by the next one with
// the same builds and options. The caller holds the workspace's lock.
func Types(ctx context.Context, w workspace.Workspace, log *progress.Log, o TypesOptions) (report.Report, error) {
	v, err := newSurvey(w, "types", surveyOptions{
		stock: o.Stock, tuned: o.Tuned, threads: o.Threads, rounds: o.Rounds, date: o.Date, environment: o.Environment, vendor: o.vendor,
	})
	if err != nil {
		return report.Report{}, err
	}
	name := "types"
	if o.Some {
		name = "types-some"
	}
	for _, m := range o.Weights {
		v.weights = append(v.weights, m.Name)
	}
	if err := v.resume(ctx, log, w.Journal(name)); err != nil {
		return report.Report{}, err
	}
	defer v.journal.Close()

	// One session, so that the turns taken again are few in all.
	session := &throughput.Session{Threads: v.Threads, Least: v.Rounds, Most: v.Rounds, Journal: v.journal, Unwatched: o.unwatched}
	var found []pending
	for i, m := range o.Weights {
		err := log.Step(ctx, "types", func(ctx context.Context, s *progress.Step) error {
			session.Name = m.Name + ", "
			session.Count = func(_, _ int, doing string) { s.Count(i, len(o.Weights), m.Name+" "+doing) }
			more, err := v.weightSpeeds(ctx, s, session, m)
			found = append(found, more...)
			return err
		})
		if err != nil {
			return report.Report{}, err
		}
	}
	v.judgePooled(found)
	return v.finish(w, o.Some, report.TypesName, func(x report.Result) string { return x.Model })
}

// kept is r with what old found of other things, in old's order, if both were measured under the same conditions; else r says that old
// is gone. of names the thing that a result is about: a model or a feature.
func kept(old, r report.Report, of func(report.Result) string) report.Report {
	conditions := func(r report.Report) []any {
		e := r.Environment
		list := []any{e.CPU, e.Cores, e.Kernel, e.TransparentPages, e.HugePages, e.Target, e.Compiler, e.Programs, r.Threads}
		for _, s := range switches.All() {
			if s.When == switches.Run {
				list = append(list, e.Switches[s.Name])
			}
		}
		return list
	}
	if !reflect.DeepEqual(conditions(old), conditions(r)) {
		r.Environment.Notes = append(slices.Clip(r.Environment.Notes),
			fmt.Sprintf("what was measured on %s was of other builds or under other conditions, and is left out", old.Date.UTC().Format(time.DateTime)))
		return r
	}
	found := map[string][]report.Result{}
	for _, x := range r.Results {
		found[of(x)] = append(found[of(x)], x)
	}
	measured := slices.Sorted(maps.Keys(found))
	var all []report.Result
	older := map[string]bool{}
	for _, x := range old.Results {
		if !slices.Contains(measured, of(x)) {
			all = append(all, x)
			older[of(x)] = true
			continue
		}
		all = append(all, found[of(x)]...)
		delete(found, of(x))
	}
	for _, x := range r.Results {
		if found[of(x)] != nil {
			all = append(all, x)
		}
	}
	if len(older) == 0 {
		return r
	}
	r.Results, r.Rounds = all, min(r.Rounds, old.Rounds)
	notes := slices.Clip(r.Environment.Notes)
	for _, note := range old.Environment.Notes {
		if name, _, ok := strings.Cut(note, ", "); ok && older[name] {
			notes = append(notes, note)
		}
	}
	r.Environment.Notes = append(notes, fmt.Sprintf("%d of them are of %s, and %s of this run", len(older), old.Date.UTC().Format(time.DateTime), strings.Join(measured, ", ")))
	return r
}

// pending is a measurement that waits for the noise of all others of its kind.
type pending struct {
	Gate
	part, model, what string // part: of the report; empty: the verifier's
	Measurement
}

// judgePooled judges measurements, samples by the scatter that those of all models share of the same quantity in the same case.
func (v *verifier) judgePooled(list []pending) {
	type kind struct{ quantity, what, build string }
	kindOf := func(p pending) kind { return kind{p.Quantity, p.what, p.Build} }
	groups, same := map[kind][][]float64{}, map[kind][]float64{}
	for _, p := range list {
		if k := kindOf(p); len(p.Samples) > 0 {
			groups[k], same[k] = append(groups[k], p.Samples), append(same[k], p.Same...)
		}
	}
	for _, p := range list {
		if p.part != "" {
			v.part = p.part
		}
		if k := kindOf(p); len(p.Samples) > 0 {
			scatter := statistics.PoolWith(same[k], groups[k]...)
			p.Scatter = &scatter
		}
		v.judge(p.Gate, p.model, p.what, p.Measurement)
	}
}

// weightSpeeds measures one model and returns what it found.
func (v *verifier) weightSpeeds(ctx context.Context, s *progress.Step, session *throughput.Session, m Weights) (found []pending, err error) {
	written := false
	prepare := func(ctx context.Context) error {
		if written {
			return nil
		}
		written = true
		return m.Write(ctx, s)
	}
	if !m.Kept {
		defer func() {
			if written {
				if rerr := os.Remove(m.Path); !errors.Is(rerr, fs.ErrNotExist) {
					err = errors.Join(err, rerr)
				}
			}
		}()
	}
	tuned := v.tuned
	if m.Code != "" {
		tuned = v.with(m.Code)
	}
	setup := throughput.Setup{Stock: v.stock, Tuned: tuned, Model: m.Path, Threads: v.Threads, Pace: v.pace}
	if v.pace == 0 {
		v.pace, err = journal.Do(ctx, v.journal, "pace", func(ctx context.Context) (float64, error) {
			if err := prepare(ctx); err != nil {
				return 0, err
			}
			return setup.MeasurePace(ctx)
		})
		if err != nil {
			return nil, err
		}
		setup.Pace = v.pace
	}
	tests := []throughput.Test{setup.Brief()}
	if !m.Experts {
		beside := throughput.Test{Name: "decode beside the read loop", Subjects: []throughput.Subject{v.besideRead("tuned", tuned, m.Path)}}
		tests = append(tests, beside, setup.Batches())
	}
	if m.Code != "" {
		tests = append(tests, throughput.Test{Name: "memory", Fixed: true,
			Subjects: []throughput.Subject{v.loads("stock", v.stock, m.Path, "none"), v.loads("tuned", tuned, m.Path, "auto")}})
	}
	for i := range tests {
		tests[i].Prepare = prepare
	}
	all, err := session.Run(ctx, tests)
	if err != nil {
		return nil, err
	}
	for _, series := range all {
		v.said(Model{Name: m.Name}, series)
	}

	add := func(g Gate, what string, x Measurement) {
		found = append(found, pending{Gate: g, model: m.Name, what: what, Measurement: x})
	}
	goal := func(g Gate, what string) {
		if g.Side != "" {
			add(Gate{Quantity: report.Goal, Unit: g.Unit}, what, Measurement{Value: g.Limit})
		}
	}
	add(Gate{Quantity: report.Bits}, "weights", Measurement{Value: m.Bits})
	said := m.Name + ":"
	for _, c := range tests[0].Cases {
		own, err := all[0].Compare("stock", "tuned", c.Name)
		if err != nil {
			return nil, err
		}
		g := m.decodeGoal()
		if c.Prompt > 0 {
			g = m.promptGoal()
		}
		if g.Limit > notSlower.Limit {
			goal(g, c.Name)
		}
		g, note := v.speedGate(g)
		add(tokensPerSecond, c.Name, Measurement{Samples: own.Base, Build: "stock"})
		add(tokensPerSecond, c.Name, Measurement{Samples: own.Other, Build: "tuned"})
		add(g, c.Name, Measurement{Samples: own.Ratios, Same: own.Same, Note: note})
		said += fmt.Sprintf(" %s %.2f times stock,", c.Name, statistics.Median(own.Ratios))
	}
	if !m.Experts {
		g := weightOfRead
		if m.Grid || m.Code != "" {
			g = g.only()
		}
		goal(g, "decode")
		share := all[1].Values("tuned", readPercent)
		add(g, "decode", Measurement{Samples: share, Build: "tuned", Ungated: g.ungated(v.vendor)})
		said += fmt.Sprintf(" %.1f %% of the read loop,", statistics.Median(share))
		one := all[2].Values("tuned", tests[2].Cases[0].Name)
		for i, c := range tests[2].Cases[1:] {
			gains := all[2].Values("tuned", c.Name)
			add(tokensPerSecond, c.Name, Measurement{Samples: slices.Clone(gains), Build: "tuned"})
			for n := range gains {
				gains[n] /= one[n]
			}
			g := batchGains[i]
			if m.Code != "" {
				g = g.only()
			}
			goal(g, c.Name)
			add(g, c.Name, Measurement{Samples: gains, Ungated: g.ungated(v.vendor)})
			said += fmt.Sprintf(" %s %.2f times one,", c.Name, statistics.Median(gains))
		}
		add(tokensPerSecond, tests[2].Cases[0].Name, Measurement{Samples: one, Build: "tuned"})
	}
	if goals, ok := floatGoals[m.Type]; ok && m.Code != "" {
		plain, coded := all[1].Values("tuned", weightBytes)[0], all[1].Values("tuned", codedBytes)[0]
		bits := m.Bits * coded / plain
		add(goals.bits, "decode", Measurement{Value: bits, Build: "tuned"})
		memory, err := all[3].Compare("stock", "tuned", loadBytes)
		if err != nil {
			return nil, err
		}
		add(residentMiB, "memory", Measurement{Samples: mebibytes(memory.Base), Build: "stock"})
		add(residentMiB, "memory", Measurement{Samples: mebibytes(memory.Other), Build: "tuned"})
		add(goals.memory(m.Bits), "memory", Measurement{Value: statistics.Median(memory.Ratios)})
		said += fmt.Sprintf(" %.2f bits a weight, %.2f times the memory,", bits, statistics.Median(memory.Ratios))
	}
	s.Did("%s", strings.TrimSuffix(said, ","))
	return found, nil
}
