package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q3_K = Spec{
	Name: "Q3_K", Block: 256, Bytes: 110, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants3, pairs(32), Part{1, 0, []Dim{{32, 8}, {8, 1}}}),
		{
			Fields: []Field{{Scales, []Part{
				{4, 8 * 96, []Dim{{8, 8}, {2, 4}}},
				{2, 8 * 104, []Dim{{4, 8}, {4, 2}}},
			}}},
			Spelling: sixes(2), Width: 4,
		},
		halfPlane(D, 108),
	},
	Offset: 4, Sub: 16, Scale: Scale{Factor: 1, Bias: -32}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		q := pair(b[32:], k) + int(b[k%32]>>(k/32)&1)<<2 - 4
		i, scales := k/16, b[96:]
		s := scales[i%8]>>(i/8*4)&15 | scales[8+i%4]>>(i/4*2)&3<<4
		return Weight{Q: q, S: int(s) - 32, D: half(b, 108)}
	},
	Oracle: "none upstream adds in this order",
}
