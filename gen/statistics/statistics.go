// Package statistics is what measurements are summed up with.
package statistics

import (
	"math"
	"slices"
)

// Quantile returns the q-quantile (0 to 1) of values by linear interpolation between the two nearest order statistics
// (type 7 of Hyndman and Fan 1996). There must be a value.
func Quantile(values []float64, q float64) float64 {
	return quantileOfSorted(slices.Sorted(slices.Values(values)), q)
}

func quantileOfSorted(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i == len(sorted)-1 {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// Median returns the middle of values.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Interval is an inclusive range.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// tail is what a 95 % interval leaves out at each end.
const tail = 0.025

// Bootstrap returns a 95 % confidence interval of the median of samples: Efron's percentile bootstrap, the 2.5th and 97.5th
// percentile of the medians of resamples drawn with replacement. For a median they need not be drawn: a resample's median is
// at most the k-th smallest sample when at least half of its draws are, so that the chance of it is that of a binomial variable
// of n draws and probability k/n (Efron, "Bootstrap methods: another look at the jackknife", 1979, section 3). Of an even
// number of draws, the middle one that makes the interval wider counts.
//
// Few samples make it what they span, which is less than 95 %: with three, the median lies outside in one case of four.
func Bootstrap(samples []float64) Interval {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	k := 1
	for atLeast(n, (n+1)/2, float64(k)/float64(n)) < tail {
		k++
	}
	return Interval{Low: sorted[k-1], High: sorted[n-k]}
}

// atLeast is the chance that of n draws, each hitting with probability p, m or more hit.
func atLeast(n, m int, p float64) float64 {
	if p >= 1 {
		return 1
	}
	lgamma := func(x int) float64 { y, _ := math.Lgamma(float64(x)); return y }
	sum := 0.0
	for i := m; i <= n; i++ {
		ways := lgamma(n+1) - lgamma(i+1) - lgamma(n-i+1)
		sum += math.Exp(ways + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

// Spread is the range of samples as a share of their median.
func Spread(samples []float64) float64 {
	return (slices.Max(samples) - slices.Min(samples)) / math.Abs(Median(samples))
}
