package weight

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/internal/golden"
)

// each runs f for every type.
func each(t *testing.T, f func(t *testing.T, s *Spec)) {
	for _, s := range Specs() {
		t.Run(s.Name, func(t *testing.T) { f(t, s) })
	}
}

// lines returns the lines of golden data whose first word is the type.
func lines(data, name string) (found [][]string) {
	for line := range strings.Lines(data) {
		if words := strings.Fields(line); words[0] == name {
			found = append(found, words[1:])
		}
	}
	return found
}

// Hashes of the floats that upstream's dequantize_row_* give for 512 blocks of random bytes.
//
//go:embed testdata/dequantize.txt
var dequantized string

func TestDequantize(t *testing.T) {
	each(t, func(t *testing.T, s *Spec) {
		stream, hash := golden.Stream(1), golden.NewHash()
		for _, x := range s.Dequantize(stream.Bytes(512 * s.Bytes)) {
			hash.Float(x)
		}
		want := lines(dequantized, s.Name)
		if got := fmt.Sprintf("%016x", uint64(hash)); len(want) != 1 || got != want[0][0] {
			t.Errorf("%s, upstream %v", got, want)
		}
	})
}

// Sixteen dot products of 8 rows each as the function gives them that Spec.Oracle names: seed, length, float32s.
//
//go:embed testdata/dot.txt
var dots string

// noOracle is the types that nothing upstream adds as Dot does. FuzzDot alone holds their sums.
var noOracle = map[string]bool{"Q3_K": true, "Q5_K": true, "Q6_K": true}

func TestDot(t *testing.T) {
	each(t, func(t *testing.T, s *Spec) {
		cases := lines(dots, s.Name)
		if (len(cases) == 0) != noOracle[s.Name] {
			t.Fatalf("%d cases", len(cases))
		}
		for _, words := range cases {
			seed, _ := strconv.Atoi(words[0])
			n, _ := strconv.Atoi(words[1])
			stream := golden.Stream(seed)
			rows := stream.Bytes(8 * s.Row(n))
			for at := 0; at < len(rows); at += s.Bytes {
				s.tame(rows[at:][:s.Bytes])
			}
			x := make([]float32, n)
			for k := range x {
				x[k] = stream.Activation()
			}
			a := activation.Quantize(s.Act, x)
			for r, want := range words[2:] {
				row := rows[r*s.Row(n):][:s.Row(n)]
				got := s.Dot(row, a)
				if bits := fmt.Sprintf("%08x", math.Float32bits(got)); bits != want {
					t.Errorf("seed %d, %d weights, row %d: %s, upstream %s", seed, n, r, bits, want)
				}
				half := n / 512 * 256
				split := s.Add(s.Add(Sums{}, row[:s.Row(half)], part(a, 0, half)), row[s.Row(half):], part(a, half, n)).Result()
				if math.Float32bits(split) != math.Float32bits(got) {
					t.Errorf("seed %d: %v in two parts, %v in one", seed, split, got)
				}
			}
		}
	})
}

// part returns elements from..to of a row.
func part(a activation.Row, from, to int) activation.Row {
	b := a.Block()
	a.Quants, a.Delta = a.Quants[from:to], a.Delta[from/b:to/b]
	if a.Sum != nil {
		a.Sum = a.Sum[from/b : to/b]
	}
	return a
}

// tame gives a block of random bytes scales of usual size: FP16 between 2^-7 and 4, E8M0 between 2^-8 and 1.
func (s *Spec) tame(block []byte) {
	for _, role := range []Role{D, Min} {
		f, ok := s.Field(role)
		switch {
		case ok && s.Scale.Format == FP16:
			set(block, f.At(0, 13), 1)
			set(block, f.At(0, 14), 0)
		case ok && s.Scale.Format == E8M0:
			block[f.At(0, 0)/8] = 0x78 | block[f.At(0, 0)/8]&7
		}
	}
}

func set(block []byte, at int, bit byte) {
	block[at/8] = block[at/8]&^(1<<(at%8)) | bit<<(at%8)
}

// random returns a row of random bytes with scales of usual size.
func (s *Spec) random(r *rand.Rand, n int) []byte {
	row := make([]byte, s.Row(n))
	for i := range row {
		row[i] = byte(r.Uint32())
	}
	for at := 0; at < len(row); at += s.Bytes {
		s.tame(row[at:][:s.Bytes])
	}
	return row
}

// FuzzDot holds Dot to the sum of weights times dequantized activations in float64. Only float32's rounding may be between them:
// 2^-24 of the magnitudes for each addition.
func FuzzDot(f *testing.F) {
	for i := range Specs() {
		f.Add(uint8(i), uint64(i), uint8(i))
	}
	f.Fuzz(func(t *testing.T, spec uint8, seed uint64, blocks uint8) {
		s := Specs()[int(spec)%len(Specs())]
		r := rand.New(rand.NewPCG(seed, 4))
		n := 256 * (1 + int(blocks)%8)
		row := s.random(r, n)
		x := make([]float32, n)
		for k := range x {
			x[k] = float32(r.NormFloat64())
		}
		a := activation.Quantize(s.Act, x)
		var want, magnitude float64
		for k := range x {
			w := s.at(row, k)
			y := float64(a.Delta[k/a.Block()]) * float64(a.Quants[k])
			v := float64(w.D) * float64(w.S*w.Q) * y
			want, magnitude = want+v, magnitude+math.Abs(v)
			switch {
			case s.Order == AddFused && k%32 == 0:
				v = float64(w.Min) * float64(a.Sum[k/32])
			case s.Order == TwoSums:
				v = float64(w.Min) * float64(w.M) * y
			default:
				continue
			}
			want, magnitude = want-v, magnitude+math.Abs(v)
		}
		if got := s.Dot(row, a); math.Abs(float64(got)-want) > magnitude*0x1p-20 {
			t.Fatalf("%s: %v, want %v", s.Name, got, want)
		}
	})
}

// TestRanges holds the integers to what kernels rely on: operands that fit their bytes, and products of scale and weight whose sums
// fit int32. The limits are those that a format's own widths give, and each is reached.
func TestRanges(t *testing.T) {
	limits := map[string][2]int{ // of s*q
		"Q4_0": {-8, 7}, "Q4_1": {0, 15}, "Q5_0": {-16, 15}, "Q5_1": {0, 31}, "Q8_0": {-128, 127}, "IQ4_NL": {-127, 113},
		"MXFP4": {-12, 12}, "NVFP4": {-12, 12}, "Q2_K": {0, 45}, "Q3_K": {-124, 128}, "Q4_K": {0, 945}, "Q5_K": {0, 1953},
		"Q6_K": {-4064, 4096}, "IQ4_XS": {-3937, 4064}, "IQ1_S": {-135, 135}, "IQ1_M": {-135, 135}, "IQ2_XXS": {-1333, 1333},
		"IQ2_XS": {-1333, 1333}, "IQ2_S": {-1333, 1333}, "IQ3_XXS": {-1922, 1922}, "IQ3_S": {-465, 465}, "TQ1_0": {-1, 1},
		"TQ2_0": {-1, 2},
	}
	r := rand.New(rand.NewPCG(5, 5))
	each(t, func(t *testing.T, s *Spec) {
		low, high := math.MaxInt, math.MinInt
		for range 20000 * 32 / s.Block {
			block := s.random(r, s.Block)
			for k := range s.Block {
				w := s.Code(block, k)
				if u := w.Q + s.Offset; u < 0 || u > 255 {
					t.Fatalf("q %d + %d is no byte", w.Q, s.Offset)
				}
				if w.S < -128 || w.S > 127 || w.M < 0 || w.M > 63 {
					t.Fatalf("s %d, m %d", w.S, w.M)
				}
				low, high = min(low, w.S*w.Q), max(high, w.S*w.Q)
			}
		}
		if got := [2]int{low, high}; got != limits[s.Name] {
			t.Errorf("s*q in %v, want %v", got, limits[s.Name])
		}
	})
}

// FuzzCode holds the fields that packing and kernels read to Code, the definition of the type.
func FuzzCode(f *testing.F) {
	for i := range Specs() {
		f.Add(uint8(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, spec uint8, seed uint64) {
		s := Specs()[int(spec)%len(Specs())]
		stream := golden.Stream(seed)
		block := stream.Bytes(s.Bytes)
		quants, isQuants := s.Field(Quants)
		scales, hasScales := s.Field(Scales)
		mins, hasMins := s.Field(Mins)
		d, _ := s.Field(D)
		floor, hasFloor := s.Field(Min)
		for k := range s.Block {
			w := s.Code(block, k)
			got := Weight{Q: w.Q, S: 1, D: s.Scale.Float(d.Get(block, k/s.Step()))}
			if isQuants {
				got.Q = s.Value(quants.Get(block, k) ^ s.Planes[0].Invert)
			}
			if s.Grid != nil {
				got.Q = s.gridValue(block, k)
			}
			if hasScales {
				got.S = s.Scale.Sub(scales.Get(block, k/s.Sub))
			}
			if hasFloor {
				got.M, got.Min = 1, half(binary16(floor.Get(block, 0)), 0)
				if s.Order == AddFused {
					got.Min = -got.Min
				}
			}
			if hasMins {
				got.M = int(mins.Get(block, k/s.Sub))
			}
			same := func(a, b float32) bool { return a == b || a != a && b != b }
			if got.Q != w.Q || got.S != w.S || got.M != w.M || !same(got.D, w.D) || !same(got.Min, w.Min) {
				t.Fatalf("%s, weight %d of %s: fields give %+v, Code %+v", s.Name, k, hex.EncodeToString(block), got, w)
			}
		}
	})
}

// gridValue puts weight k of a grid type together from the fields.
func (s *Spec) gridValue(block []byte, k int) int {
	get := func(role Role) uint32 {
		f, ok := s.Field(role)
		if !ok {
			return 0
		}
		return f.Get(block, k/(s.Block/f.Len()))
	}
	q := s.Grid.at(int(get(Index)|get(IndexHigh)<<8), k%s.Grid.Wide)
	if f, ok := s.Field(Signs); ok {
		signs := get(Signs)
		if f.Bits() == 7 {
			signs |= uint32(bits.OnesCount32(signs)) & 1 << 7
		}
		if signs>>(k%8)&1 != 0 {
			q = -q
		}
	} else {
		q += 1 - 2*int(get(Delta))
	}
	return q
}

func binary16(v uint32) []byte { return []byte{byte(v), byte(v >> 8)} }
