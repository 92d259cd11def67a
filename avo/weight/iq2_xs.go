package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

var grid2XS = newGrid(8, []int8{8, 25, 43}, steps2XS)

var iq2_xs = Spec{
	Name: "IQ2_XS", Block: 256, Bytes: 74, Act: activation.Q8_K,
	Planes: []Plane{
		{
			Fields:   []Field{field(Index, 8, 8*2, Dim{32, 16})},
			Spelling: fourBytes, Width: 4,
		},
		{
			Fields:   []Field{field(IndexHigh, 1, 8*3, Dim{32, 16}), field(Signs, 7, 8*3+1, Dim{32, 16})},
			Spelling: highAndSigns(), Width: 4,
		},
		inByte(Scales, 4, 66, 16),
		halfPlane(D, 0),
	},
	Grid: grid2XS, Offset: 128, Sub: 16, Scale: Scale{Factor: 1. / 8, Odd: true}, Order: Fused, Wide: x8_16,
	Code: func(b []byte, k int) Weight {
		x := uint32(binary.LittleEndian.Uint16(b[2+k/8*2:]))
		q := grid2XS.at(int(x&511), k%8)
		return Weight{Q: negate(q, parity(x>>9), k%8), S: oddNibble(b[66:], k/16), D: half(b, 0) / 8}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}

// highAndSigns keeps the high bytes of IQ2_XS's words, four to a dword.
func highAndSigns() Spelling {
	s := Spelling{Words: 8}
	for _, p := range []Piece{{0, 0, 1}, {0, 1, 7}} {
		for i := range 32 {
			s.Values = append(s.Values, []Piece{{i / 4, i%4*8 + p.Shift, p.Bits}})
		}
	}
	return s
}

// oddNibble returns the sub-scale 2n+1 of nibble i.
func oddNibble(b []byte, i int) int { return int(b[i/2]>>(i%2*4)&15)*2 + 1 }
