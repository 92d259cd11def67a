package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var tq2_0 = Spec{
	Name: "TQ2_0", Block: 256, Bytes: 66, Act: activation.Q8_K,
	Planes: []Plane{quantPlane(quants2, pairs(0)), halfPlane(D, 64)},
	Offset: 1, Sub: 256, Scale: Scale{Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: pair(b, k) - 1, S: 1, D: half(b, 64)}
	},
	Oracle: "ggml_vec_dot_tq2_0_q8_K_generic",
}
