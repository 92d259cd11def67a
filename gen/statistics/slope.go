package statistics

import (
	"math"
	"slices"
)

// Point is an observation y at x.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Slope returns how fast y grows with x: the median of the slopes of all pairs of points of a group (Theil 1950, Sen 1968), so
// that up to 29 % of wild points do not matter, and that groups may start at different heights. The interval holds 95 %: its ends
// are the slopes whose ranks lie 1.96 standard deviations of Kendall's S from the middle (Sen 1968), where the variances of the
// groups add up (Hirsch, Slack and Smith 1982). Of few points it is all that they span. It takes the points of a group as
// independent; where each carries on from the one before, the true interval is wider. ok is false where no two points of a group
// differ in x. Time and memory are quadratic in the size of a group.
func Slope(groups ...[]Point) (slope float64, interval Interval, ok bool) {
	var slopes []float64
	variance := 0.0
	for _, g := range groups {
		for i, p := range g {
			for _, q := range g[:i] {
				if p.X != q.X {
					slopes = append(slopes, (p.Y-q.Y)/(p.X-q.X))
				}
			}
		}
		n := float64(len(g))
		variance += n * (n - 1) * (2*n + 5) / 18 // ties only make it smaller
	}
	if len(slopes) == 0 {
		return 0, Interval{}, false
	}
	slices.Sort(slopes)
	middle, reach := float64(len(slopes))/2, 1.96*math.Sqrt(variance)/2
	low, high := int(math.Floor(middle-reach))-1, int(math.Ceil(middle+reach))
	return Median(slopes), Interval{Low: slopes[max(0, low)], High: slopes[min(len(slopes)-1, high)]}, true
}
