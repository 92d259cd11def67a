package weight

import (
	"encoding/binary"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Specs returns every type.
func Specs() []*Spec {
	return []*Spec{
		&q4_0, &q4_1, &q5_0, &q5_1, &q8_0, &iq4_nl, &mxfp4, &nvfp4,
		&q2_K, &q3_K, &q4_K, &q5_K, &q6_K, &iq4_xs,
		&iq1_s, &iq1_m, &iq2_xxs, &iq2_xs, &iq2_s, &iq3_xxs, &iq3_s, &tq1_0, &tq2_0,
	}
}

// half returns the FP16 at byte i, widened.
func half(block []byte, i int) float32 { return ieee.Float16(binary.LittleEndian.Uint16(block[i:])) }

// halfPlane is the plane of the FP16 at a byte of a block.
func halfPlane(role Role, byte int) Plane {
	return Plane{Fields: []Field{field(role, 16, 8*byte)}, Spelling: whole(16), Width: 2}
}

// quantPlane is the plane of quants of 2 to 6 bits.
func quantPlane(s Spelling, parts ...Part) Plane {
	return Plane{Fields: []Field{{Quants, parts}}, Spelling: s, Width: 1}
}

// nibble returns the low half of a byte for the first 16 of 32 weights and the high half for the others. quants starts at the bytes
// of the 32 that k is one of.
func nibble(quants []byte, k int) int { return int(quants[k%16] >> (k % 32 / 16 * 4) & 15) }

// nibbles is where those halves lie in blocks of 32, from a byte on.
func nibbles(byte int) Part { return Part{4, 8 * byte, []Dim{{16, 8}, {2, 4}}} }

// bit returns bit i of an array of bits.
func bit(bits []byte, i int) int { return int(bits[i/8] >> (i % 8) & 1) }
