package statistics

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	v := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 1: 4, 0.5: 2.5, 1.0 / 3: 2} {
		near(t, "quantile", Quantile(v, q), want)
	}
	near(t, "quantile of one", Quantile([]float64{7}, 0.999), 7)
	if v[0] != 4 {
		t.Error("Quantile sorted its argument")
	}
}

func TestBootstrap(t *testing.T) {
	if got := Bootstrap([]float64{5, 5, 5}); got != (Interval{Low: 5, High: 5}) {
		t.Errorf("equal samples: %v", got)
	}
	if got := Bootstrap([]float64{1, 2, 3}); got != (Interval{Low: 1, High: 3}) {
		t.Errorf("three samples: %v, want what they span", got)
	}
	// The 95 % interval of the median of 1..101: order statistics about 1.96 sqrt(101)/2 = 10 from the middle.
	var v []float64
	for i := range 101 {
		v = append(v, float64(i+1))
	}
	got := Bootstrap(v)
	if math.Abs(got.Low-41) > 2 || math.Abs(got.High-61) > 2 {
		t.Errorf("1..101: %v, want about 41 to 61", got)
	}
	if again := Bootstrap(v); again != got {
		t.Errorf("the same samples gave %v and %v", got, again)
	}
}

// TestBootstrapIsResampling compares the closed form with resampling as such.
func TestBootstrapIsResampling(t *testing.T) {
	const resamples = 20000
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 14; n++ {
		ranks := make([]float64, n) // the samples: their ranks
		for i := range ranks {
			ranks[i] = float64(i)
		}
		lower, upper := make([]float64, resamples), make([]float64, resamples) // middle draws
		draw := make([]float64, n)
		for i := range resamples {
			for j := range draw {
				draw[j] = float64(rng.IntN(n))
			}
			slices.Sort(draw)
			lower[i], upper[i] = draw[(n-1)/2], draw[n/2]
		}
		got := Bootstrap(ranks)
		want := Interval{Low: Quantile(lower, 0.025), High: Quantile(upper, 0.975)}
		if got != want {
			t.Errorf("of %d samples the ranks %v, want %v", n, got, want)
		}
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
