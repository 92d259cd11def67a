// Package weight describes ggml's types of quantized weights, one Spec each: where the integers of a block lie in a GGUF and in a
// packed panel, how they make a weight, and in which order floats are added. Kernels, packing and tests are derived from it.
//
// A weight is d*s*q - min*m with small integers q, s and m. The integer sub-scales s and m are constant over each of 8 or 16 parts of a
// block, the floats d and min over the block (NVFP4: over 16 weights). Types without sub-scales have s = 1, those with a min of
// their own for each block m = 1 and the min negated.
//
// Adding a type is one file with its Spec and its Go reference, Spec.Code, and a line in Specs.
package weight

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Spec is a type of weights.
type Spec struct {
	Name  string // as GGUF tools print it
	Block int    // weights in a block of a row
	Bytes int    // bytes of that block in a GGUF
	Act   activation.Format

	// Planes are the parts of a panel block in order of address. Together they hold every bit of 32 GGUF blocks once.
	Planes []Plane
	// q is LUT of a code of 4 bits, or a weight of Grid with its sign or delta. Without either it is the field minus Offset.
	LUT  *[16]int8
	Grid *Grid
	// Offset makes q the unsigned operand of VPDPBUSD. It is 0 or a power of two, so that its correction is a shift of the sum of
	// activations.
	Offset int
	Sub    int // weights that share a sub-scale; Block where there is none
	Scale  Scale
	Order  Order
	Wide   *Spec // what panels expand to, nil if they never do; see Readable

	// Code returns weight k of a block as it lies in a GGUF. It is the definition of the type; all else here is held to it.
	Code func(block []byte, k int) Weight
	// Oracle names the upstream function that Dot equals bit for bit, or says that there is none.
	Oracle string
}

// Weight is d*s*q - min*m before its rounding.
type Weight struct {
	Q, S, M int
	D, Min  float32
}

// Order is the order of float operations in a dot product. I is the exact integer sum of s*q*a over the weights that share d, M that
// of m*a, dw and da are the scales of weight and activation. Blocks follow each other along k.
type Order int

const (
	Fused    Order = iota // acc = fma(I, dw*da, acc)
	AddFused              // acc = acc + fma(dw*da, I, m*s), with the block's own m and Q8_1's s
	TwoSums               // acc = fma(I, dw*da, acc), min = fma(M, dmin*da, min), and at the end acc - min
)

// Scale is the format of d and of the sub-scales.
type Scale struct {
	Format Float
	Factor float32 // a power of two that d is multiplied by when it is widened

	// The sub-scale is the field + Bias, 2*field+1 if Odd, the field as two's complement if Signed.
	Bias        int
	Odd, Signed bool
}

// Sub returns the sub-scale that a field of 8 bits or less spells.
func (s Scale) Sub(raw uint32) int {
	switch {
	case s.Odd:
		return 2*int(raw) + 1
	case s.Signed:
		return int(int8(raw))
	}
	return int(raw) + s.Bias
}

// Float returns d of the bits that a block has for it.
func (s Scale) Float(bits uint32) float32 {
	switch s.Format {
	case E8M0:
		return s.Factor * e8m0(byte(bits))
	case UE4M3:
		return s.Factor * ue4m3(byte(bits))
	case F32:
		return s.Factor * math.Float32frombits(bits)
	}
	return s.Factor * ieee.Float16(uint16(bits))
}

// Float is a format of block scales.
type Float int

const (
	FP16  Float = iota
	E8M0        // 2^(x-128), the OCP scale 2^(x-127) halved because ggml's table of E2M1 values is doubled
	UE4M3       // half of the OCP E4M3 value without its sign, for the same reason; 0x7f, NaN there, is 0
	F32         // of expanded panels
)

func e8m0(x byte) float32 {
	if x < 2 { // denormal
		return math.Float32frombits(0x200000 << x)
	}
	return math.Float32frombits(uint32(x-1) << 23)
}

func ue4m3(x byte) float32 {
	exponent, mantissa := int(x>>3&15), float64(x&7)
	switch {
	case x == 0x7f:
		return 0
	case exponent == 0:
		return float32(math.Ldexp(mantissa, -10))
	}
	return float32(math.Ldexp(8+mantissa, exponent-11))
}

// Value returns the q that a field of quants spells.
func (s *Spec) Value(field uint32) int {
	if s.LUT != nil {
		return int(s.LUT[field])
	}
	return int(field) - s.Offset
}

// Step returns how many weights share d: a float operation each in a dot product.
func (s *Spec) Step() int {
	if s.Scale.Format == UE4M3 {
		return s.Sub
	}
	return s.Block
}

// Row returns the bytes of a row of n weights.
func (s *Spec) Row(n int) int { return n / s.Block * s.Bytes }

// at returns weight k of a row.
func (s *Spec) at(row []byte, k int) Weight {
	return s.Code(row[k/s.Block*s.Bytes:][:s.Bytes], k%s.Block)
}

// Dequantize returns the weights of a row as ggml's dequantize_row_* does, bit for bit.
func (s *Spec) Dequantize(row []byte) []float32 {
	x := make([]float32, len(row)/s.Bytes*s.Block)
	for k := range x {
		w := s.at(row, k)
		// Both products are exact in float32, so neither the order of multiplications nor fusing them matters.
		x[k] = float32(float64(w.D) * float64(w.S) * float64(w.Q))
		if s.Order != Fused {
			x[k] -= float32(float64(w.Min) * float64(w.M))
		}
	}
	return x
}
