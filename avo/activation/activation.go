// Package activation is the Go reference of activation quantization: rows of floats to 8-bit integers with a scale per block, bit
// for bit as stock llama.cpp quantizes them on x86, and the groups of rows that GEMM kernels read.
package activation

import (
	"fmt"
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Format is one of ggml's formats of quantized activations.
type Format int

// Q8_0 and Q8_1 differ in Row.Sum alone, which Q8_0 does not have: one quantization serves both.
const (
	Q8_0 Format = iota // blocks of 32
	Q8_1               // blocks of 32, and their sums
	Q8_K               // blocks of 256
)

// Block returns how many elements share a scale.
func (f Format) Block() int {
	if f == Q8_K {
		return 256
	}
	return 32
}

func (f Format) String() string { return [...]string{"Q8_0", "Q8_1", "Q8_K"}[f] }

// Row is a quantized row: element k is Delta[k/block] * Quants[k].
type Row struct {
	Format
	Quants []int8
	Delta  []float32 // per block; of Q8_0 and Q8_1 the FP16 scale, widened
	// Sum is Q8_1's s per block, widened from FP16: the sum of the block's quants times its scale before that was rounded to
	// FP16. Nil in Q8_K.
	Sum []float32
}

// Quantize quantizes a row whose length is a multiple of the format's block. Any float is allowed; what becomes of infinities
// and NaNs is what stock's instructions make of them.
func Quantize(f Format, x []float32) Row {
	if len(x)%f.Block() != 0 {
		panic(fmt.Sprintf("activation: %d elements are not a multiple of %s's block of %d", len(x), f, f.Block()))
	}
	row := Row{Format: f, Quants: make([]int8, len(x))}
	for k := 0; k < len(x); k += f.Block() {
		if f == Q8_K {
			row.Delta = append(row.Delta, quantize256((*[256]int8)(row.Quants[k:]), (*[256]float32)(x[k:])))
		} else {
			d, s := quantize32((*[32]int8)(row.Quants[k:]), (*[32]float32)(x[k:]))
			row.Delta, row.Sum = append(row.Delta, d), append(row.Sum, s)
		}
	}
	return row
}

// quantize32 is quantize_row_q8_1 of ggml/src/ggml-cpu/arch/x86/quants.c, which computes what its quantize_row_q8_0 does and s:
// d = max/127, q = x * (127/max) rounded to nearest even, s = d times the sum of q.
func quantize32(q *[32]int8, x *[32]float32) (delta, sum float32) {
	// The maximum of magnitudes in the order of the vector code, because MAXPS returns its second operand when one is NaN.
	var lanes [8]float32
	for k, v := range x {
		v = math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
		if k < 8 {
			lanes[k] = v
		} else {
			lanes[k%8] = maxps(lanes[k%8], v)
		}
	}
	for i := range 4 {
		lanes[i] = maxps(lanes[4+i], lanes[i])
	}
	for i := range 2 {
		lanes[i] = maxps(lanes[i], lanes[2+i])
	}
	m := maxps(lanes[0], lanes[1])

	d := m / 127
	var inverse float32
	if m != 0 {
		inverse = 127 / m
	}
	var total int32
	for k, v := range x {
		i := cvtps2dq(v * inverse)
		total += i // wraps, as the vector code's sum does
		q[k] = int8(max(math.MinInt8, min(math.MaxInt8, i)))
	}
	return ieee.Float16(ieee.ToFloat16(d)), ieee.Float16(ieee.ToFloat16(float32(d * float32(total))))
}

// maxps is MAXPS: the second operand unless the first is greater.
func maxps(a, b float32) float32 {
	if a > b {
		return a
	}
	return b
}

// cvtps2dq is CVTPS2DQ: to nearest even, and what int32 cannot hold becomes its minimum.
func cvtps2dq(v float32) int32 {
	r := math.RoundToEven(float64(v))
	if !(r >= math.MinInt32 && r <= math.MaxInt32) {
		return math.MinInt32
	}
	return int32(r)
}

// quantize256 is quantize_row_q8_K_ref of ggml/src/ggml-quants.c, which stock runs on every CPU: the first element of the largest
// magnitude becomes -127. A block of zeros (or NaNs alone) has scale 0.
func quantize256(q *[256]int8, x *[256]float32) (delta float32) {
	var extreme, magnitude float32
	for _, v := range x {
		if a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31)); a > magnitude {
			extreme, magnitude = v, a
		}
	}
	if magnitude == 0 {
		*q = [256]int8{}
		return 0
	}
	scale := -127 / extreme
	for k, v := range x {
		// Adding 1.5*2^23 leaves the rounded integer in the mantissa. Of what does not fit, of infinities and of NaNs the low
		// bits count, as in ggml's nearest_int; hence no conversion instruction.
		v = float32(scale*v) + 0x1.8p23
		i := int32(math.Float32bits(v)&0x7fffff) - 0x400000
		q[k] = int8(min(127, i))
	}
	return 1 / scale
}
