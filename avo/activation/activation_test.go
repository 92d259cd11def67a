package activation

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/internal/golden"
)

// Hashes of what upstream's quantize_row_q8_0 and quantize_row_q8_1 for x86 and quantize_row_q8_K_ref make of the inputs below: d, s
// of Q8_1, the quants, and of Q8_K the sums of 16, block after block.
//
//go:embed testdata/quantize.txt
var quantized string

// The inputs, each with a stream that its place here seeds.
var inputs = []struct {
	name string
	draw func(*golden.Stream, int) float32
}{
	{"tame", func(s *golden.Stream, _ int) float32 { return s.Activation() }},
	{"bits", func(s *golden.Stream, _ int) float32 { return math.Float32frombits(uint32(s.Next())) }},
	{"ties", func(s *golden.Stream, _ int) float32 { return float32(int(s.Next()%15) - 7) }},
	{"denormal", func(s *golden.Stream, _ int) float32 { return math.Float32frombits(uint32(s.Next() & 0x807fffff)) }},
	{"sparse", func(s *golden.Stream, _ int) float32 {
		v := s.Next()
		switch {
		case v&63 != 0:
			return 0
		case v&64 != 0:
			return float32(math.Copysign(0, -1))
		}
		return s.Activation()
	}},
	{"wide", func(s *golden.Stream, _ int) float32 { return math.Float32frombits(uint32(s.Next() & 0xbfffffff)) }}, // all below 2
	{"halves", func(s *golden.Stream, k int) float32 { // half way between two quants, where the way to 127/max matters
		v := s.Next()
		x := float32(127)
		if v%8 != 0 {
			x = float32(int((v>>8)%254)-127) + 0.5
		}
		return float32(x * float32(float32(1000+k/256)*0.0137))
	}},
}

func TestQuantize(t *testing.T) {
	var got strings.Builder
	for i, in := range inputs {
		x := make([]float32, 64*256)
		s := golden.Stream(i)
		for k := range x {
			x[k] = in.draw(&s, k)
		}
		for _, f := range []Format{Q8_0, Q8_1, Q8_K} {
			row, hash := Quantize(f, x), golden.NewHash()
			for b, d := range row.Delta {
				quants := row.Quants[b*f.Block():][:f.Block()]
				if f == Q8_K {
					hash.Float(d)
				} else {
					hash.Half(ieee.ToFloat16(d))
				}
				if f == Q8_1 {
					hash.Half(ieee.ToFloat16(row.Sum[b]))
				}
				for _, q := range quants {
					hash.Byte(byte(q))
				}
				for k := 0; f == Q8_K && k < 256; k += 16 {
					v := sum(quants[k:][:16])
					hash.Byte(byte(v))
					hash.Byte(byte(v >> 8))
				}
			}
			fmt.Fprintf(&got, "%s %s %016x\n", f, in.name, uint64(hash))
		}
	}
	want := strings.Split(quantized, "\n")
	for i, line := range strings.Split(got.String(), "\n") {
		if line != want[i] {
			t.Errorf("%s, upstream %s", line, want[i])
		}
	}
}

// FuzzQuantize holds what the formats promise for finite floats of the usual size: each weight is within half a step, and the
// extreme keeps its sign in all of the range.
func FuzzQuantize(f *testing.F) {
	f.Add(uint64(1), false)
	f.Add(uint64(2), true)
	f.Fuzz(func(t *testing.T, seed uint64, ties bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		x := make([]float32, 512)
		for k := range x {
			x[k] = float32(r.NormFloat64())
			if ties {
				x[k] = float32(r.IntN(9) - 4)
			}
		}
		for _, format := range []Format{Q8_0, Q8_1, Q8_K} {
			row := Quantize(format, x)
			for k, q := range row.Quants {
				d := row.Delta[k/format.Block()]
				// FP16 moves d by 2^-11 of itself, which 127 steps make a sixteenth of a step.
				if diff := math.Abs(float64(x[k]) - float64(d)*float64(q)); diff > math.Abs(float64(d))*0.57 {
					t.Fatalf("%s: element %d is %v, quantized %v * %d", format, k, x[k], d, q)
				}
			}
		}
	})
}

// TestLay reads every value of a group back through its offsets, and finds every byte covered by one.
func TestLay(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, format := range []Format{Q8_1, Q8_K} {
		for n := 1; n <= 6; n++ {
			var rows []Row
			for range n {
				x := make([]float32, 3*256)
				for k := range x {
					x[k] = float32(r.NormFloat64())
				}
				rows = append(rows, Quantize(format, x))
			}
			group, g := Lay(rows), Group{format, n}
			size := g.BlockBytes()
			if want := len(rows[0].Delta) * size; len(group) != want {
				t.Fatalf("%s: %d bytes, want %d", format, len(group), want)
			}
			for b := range rows[0].Delta {
				block, want := group[b*size:][:size], make([]byte, size)
				covered := make([]int, size)
				put := func(at, bytes int, v uint32) {
					for i := range bytes {
						want[at+i] = byte(v >> (8 * i))
						covered[at+i]++
					}
				}
				for i, row := range rows {
					q := row.Quants[b*format.Block():][:format.Block()]
					for k, v := range q {
						put(g.Quants(i)+k, 1, uint32(v))
					}
					put(g.Delta(i), 4, math.Float32bits(row.Delta[b]))
					if format == Q8_1 {
						put(g.Corr(i), 4, uint32(-128*plainSum(q)))
						put(g.Sum(i), 4, math.Float32bits(row.Sum[b]))
						continue
					}
					for k := 0; k < 256; k += 16 {
						put(g.Corr(i)+k/4, 4, uint32(-plainSum(q[k:k+16])))
						put(g.Sums16(i)+k/8, 2, uint32(plainSum(q[k:k+16])))
					}
					for k := 0; k < 256; k += 32 {
						put(g.Sums32(i)+k/16, 2, uint32(plainSum(q[k:k+32])))
					}
				}
				for at, n := range covered {
					if n != 1 {
						t.Fatalf("%s, %d rows: byte %d belongs to %d values", format, len(rows), at, n)
					}
				}
				if !bytes.Equal(block, want) {
					t.Fatalf("%s, %d rows: block %d differs", format, len(rows), b)
				}
			}
		}
	}
	if (Group{Q8_K, 1}).BlockBytes() != 372 || (Group{Q8_0, 1}).BlockBytes() != 44 {
		t.Error("a row takes other than 372 and 44 bytes a block")
	}
}

func plainSum(q []int8) (s int) {
	for _, v := range q {
		s += int(v)
	}
	return s
}
