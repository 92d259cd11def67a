package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q5_0 = Spec{
	Name: "Q5_0", Block: 32, Bytes: 22, Act: activation.Q8_0,
	Planes: []Plane{quantPlane(quants5, nibbles(6), Part{1, 8 * 2, []Dim{{32, 1}}}), halfPlane(D, 0)},
	Offset: 16, Sub: 32, Scale: Scale{Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: nibble(b[6:], k) + bit(b[2:], k)<<4 - 16, S: 1, D: half(b, 0)}
	},
	Oracle: "ggml_vec_dot_q5_0_q8_0_generic",
}
