package statistics

import "math"

// Ratio returns a 95 % confidence interval of the ratio of two speeds, from ratios of measurements taken side by side. same are
// ratios of measurements of one and the same thing, which would all be 1 without noise; there may be none. It serves as well for any
// other positive quantity whose noise is a share of it. A single sample is its own interval: one says nothing of how
// far it can be trusted.
//
// The interval covers two others, so that each makes up for what the other takes for granted.
//
//   - Bootstrap's, which asks nothing of the noise, and is too narrow for few samples.
//   - Student's for the mean of the ratios' logarithms, mean +- t(n-1) s / sqrt(n), which holds from two samples on, if the
//     logarithms scatter normally; for symmetric noise with longer tails it errs on the side of being wide (Benjamini, "Is the
//     t test really conservative when the parent distribution is long-tailed?", 1983). s is the samples' standard deviation
//     or the root mean square of the logarithms of same, whichever is larger: samples that agree better than one thing
//     does with itself do so by luck.
//
// A ratio's logarithm scatters symmetrically whatever the noise is, as long as it does not prefer one of the two.
func Ratio(ratios, same []float64) Interval {
	b := Bootstrap(ratios)
	if len(ratios) == 1 {
		return b
	}
	logs := logarithms(ratios)
	mean, s := average(logs), max(scatter(logs), Noise(same))
	half := Student(1-tail, len(logs)-1) * s / math.Sqrt(float64(len(logs)))
	return Interval{Low: min(b.Low, math.Exp(mean-half)), High: max(b.High, math.Exp(mean+half))}
}

// Scatter is how far ratios of one kind lie from the mean of theirs, learnt from many groups of few.
type Scatter struct {
	Deviation float64 // standard deviation of logarithms
	Degrees   int     // of freedom that it has
	Most      float64 // deviation within a group above which it is wild: its noise is of another kind
}

// wild is how many times the median of all groups' deviations one may have. Of many pairs with normal noise of one size one in twenty
// thousand has more: 6 medians are 4 standard deviations.
const wild = 6

// Pool returns the scatter of ratios within groups, which may have different means but have noise of one size (pooled variance). Wild
// groups are left out, so that one disturbance does not blur all others. Each group must have two ratios or more, all positive; without any
// group the scatter has no degree of freedom.
func Pool(groups ...[]float64) Scatter {
	if len(groups) == 0 {
		return Scatter{}
	}
	deviations := make([]float64, len(groups))
	for i, g := range groups {
		deviations[i] = scatter(logarithms(g))
	}
	s := Scatter{Most: wild * Median(deviations)}
	squares := 0.0
	for i, g := range groups {
		if deviations[i] <= s.Most {
			squares += deviations[i] * deviations[i] * float64(len(g)-1)
			s.Degrees += len(g) - 1
		}
	}
	s.Deviation = math.Sqrt(squares / float64(s.Degrees))
	return s
}

// fewDegrees is how many degrees of freedom leave room for ratios that agree by luck better than one thing does with itself.
const fewDegrees = 10

// PoolWith is Pool for groups that may be few: then the scatter is not less than the noise in same, which is as for the function Ratio.
func PoolWith(same []float64, groups ...[]float64) Scatter {
	s := Pool(groups...)
	if s.Degrees < fewDegrees {
		s.Deviation = max(s.Deviation, Noise(same))
	}
	return s
}

// Ratio returns a 95 % confidence interval of a ratio from one of the groups that s was learnt from. Like the function Ratio's it covers two
// others: Bootstrap's, which for few ratios is what they span; and Student's with the deviation and the degrees of freedom of all
// groups together. Two ratios of thirty such groups say as much as thirty of one. A wild group stands alone, with the function Ratio's.
func (s Scatter) Ratio(ratios []float64) Interval {
	logs := logarithms(ratios)
	if s.Degrees == 0 || scatter(logs) > s.Most {
		return Ratio(ratios, nil)
	}
	b, mean := Bootstrap(ratios), average(logs)
	half := Student(1-tail, s.Degrees) * s.Deviation / math.Sqrt(float64(len(ratios)))
	return Interval{Low: min(b.Low, math.Exp(mean-half)), High: max(b.High, math.Exp(mean+half))}
}

// scatter is the standard deviation of two values or more.
func scatter(values []float64) float64 {
	mean, squares := average(values), 0.0
	for _, x := range values {
		squares += (x - mean) * (x - mean)
	}
	return math.Sqrt(squares / float64(len(values)-1))
}

func average(values []float64) float64 {
	sum := 0.0
	for _, x := range values {
		sum += x
	}
	return sum / float64(len(values))
}

// Noise is how far ratios of measurements of one thing are from 1: the root mean square of their logarithms, which is nearly that
// of their relative differences. 0 if there are none.
func Noise(same []float64) float64 {
	squares := 0.0
	for _, x := range logarithms(same) {
		squares += x * x / float64(len(same))
	}
	return math.Sqrt(squares)
}

func logarithms(values []float64) []float64 {
	logs := make([]float64, len(values))
	for i, x := range values {
		logs[i] = math.Log(x)
	}
	return logs
}

// Student returns the q-quantile (0.5 to 1) of Student's t distribution with whole degrees of freedom, 1 or more, from the closed form
// of its distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4).
func Student(q float64, degrees int) float64 {
	within := func(t float64) float64 { // the chance that |T| <= t
		angle := math.Atan(t / math.Sqrt(float64(degrees)))
		sin, cos := math.Sincos(angle)
		sum, term := 0.0, 1.0
		first := 2
		if degrees%2 == 1 {
			term, first = cos, 3
		}
		for i := first; i <= degrees; i += 2 {
			sum += term
			term *= cos * cos * float64(i-1) / float64(i)
		}
		if degrees%2 == 1 {
			return 2 / math.Pi * (angle + sin*sum)
		}
		return sin * sum
	}
	low, high := 0.0, 1.0
	for within(high) < 2*q-1 {
		high *= 2
	}
	for range 100 {
		if middle := (low + high) / 2; within(middle) < 2*q-1 {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}
