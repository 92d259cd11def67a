package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

var grid2XXS = newGrid(8, []int8{8, 25, 43}, steps2XXS)

var iq2_xxs = Spec{
	Name: "IQ2_XXS", Block: 256, Bytes: 66, Act: activation.Q8_K,
	Planes: []Plane{
		{
			Fields:   []Field{field(Index, 8, 8*2, Dim{4, 8}, Dim{8, 8 * 8})},
			Spelling: fourBytes, Width: 4,
		},
		signsAndScale(6, 8),
		halfPlane(D, 0),
	},
	Grid: grid2XXS, Offset: 128, Sub: 32, Scale: Scale{Factor: 1. / 8, Odd: true}, Order: Fused, Wide: x8_32,
	Code: func(b []byte, k int) Weight {
		run := b[2+k/32*8:] // four indices, then signs and scale
		x := binary.LittleEndian.Uint32(run[4:])
		q := grid2XXS.at(int(run[k%32/8]), k%8)
		return Weight{Q: negate(q, parity(x>>(k%32/8*7)), k%8), S: int(x>>28)*2 + 1, D: half(b, 0) / 8}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}
