package report

import (
	"fmt"
	"html/template"
	"slices"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/plot"
)

// trend is one number over the runs on this host.
type trend struct {
	Heading string
	Latest  string
	Plot    template.HTML
}

// trends are the runs on this host.
type trends struct {
	Runs   int // like this one, with it
	Others int // on this host, of another target or number of threads
	List   []trend
}

// Trends is what the history says of this host.
func (p *page) Trends() trends {
	now := p.Entry()
	runs := []Entry{}
	var t trends
	for _, e := range p.history {
		switch {
		case e.Date.Equal(now.Date) || e.CPU != now.CPU || e.Cores != now.Cores:
		case !e.like(now):
			t.Others++
		default:
			runs = append(runs, e)
		}
	}
	runs = append(runs, now)
	slices.SortStableFunc(runs, func(a, b Entry) int { return a.Date.Compare(b.Date) })
	t.Runs = len(runs)
	for _, point := range now.Points {
		s := plot.Series{Class: "tuned"}
		first, last := "", ""
		factor, unit := 1.0, ""
		switch point.Quantity {
		case worstKL:
			factor, unit = 100, " %"
		case ReadShare:
			unit = " %"
		}
		for _, e := range runs {
			i := slices.IndexFunc(e.Points, func(q Point) bool {
				// The worst case of a divergence may be another one from run to run.
				return q.Model == point.Model && q.Quantity == point.Quantity && (q.Case == point.Case || q.Quantity == worstKL)
			})
			if i < 0 {
				continue
			}
			q := e.Points[i]
			low, high := q.Value, q.Value
			if q.Interval != nil {
				low, high = q.Interval.Low, q.Interval.High
			}
			s.X, s.Y = append(s.X, float64(len(s.X))), append(s.Y, factor*q.Value)
			s.Low, s.High = append(s.Low, factor*low), append(s.High, factor*high)
			last = e.Date.UTC().Format("2006-01-02")
			if first == "" {
				first = last
			}
			s.Tips = append(s.Tips, fmt.Sprintf("%s, %s: %s", e.Date.UTC().Format("2006-01-02 15:04"), e.Toolchain, fixed(factor*q.Value)+unit))
		}
		if len(s.X) < 2 {
			continue // nothing to compare with
		}
		p.figures++
		lines := plot.Lines{Series: []plot.Series{s}, Height: 130, XText: []string{first, last}}
		lines.Figure = plot.Figure{ID: fmt.Sprintf("f%d", p.figures), Width: inlays,
			Title: point.Model + " " + point.Case + " " + point.Quantity + " over time",
			Desc:  fmt.Sprintf("%d runs from %s to %s; the last %s, the lowest %s, the highest %s", len(s.X), first, last, fixed(s.Y[len(s.Y)-1]), fixed(slices.Min(s.Y)), fixed(slices.Max(s.Y)))}
		heading := point.Model + " " + point.Case
		if point.Quantity == worstKL {
			heading = point.Model
		}
		t.List = append(t.List, trend{Heading: heading + ": " + point.Quantity, Latest: fixed(factor*point.Value) + unit, Plot: lines.Draw()})
	}
	return t
}
