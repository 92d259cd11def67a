package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q2_K = Spec{
	Name: "Q2_K", Block: 256, Bytes: 84, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants2, pairs(16)),
		{
			Fields:   []Field{field(Scales, 4, 0, Dim{16, 8}), field(Mins, 4, 4, Dim{16, 8})},
			Spelling: bytePairs(), Width: 2,
		},
		halfPlane(D, 80), halfPlane(Min, 82),
	},
	Sub: 16, Scale: Scale{Factor: 1}, Order: TwoSums, Wide: x8_mins16,
	Code: func(b []byte, k int) Weight {
		s := b[k/16]
		return Weight{Q: pair(b[16:], k), S: int(s & 15), M: int(s >> 4), D: half(b, 80), Min: half(b, 82)}
	},
	Oracle: "ggml_gemv_q2_K_8x8_q8_K on x86",
}

// pair returns the 2 bits of weight k of 256: four runs of 32 weights share 32 bytes.
func pair(quants []byte, k int) int { return int(quants[k/128*32+k%32] >> (k / 32 % 4 * 2) & 3) }

// pairs is where those bits lie, from a byte on.
func pairs(byte int) Part { return Part{2, 8 * byte, []Dim{{32, 8}, {4, 2}, {2, 8 * 32}}} }

// bytePairs keeps Q2_K's bytes, a scale in the low half and a min in the high one, two to a word of 16 bits.
func bytePairs() Spelling {
	s := Spelling{Words: 8}
	for shift := 0; shift <= 4; shift += 4 {
		for i := range 16 {
			s.Values = append(s.Values, []Piece{{i / 2, i%2*8 + shift, 4}})
		}
	}
	return s
}
