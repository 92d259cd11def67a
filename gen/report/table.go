package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table writes r for a terminal: where it was made, the gates that fail, and for each part of the run how many of its gates
// hold, what it compared, and how near the nearest gate of each quantity came to its bound. With all it writes every result.
func (r Report) Table(w io.Writer, all bool) error {
	e := r.Environment
	fmt.Fprintf(w, "%s, %d cores, %d threads used, load average %.1f, Linux %s\n", e.CPU, e.Cores, r.Threads, e.LoadAverage, e.Kernel)
	for _, line := range []struct{ name, value string }{
		{"target", e.Target}, {"compiler", e.Compiler}, {"BLAS", e.BLAS},
		{"huge pages", fmt.Sprintf("transparent: %s, hugetlb: %d of %d free", e.TransparentPages, e.HugePagesFree, e.HugePages)},
	} {
		if line.value != "" {
			fmt.Fprintf(w, "%s: %s\n", line.name, line.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Switches)) {
		fmt.Fprintf(w, "set: %s=%s\n", name, e.Switches[name])
	}
	for _, note := range e.Notes {
		fmt.Fprintln(w, note)
	}

	if err := r.writeFailed(w); err != nil {
		return err
	}
	hidden := 0
	for _, p := range r.parts() {
		fmt.Fprintf(w, "\n%s: %s\n", p.Name, p.Summary())
		shown := p.Results
		if !all {
			shown = p.digest()
			hidden += len(p.Results) - len(shown)
		}
		if err := table(w, shown, all); err != nil {
			return err
		}
	}
	if hidden > 0 {
		fmt.Fprintf(w, "\n%d more results are in the report; ZT_LOG=1 prints them here\n", hidden)
	}
	return r.writeHeld(w)
}

// writeFailed writes the gates that fail, if any does.
func (r Report) writeFailed(w io.Writer) error {
	failed := r.Failed()
	if len(failed) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nFAILED")
	return table(w, failed, true)
}

// writeHeld writes how many gates hold.
func (r Report) writeHeld(w io.Writer) error {
	_, err := fmt.Fprintf(w, "\n%d of %d gates hold\n", r.Gated()-len(r.Failed()), r.Gated())
	return err
}

// table writes one line per result, with its note if notes is set.
func table(w io.Writer, results []Result, notes bool) error {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, x := range results {
		cells := []string{"  " + string(x.Verdict), x.Model, x.Case, x.Quantity, x.Build, x.Measured(), x.Range(), x.Limits()}
		if notes {
			cells = append(cells, join(x.Ungated, x.Note))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// part is the results of one part of a run.
type part struct {
	Name    string
	Results []Result
}

// parts returns the results by part, in the order of their first results.
func (r Report) parts() []part {
	var parts []part
	for _, x := range r.Results {
		name := x.Part
		if name == "" {
			name = "other"
		}
		i := slices.IndexFunc(parts, func(p part) bool { return p.Name == name })
		if i < 0 {
			i = len(parts)
			parts = append(parts, part{Name: name})
		}
		parts[i].Results = append(parts[i].Results, x)
	}
	return parts
}

// Count returns how many results were gated and how many of them failed.
func (p part) Count() (gated, failed int) {
	r := Report{Results: p.Results}
	return r.Gated(), len(r.Failed())
}

// Failed says whether a gate fails.
func (p part) Failed() bool {
	_, failed := p.Count()
	return failed > 0
}

// Verdict is that of all gates of the part together.
func (p part) Verdict() Verdict {
	gated, failed := p.Count()
	switch {
	case failed > 0:
		return Fail
	case gated > 0:
		return Pass
	}
	return Info
}

// Summary says how many gates hold.
func (p part) Summary() string {
	gated, failed := p.Count()
	switch {
	case gated == 0:
		return fmt.Sprintf("%d results, none gated", len(p.Results))
	case failed > 0:
		return fmt.Sprintf("%d of %d gates FAIL", failed, gated)
	case gated == 1:
		return "the gate holds"
	}
	return fmt.Sprintf("all %d gates hold", gated)
}

// digest returns the results a reader wants first, in their order: what compares builds, what the tuned build reached of a
// limit, and of the gates of each model and quantity the one nearest to its bound; of many models, of each quantity.
func (p part) digest() []Result {
	type key struct{ model, quantity string }
	const many = 4
	perModel := len(models(p.Results)) <= many
	nearest := map[key]int{}
	keep := make([]bool, len(p.Results))
	for i, x := range p.Results {
		ratio := x.Unit == "x" && x.Build != Stock
		keep[i] = ratio || x.Unit == "%" && x.Build == Tuned
		if !x.Gated() || ratio {
			continue
		}
		k := key{x.Model, x.Quantity}
		if !perModel {
			k.model = ""
		}
		if j, ok := nearest[k]; !ok || x.used() > p.Results[j].used() {
			nearest[k] = i
		}
	}
	for _, i := range nearest {
		keep[i] = true
	}
	var shown []Result
	for i, x := range p.Results {
		if keep[i] {
			shown = append(shown, x)
		}
	}
	return shown
}

// used returns how much of its bound a gated result used up: above 1 it fails. Bounds of 0 are kept by 0 and else broken.
func (x Result) used() float64 {
	if x.Bound == nil {
		return 0
	}
	end, limit := x.judged(), x.Bound.Limit
	if x.Bound.Side == AtLeast {
		end, limit = limit, end
	}
	switch {
	case limit != 0:
		return end / limit
	case end > 0:
		return 2
	}
	return 0
}

// judged is the value that a bound is held against: the end of the interval nearer to it.
func (x Result) judged() float64 {
	switch {
	case x.Interval == nil || x.Bound == nil:
		return x.Value
	case x.Bound.Side == AtLeast:
		return x.Interval.Low
	}
	return x.Interval.High
}

// Measured prints the value with its unit.
func (x Result) Measured() string { return strings.TrimSuffix(Number(x.Value)+" "+x.Unit, " ") }

// Range prints the interval, "" where there is none.
func (x Result) Range() string {
	if x.Interval == nil {
		return ""
	}
	return Number(x.Interval.Low) + " .. " + Number(x.Interval.High)
}

// Limits prints the bound, "" where there is none.
func (x Result) Limits() string {
	if x.Bound == nil {
		return ""
	}
	return string(x.Bound.Side) + " " + Number(x.Bound.Limit)
}

func join(notes ...string) string {
	return strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
}
