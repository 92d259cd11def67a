package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

var iq4_xs = Spec{
	Name: "IQ4_XS", Block: 256, Bytes: 136, Act: activation.Q8_K,
	Planes: []Plane{
		quantPlane(quants4, Part{4, 8 * 8, []Dim{{16, 8}, {2, 4}, {8, 8 * 16}}}),
		{
			Fields:   []Field{{Scales, []Part{{4, 8 * 4, []Dim{{8, 4}}}, {2, 8 * 2, []Dim{{8, 2}}}}}},
			Spelling: sixes(1), Width: 2,
		},
		halfPlane(D, 0),
	},
	LUT: &nonlinear, Offset: 128, Sub: 32, Scale: Scale{Factor: 1, Bias: -32}, Order: Fused,
	Code: func(b []byte, k int) Weight {
		i, high := k/32, binary.LittleEndian.Uint16(b[2:])
		s := int(b[4+i/2]>>(i%2*4)&15) | int(high>>(2*i)&3)<<4
		return Weight{Q: int(nonlinear[nibble(b[8+16*i:], k)]), S: s - 32, D: half(b, 0)}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}
