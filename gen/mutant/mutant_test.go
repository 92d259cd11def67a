package mutant

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/generator"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// TestMutantsFit checks every mutant against the sources as they are now, and that no two are the same.
func TestMutantsFit(t *testing.T) {
	src := t.TempDir()
	kernels, err := generator.GNU()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range Mutants {
		text := kernels["gemm"]
		if path.Base(m.File) != "gemm.S" {
			if text, err = os.ReadFile(filepath.Join("..", "..", "templates", m.File)); err != nil {
				t.Fatal(err)
			}
		}
		write(t, src, m.File, string(text))
		broken, err := m.apply(src)
		if err != nil {
			t.Error(err)
		} else if string(broken) == string(text) {
			t.Errorf("%s changes nothing", m.Name)
		}
		if names[m.Name] {
			t.Errorf("two mutants are called %s", m.Name)
		}
		names[m.Name] = true
		if len(m.Fails) == 0 {
			t.Errorf("nothing need notice %s", m.Name)
		}
	}
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// bench is a source, a program made from it, and gates that look at the program.
type bench struct {
	src      string
	program  string // the source when it was compiled
	compiled []string
	asked    int
}

const sound = "one\ntwo\nthree\n"

func newBench(t *testing.T) *bench {
	b := &bench{src: t.TempDir()}
	write(t, b.src, "a.c", sound)
	return b
}

func (b *bench) compile(_ context.Context, _ *progress.Step, programs []string) error {
	text, err := os.ReadFile(filepath.Join(b.src, "a.c"))
	b.program, b.compiled = string(text), append(b.compiled, strings.Join(programs, "+"))
	if strings.Contains(b.program, "no C") {
		return errors.New("a.c: syntax error")
	}
	return err
}

// gates counts the lines that are not as they should be, each in a result of its own.
func (b *bench) gates() map[string]Gate {
	return map[string]Gate{"lines": {Programs: []string{"cat", "wc"}, Run: func(ctx context.Context) ([]report.Result, error) {
		b.asked++
		if strings.Contains(b.program, "hang") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if strings.Contains(b.program, "crash") {
			return nil, errors.New("cat: killed")
		}
		var results []report.Result
		have := strings.Split(b.program, "\n")
		for i, line := range strings.Split(sound, "\n") {
			r := report.Result{Case: "line " + line, Quantity: "faults", Verdict: report.Pass}
			if have[i] != line {
				r.Value, r.Verdict = 1, report.Fail
			}
			results = append(results, r)
		}
		return results, nil
	}}}
}

func (b *bench) run(t *testing.T, mutants ...Mutant) ([]Outcome, error) {
	t.Helper()
	outcomes, err := Run(t.Context(), progress.To(io.Discard), b.src, b.compile, b.gates(), mutants)
	if text, readErr := os.ReadFile(filepath.Join(b.src, "a.c")); readErr != nil || !strings.HasPrefix(string(text), "one\ntwo\n") {
		t.Errorf("the source is left as %q, %v", text, readErr)
	}
	return outcomes, err
}

func TestRun(t *testing.T) {
	mutant := func(old, new string, fails, holds []string) Mutant {
		return Mutant{Name: old + " to " + new, File: "a.c", Old: old, New: new, Gate: "lines", Fails: fails, Holds: holds}
	}
	b := newBench(t)
	outcomes, err := b.run(t,
		mutant("two", "2", []string{"line two faults"}, []string{"line one faults"}),
		mutant("three", "3", []string{"line three"}, nil),
		mutant("three", "3", []string{"line one"}, nil),
		mutant("two", "2", []string{"line two"}, []string{"two"}),
		mutant("two", "2", []string{"line two"}, []string{"four"}),
		mutant("three\n", "three\n\n", []string{"faults"}, nil), // nothing that the gate looks at
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range outcomes {
		got = append(got, o.Why)
	}
	want := []string{"line two faults is 1", "line three faults is 1", "line one holds", "two fails and should not", "four was not measured", "faults holds"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, o := range outcomes {
		if o.Caught != (i < 2) {
			t.Errorf("%d: caught is %v", i, o.Caught)
		}
	}
	if b.asked != 1+len(outcomes) || len(b.compiled) != b.asked || b.compiled[0] != "cat+wc" {
		t.Errorf("the gate was asked %d times, compiled was %q; want once without a mutant and once for each", b.asked, b.compiled)
	}
	var table strings.Builder
	if err := Table(&table, outcomes); err != nil || strings.Count(table.String(), "SURVIVED") != 4 || strings.Count(table.String(), "caught") != 2 {
		t.Errorf("%v, table:\n%s", err, table.String())
	}
	err = Survivors(outcomes)
	if err == nil || !strings.HasPrefix(err.Error(), "4 of 6 mutants survive their gate: three to 3 (lines: line one holds); ") {
		t.Errorf("%v", err)
	}
	if err := Survivors(outcomes[:2]); err != nil {
		t.Error(err)
	}
}

// TestRunEndsAGateThatHangs breaks the program so that the gate waits for it for ever.
func TestRunEndsAGateThatHangs(t *testing.T) {
	limit := leastLimit
	leastLimit = 50 * time.Millisecond
	t.Cleanup(func() { leastLimit = limit })
	b := newBench(t)
	hangs := Mutant{Name: "m", File: "a.c", Old: "two", New: "two\nhang", Gate: "lines", Fails: []string{"line two"}}
	outcomes, err := b.run(t, hangs)
	if err != nil || len(outcomes) != 1 || !outcomes[0].Caught || outcomes[0].Why != "the gate had not ended after 0s" {
		t.Errorf("%v, %v; want one that is caught", outcomes, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	leastLimit = time.Hour
	if outcomes, err := Run(ctx, progress.To(io.Discard), b.src, b.compile, b.gates(), []Mutant{hangs}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v; want the end of the run's own context", outcomes, err)
	}
}

// TestRunErrors gives Run what it cannot judge by: nothing of that may count as caught.
func TestRunErrors(t *testing.T) {
	fits := Mutant{Name: "m", File: "a.c", Old: "two", New: "2", Gate: "lines", Fails: []string{"line two"}}
	for _, c := range []struct {
		name   string
		change func(*Mutant)
		source string
		want   string
	}{
		{"stale", func(m *Mutant) { m.Old = "zwei" }, sound, `mutant "m" is stale: what it replaces stands 0 times in a.c`},
		{"not unique", func(m *Mutant) { m.Old = "t" }, sound, "stands 2 times in a.c"},
		{"no such file", func(m *Mutant) { m.File = "b.c" }, sound, "b.c"},
		{"no such gate", func(m *Mutant) { m.Gate = "letters" }, sound, `the gate "letters", which is not there`},
		{"not C", func(m *Mutant) { m.New = "no C" }, sound, `mutant "m": compile: a.c: syntax error`},
		{"crash", func(m *Mutant) { m.New = "crash" }, sound, `mutant "m": cat: killed`},
		{"unsound", func(*Mutant) {}, "one\ntwo\n3\n", "the gate lines fails without a mutant, and so proves nothing: line three faults is 1"},
	} {
		b := newBench(t)
		write(t, b.src, "a.c", c.source)
		m := fits
		c.change(&m)
		outcomes, err := b.run(t, m)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(outcomes) > 0 {
			t.Errorf("%s: %v, %v; want an error with %q", c.name, outcomes, err, c.want)
		}
	}
}
