package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q4_0 = Spec{
	Name: "Q4_0", Block: 32, Bytes: 18, Act: activation.Q8_0,
	Planes: []Plane{quantPlane(quants4, nibbles(2)), halfPlane(D, 0)},
	Offset: 8, Sub: 32, Scale: Scale{Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: nibble(b[2:], k) - 8, S: 1, D: half(b, 0)}
	},
	Oracle: "ggml_gemv_q4_0_8x8_q8_0 on x86",
}
