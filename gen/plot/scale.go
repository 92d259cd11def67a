package plot

import (
	"math"
	"strconv"
	"strings"
)

// Scale maps values onto an axis.
type Scale struct {
	Low, High float64
	Log       bool // Low must be above 0
}

// at returns where v lies between Low (0) and High (1), the ends for what is outside.
func (s Scale) at(v float64) float64 {
	low, high := s.Low, s.High
	if s.Log {
		if v <= 0 {
			return 0
		}
		low, high, v = math.Log(low), math.Log(high), math.Log(v)
	}
	if high <= low {
		return 0.5
	}
	return min(1, max(0, (v-low)/(high-low)))
}

// mantissas are where a logarithmic axis may carry ticks within each decade, coarse to fine.
var mantissas = [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 5, 7}, {1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8}}

// ticks returns at most n round values within the scale, and at least two where it can.
func (s Scale) ticks(n int) []float64 {
	n = max(n, 2)
	if !s.Log {
		return s.linear(n)
	}
	first, last := int(math.Floor(math.Log10(s.Low))), int(math.Floor(math.Log10(s.High)))
	var best []float64
	for stride := 1; len(best) == 0 && stride <= last-first+1; stride++ { // every stride-th decade
		for _, steps := range mantissas {
			if stride > 1 && len(steps) > 1 {
				break
			}
			var found []float64
			for e := first; e <= last; e++ {
				if (e-last)%stride != 0 {
					continue
				}
				for _, m := range steps {
					if v := m * math.Pow(10, float64(e)); v >= s.Low*(1-1e-9) && v <= s.High*(1+1e-9) {
						found = append(found, v)
					}
				}
			}
			if len(found) > n {
				break
			}
			if len(found) > len(best) {
				best = found
			}
		}
	}
	if len(best) < 2 {
		return s.linear(n) // a small part of a decade
	}
	return best
}

func (s Scale) linear(n int) []float64 {
	span := s.High - s.Low
	if span <= 0 {
		return []float64{s.Low}
	}
	// From fine to coarse: the first that is not too many, unless that is a single one.
	unit := math.Pow(10, math.Floor(math.Log10(span/float64(n))))
	var finer []float64
	for _, m := range []float64{1, 2, 5, 10, 20} {
		step := m * unit
		var found []float64
		for i := math.Ceil(s.Low/step - 1e-9); i*step <= s.High+1e-9*step; i++ {
			found = append(found, i*step+0) // +0 makes -0 a plain 0
		}
		if len(found) < 2 && finer != nil {
			return finer
		}
		if len(found) <= n {
			return found
		}
		finer = found
	}
	return finer
}

// tick prints a value of an axis: few digits, powers of ten as such.
func tick(v float64) string {
	a := math.Abs(v)
	if a != 0 && (a < 1e-3 || a >= 1e5) {
		e := int(math.Floor(math.Log10(a) + 1e-9))
		power := "10" + superscript(e)
		if m := strconv.FormatFloat(v/math.Pow(10, float64(e)), 'g', 3, 64); m != "1" {
			return m + "·" + power
		}
		return power
	}
	four, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return strconv.FormatFloat(four, 'f', -1, 64)
}

var raised = strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹")

func superscript(n int) string { return raised.Replace(strconv.Itoa(n)) }

// around returns a scale that holds all values, with a margin. On a logarithmic scale values that are not above 0 do not count.
func around(values []float64, log bool) Scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || log && v <= 0 {
			continue
		}
		low, high = min(low, v), max(high, v)
	}
	if low > high {
		low, high = 1, 1
	}
	const margin = 0.05
	if log {
		pad := math.Pow(high/low, margin)
		if pad < 1.02 {
			pad = 1.02
		}
		return Scale{low / pad, high * pad, true}
	}
	pad := (high - low) * margin
	if pad == 0 {
		pad = max(math.Abs(high)*margin, 1e-9)
	}
	return Scale{low - pad, high + pad, false}
}
