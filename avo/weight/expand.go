package weight

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

// Panels of some types are expanded: a kernel writes some blocks of a panel to a cache, and the GEMM kernels of a wide spec read them there.
// Types whose quants are looked up, in grids or as trits, have no other GEMM kernels. That spec has bytes for quants and sub-scales and a
// float32 for d, and by the rules of packed panels a panel block of it is
//
//	quants as q+128     [64 of 4 k][2 of 16 rows][16 rows][4 k]
//	sub-scales as int8  [256/Sub][32 rows]    none if Sub is 256
//	d as float32        [32 rows]
var x8_16, x8_32, x8_256 = wide(16), wide(32), wide(256)

// wide makes the spec of expanded panels whose sub-scales span so many weights. Its rows, which no GGUF has, are blocks of 256 int8,
// int8 sub-scales and a float32.
func wide(sub int) *Spec {
	scales := wideQuants / sub
	if sub == wideQuants {
		scales = 0
	}
	s := &Spec{
		Name: fmt.Sprintf("X8_%d", sub), Block: wideQuants, Bytes: wideQuants + scales + 4, Act: activation.Q8_K,
		Planes: []Plane{{Fields: []Field{field(Quants, 8, 0, Dim{wideQuants, 8})}, Spelling: quants8, Width: 1, Invert: 0x80}},
		Offset: 128, Sub: sub, Scale: Scale{Format: F32, Factor: 1, Signed: true}, Order: Fused,
		Code: func(b []byte, k int) Weight {
			w := Weight{Q: int(int8(b[k])), S: 1, D: single(b, wideQuants+scales)}
			if scales > 0 {
				w.S = int(int8(b[wideQuants+k/sub]))
			}
			return w
		},
		Oracle: "that of the type it was expanded from",
	}
	if scales > 0 {
		s.Planes = append(s.Planes, Plane{Fields: []Field{field(Scales, 8, 8*wideQuants, Dim{scales, 8})}, Spelling: whole(8), Width: 1})
	}
	s.Planes = append(s.Planes, singlePlane(D, wideQuants+scales))
	return s
}

// Products q*s of Q2_K are 0..45. Written as bytes they need no sub-scales, no offset and no sums of parts of a block: what remains are its
// mins, in the pairs that VPMADDWD takes.
//
//	quants as q*s       [64 of 4 k][2 of 16 rows][16 rows][4 k]
//	mins as int16       [8 pairs][32 rows][2], of 16 weights each
//	d, min as float32   [32 rows] each
var x8_mins16 = &Spec{
	Name: "X8_MINS16", Block: wideQuants, Bytes: wideQuants + 2*16 + 8, Act: activation.Q8_K,
	Planes: []Plane{
		{Fields: []Field{field(Quants, 8, 0, Dim{wideQuants, 8})}, Spelling: quants8, Width: 1},
		{Fields: []Field{field(Mins, 16, 8*wideQuants, Dim{16, 16})}, Spelling: wordPairs(8), Width: 4},
		singlePlane(D, wideQuants+32), singlePlane(Min, wideQuants+36),
	},
	Sub: wideQuants, Scale: Scale{Format: F32, Factor: 1}, Order: TwoSums,
	Code: func(b []byte, k int) Weight {
		m := binary.LittleEndian.Uint16(b[wideQuants+k/16*2:])
		return Weight{Q: int(b[k]), S: 1, M: int(int16(m)), D: single(b, wideQuants+32), Min: single(b, wideQuants+36)}
	},
	Oracle: "that of the type it was expanded from",
}

const wideQuants = 256 // in a block of an expanded row

// single returns the float32 at byte i.
func single(block []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(block[i:]))
}

// singlePlane is the plane of the float32 at a byte of a block.
func singlePlane(role Role, byte int) Plane {
	return Plane{Fields: []Field{field(role, 32, 8*byte)}, Spelling: whole(32), Width: 4}
}

// wordPairs spells values of 16 bits in the halves of n dwords.
func wordPairs(n int) Spelling {
	s := Spelling{Words: n}
	for i := range 2 * n {
		s.Values = append(s.Values, []Piece{{i / 2, i % 2 * 16, 16}})
	}
	return s
}

// Wides returns the specs that types expand to.
func Wides() []*Spec { return []*Spec{x8_16, x8_32, x8_256, x8_mins16} }

// Readable reports whether there are GEMM kernels that read packed panels of the type as they are: those whose quants unpack in registers.
// Panels of others are always expanded.
func (s *Spec) Readable() bool {
	_, ok := s.Field(Quants)
	return ok
}

// Expand is the oracle of expansion kernels: it returns packed panels as panels of s.Wide.
func (s *Spec) Expand(packed []byte) []byte {
	to := s.Wide
	_, scaled := to.Field(Scales)
	mins, _ := to.Field(Mins)
	_, hasMin := to.Field(Min)
	rows := s.Unpack(packed, PanelRows, len(packed)/s.PanelBytes())
	for i, row := range rows {
		var x []byte
		for ; len(row) > 0; row = row[s.Bytes:] {
			for k := range s.Block {
				w := s.Code(row, k)
				if scaled {
					w.S = 1
				}
				x = append(x, byte(w.S*w.Q))
			}
			for k := 0; k < s.Block && scaled; k += to.Sub {
				x = append(x, byte(s.Code(row, k).S))
			}
			for k := 0; k < s.Block && hasMin; k += s.Block / mins.Len() {
				x = binary.LittleEndian.AppendUint16(x, uint16(s.Code(row, k).M))
			}
			w := s.Code(row, 0)
			x = binary.LittleEndian.AppendUint32(x, math.Float32bits(w.D))
			if hasMin {
				x = binary.LittleEndian.AppendUint32(x, math.Float32bits(w.Min))
			}
		}
		rows[i] = x
	}
	return to.Pack(rows)
}
