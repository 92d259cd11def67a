package statistics

import (
	"math"
	"math/rand/v2"
	"testing"
)

// line returns n points of slope b at x = 0, 1, ... with noise of the given standard deviation.
func line(rng *rand.Rand, n int, a, b, noise float64) []Point {
	points := make([]Point, n)
	for i := range points {
		points[i] = Point{float64(i), a + b*float64(i) + noise*rng.NormFloat64()}
	}
	return points
}

func TestSlopeOfALine(t *testing.T) {
	slope, in, ok := Slope([]Point{{0, 1}, {1, 3}, {4, 9}})
	if !ok || slope != 2 || in != (Interval{2, 2}) {
		t.Errorf("a line of slope 2: %v %v %v", slope, in, ok)
	}
	// The groups' own heights do not count.
	slope, _, ok = Slope([]Point{{0, 1}, {1, 3}}, []Point{{10, -50}, {11, -48}})
	if !ok || slope != 2 {
		t.Errorf("two parallel lines of slope 2: %v %v", slope, ok)
	}
}

func TestSlopeNeedsTwoPoints(t *testing.T) {
	for _, groups := range [][][]Point{nil, {{{1, 2}}}, {{{1, 2}}, {{2, 5}}}, {{{1, 2}, {1, 3}}}} {
		if _, _, ok := Slope(groups...); ok {
			t.Errorf("Slope(%v) found one", groups)
		}
	}
}

// TestSlopeOfFew: up to four points in one group can order in 24 ways only, too few to leave out anything at 95 %.
func TestSlopeOfFew(t *testing.T) {
	_, in, _ := Slope([]Point{{0, 0}, {1, 1}, {2, -1}, {3, 4}})
	if in != (Interval{-2, 5}) {
		t.Errorf("interval %v, want all that the slopes span", in)
	}
}

func TestSlopeIgnoresWildPoints(t *testing.T) {
	points := line(rand.New(rand.NewPCG(1, 1)), 40, 5, 0.5, 0.01)
	for i := 0; i < len(points); i += 4 {
		points[i].Y += 1e6 * float64(i%3-1)
	}
	if slope, _, _ := Slope(points); math.Abs(slope-0.5) > 0.05 {
		t.Errorf("slope %v, want about 0.5", slope)
	}
}

// TestSlopeInterval counts how often the interval holds the true slope.
func TestSlopeInterval(t *testing.T) {
	for _, c := range []struct{ groups, n int }{{1, 30}, {10, 3}, {4, 8}} {
		const runs = 1000
		held := 0
		for seed := range uint64(runs) {
			rng := rand.New(rand.NewPCG(2, seed))
			var groups [][]Point
			for g := range c.groups {
				groups = append(groups, line(rng, c.n, 100*float64(g), 3, 2))
			}
			if _, in, _ := Slope(groups...); in.Low <= 3 && 3 <= in.High {
				held++
			}
		}
		// 95 % of 1000 has a standard deviation of 7; a little more is held since slopes are discrete
		if held < 925 || held > 990 {
			t.Errorf("%d groups of %d: the interval holds the slope in %d of %d runs, want about 950", c.groups, c.n, held, runs)
		}
	}
}
