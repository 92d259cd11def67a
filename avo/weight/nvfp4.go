package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var nvfp4 = Spec{
	Name: "NVFP4", Block: 64, Bytes: 36, Act: activation.Q8_0,
	Planes: []Plane{
		quantPlane(quants4, Part{4, 8 * 4, []Dim{{8, 8}, {2, 4}, {4, 8 * 8}}}),
		{Fields: []Field{field(D, 8, 0, Dim{4, 8})}, Spelling: whole(8), Width: 1},
	},
	LUT: &e2m1, Offset: 16, Sub: 16, Scale: Scale{Format: UE4M3, Factor: 1}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		q := b[4+k/16*8+k%8] >> (k % 16 / 8 * 4) & 15
		return Weight{Q: int(e2m1[q]), S: 1, D: ue4m3(b[k/16])}
	},
	Oracle: "ggml_vec_dot_nvfp4_q8_0_generic",
}
