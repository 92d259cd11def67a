package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

// grid1S is the grid of IQ1_S and IQ1_M, of trits times 8. The weights are off by one more, which is d/8.
var grid1S = newGrid(8, []int8{-8, 0, 8}, steps1S)

var iq1_s = Spec{
	Name: "IQ1_S", Block: 256, Bytes: 50, Act: activation.Q8_K,
	Planes: []Plane{
		dwords(Index, 2, 32),
		{
			Fields: []Field{
				field(IndexHigh, 3, 8*34, Dim{4, 3}, Dim{8, 16}),
				field(Scales, 3, 8*34+12, Dim{8, 16}),
				field(Delta, 1, 8*34+15, Dim{8, 16}),
			},
			Spelling: highScaleDelta(), Width: 2,
		},
		halfPlane(D, 0),
	},
	Grid: grid1S, Offset: 128, Sub: 32, Scale: Scale{Factor: 1. / 8, Odd: true}, Order: Fused, Wide: x8_32,
	Code: func(b []byte, k int) Weight {
		x := int(binary.LittleEndian.Uint16(b[34+k/32*2:]))
		q := grid1S.at(int(b[2+k/8])|(x>>(k%32/8*3)&7)<<8, k%8)
		return Weight{Q: q + 1 - 2*(x>>15), S: 2*(x>>12&7) + 1, D: half(b, 0) / 8}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}

// highScaleDelta keeps the words of IQ1_S: 3 bits each of four indices, 3 bits of scale, 1 of delta.
func highScaleDelta() Spelling {
	s := Spelling{Words: 8}
	for i := range 32 {
		s.Values = append(s.Values, []Piece{{i / 4, i % 4 * 3, 3}})
	}
	for _, p := range []Piece{{0, 12, 3}, {0, 15, 1}} {
		for i := range 8 {
			s.Values = append(s.Values, []Piece{{i, p.Shift, p.Bits}})
		}
	}
	return s
}
