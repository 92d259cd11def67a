package statistics

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestStudent(t *testing.T) {
	for _, c := range []struct {
		q       float64
		degrees int
		want    float64 // to three places, as tables have it
	}{
		{0.975, 1, 12.706}, {0.975, 2, 4.303}, {0.975, 3, 3.182}, {0.975, 4, 2.776}, {0.975, 5, 2.571}, {0.975, 10, 2.228},
		{0.975, 11, 2.201}, {0.975, 30, 2.042}, {0.975, 120, 1.980}, {0.95, 1, 6.314}, {0.95, 6, 1.943}, {0.995, 4, 4.604}, {0.5, 3, 0},
	} {
		if got := Student(c.q, c.degrees); math.Abs(got-c.want) > 5.1e-4 {
			t.Errorf("Student(%v, %d) = %v, want %v", c.q, c.degrees, got, c.want)
		}
	}
}

// TestRatioCovers counts how often the interval misses a known ratio: in 2.5 % on each side, and not in 3 % even where noise has short
// tails, which is what Student's interval is a little too narrow for, however few pairs there are.
func TestRatioCovers(t *testing.T) {
	const runs, truth = 10000, 1.3
	for _, noise := range []struct {
		name string
		draw func(*rand.Rand) float64
	}{
		{"normal", func(r *rand.Rand) float64 { return 0.05 * r.NormFloat64() }},
		{"long tails", func(r *rand.Rand) float64 { return 0.05 * r.NormFloat64() / math.Sqrt(r.ExpFloat64()) }},
		{"flat", func(r *rand.Rand) float64 { return 0.1 * (r.Float64() - r.Float64()) }},
	} {
		for n := 2; n <= 12; n++ {
			rng := rand.New(rand.NewPCG(7, uint64(n)))
			below, above := 0, 0
			for range runs {
				ratios := make([]float64, n)
				for i := range ratios {
					ratios[i] = truth * math.Exp(noise.draw(rng))
				}
				switch got := Ratio(ratios, nil); {
				case got.High < truth:
					below++
				case got.Low > truth:
					above++
				}
			}
			// Two standard deviations of the count above 3 %.
			if limit := 0.03*runs + 2*math.Sqrt(0.03*runs); float64(below) > limit || float64(above) > limit {
				t.Errorf("%s noise, %d pairs: of %d intervals %d lie below the truth and %d above", noise.name, n, runs, below, above)
			}
		}
	}
}

func TestRatioHeedsNoise(t *testing.T) {
	lucky := []float64{1.05, 1.05, 1.05}
	if got := Ratio(lucky, nil); math.Abs(got.Low-1.05) > 1e-12 || math.Abs(got.High-1.05) > 1e-12 {
		t.Errorf("equal ratios without known noise: %v", got)
	}
	// 4.303 / sqrt(3) times the logarithm of 1.1, either way.
	got := Ratio(lucky, []float64{1.1, 1 / 1.1})
	half := 4.302653 / math.Sqrt(3) * math.Log(1.1)
	if math.Abs(got.Low-1.05*math.Exp(-half)) > 1e-6 || math.Abs(got.High-1.05*math.Exp(half)) > 1e-6 {
		t.Errorf("equal ratios amid noise of 10 %%: %v", got)
	}
	// Noise below the samples' own scatter changes nothing.
	wild := []float64{0.9, 1.05, 1.3}
	if a, b := Ratio(wild, nil), Ratio(wild, []float64{1.001, 0.999}); a != b {
		t.Errorf("little noise made %v of %v", b, a)
	}
	// Neither end lies inside what the bootstrap says.
	skewed := []float64{1, 1, 1, 1, 1, 1, 5}
	if r, b := Ratio(skewed, nil), Bootstrap(skewed); r.Low > b.Low || r.High < b.High {
		t.Errorf("%v does not cover %v", r, b)
	}
}

// TestPooledCovers counts how often the interval of one of many groups of two misses a known ratio, and how wide it is.
func TestPooledCovers(t *testing.T) {
	const runs, groups, noise = 1000, 20, 0.02
	rng := rand.New(rand.NewPCG(8, 1))
	below, above, calm, width := 0, 0, 0, 0.0
	for range runs {
		var pairs [][]float64
		truth := make([]float64, groups)
		for i := range truth {
			truth[i] = 1 + 4*rng.Float64()
			pairs = append(pairs, []float64{truth[i] * math.Exp(noise*rng.NormFloat64()), truth[i] * math.Exp(noise*rng.NormFloat64())})
		}
		s := Pool(pairs...)
		calm += s.Degrees
		for i, p := range pairs {
			got := s.Ratio(p)
			if got.High < truth[i] {
				below++
			} else if got.Low > truth[i] {
				above++
			}
			width += math.Log(got.High/got.Low) / (runs * groups)
		}
	}
	// Two standard deviations of the count above 2.5 % on each side.
	if limit := 0.025*runs*groups + 2*math.Sqrt(0.025*runs*groups); float64(below) > limit || float64(above) > limit || below < runs*groups/200 {
		t.Errorf("of %d intervals %d lie below the truth and %d above", runs*groups, below, above)
	}
	if calm < runs*groups*99/100 {
		t.Errorf("of %d pairs with noise of one size %d were wild", runs*groups, runs*groups-calm)
	}
	// Each of two pairs alone would be 2 * 12.7 / sqrt(2) deviations wide.
	if width > 3.5*noise {
		t.Errorf("the intervals are %v wide on average, which is %v deviations", width, width/noise)
	}
}

func TestPoolOfOne(t *testing.T) {
	ratios := []float64{1, 1.1, 1.3}
	if got, want := Pool(ratios).Ratio(ratios), Ratio(ratios, nil); math.Abs(got.Low-want.Low) > 1e-12 || math.Abs(got.High-want.High) > 1e-12 {
		t.Errorf("a group alone: %v, want %v", got, want)
	}
	if got, want := Pool().Ratio(ratios), Ratio(ratios, nil); got != want {
		t.Errorf("without any noise learnt: %v, want %v", got, want)
	}
}

// TestWildGroup disturbs one pair of many: it stands alone, and the others are none the wiser.
func TestWildGroup(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 1))
	var pairs [][]float64
	for range 20 {
		pairs = append(pairs, []float64{math.Exp(0.02 * rng.NormFloat64()), math.Exp(0.02 * rng.NormFloat64())})
	}
	calm, wild := Pool(pairs...), []float64{0.5, 2}
	s := Pool(append(pairs, wild)...)
	if s.Degrees != calm.Degrees || s.Deviation != calm.Deviation {
		t.Errorf("with a wild pair %+v, without it %+v", s, calm)
	}
	if got, want := s.Ratio(wild), Ratio(wild, nil); got != want || got.Low > 0.01 {
		t.Errorf("the wild pair: %v, want %v", got, want)
	}
	if got, want := s.Ratio(pairs[3]), calm.Ratio(pairs[3]); got != want {
		t.Errorf("another pair: %v, want %v", got, want)
	}
}

func TestNoise(t *testing.T) {
	near(t, "no noise", Noise(nil), 0)
	near(t, "noise", Noise([]float64{math.Exp(0.03), math.Exp(-0.04)}), 0.05/math.Sqrt2)
}
