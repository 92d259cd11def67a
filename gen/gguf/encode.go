package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// CanEncode says whether Encode writes type t.
func CanEncode(t Type) bool { return t == F32 || t == F16 || t == BF16 || t == Q8_0 }

// Encode writes src as elements of type t to dst, with the bits that llama-quantize gives the same float32 values. The length
// of src is a multiple of the type's block, dst holds exactly its encoding, and all values are finite. It panics for a type that
// CanEncode denies.
func Encode(dst []byte, t Type, src []float32) {
	if want := t.RowBytes(int64(len(src))); int64(len(dst)) != want {
		panic(fmt.Sprintf("gguf: %d %s elements take %d bytes, not %d", len(src), t, want, len(dst)))
	}
	switch t {
	case F32:
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	case F16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], float16(x))
		}
	case BF16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], bfloat16(x))
		}
	case Q8_0:
		encodeQ8_0(dst, src)
	default:
		panic(fmt.Sprintf("gguf: no encoder for %s", t))
	}
}

// float16 rounds to the nearest IEEE half, ties to even.
func float16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &^= 1 << 31
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00
	case b >= 0x47800000: // 2^16 and up
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: a half subnormal counts units of 2^-24, and so do the low bits of a float32 near 0.5
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-math.Float32bits(0.5))
	}
	const rebias = (127 - 15) << 23
	return sign | uint16((b-rebias+0xfff+b>>13&1)>>13) // 65520 and up carry into infinity
}

// bfloat16 rounds to the nearest bfloat16, ties to even.
func bfloat16(x float32) uint16 {
	b := math.Float32bits(x)
	if b&^(1<<31) > 0x7f800000 {
		return uint16(b>>16) | 64 // a quiet NaN
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// encodeQ8_0 writes blocks of a half scale d and 32 int8: d = max|x|/127, q = x/d rounded to nearest with ties away from zero,
// where x/d is x times the float32 reciprocal of the unrounded d (quantize_row_q8_0_ref in ggml-quants.c).
func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) >= 32; src, dst = src[32:], dst[34:] {
		x, y := (*[32]float32)(src), (*[34]byte)(dst)
		var top uint32 // the bits of non-negative floats order as the floats do
		for _, v := range x {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		d := math.Float32frombits(top) / 127
		var inverse float32
		if d != 0 {
			inverse = 1 / d
		}
		binary.LittleEndian.PutUint16(y[:], float16(d))
		for i, v := range x {
			// In float64 the sum is exact, where a float32 sum would round 0.49999997 up to 1.
			q := float64(v * inverse)
			y[2+i] = byte(int32(q + math.Copysign(0.5, q)))
		}
	}
}
