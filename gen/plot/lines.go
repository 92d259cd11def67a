package plot

import (
	"cmp"
	"html/template"
	"math"
	"slices"
)

// Series is one line of a Lines plot.
type Series struct {
	Label  string
	Class  string // colour
	Dashed bool
	X, Y   []float64 // as many of each, X ascending
	Low    []float64 // intervals around Y, empty for none
	High   []float64
	Tips   []string // of each point, shown on hover
}

// Lines draws series over a common axis, each named at its end.
type Lines struct {
	Figure
	Series []Series
	Height int
	Zero   bool     // the vertical axis begins at 0
	XAxis  string   // what the horizontal axis shows
	YAxis  string   // unit of the vertical axis
	XText  []string // texts at the first and last X instead of numbers, or none
	Limit  float64  // a line that values are held to; 0 for none
}

// Draw returns the plot.
func (p Lines) Draw() template.HTML {
	const pad, gutter = 8.0, 46.0
	footer := 22.0
	if p.XAxis != "" {
		footer += 16
	}
	var xs, ys []float64
	names := 0.0
	for _, s := range p.Series {
		xs, ys = append(xs, s.X...), append(append(append(ys, s.Y...), s.Low...), s.High...)
		names = max(names, width(s.Label))
	}
	if p.Limit != 0 {
		ys = append(ys, p.Limit)
	}
	sx, sy := Scale{slices.Min(xs), slices.Max(xs), false}, around(ys, false)
	if p.Zero {
		sy.Low = 0
	}
	height := float64(p.Height)
	top, bottom := pad+textSize+2, height-footer
	left, right := gutter+pad, float64(p.Width)-pad-6
	if names > 0 {
		right -= names + 6
	}
	x := func(v float64) float64 { return left + sx.at(v)*(right-left) }
	y := func(v float64) float64 { return bottom - sy.at(v)*(bottom-top) }

	var c canvas
	c.text(pad-4, pad+6, "start", "axis", p.YAxis)
	for _, t := range sy.ticks(int((bottom - top) / 26)) {
		c.line(left, y(t), right, y(t), "grid")
		c.text(left-6, y(t)+4, "end", "tick", tick(t))
	}
	if len(p.XText) == 2 {
		c.text(left, bottom+16, "start", "tick", p.XText[0])
		if sx.High > sx.Low {
			c.text(right, bottom+16, "end", "tick", p.XText[1])
		}
	} else {
		for _, t := range p.wholes(sx, int((right-left)/40)) {
			c.text(x(t), bottom+16, "middle", "tick", tick(t))
		}
	}
	c.text((left+right)/2, bottom+33, "middle", "axis", p.XAxis)
	if p.Limit != 0 {
		c.line(left, y(p.Limit), right, y(p.Limit), "reference")
	}
	ends := make([]float64, len(p.Series))
	order := make([]int, len(p.Series))
	for i, s := range p.Series {
		order[i], ends[i] = i, y(s.Y[len(s.Y)-1])+4
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ends[a], ends[b]) })
	sorted := make([]float64, len(order))
	for i, at := range order {
		sorted[i] = ends[at]
	}
	spread(sorted, textSize+2, top, bottom)
	for i, at := range order {
		s := p.Series[at]
		class := "trend " + s.Class
		if s.Dashed {
			class += " dashed"
		}
		var points []float64
		for j := range s.X {
			points = append(points, x(s.X[j]), y(s.Y[j]))
		}
		c.path(class, false, points...)
		for j := range s.X {
			c.group(s.Tips[j], func() {
				if len(s.Low) > 0 {
					c.line(x(s.X[j]), y(s.Low[j]), x(s.X[j]), y(s.High[j]), "whisker "+s.Class)
				}
				c.dot(x(s.X[j]), y(s.Y[j]), 3.5, "dot "+s.Class)
			})
		}
		c.text(right+10, sorted[i], "start", "note "+s.Class, s.Label)
	}
	return c.svg(p.Figure, height)
}

// wholes are ticks of a scale of counts.
func (p Lines) wholes(s Scale, n int) []float64 {
	var found []float64
	for _, t := range s.ticks(n) {
		if t == math.Trunc(t) {
			found = append(found, t)
		}
	}
	return found
}
