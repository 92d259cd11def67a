package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var grid3S = newGrid(4, []int8{1, 3, 5, 7, 9, 11, 13, 15}, steps3S)

var iq3_s = Spec{
	Name: "IQ3_S", Block: 256, Bytes: 110, Act: activation.Q8_K,
	Planes: []Plane{
		dwords(Index, 2, 64),
		dwords(Signs, 74, 32),
		inByte(IndexHigh, 1, 66, 64),
		inByte(Scales, 4, 106, 8),
		halfPlane(D, 0),
	},
	Grid: grid3S, Offset: 128, Sub: 32, Scale: Scale{Factor: 1, Odd: true}, Order: Fused, Wide: x8_32,
	Code: func(b []byte, k int) Weight {
		index := int(b[2+k/4]) | bit(b[66:], k/4)<<8
		return Weight{Q: negate(grid3S.at(index, k%4), uint32(b[74+k/8]), k%8), S: oddNibble(b[106:], k/32), D: half(b, 0)}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}
