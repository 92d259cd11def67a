package plot

import (
	"html/template"
	"math"
)

// Row is one value of an Intervals plot.
type Row struct {
	Label string // what it is of
	Text  string // the value as printed beside the mark
	Tip   string // shown on hover
	Class string // colour of the mark

	Value     float64
	Low, High float64 // the interval around Value; both 0 for none

	Limit  float64 // what Value must keep
	Side   int     // -1: at most Limit, 1: at least, 0: there is no limit
	Binds  bool    // a limit that does not count here is drawn dashed
	Hollow bool    // a value to compare with, not one that is judged
}

// Intervals draws one line per value: a dot, its interval as whiskers, its limit as a tick that points to the allowed side.
type Intervals struct {
	Figure
	Rows      []Row
	Log       bool    // values that are not above 0 are drawn at the left edge
	Reference float64 // a line through all rows; 0 for none
	Noise     float64 // half-width of the band around Reference in which differences mean nothing; 0 for none
	Floor     float64 // on a logarithmic axis, what is below is drawn at the left edge; 0 for none
	Axis      string  // what the axis shows
}

// Draw returns the plot.
func (p Intervals) Draw() template.HTML {
	const (
		pad     = 8.0
		bar     = 24.0 // height of a row
		footer  = 38.0
		radius  = 4.5
		whisker = 4.0
	)
	beside := p.Width >= narrow
	labels, texts := 0.0, 0.0
	for _, r := range p.Rows {
		labels, texts = max(labels, width(r.Label)), max(texts, width(r.Text))
	}
	left, right, step := pad+4, float64(p.Width)-pad-texts-10, bar
	if beside {
		left += min(labels, 0.4*float64(p.Width)) + 10
	} else {
		step += textSize + 4
	}
	height := pad + step*float64(len(p.Rows)) + footer
	bottom := height - footer
	scale := p.scale()
	x := func(v float64) float64 { return left + scale.at(v)*(right-left) }

	var c canvas
	if p.Noise > 0 {
		low, high := x(p.Reference-p.Noise), x(p.Reference+p.Noise)
		c.rect(low, pad, high-low, bottom-pad, "noise")
	}
	ticks := scale.ticks(int((right - left) / 58))
	for _, t := range ticks {
		c.line(x(t), pad, x(t), bottom, "grid")
		c.text(x(t), bottom+15, "middle", "tick", tick(t))
	}
	if p.Reference != 0 {
		c.line(x(p.Reference), pad, x(p.Reference), bottom, "reference")
	}
	c.text((left+right)/2, bottom+32, "middle", "axis", p.Axis)
	for i, r := range p.Rows {
		top := pad + step*float64(i)
		y := top + step - bar/2
		c.group(r.Tip, func() {
			c.rect(0, top, float64(p.Width), step, "hit")
			if beside {
				c.text(left-12, y+4, "end", "label", fit(r.Label, left-12-pad))
			} else {
				c.text(pad, top+textSize+1, "start", "label", fit(r.Label, float64(p.Width)-2*pad))
			}
			c.text(float64(p.Width)-pad, y+4, "end", "value "+r.Class, r.Text)
			if r.Side != 0 {
				class := "limit"
				if !r.Binds {
					class += " idle"
				}
				at, d := x(r.Limit), 6*float64(r.Side)
				c.line(at, y-9, at, y+9, class)
				c.path(class+" arrow", true, at, y-9, at+d, y-9, at, y-3)
			}
			if r.Low != 0 || r.High != 0 {
				low, high := x(r.Low), x(r.High)
				c.line(low, y, high, y, "whisker "+r.Class)
				c.line(low, y-whisker, low, y+whisker, "whisker "+r.Class)
				c.line(high, y-whisker, high, y+whisker, "whisker "+r.Class)
			}
			class := "dot " + r.Class
			if r.Hollow {
				class += " hollow"
			}
			if at := x(r.Value); p.Log && r.Value < scale.Low { // off the axis: an arrow out of it
				c.path(class, true, at+8, y-5, at-1, y, at+8, y+5)
			} else {
				c.dot(at, y, radius, class)
			}
		})
	}
	return c.svg(p.Figure, height)
}

// scale holds all values, intervals, limits and the reference.
func (p Intervals) scale() Scale {
	var all []float64
	for _, r := range p.Rows {
		all = append(all, r.Value)
		if r.Low != 0 || r.High != 0 {
			all = append(all, r.Low, r.High)
		}
		if r.Side != 0 {
			all = append(all, r.Limit)
		}
	}
	if p.Reference != 0 {
		all = append(all, p.Reference)
	}
	s := around(all, p.Log)
	if p.Log && p.Floor > 0 && p.Floor < s.High {
		s.Low = max(s.Low, p.Floor)
	}
	if !p.Log && s.Low > 0 && s.Low < math.Abs(s.High)/3 {
		s.Low = 0
	}
	return s
}
