// Package gate holds a tuned build of llama.cpp against a stock one and decides whether it may be called as accurate and how
// much faster it is. What it promises is listed in bounds.go.
package gate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Gate is one promise: a quantity and the bound it keeps. A Gate without a Side is measured and reported only.
type Gate struct {
	Quantity string
	Unit     string
	Side     report.Side
	Limit    float64
	Why      string // why Limit is where it is
}

// Measurement is what a Gate judges: one value, or several samples whose median counts.
type Measurement struct {
	Value   float64
	Samples []float64
	Same    []float64           // of samples that are ratios: ratios of two runs of one build, taken beside them
	Scatter *statistics.Scatter // of samples like these and Same, where it is known better than from them alone; else nil
	Build   string              // whose it is; empty for what compares builds
	Ungated string              // why the bound, which is reported all the same, does not count here; empty where it does
	Note    string
}

// Judge measures m, taken on model in case what, against g. Of several samples not the median must keep the bound but the end
// of their 95 % interval that is nearer to it, so that luck does not pass: of builds that just miss a bound one in forty
// keeps it, however few samples there are (statistics.Ratio). A value that is not a number fails.
func (g Gate) Judge(model, what string, m Measurement) report.Result {
	r := report.Result{Model: model, Build: m.Build, Case: what, Quantity: g.Quantity, Unit: g.Unit, Value: m.Value, Verdict: report.Info, Ungated: m.Ungated, Note: m.Note}
	low, high := m.Value, m.Value
	if len(m.Samples) > 0 {
		interval := statistics.Bootstrap(m.Samples)
		if m.Scatter != nil {
			interval = m.Scatter.Ratio(m.Samples)
		} else if slices.Min(m.Samples) > 0 {
			interval = statistics.Ratio(m.Samples, m.Same)
		}
		r.Value, r.Samples, r.Interval = statistics.Median(m.Samples), m.Samples, &interval
		low, high = interval.Low, interval.High
		if len(m.Samples) > 1 {
			r.Note = join(fmt.Sprintf("spread %.1f %%", 100*statistics.Spread(m.Samples)), m.Note)
		}
	}
	if g.Side == "" {
		return r
	}
	r.Bound = &report.Bound{Side: g.Side, Limit: g.Limit, Why: g.Why}
	if m.Ungated != "" {
		return r
	}
	r.Verdict = report.Fail
	if g.Side == report.AtLeast && low >= g.Limit || g.Side == report.AtMost && high <= g.Limit {
		r.Verdict = report.Pass
	}
	return r
}

// times is g with its limit counted in own, which is what stock differs from itself.
func (g Gate) times(own float64) Gate {
	g.Limit *= own
	return g
}

// only is g without its bound: reported, not gated.
func (g Gate) only() Gate { return Gate{Quantity: g.Quantity, Unit: g.Unit} }

// finite says which result is not a number that JSON and people can read.
func finite(results []report.Result) error {
	for _, r := range results {
		if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
			return fmt.Errorf("%s came out as %v", r.Name(), r.Value)
		}
	}
	return nil
}

// failure is the error for a report with failed gates: one line that names each of them.
func failure(r report.Report) error {
	failed := r.Failed()
	if len(failed) == 0 {
		return nil
	}
	var names []string
	for _, x := range failed {
		value := x.Value
		if x.Interval != nil && x.Bound.Side == report.AtLeast {
			value = x.Interval.Low
		} else if x.Interval != nil {
			value = x.Interval.High
		}
		names = append(names, fmt.Sprintf("%s is %s, not %s %s", x.Name(), report.Number(value), x.Bound.Side, report.Number(x.Bound.Limit)))
	}
	return fmt.Errorf("%d gates fail: %s", len(failed), strings.Join(names, "; "))
}

func join(notes ...string) string {
	var said []string
	for _, n := range notes {
		if n != "" {
			said = append(said, n)
		}
	}
	return strings.Join(said, ", ")
}
