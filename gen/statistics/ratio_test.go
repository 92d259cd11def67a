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

func TestNoise(t *testing.T) {
	near(t, "no noise", Noise(nil), 0)
	near(t, "noise", Noise([]float64{math.Exp(0.03), math.Exp(-0.04)}), 0.05/math.Sqrt2)
}
