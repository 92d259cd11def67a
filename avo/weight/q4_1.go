package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q4_1 = Spec{
	Name: "Q4_1", Block: 32, Bytes: 20, Act: activation.Q8_1,
	Planes: []Plane{quantPlane(quants4, nibbles(4)), halfPlane(D, 0), halfPlane(Min, 2)},
	Sub:    32, Scale: Scale{Factor: 1}, Order: AddFused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: nibble(b[4:], k), S: 1, M: 1, D: half(b, 0), Min: -half(b, 2)}
	},
	Oracle: "ggml_vec_dot_q4_1_q8_1_generic",
}
