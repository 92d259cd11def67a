package soak

import (
	"fmt"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// bound is what a quantity may be at most, and why.
type bound struct {
	quantity, unit string
	limit          float64
	why            string
}

// The bounds of a soak.
var (
	wrongAnswers = bound{"wrong answers", "", 0,
		"within these lengths every operator gives the same bits in any batch, so a question has one right answer"}
	nearTie = bound{"lead where an answer leaves the transcript", "nats", 1,
		"where attention takes other paths stock's own logits differ by up to 0.7 on this model, and its best token turned where it led by up to 0.33"}
	failedRequests = bound{"failed requests", "", 0, "every request is one that the server can answer"}
	deaths         = bound{"ended processes", "", 0, "a server ends when asked to, with exit status 0, and not before"}
	hangs          = bound{"hangs", "", 0, "what takes longer than the patience of a run, which is many times what it should take, will not come"}
	logErrors      = bound{"errors in the log", "", 0, "nothing is asked of the server that it should report"}

	perRequest = bound{"growth per request", "KiB", 4,
		"the malloc of the C library keeps some pages more while the largest batches are still new to it; fails where even the interval's low end is above"}
	perReload = bound{"growth per reload", "MiB", 1,
		"and 1/256 of what a loaded server held at first: llama.cpp itself keeps up to 0.1 MiB of a tiny model's vocabulary; fails where even the interval's low end is above"}
	hugePerReload = bound{"huge pages kept per reload", "MiB", 0.5,
		"packed weights are freed with their model; half a page is never, since pages are whole; fails where even the interval's low end is above"}
	filesPerReload   = bound{"open files per reload", "", 0.25, "a leak is whole ones; fails where even the interval's low end is above"}
	threadsPerReload = bound{"threads per reload", "", 0.25, "a leak is whole ones; fails where even the interval's low end is above"}
	poolPages        = bound{"huge pages lost", "", 0, "when a process has ended, the pool's pages are free or another process's"}

	drift = bound{"slower at the end", "x", 3,
		"a neighbour on a shared host takes half of a CPU or more, and comes and goes; fails where even the interval's low end is above"}
)

// minThird is the number of cycles in a third of a run from which on drift is judged.
const minThird = 3

// judge holds value to b; of a value with an interval, its low end: what grows by chance does not fail.
func (b bound) judge(o Options, what string, value float64, interval *statistics.Interval) report.Result {
	r := report.Result{
		Part: "soak", Model: o.Name, Build: o.Build.Name, Case: what, Quantity: b.quantity, Unit: b.unit, Value: value, Interval: interval,
		Bound: &report.Bound{Side: report.AtMost, Limit: b.limit, Why: b.why}, Verdict: report.Pass,
	}
	if interval != nil {
		value = interval.Low
	}
	if !(value <= b.limit) {
		r.Verdict = report.Fail
	}
	return r
}

// verdict is what the run found, in the order of the table. broken says that the run did not come to its planned end.
func (s *soaker) verdict(broken bool) []report.Result {
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	var results []report.Result
	count := func(g bound, what string, n int, note string, args ...any) {
		r := g.judge(s.Options, what, float64(n), nil)
		r.Note = fmt.Sprintf(note, args...)
		results = append(results, r)
	}
	// grows judges a slope.
	grows := func(g bound, what string, groups [][]statistics.Point, note string, args ...any) {
		slope, interval, ok := statistics.Slope(groups...)
		pairs := 0
		for _, group := range groups {
			pairs += len(group) * (len(group) - 1) / 2
		}
		if !ok || pairs < 3 {
			r := g.judge(s.Options, what, 0, nil)
			r.Note = "unknown: too few quiet moments; give the run longer"
			r.Verdict = report.Fail
			if broken {
				r.Verdict, r.Bound, r.Note = report.Info, nil, "unknown: the run ended too early"
			}
			results = append(results, r)
			return
		}
		r := g.judge(s.Options, what, slope, &interval)
		r.Note = fmt.Sprintf(note, args...)
		results = append(results, r)
	}

	if s.Exact {
		count(wrongAnswers, "answers", b.wrong, "of %d compared", b.exact)
	}
	if b.near > 0 {
		r := nearTie.judge(s.Options, "answers", b.widest, nil)
		r.Note = fmt.Sprintf("of %d compared, %d of them the same", b.near, b.same)
		results = append(results, r)
	}
	count(failedRequests, "requests", b.faults[failed], "of %d; %d answered, %d cancelled", b.requests, b.answered, b.cancelled)
	count(deaths, "server", b.faults[ended], "of %d", s.lives)
	count(hangs, "server", b.faults[hung], "")
	count(logErrors, "server", s.errors, "")

	const kib, mib = 1 << 10, 1 << 20
	unloaded := func(value func(Sample) float64) [][]statistics.Point {
		return s.series(func(x Sample) (group [2]int, use bool) {
			return [2]int{x.Life}, x.Unloaded && x.Reloads > 0 // the first one still lacks what is made on first use
		}, func(x Sample) float64 { return float64(x.Reloads) }, value)
	}
	grows(perRequest, "memory", s.series(func(x Sample) (group [2]int, use bool) {
		return [2]int{x.Life, x.Reloads}, !x.Unloaded
	}, func(x Sample) float64 { return float64(x.Requests) }, func(x Sample) float64 { return float64(x.Held()) / kib }),
		"between reloads; %d requests", b.requests)
	kept := perReload
	kept.limit += float64(b.base) / 256 / mib
	grows(kept, "memory", unloaded(func(x Sample) float64 { return float64(x.Held()) / mib }), "after the model was unloaded; %d times", s.reloads)
	grows(hugePerReload, "memory", unloaded(func(x Sample) float64 { return float64(x.Huge()) / mib }), "after the model was unloaded; it had been in %s", s.pages())
	r := bound{"growth at most", "MiB", float64(runaway(b.base)) / mib, "1 GiB and a quarter of what the server held at first, which was at most as much; beyond it is ended"}.
		judge(s.Options, "memory", float64(b.peak)/mib, nil)
	if b.faults[grew] > 0 {
		r.Verdict = report.Fail // also where the machine had no more to give
	}
	results = append(results, r)
	count(poolPages, "memory", s.missing, "%s", s.counted())
	grows(filesPerReload, "server", unloaded(func(x Sample) float64 { return float64(x.Files) }), "")
	grows(threadsPerReload, "server", unloaded(func(x Sample) float64 { return float64(x.Memory.Threads) }), "")

	if n := len(s.latency) / 3; n > 0 {
		first, last := s.latency[:n], s.latency[len(s.latency)-n:]
		a, z := statistics.Bootstrap(first), statistics.Bootstrap(last)
		ratio := statistics.Median(last) / statistics.Median(first)
		r := drift.judge(s.Options, "latency", ratio, &statistics.Interval{Low: z.Low / a.High, High: z.High / a.Low})
		r.Note = fmt.Sprintf("medians of %d cycles each: %.2f and %.2f ms a token", n, statistics.Median(first), statistics.Median(last))
		if n < minThird {
			r.Bound, r.Verdict, r.Ungated = nil, report.Info, "too few cycles to tell drift from a neighbour"
		}
		results = append(results, r)
	}
	return results
}

// counted is what the pools had before and after.
func (s *soaker) counted() string {
	if len(s.before) == 0 {
		return "the pools are empty"
	}
	var said []string
	for _, p := range s.before {
		text := fmt.Sprintf("%d of %d pages of %d MiB free before", p.Free, p.Pages, p.KiB>>10)
		for _, q := range s.after {
			if q.KiB == p.KiB {
				text += fmt.Sprintf(", %d of %d after", q.Free, q.Pages)
			}
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}

// series sorts the samples that are used into groups of points.
func (s *soaker) series(group func(Sample) ([2]int, bool), x, y func(Sample) float64) [][]statistics.Point {
	var groups [][]statistics.Point
	at := map[[2]int]int{}
	for _, sample := range s.samples {
		key, use := group(sample)
		if !use {
			continue
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], statistics.Point{X: x(sample), Y: y(sample)})
	}
	return groups
}

// pages says what the loaded models were in.
func (s *soaker) pages() string {
	var pool, transparent int64
	for _, x := range s.samples {
		pool, transparent = max(pool, x.HugeTLB), max(transparent, x.AnonHuge)
	}
	switch {
	case pool > 0:
		return "pages of the pool"
	case transparent > 0:
		return "transparent huge pages"
	}
	return "4 KiB pages"
}

// failure is the error for a report with failed checks: one line that names each of them, and the first of what was seen.
func failure(r Report) error {
	var names []string
	for _, x := range r.Results {
		if x.Verdict != report.Fail {
			continue
		}
		name := fmt.Sprintf("%s %s", x.Case, x.Quantity)
		switch {
		case strings.HasPrefix(x.Note, "unknown"):
			name += " " + x.Note
		case x.Interval != nil:
			name += fmt.Sprintf(" %s %s (at least %s), limit %s", report.Number(x.Value), x.Unit, report.Number(x.Interval.Low), report.Number(x.Bound.Limit))
		default:
			name += fmt.Sprintf(" %s %s, limit %s", report.Number(x.Value), x.Unit, report.Number(x.Bound.Limit))
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d checks of the soak fail: %s", len(names), strings.Join(names, "; "))
	if len(r.Faults) > 0 {
		text += "; first seen: " + r.Faults[0]
	}
	return fmt.Errorf("%s", text)
}
