package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/plot"
)

// limitCase is the Case of a Limit: what was measured, and on how many threads.
var limitCase = regexp.MustCompile(`^(.+), (\d+) threads?$`)

// limit is what the machine can do at best.
type limit struct {
	what    string
	threads int
	memory  bool
	rates   []float64
}

// best is the highest measurement: nothing makes a machine faster than it is.
func (l limit) best() float64 { return slices.Max(l.rates) }

// limits are the limits of the report, fewest threads first.
func (r Report) limits() []limit {
	var list []limit
	for _, x := range r.Results {
		m := limitCase.FindStringSubmatch(x.Case)
		if x.Quantity != Limit || m == nil || x.Value <= 0 || x.Unit != "GB/s" && x.Unit != "GOP/s" {
			continue
		}
		threads, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		rates := x.Samples
		if len(rates) == 0 {
			rates = []float64{x.Value}
		}
		list = append(list, limit{m[1], threads, x.Unit == "GB/s", rates})
	}
	slices.SortStableFunc(list, func(a, b limit) int { return cmp.Compare(a.threads, b.threads) })
	return list
}

// spot is a workload of a build on the roofline.
type spot struct {
	Number             int
	Model, Case, Build string
	Intensity          float64 // op/B
	Rate               float64 // GOP/s
	Roof               float64 // what the machine allows at that intensity, GOP/s
	Percent            float64 // of it
}

// roofline is the plot of what was reached beside what can be.
type roofline struct {
	figure
	Spots     []spot
	Bandwidth *figure // by threads
	Threads   int     // of the roofs
}

// Roofline is nil where the limits were not measured.
func (p *page) Roofline() *roofline {
	limits := p.limits()
	most := 0
	for _, l := range limits {
		if l.threads <= p.Threads {
			most = max(most, l.threads)
		}
	}
	var roofs []plot.Roof
	var bandwidth, integer float64
	for _, l := range limits {
		if l.threads != most {
			continue
		}
		unit := "GOP/s"
		if l.memory {
			unit = "GB/s"
			bandwidth = max(bandwidth, l.best())
		} else if l.what == "VPDPBUSD" {
			integer = l.best()
		}
		roofs = append(roofs, plot.Roof{Label: fmt.Sprintf("%s: %s %s", l.what, fixed(l.best()), unit), Rate: l.best(), Memory: l.memory})
	}
	if bandwidth == 0 || len(roofs) == 0 || !slices.ContainsFunc(roofs, func(r plot.Roof) bool { return !r.Memory }) {
		return nil
	}
	view := &roofline{Threads: most}
	for _, i := range p.Results {
		if i.Quantity != Intensity || i.Value <= 0 {
			continue
		}
		number := 1
		if n := len(view.Spots); n > 0 {
			number = view.Spots[n-1].Number + 1
		}
		for _, x := range p.Results {
			if x.Quantity != WeightArithmetic || x.Model != i.Model || x.Case != i.Case || x.Value <= 0 {
				continue
			}
			roof := bandwidth * i.Value
			if integer > 0 {
				roof = math.Min(roof, integer)
			}
			view.Spots = append(view.Spots, spot{number, x.Model, x.Case, x.Build, i.Value, x.Value, roof, 100 * x.Value / roof})
		}
	}
	plotted := plot.Roofline{Roofs: roofs}
	desc := ""
	for _, r := range roofs {
		desc += r.Label + "; "
	}
	for _, s := range view.Spots {
		tip := fmt.Sprintf("%s %s, %s: %s GOP/s at %s op/B, %s %% of what the machine allows", s.Model, s.Case, s.Build, fixed(s.Rate), fixed(s.Intensity), fixed(s.Percent))
		desc += tip + "; "
		plotted.Spots = append(plotted.Spots, plot.Spot{Number: s.Number, Tip: tip, Class: class(s.Build), Left: s.Build == Stock, Intensity: s.Intensity, Rate: s.Rate})
	}
	view.figure = p.figure("Roofline", desc, func(f plot.Figure) template.HTML { plotted.Figure = f; return plotted.Draw() })
	view.Bandwidth = p.bandwidth(limits)
	return view
}

// bandwidth is the plot of read speeds by threads, nil where only one number of threads was measured.
func (p *page) bandwidth(limits []limit) *figure {
	lines := plot.Lines{Zero: true, Height: 240, XAxis: "threads", YAxis: "GB/s"}
	several := false
	desc := ""
	for _, l := range limits {
		if !l.memory {
			continue
		}
		i := slices.IndexFunc(lines.Series, func(s plot.Series) bool { return s.Label == l.what })
		if i < 0 {
			i = len(lines.Series)
			class := []string{"tuned", "stock", "peer"}[i%3]
			lines.Series = append(lines.Series, plot.Series{Label: l.what, Class: class})
		}
		s := &lines.Series[i]
		s.X, s.Y = append(s.X, float64(l.threads)), append(s.Y, l.best())
		s.Low, s.High = append(s.Low, slices.Min(l.rates)), append(s.High, l.best())
		tip := fmt.Sprintf("%s, %d threads: %s GB/s at best, %s at worst", l.what, l.threads, fixed(l.best()), fixed(slices.Min(l.rates)))
		s.Tips = append(s.Tips, tip)
		desc += tip + "; "
		several = several || len(s.X) > 1
	}
	if !several {
		return nil
	}
	f := p.figure("Read bandwidth by threads", desc, func(f plot.Figure) template.HTML { lines.Figure = f; return lines.Draw() })
	return &f
}
