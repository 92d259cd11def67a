package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

var grid3XXS = newGrid(4, []int8{4, 12, 20, 28, 36, 44, 52, 62}, steps3XXS)

var iq3_xxs = Spec{
	Name: "IQ3_XXS", Block: 256, Bytes: 98, Act: activation.Q8_K,
	Planes: []Plane{
		dwords(Index, 2, 64),
		signsAndScale(66, 4),
		halfPlane(D, 0),
	},
	Grid: grid3XXS, Offset: 128, Sub: 32, Scale: Scale{Factor: 1. / 4, Odd: true}, Order: Fused, Wide: x8_32,
	Code: func(b []byte, k int) Weight {
		x := binary.LittleEndian.Uint32(b[66+k/32*4:])
		q := grid3XXS.at(int(b[2+k/4]), k%4)
		return Weight{Q: negate(q, parity(x>>(k%32/8*7)), k%8), S: int(x>>28)*2 + 1, D: half(b, 0) / 4}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}
