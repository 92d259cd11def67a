package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var q8_0 = Spec{
	Name: "Q8_0", Block: 32, Bytes: 34, Act: activation.Q8_0,
	Planes: []Plane{
		{Fields: []Field{field(Quants, 8, 8*2, Dim{32, 8})}, Spelling: quants8, Width: 1, Invert: 0x80},
		halfPlane(D, 0),
	},
	Offset: 128, Sub: 32, Scale: Scale{Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: int(int8(b[2+k])), S: 1, D: half(b, 0)}
	},
	Oracle: "ggml_vec_dot_q8_0_q8_0_generic",
}
