package gemm

import (
	"encoding/binary"
	"math"
)

// BlockQ80 is ggml's block_q8_0: an FP16 scale and 32 signed bytes (ggml/src/ggml-common.h).
type BlockQ80 struct {
	Scale  uint16 // FP16
	Quants [BlockSize]int8
}

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

// PackQ80 packs weight rows of equal length into panels of cols rows. Rows that the last panel lacks are zero.
func PackQ80(rows [][]BlockQ80, cols int) []byte {
	blocks := len(rows[0])
	panels := (len(rows) + cols - 1) / cols
	size := PanelBlockBytes(cols)
	packed := make([]byte, panels*blocks*size)
	for p := range panels {
		for b := range blocks {
			block := packed[(p*blocks+b)*size:][:size]
			for c := range cols {
				var w BlockQ80
				if row := p*cols + c; row < len(rows) {
					w = rows[row][b]
				}
				for k, q := range w.Quants {
					block[WeightOffset(cols, k/4, 0)+4*c+k%4] = byte(q) ^ 0x80
				}
				binary.LittleEndian.PutUint16(block[ScaleOffset(cols)+2*c:], w.Scale)
			}
		}
	}
	return packed
}

// UnpackQ80 returns the first n rows of packed panels as they were given to PackQ80.
func UnpackQ80(packed []byte, n, blocks, cols int) [][]BlockQ80 {
	size := PanelBlockBytes(cols)
	rows := make([][]BlockQ80, n)
	for r := range rows {
		rows[r] = make([]BlockQ80, blocks)
		for b := range rows[r] {
			block := packed[(r/cols*blocks+b)*size:]
			w := &rows[r][b]
			for k := range w.Quants {
				w.Quants[k] = int8(block[WeightOffset(cols, k/4, 0)+4*(r%cols)+k%4] ^ 0x80)
			}
			w.Scale = binary.LittleEndian.Uint16(block[ScaleOffset(cols)+2*(r%cols):])
		}
	}
	return rows
}

// QuantizeQ80 is ggml's quantize_row_q8_0 as its x86 code computes it: maximum magnitude over the block, d = max/127 kept as
// FP16, quants rounded to nearest even after a multiplication by 127/max. The inputs must be finite.
func QuantizeQ80(x []float32) []BlockQ80 {
	blocks := make([]BlockQ80, len(x)/BlockSize)
	for b := range blocks {
		var m float32
		in := x[b*BlockSize:][:BlockSize]
		for _, v := range in {
			m = max(m, float32(math.Abs(float64(v))))
		}
		blocks[b].Scale = ToFloat16(m / 127)
		var inverse float32
		if m != 0 {
			inverse = 127 / m
		}
		for k, v := range in {
			blocks[b].Quants[k] = saturate(v * inverse)
		}
	}
	return blocks
}

// saturate converts as VCVTPS2DQ and VPMOVSDB do: what int32 cannot hold becomes its minimum, and that the int8 minimum.
func saturate(v float32) int8 {
	r := math.RoundToEven(float64(v))
	if !(r >= math.MinInt32 && r <= math.MaxInt32) {
		return math.MinInt8
	}
	return int8(max(math.MinInt8, min(math.MaxInt8, r)))
}

// GroupQ80 lays quantized activation rows out as one group.
func GroupQ80(rows [][]BlockQ80) []byte {
	n, blocks := len(rows), len(rows[0])
	size := GroupBlockBytes(n)
	group := make([]byte, blocks*size)
	for b := range blocks {
		block := group[b*size:][:size]
		for r := range rows {
			a := &rows[r][b]
			var sum int32
			for k, q := range a.Quants {
				block[QuantOffset(r)+k] = byte(q)
				sum += int32(q)
			}
			binary.LittleEndian.PutUint32(block[DeltaOffset(n, r):], math.Float32bits(Float16(a.Scale)))
			binary.LittleEndian.PutUint32(block[CorrOffset(n, r):], uint32(-128*sum))
		}
	}
	return group
}

// DotQ80 is the oracle of every Q8_0 kernel: for each block in k order, acc = fma(float(dot), d_w*d_a, acc). Go must not fuse
// or widen here, hence the explicit conversions.
func DotQ80(w, a []BlockQ80, acc float32) float32 {
	for b := range w {
		var dot int32
		for k := range w[b].Quants {
			dot += int32(w[b].Quants[k]) * int32(a[b].Quants[k])
		}
		scale := float32(Float16(w[b].Scale) * Float16(a[b].Scale))
		acc = FMA(float32(dot), scale, acc)
	}
	return acc
}
