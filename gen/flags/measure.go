package flags

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Default is what the build that choices are held against is called.
const Default = "default"

// Model is what is run.
type Model struct{ Name, Path string }

// Options says what Measure does.
type Options struct {
	Base    build.Build // the tuned build, with zt-probe
	Choices []Choice
	Models  []Model
	Threads int // of every program
	Rounds  int // turns of each choice on each model

	Date        time.Time
	Environment report.Environment
}

// Measure builds each choice and compares it with the default build, on each model: a prompt and a generation, A B, B A. A choice that
// cannot be built is a note in the report. The caller holds the workspace's lock.
func Measure(ctx context.Context, w workspace.Workspace, log *progress.Log, o Options) (report.Report, error) {
	r := report.Report{Version: report.Version, Date: o.Date, Environment: o.Environment, Threads: o.Threads, Rounds: o.Rounds}
	b := builder{w: w, log: log, base: o.Base, threads: o.Threads}
	for _, m := range o.Models {
		b.train = append(b.train, m.Path)
	}
	standard := program.Build{Name: Default, Bin: o.Base.Bin}
	if err := standard.Check(measured); err != nil {
		return r, err
	}
	builds := []program.Build{standard}
	for _, c := range o.Choices {
		built, err := b.build(ctx, c)
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if err != nil {
			r.Environment.Notes = append(r.Environment.Notes, fmt.Sprintf("%s cannot be built: %v", c.Name, err))
			continue
		}
		builds = append(builds, built)
	}
	for _, p := range builds {
		bytes, err := size(p.Bin, measured)
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, report.Result{Part: "flags", Build: p.Name, Quantity: report.Size, Unit: "MiB", Value: float64(bytes) / (1 << 20), Verdict: report.Info})
	}
	err := log.Step(ctx, "flags", func(ctx context.Context, s *progress.Step) error {
		session := throughput.Session{Threads: o.Threads, Least: o.Rounds, Most: o.Rounds, Count: s.Count}
		var tests []throughput.Test
		var of []Model
		for _, m := range o.Models {
			for _, p := range builds[1:] {
				t := throughput.Test{Name: p.Name + ", " + m.Name, Cases: workload}
				for _, b := range []program.Build{standard, p} {
					t.Subjects = append(t.Subjects, subject(b, m.Path, o.Threads))
				}
				tests, of = append(tests, t), append(of, m)
			}
		}
		series, err := session.Run(ctx, tests)
		if err != nil {
			return err
		}
		results, notes, err := compare(tests, series, of)
		r.Results = append(r.Results, results...)
		r.Environment.Notes = append(r.Environment.Notes, notes...)
		s.Did("%d choices on %d models, %d turns each", len(builds)-1, len(o.Models), o.Rounds)
		return err
	})
	return r, err
}

// workload is a prompt and a generation behind it.
var workload = []throughput.Case{{Name: "pp512", Prompt: 512}, {Name: "tg64", Steps: 64, Sequences: 1}}

// turn is a line of `zt-probe chat`; the first line is not one, and has no prompt.
type turn struct {
	Prompt   int     `json:"prompt"`
	PromptNS float64 `json:"prompt_ns"`
	Reply    int     `json:"reply"`
	ReplyNS  float64 `json:"reply_ns"`
}

// subject runs the workload with a build.
func subject(b program.Build, model string, threads int) throughput.Subject {
	prompt, reply := workload[0], workload[1]
	return throughput.Subject{Name: b.Name, Measure: func(ctx context.Context) (map[string]float64, error) {
		lines, err := program.Run[turn](ctx, b, measured, "chat", "-m", model, "-t", strconv.Itoa(threads), "--turns", fmt.Sprintf("%d+%d", prompt.Prompt, reply.Steps))
		if err != nil {
			return nil, err
		}
		t := lines[len(lines)-1]
		if t.Prompt != prompt.Prompt || t.Reply != reply.Steps {
			return nil, fmt.Errorf("%s zt-probe chat timed %d + %d tokens, not %d + %d", b.Name, t.Prompt, t.Reply, prompt.Prompt, reply.Steps)
		}
		return map[string]float64{prompt.Name: 1e9 * float64(t.Prompt) / t.PromptNS, reply.Name: 1e9 * float64(t.Reply) / t.ReplyNS}, nil
	}}
}

// compare makes results of what was found. The scatter of a workload is that of all choices and models together.
func compare(tests []throughput.Test, series []throughput.Series, of []Model) (results []report.Result, notes []string, err error) {
	type pair struct {
		test int
		what throughput.Case
		throughput.Comparison
	}
	var pairs []pair
	ratios, same := map[string][][]float64{}, map[string][]float64{}
	for i, t := range tests {
		for _, c := range t.Cases {
			found, err := series[i].Compare(t.Subjects[0].Name, t.Subjects[1].Name, c.Name)
			if err != nil {
				return nil, nil, err
			}
			pairs = append(pairs, pair{i, c, found})
			ratios[c.Name] = append(ratios[c.Name], found.Ratios)
			same[c.Name] = append(same[c.Name], found.Same...)
		}
		if note := series[i].Note(); note != "" {
			notes = append(notes, t.Name+": "+note)
		}
	}
	for _, p := range pairs {
		t, m := tests[p.test], of[p.test]
		in := statistics.PoolWith(same[p.what.Name], ratios[p.what.Name]...).Ratio(p.Ratios)
		for k, values := range [][]float64{p.Base, p.Other} {
			results = append(results, report.Result{Part: "flags", Model: m.Name, Build: t.Subjects[k].Name, Case: p.what.Name, Quantity: report.Speed, Unit: "t/s",
				Value: statistics.Median(values), Samples: values, Verdict: report.Info, Note: "beside " + t.Subjects[1-k].Name})
		}
		results = append(results, report.Result{Part: "flags", Model: m.Name, Build: t.Subjects[1].Name, Case: p.what.Name, Quantity: report.SpeedOverDefault,
			Value: statistics.Median(p.Ratios), Interval: &in, Samples: p.Ratios, Verdict: report.Info, Note: says(in)})
	}
	return results, notes, nil
}

// says is what an interval of a ratio comes to.
func says(in statistics.Interval) string {
	switch {
	case in.Low > 1:
		return "faster"
	case in.High < 1:
		return "slower"
	}
	return "neutral"
}
