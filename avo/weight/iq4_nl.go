package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

// nonlinear is the table of values of IQ4_NL and IQ4_XS (kvalues_iq4nl).
var nonlinear = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

var iq4_nl = Spec{
	Name: "IQ4_NL", Block: 32, Bytes: 18, Act: activation.Q8_0,
	Planes: []Plane{quantPlane(quants4, nibbles(2)), halfPlane(D, 0)},
	LUT:    &nonlinear, Offset: 128, Sub: 32, Scale: Scale{Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: int(nonlinear[nibble(b[2:], k)]), S: 1, D: half(b, 0)}
	},
	Oracle: "ggml_gemv_iq4_nl_8x8_q8_0 on x86",
}
