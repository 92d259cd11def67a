package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

var iq1_m = Spec{
	Name: "IQ1_M", Block: 256, Bytes: 56, Act: activation.Q8_K,
	Planes: []Plane{
		dwords(Index, 0, 32),
		{
			Fields: []Field{
				field(IndexHigh, 3, 8*32, Dim{32, 4}),
				field(Delta, 1, 8*32+3, Dim{32, 4}),
			},
			Spelling: highAndDelta(), Width: 2,
		},
		{
			Fields:   []Field{field(Scales, 3, 8*48, Dim{4, 3}, Dim{4, 16})},
			Spelling: threes(), Width: 2,
		},
		// d is in the top 4 bits of the four words of scales.
		{
			Fields: []Field{{D, []Part{
				{4, 8*48 + 12, nil}, {4, 8*50 + 12, nil}, {4, 8*52 + 12, nil}, {4, 8*54 + 12, nil},
			}}},
			Spelling: whole(16), Width: 2,
		},
	},
	Grid: grid1S, Offset: 128, Sub: 16, Scale: Scale{Factor: 1. / 8, Odd: true}, Order: Fused, Wide: x8_16,
	Code: func(b []byte, k int) Weight {
		x := int(b[32+k/16] >> (k / 8 % 2 * 4))
		q := grid1S.at(int(b[k/8])|(x&7)<<8, k%8)
		var d uint16
		for i := range 4 {
			d |= uint16(b[49+2*i]>>4) << (4 * i)
		}
		s := int(binary.LittleEndian.Uint16(b[48+k/64*2:])>>(k/16%4*3)) & 7
		return Weight{Q: q + 1 - 2*(x>>3&1), S: 2*s + 1, D: ieee.Float16(d) / 8}
	},
	Oracle: "iqp_gemv_8x8_q8_K on x86",
}

// highAndDelta keeps the bytes of IQ1_M, two to a word: twice 3 bits of index and 1 of delta each.
func highAndDelta() Spelling {
	s := Spelling{Words: 8}
	for _, p := range []Piece{{0, 0, 3}, {0, 3, 1}} {
		for i := range 32 {
			s.Values = append(s.Values, []Piece{{i / 4, i%4*4 + p.Shift, p.Bits}})
		}
	}
	return s
}

// threes spells sixteen values of 3 bits in three words: fifteen lie five to a word in order but for the last of each, which is value
// 12, 13 or 14, and the sixteenth in the bits on top.
func threes() Spelling {
	s := Spelling{Words: 3}
	for i := range 12 {
		s.Values = append(s.Values, []Piece{{i / 4, i % 4 * 3, 3}})
	}
	for i := range 3 {
		s.Values = append(s.Values, []Piece{{i, 12, 3}})
	}
	s.Values = append(s.Values, []Piece{{0, 15, 1}, {1, 15, 1}, {2, 15, 1}})
	return s
}
