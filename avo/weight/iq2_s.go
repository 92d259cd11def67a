package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var grid2S = newGrid(8, []int8{8, 25, 43}, steps2S)

var iq2_s = Spec{
	Name: "IQ2_S", Block: 256, Bytes: 82, Act: activation.Q8_K,
	Planes: []Plane{
		dwords(Index, 2, 32),
		dwords(Signs, 34, 32),
		inByte(IndexHigh, 2, 66, 32),
		inByte(Scales, 4, 74, 16),
		halfPlane(D, 0),
	},
	Grid: grid2S, Offset: 128, Sub: 16, Scale: Scale{Factor: 1. / 8, Odd: true}, Order: Fused, Wide: x8_16,
	Code: func(b []byte, k int) Weight {
		g := k / 8
		index := int(b[2+g]) | int(b[66+g/4]>>(g%4*2)&3)<<8
		return Weight{Q: negate(grid2S.at(index, k%8), uint32(b[34+g]), k%8), S: oddNibble(b[74:], k/16), D: half(b, 0) / 8}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}
