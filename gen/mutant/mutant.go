// Package mutant shows that the gates can fail. It breaks a build on purpose, in one way at a time, and expects the gate that is
// there for such a fault to notice. A gate that lets a mutant pass proves nothing about other builds either.
package mutant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Mutant is a fault and what it must lead to.
type Mutant struct {
	Name     string
	File     string   // of a laid-out checkout
	Old, New string   // Old stands in File once, and New takes its place
	Gate     string   // that must notice: a key of the gates given to Run
	Fails    []string // what of the gate's results must fail, each by a part of its name
	Holds    []string // what must not: the fault is too small for it, or of another kind
}

// Gate runs programs of a build that has just been compiled.
type Gate struct {
	Programs []string // that it runs
	Run      func(context.Context) ([]report.Result, error)
}

// Outcome is what a gate said of a mutant.
type Outcome struct {
	Mutant
	Caught bool
	Why    string // what failed as it should, or what did not
}

// Run breaks the checkout src by each of the mutants in turn, has compile bring programs up to date, and asks the mutant's gate. Before that
// every gate must hold without a mutant; with one it gets patience times as long, and a gate that has not ended by then has noticed
// too. The checkout is mended when Run returns, whatever happens. Any error is one of the run, such as a mutant that does not fit the
// sources or does not compile; one that survives is an Outcome.
func Run(ctx context.Context, log *progress.Log, src string, compile func(ctx context.Context, s *progress.Step, programs []string) error,
	gates map[string]Gate, mutants []Mutant) ([]Outcome, error) {
	for _, m := range mutants {
		if _, ok := gates[m.Gate]; !ok {
			return nil, fmt.Errorf("mutant %q is for the gate %q, which is not there", m.Name, m.Gate)
		}
		if _, err := m.apply(src); err != nil {
			return nil, err
		}
	}
	limits := map[string]time.Duration{}
	for _, m := range mutants {
		if _, held := limits[m.Gate]; held {
			continue
		}
		if err := build(ctx, log, "no mutant", gates[m.Gate], compile); err != nil {
			return nil, err
		}
		start := time.Now()
		results, err := gates[m.Gate].Run(ctx)
		if err != nil {
			return nil, err
		}
		limits[m.Gate] = max(leastLimit, patience*time.Since(start))
		if failed := failing(results); len(failed) > 0 {
			return nil, fmt.Errorf("the gate %s fails without a mutant, and so proves nothing: %s", m.Gate, strings.Join(failed, "; "))
		}
	}
	var outcomes []Outcome
	for _, m := range mutants {
		o, err := m.run(ctx, log, src, compile, gates[m.Gate], limits[m.Gate])
		if err != nil {
			return outcomes, fmt.Errorf("mutant %q: %w", m.Name, err)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// A program whose threads wait for each other for ever never fails a check. patience leaves room for a machine that is busier than it
// was without a mutant, and so does leastLimit for a gate of a few seconds.
const patience = 8

var leastLimit = 2 * time.Minute

// run breaks src, asks the gate for no longer than limit, and mends src.
func (m Mutant) run(ctx context.Context, log *progress.Log, src string, compile func(context.Context, *progress.Step, []string) error, gate Gate, limit time.Duration) (o Outcome, err error) {
	broken, err := m.apply(src)
	if err != nil {
		return o, err
	}
	path := filepath.Join(src, m.File)
	whole, err := os.ReadFile(path)
	if err != nil {
		return o, err
	}
	if err := os.WriteFile(path, broken, 0o644); err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, whole, 0o644)) }()
	if err := build(ctx, log, m.Name, gate, compile); err != nil {
		return o, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results, err := gate.Run(limited)
	switch {
	case err == nil:
		return m.judge(results), nil
	case limited.Err() != nil && ctx.Err() == nil:
		return Outcome{Mutant: m, Caught: true, Why: fmt.Sprintf("the gate had not ended after %v", limit.Round(time.Second))}, nil
	}
	return o, err
}

// build compiles a gate's programs.
func build(ctx context.Context, log *progress.Log, name string, gate Gate, compile func(context.Context, *progress.Step, []string) error) error {
	return log.Step(ctx, "compile", func(ctx context.Context, s *progress.Step) error {
		s.Did("%s", name)
		return compile(ctx, s, gate.Programs)
	})
}

// apply returns the mutant's file as it breaks it.
func (m Mutant) apply(src string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(src, m.File))
	if err != nil {
		return nil, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	if n := bytes.Count(text, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("mutant %q is stale: what it replaces stands %d times in %s, not once; bring it up to date in gen/mutant", m.Name, n, m.File)
	}
	return bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), nil
}

// judge holds what a gate found to what the mutant must lead to.
func (m Mutant) judge(results []report.Result) Outcome {
	o := Outcome{Mutant: m, Caught: true}
	failed := failing(results)
	find := func(names []string, part string) int {
		return slices.IndexFunc(names, func(name string) bool { return strings.Contains(name, part) })
	}
	var right, wrong []string
	for _, part := range m.Fails {
		if i := find(failed, part); i >= 0 {
			right = append(right, failed[i])
		} else {
			wrong = append(wrong, part+" holds")
		}
	}
	var all []string
	for _, r := range results {
		all = append(all, r.Name())
	}
	for _, part := range m.Holds {
		if find(failed, part) >= 0 {
			wrong = append(wrong, part+" fails and should not")
		} else if find(all, part) < 0 {
			wrong = append(wrong, part+" was not measured")
		}
	}
	o.Why = strings.Join(right, "; ")
	if len(wrong) > 0 {
		o.Caught, o.Why = false, strings.Join(wrong, "; ")
	}
	return o
}

// failing names the results that fail, with their values.
func failing(results []report.Result) []string {
	var names []string
	for _, r := range (report.Report{Results: results}).Failed() {
		names = append(names, fmt.Sprintf("%s is %s", r.Name(), report.Number(r.Value)))
	}
	return names
}

// Table prints a line for each outcome.
func Table(w io.Writer, outcomes []Outcome) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, o := range outcomes {
		verdict := "caught"
		if !o.Caught {
			verdict = "SURVIVED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", verdict, o.Gate, o.Name, o.Why)
	}
	return t.Flush()
}

// Survivors is an error that names the mutants that were not caught, nil if all were.
func Survivors(outcomes []Outcome) error {
	var names []string
	for _, o := range outcomes {
		if !o.Caught {
			names = append(names, fmt.Sprintf("%s (%s: %s)", o.Name, o.Gate, o.Why))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d mutants survive their gate: %s", len(names), len(outcomes), strings.Join(names, "; "))
}
