// Package statistics is what measurements are summed up with.
package statistics

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Quantile returns the q-quantile (0 to 1) of values by linear interpolation between the two nearest order statistics
// (type 7 of Hyndman and Fan 1996). There must be a value.
func Quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
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

// resamples is enough for the ends of a 95 % interval to be stable to a few percent of its width.
const resamples = 10000

// Bootstrap returns a 95 % confidence interval of the median of samples: the 2.5th and 97.5th percentile of the medians of
// resamples drawn with replacement (Efron's percentile bootstrap). The same samples give the same interval. Few samples make
// it what they span: with three or four it is their smallest to their largest.
func Bootstrap(samples []float64) Interval {
	rng := rand.New(rand.NewPCG(0x7a74, uint64(len(samples))))
	medians := make([]float64, resamples)
	draw := make([]float64, len(samples))
	for i := range medians {
		for j := range draw {
			draw[j] = samples[rng.IntN(len(samples))]
		}
		medians[i] = Median(draw)
	}
	return Interval{Low: Quantile(medians, 0.025), High: Quantile(medians, 0.975)}
}

// Spread is the range of samples as a share of their median.
func Spread(samples []float64) float64 {
	return (slices.Max(samples) - slices.Min(samples)) / math.Abs(Median(samples))
}
