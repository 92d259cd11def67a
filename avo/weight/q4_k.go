package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q4_K = Spec{
	Name: "Q4_K", Block: 256, Bytes: 144, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants4, halves(16)),
		scalesAndMins(4),
		halfPlane(D, 0), halfPlane(Min, 2),
	},
	Sub: 32, Scale: Scale{Factor: 1}, Order: TwoSums,
	Code: func(b []byte, k int) Weight {
		s, m := scaleAndMin(b[4:], k/32)
		q := b[16+k/64*32+k%32] >> (k / 32 % 2 * 4) & 15
		return Weight{Q: int(q), S: s, M: m, D: half(b, 0), Min: half(b, 2)}
	},
	Oracle: "ggml_gemv_q4_K_8x8_q8_K on x86",
}

// halves is where the low 4 bits of weights lie in Q4_K and Q5_K, from a byte on: two runs of 32 weights share 32 bytes.
func halves(byte int) Part { return Part{4, 8 * byte, []Dim{{32, 8}, {2, 4}, {4, 8 * 32}}} }

// scaleAndMin returns the 6-bit scale and min of run i of 8 from the 12 bytes that Q4_K and Q5_K keep them in: the first four of
// each in the low bits of bytes 0..3 and 4..7, the low bits of the others in the halves of bytes 8..11, their high bits on top
// of the first.
func scaleAndMin(b []byte, i int) (s, m int) {
	if i < 4 {
		return int(b[i] & 63), int(b[4+i] & 63)
	}
	return int(b[4+i]&15 | b[i-4]>>6<<4), int(b[4+i]>>4 | b[i]>>6<<4)
}

// scalesAndMins is the plane of these 12 bytes at a byte of a block.
func scalesAndMins(byte int) Plane {
	return Plane{
		Fields: []Field{
			{Scales, []Part{
				{4, 8 * byte, []Dim{{4, 8}, {2, 8 * 8}}},
				{2, 8*byte + 4, []Dim{{4, 8}, {2, 2}}},
			}},
			{Mins, []Part{
				{4, 8 * (byte + 4), []Dim{{4, 8}, {2, 8*4 + 4}}},
				{2, 8*(byte+4) + 4, []Dim{{4, 8}, {2, 2}}},
			}},
		},
		Spelling: sixes(2), Width: 4,
	}
}
