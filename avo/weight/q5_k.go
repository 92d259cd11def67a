package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q5_K = Spec{
	Name: "Q5_K", Block: 256, Bytes: 176, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants5, halves(48), Part{1, 8 * 16, []Dim{{32, 8}, {8, 1}}}),
		scalesAndMins(4),
		halfPlane(D, 0), halfPlane(Min, 2),
	},
	Sub: 32, Scale: Scale{Factor: 1}, Order: TwoSums,
	Code: func(b []byte, k int) Weight {
		s, m := scaleAndMin(b[4:], k/32)
		q := b[48+k/64*32+k%32]>>(k/32%2*4)&15 | b[16+k%32]>>(k/32)&1<<4
		return Weight{Q: int(q), S: s, M: m, D: half(b, 0), Min: half(b, 2)}
	},
	Oracle: "none upstream adds in this order",
}
