package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q5_1 = Spec{
	Name: "Q5_1", Block: 32, Bytes: 24, Act: activation.Q8_1,
	Planes: []Plane{
		quantPlane(quants5, nibbles(8), Part{1, 8 * 4, []Dim{{32, 1}}}),
		halfPlane(D, 0), halfPlane(Min, 2),
	},
	Sub: 32, Scale: Scale{Factor: 1}, Order: AddFused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: nibble(b[8:], k) + bit(b[4:], k)<<4, S: 1, M: 1, D: half(b, 0), Min: -half(b, 2)}
	},
	Oracle: "ggml_vec_dot_q5_1_q8_1_generic",
}
