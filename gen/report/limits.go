package report

import (
	"cmp"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strconv"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/plot"
)

// limitCase is the Case of a Limit: what was measured, and on how many threads.
var limitCase = regexp.MustCompile(`^(.+), (\d+) threads?$`)

// numbers are what instructions multiply.
var numbers = map[string]string{"VPDPBUSD": "int8", "VFMADD231PS": "f32", "VDPBF16PS": "bf16"}

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

// spot is a workload on the roofline.
type spot struct {
	Number      int
	Model, Case string
	Intensity   float64 // op/B
	Roof        float64 // what the machine allows at that intensity, GOP/s
	Reached     []reach // by roofline.Builds
}

// reach is what a build reached of a roof.
type reach struct {
	Rate    float64 // GOP/s; 0 where it was not measured
	Percent float64 // of the roof
}

// roofline is the plot of what was reached beside what can be.
type roofline struct {
	figure
	Builds    []string
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
		best := Number(l.best()) + " " + unit
		short := best
		if name := numbers[l.what]; name != "" {
			short = name + " " + Number(l.best())
		}
		roofs = append(roofs, plot.Roof{Label: l.what + ": " + best, Short: short, Rate: l.best(), Memory: l.memory})
	}
	if bandwidth == 0 || len(roofs) == 0 || !slices.ContainsFunc(roofs, func(r plot.Roof) bool { return !r.Memory }) {
		return nil
	}
	plotted := plot.Roofline{Roofs: roofs}
	desc := ""
	for _, r := range roofs {
		desc += r.Label + "; "
	}
	view := &roofline{Threads: most}
	reached := p.ofBuilds(func(x Result) bool { return x.Quantity == WeightArithmetic && x.Value > 0 })
	if reached == nil {
		reached = &pivot{}
	}
	view.Builds = reached.Builds
	for _, i := range p.Results {
		at := slices.IndexFunc(reached.Rows, func(r pivotRow) bool { return r.Model == i.Model && r.Case == i.Case })
		if i.Quantity != Intensity || i.Value <= 0 || at < 0 {
			continue
		}
		s := spot{Number: len(view.Spots) + 1, Model: i.Model, Case: i.Case, Intensity: i.Value, Roof: bandwidth * i.Value}
		if integer > 0 {
			s.Roof = min(s.Roof, integer)
		}
		for _, x := range reached.Rows[at].Cells {
			if x == nil {
				s.Reached = append(s.Reached, reach{})
				continue
			}
			r := reach{x.Value, 100 * x.Value / s.Roof}
			s.Reached = append(s.Reached, r)
			tip := fmt.Sprintf("%s %s, %s: %s GOP/s at %s op/B, %s %% of what the machine allows", x.Model, x.Case, x.Build, fixed(r.Rate), fixed(s.Intensity), fixed(r.Percent))
			desc += tip + "; "
			plotted.Spots = append(plotted.Spots, plot.Spot{Number: s.Number, Tip: tip, Class: class(x.Build), Left: x.Build == Stock, Intensity: s.Intensity, Rate: r.Rate})
		}
		view.Spots = append(view.Spots, s)
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
