package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

// e2m1 is the values of the OCP format E2M1, doubled to be integers. Its negative zero is 0.
var e2m1 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

var mxfp4 = Spec{
	Name: "MXFP4", Block: 32, Bytes: 17, Act: activation.Q8_0,
	Planes: []Plane{
		quantPlane(quants4, nibbles(1)),
		{Fields: []Field{field(D, 8, 0)}, Spelling: whole(8), Width: 1},
	},
	LUT: &e2m1, Offset: 16, Sub: 32, Scale: Scale{Format: E8M0, Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		return Weight{Q: int(e2m1[nibble(b[1:], k)]), S: 1, D: e8m0(b[0])}
	},
	Oracle: "ggml_gemv_mxfp4_8x8_q8_0 on x86",
}
