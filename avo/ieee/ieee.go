// Package ieee is the floating point arithmetic of the instructions that kernels use, for the Go references: binary16 conversions
// and a multiplication fused with an addition.
package ieee

import "math"

// Float16 widens an FP16 bit pattern (IEEE 754 binary16), denormals, infinities and NaN payloads included.
func Float16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0:
		v := float32(frac) * 0x1p-24
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f:
		if frac != 0 {
			frac |= 0x200 // the conversion instructions return quiet NaNs
		}
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// ToFloat16 rounds to FP16, to nearest even, as VCVTPS2PH does.
func ToFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= 0x477ff000: // 65520, the first value that rounds to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: denormal, a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*0x1p24))
	}
	b += 0xfff + b>>13&1
	return sign | uint16(b>>13-112<<10)
}

// FMA returns a*b+c rounded once to float32. The product is exact in float64; a sum that is not is rounded to odd there, so
// that rounding it to float32 equals rounding the exact sum (Boldo and Melquiond, "Emulation of FMA and correctly rounded
// sums", 2008).
func FMA(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	t := s - p
	e := (p - (s - t)) + (q - t)
	if e != 0 && !math.IsInf(s, 0) {
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (e > 0) == (s > 0) {
				bits++
			} else {
				bits--
			}
			s = math.Float64frombits(bits)
		}
	}
	return float32(s)
}
