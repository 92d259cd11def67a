package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q6_K = Spec{
	Name: "Q6_K", Block: 256, Bytes: 210, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants6,
			Part{4, 0, []Dim{{64, 8}, {2, 4}, {2, 8 * 64}}},
			Part{2, 8 * 128, []Dim{{32, 8}, {4, 2}, {2, 8 * 32}}}),
		{Fields: []Field{field(Scales, 8, 8*192, Dim{16, 8})}, Spelling: whole(8), Width: 1},
		halfPlane(D, 208),
	},
	Offset: 32, Sub: 16, Scale: Scale{Factor: 1, Signed: true}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		q := b[k/128*64+k%64]>>(k%128/64*4)&15 | byte(pair(b[128:], k)<<4)
		return Weight{Q: int(q) - 32, S: int(int8(b[192+k/16])), D: half(b, 208)}
	},
	Oracle: "none upstream adds in this order",
}
