package plot

import (
	"cmp"
	"html/template"
	"math"
	"slices"
	"strconv"
)

// Roof is a limit of a Roofline: of memory in bytes a second, or of arithmetic in operations a second, both in units of 1e9.
type Roof struct {
	Label  string
	Short  string // where Label has no room
	Rate   float64
	Memory bool
}

// Spot is a workload on a Roofline.
type Spot struct {
	Number    int     // what the key below the plot calls it
	Tip       string  // shown on hover
	Class     string  // colour
	Left      bool    // the number goes to the left of the mark
	Intensity float64 // operations per byte read from memory
	Rate      float64 // 1e9 operations a second
}

// Roofline draws performance over arithmetic intensity, both logarithmic: below the sloping roofs memory is the limit, below the
// flat ones arithmetic (Williams, Waterman and Patterson, Roofline: an insightful visual performance model, CACM 52(4), 2009).
type Roofline struct {
	Figure
	Roofs []Roof
	Spots []Spot
}

// Draw returns the plot. There must be a roof of each kind.
func (p Roofline) Draw() template.HTML {
	const (
		pad    = 8.0
		footer = 38.0
		gutter = 44.0 // for the numbers of the vertical axis
	)
	height := 300.0
	roofs := slices.Clone(p.Roofs)
	if p.Width >= narrow {
		height = 380
	} else {
		for i := range roofs {
			roofs[i].Label = roofs[i].Short
		}
	}
	var bandwidth, peak, flat float64
	for _, r := range roofs {
		if r.Memory {
			bandwidth = max(bandwidth, r.Rate)
		} else if peak = max(peak, r.Rate); flat == 0 || r.Rate < flat {
			flat = r.Rate
		}
	}
	// The axes hold every workload and the corner of every pair of roofs.
	xs, ys := []float64{flat / bandwidth / 3, peak / bandwidth * 8}, []float64{flat / 3, peak * 1.4}
	for _, s := range p.Spots {
		xs, ys = append(xs, s.Intensity/1.5, s.Intensity*1.8), append(ys, s.Rate/1.6, s.Rate)
	}
	sx, sy := around(xs, true), around(ys, true)
	left, right, top, bottom := gutter+pad, float64(p.Width)-pad, pad+textSize+6, height-footer
	x := func(v float64) float64 { return left + sx.at(v)*(right-left) }
	y := func(v float64) float64 { return bottom - sy.at(v)*(bottom-top) }

	var c canvas
	for _, t := range sx.ticks(int((right - left) / 58)) {
		c.line(x(t), top, x(t), bottom, "grid")
		c.text(x(t), bottom+15, "middle", "tick", tick(t))
	}
	for _, t := range sy.ticks(int((bottom - top) / 40)) {
		c.line(left, y(t), right, y(t), "grid")
		c.text(left-6, y(t)+4, "end", "tick", tick(t))
	}
	c.text((left+right)/2, bottom+32, "middle", "axis", "operations per byte of weights read")
	c.text(left-6, pad+6, "end", "axis", "GOP/s")

	// A sloping roof ends at the highest flat one; its name runs along it.
	degrees := -math.Atan(math.Log(sx.High/sx.Low)/(right-left)*(bottom-top)/math.Log(sy.High/sy.Low)) * 180 / math.Pi
	memory, arithmetic := split(roofs)
	for i, r := range memory {
		from := max(sx.Low, sy.Low/r.Rate)
		to := min(sx.High, peak/r.Rate)
		c.line(x(from), y(from*r.Rate), x(to), y(to*r.Rate), "roof memory")
		// The names stand above all lines, in their order: below them is where the workloads are.
		at := math.Exp(math.Log(from) + 0.08*(math.Log(to)-math.Log(from)))
		rise := (textSize + 2) * float64(len(memory)-1-i)
		c.slanted(x(at), y(at*bandwidth)-6-rise, degrees, "note", fit(r.Label, 0.8*math.Hypot(x(to)-x(at), y(to*r.Rate)-y(at*r.Rate))))
	}
	names := make([]float64, len(arithmetic))
	for i, r := range arithmetic {
		c.line(x(max(sx.Low, r.Rate/bandwidth)), y(r.Rate), right, y(r.Rate), "roof")
		names[i] = y(r.Rate) - 5
	}
	spread(names, textSize+2, top, bottom-4)
	for i, r := range arithmetic {
		// Beside the corner, if there is room: workloads that computing limits are far to the right of it.
		if corner := x(r.Rate/memory[len(memory)-1].Rate) + 12; corner+width(r.Label) < right {
			c.text(corner, names[i], "start", "note", r.Label)
		} else {
			c.text(right-2, names[i], "end", "note", fit(r.Label, right-left-10))
		}
	}

	// Numbers beside the marks, moved apart where marks are close.
	for _, side := range []bool{true, false} {
		var group []Spot
		for _, s := range p.Spots {
			if s.Left == side {
				group = append(group, s)
			}
		}
		slices.SortStableFunc(group, func(a, b Spot) int { return cmp.Compare(b.Rate, a.Rate) })
		for len(group) > 0 { // marks that share a column
			var column, rest []Spot
			for _, s := range group {
				if math.Abs(x(s.Intensity)-x(group[0].Intensity)) < 14 {
					column = append(column, s)
				} else {
					rest = append(rest, s)
				}
			}
			at := make([]float64, len(column))
			for i, s := range column {
				at[i] = y(s.Rate) + 4
			}
			spread(at, textSize, top, bottom)
			for i, s := range column {
				dx, anchor := 9.0, "start"
				if side {
					dx, anchor = -9, "end"
				}
				c.group(s.Tip, func() {
					c.dot(x(s.Intensity), y(s.Rate), 4.5, "dot "+s.Class)
					c.text(x(s.Intensity)+dx, at[i], anchor, "number "+s.Class, strconv.Itoa(s.Number))
				})
			}
			group = rest
		}
	}
	return c.svg(p.Figure, height)
}

// split returns roofs by kind, highest first.
func split(roofs []Roof) (memory, arithmetic []Roof) {
	for _, r := range roofs {
		if r.Memory {
			memory = append(memory, r)
		} else {
			arithmetic = append(arithmetic, r)
		}
	}
	for _, list := range [][]Roof{memory, arithmetic} {
		slices.SortStableFunc(list, func(a, b Roof) int { return cmp.Compare(b.Rate, a.Rate) })
	}
	return memory, arithmetic
}
