package model

import (
	"fmt"
	"math"
	"testing"
)

// TestGaussians holds the generator to the normal distribution: moments, tails and independence of neighbours, within six
// standard errors of a million numbers.
func TestGaussians(t *testing.T) {
	const n = 1 << 20
	x := make([]float32, n)
	gaussians(1).fill(x)
	var m [5]float64 // mean of x^i
	var neighbours, pairs float64
	beyond := map[float64]int{}
	for i, v := range x {
		power := 1.0
		for j := range m {
			m[j] += power / n
			power *= float64(v)
		}
		neighbours += float64(v) * float64(x[(i+1)%n]) / n
		pairs += float64(v) * float64(v) * float64(x[i^1]) * float64(x[i^1]) / n
		for _, limit := range []float64{1, 2, 3, 4} {
			if math.Abs(float64(v)) > limit {
				beyond[limit]++
			}
		}
	}
	for _, c := range []struct {
		name              string
		got, want, spread float64 // of one number
	}{
		{"mean", m[1], 0, 1},
		{"variance", m[2], 1, math.Sqrt2},
		{"skewness", m[3], 0, math.Sqrt(15)},
		{"kurtosis", m[4], 3, math.Sqrt(96)},
		{"correlation of neighbours", neighbours, 0, 1},
		{"squares of a pair", pairs, 1, math.Sqrt(8)},
	} {
		if math.Abs(c.got-c.want) > 6*c.spread/math.Sqrt(n) {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	for limit, got := range beyond {
		want := n * math.Erfc(limit/math.Sqrt2)
		if math.Abs(float64(got)-want) > 6*math.Sqrt(want) {
			t.Errorf("%d numbers of %d lie beyond %v, want about %.0f", got, n, limit, want)
		}
	}
	if len(beyond) != 4 {
		t.Errorf("no numbers beyond 4: %v", beyond)
	}
	for _, i := range []int64{0, 1, 2, 12345} {
		if got := gaussians(1).at(i); got != x[i] {
			t.Errorf("number %d alone is %v, in sequence %v", i, got, x[i])
		}
	}
}

// TestFingerprint pins the weights of a seed, which must not change with the CPU, the Go release or GOAMD64: gates and reports
// refer to them. Whoever changes them on purpose writes the new number here and measures the bounds of the gates anew.
func TestFingerprint(t *testing.T) {
	const want = "68dfece602e698d8"
	if got := fmt.Sprintf("%016x", fingerprint(small.tensors(45), 1)); got != want {
		t.Errorf("the weights have fingerprint %s, want %s", got, want)
	}
	if fingerprint(small.tensors(45), 1) == fingerprint(small.tensors(45), 2) {
		t.Error("two seeds have the same fingerprint")
	}
}

// TestOutliers finds the same few channels large in every matrix that writes to the residual stream, and taken down by every norm.
func TestOutliers(t *testing.T) {
	shape, err := Find("1b")
	if err != nil {
		t.Fatal(err)
	}
	channels := map[int64]bool{}
	for c := range int64(shape.Embd) {
		if isOutlier(Seed, c) {
			channels[c] = true
		}
	}
	if len(channels) < 2 || len(channels) > 32 {
		t.Fatalf("%d of %d channels are outliers", len(channels), shape.Embd)
	}
	for _, w := range shape.tensors(32) {
		x := make([]float32, w.cols)
		switch w.name {
		case "blk.0.attn_output.weight", "blk.7.ffn_down.weight":
			for r := range w.rows {
				if r > 64 && !channels[r] {
					continue
				}
				w.row(x, Seed, r)
				var squares float64
				for _, v := range x {
					squares += float64(v) * float64(v)
				}
				size := math.Sqrt(squares/float64(w.cols)) / float64(w.std)
				if want := map[bool]float64{false: 1, true: outlierGain}[channels[r]]; math.Abs(size/want-1) > 0.1 {
					t.Errorf("%s: row %d has %.2f times the tensor's scale, want %v", w.name, r, size, want)
				}
			}
		case "blk.0.attn_norm.weight", "output_norm.weight":
			w.row(x, Seed, 0)
			for i, v := range x {
				if large := math.Abs(float64(v)) > 0.4; large == channels[int64(i)] {
					t.Errorf("%s: channel %d has weight %v", w.name, i, v)
				}
			}
		}
	}
}

// TestRopeFactors checks Llama-3.2-1B against its definition written in wavelengths, as transformers has it: below a quarter of
// the trained context a frequency stays, above all of it 32 times slower, between the two a mix of both.
func TestRopeFactors(t *testing.T) {
	shape, err := Find("1b")
	if err != nil {
		t.Fatal(err)
	}
	got := shape.ropeFactors().values
	if len(got) != 32 {
		t.Fatalf("%d factors for heads of 64", len(got))
	}
	mixed := 0
	for i, f := range got {
		frequency := math.Pow(500000, -float64(i)/32)
		wavelength := 2 * math.Pi / frequency
		scaled := frequency
		switch {
		case wavelength > 8192:
			scaled = frequency / 32
		case wavelength > 8192./4:
			mixed++
			smooth := (8192/wavelength - 1) / (4 - 1)
			scaled = (1-smooth)*frequency/32 + smooth*frequency
		}
		if want := frequency / scaled; math.Abs(float64(f)/want-1) > 1e-6 {
			t.Errorf("factor %d is %v, want %v", i, f, want)
		}
	}
	if mixed == 0 || got[0] != 1 || got[31] != 32 {
		t.Errorf("factors %v do not run from 1 to 32 through a mix", got)
	}
}

func BenchmarkRow(b *testing.B) {
	w := matrix("w", 4096, 4096, 1)
	x := make([]float32, w.cols)
	b.SetBytes(int64(len(x)))
	for i := int64(0); b.Loop(); i++ {
		w.row(x, 1, i)
	}
}
