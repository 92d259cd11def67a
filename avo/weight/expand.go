package weight

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
)

// Types whose quants are looked up, in grids or as trits, have no GEMM kernels of their own: a kernel expands some blocks of a panel to
// a cache, and the GEMM kernels of a wide spec read them there. That spec has bytes for quants and sub-scales and a float32 for d, and
// by the rules of packed panels a panel block of it is
//
//	quants as q+128     [64 of 4 k][2 of 16 rows][16 rows][4 k]
//	sub-scales as int8  [256/Sub][32 rows]    none if Sub is 256
//	d as float32        [32 rows]
var wides = []*Spec{wide(16), wide(32), wide(256)}

// wide makes the spec of expanded panels whose sub-scales span so many weights. Its rows, which no GGUF has, are blocks of 256 int8,
// int8 sub-scales and a float32.
func wide(sub int) *Spec {
	const quants = 256
	scales := quants / sub
	if sub == quants {
		scales = 0
	}
	s := &Spec{
		Name: fmt.Sprintf("X8_%d", sub), Block: quants, Bytes: quants + scales + 4, Act: activation.Q8_K,
		Planes: []Plane{{Fields: []Field{field(Quants, 8, 0, Dim{quants, 8})}, Spelling: quants8, Width: 1, Invert: 0x80}},
		Offset: 128, Sub: sub, Scale: Scale{Format: F32, Factor: 1, Signed: true}, Order: Fused,
		Code: func(b []byte, k int) Weight {
			w := Weight{Q: int(int8(b[k])), S: 1, D: math.Float32frombits(binary.LittleEndian.Uint32(b[quants+scales:]))}
			if scales > 0 {
				w.S = int(int8(b[quants+k/sub]))
			}
			return w
		},
		Oracle: "that of the type it was expanded from",
	}
	if scales > 0 {
		s.Planes = append(s.Planes, Plane{Fields: []Field{field(Scales, 8, 8*quants, Dim{scales, 8})}, Spelling: whole(8), Width: 1})
	}
	s.Planes = append(s.Planes, Plane{Fields: []Field{field(D, 32, 8*(quants+scales))}, Spelling: whole(32), Width: 4})
	return s
}

// Wides returns the specs that types expand to.
func Wides() []*Spec { return wides }

// Wide returns the spec that panels of this type expand to, nil if they are read as they are.
func (s *Spec) Wide() *Spec {
	if _, ok := s.Field(Quants); ok {
		return nil
	}
	for _, w := range wides {
		if w.Sub == s.Sub {
			return w
		}
	}
	panic("weight: nothing to expand " + s.Name + " to")
}

// Expand is the oracle of expansion kernels: it returns packed panels as panels of s.Wide.
func (s *Spec) Expand(packed []byte) []byte {
	to := s.Wide()
	rows := s.Unpack(packed, PanelRows, len(packed)/s.PanelBytes())
	for i, row := range rows {
		var x []byte
		for ; len(row) > 0; row = row[s.Bytes:] {
			for k := range s.Block {
				x = append(x, byte(s.Code(row, k).Q))
			}
			for k := 0; k < s.Block && to.Sub < to.Block; k += to.Sub {
				x = append(x, byte(s.Code(row, k).S))
			}
			x = binary.LittleEndian.AppendUint32(x, math.Float32bits(s.Code(row, 0).D))
		}
		rows[i] = x
	}
	return to.Pack(rows)
}
