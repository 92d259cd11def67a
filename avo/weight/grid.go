package weight

import (
	"encoding/base64"
	"encoding/binary"
)

// Grid is a table of groups of weights, of which an index in a block chooses one.
type Grid struct {
	Wide   int    // weights in a group: 8, or 4
	Levels []int8 // what each may be, before its sign: 3 of those with 8 weights, 8 of those with 4
	codes  []uint8
}

// newGrid reads the steps of grids.go.
func newGrid(wide int, levels []int8, steps string) *Grid {
	raw, err := base64.StdEncoding.DecodeString(steps)
	if err != nil {
		panic("weight: grid: " + err.Error())
	}
	g := &Grid{Wide: wide, Levels: levels}
	number := 0
	for len(raw) > 0 {
		step, n := binary.Uvarint(raw)
		raw = raw[n:]
		number += int(step)
		rest := number
		for range wide {
			g.codes = append(g.codes, uint8(rest%len(levels)))
			rest /= len(levels)
		}
	}
	return g
}

// Len returns the number of entries.
func (g *Grid) Len() int { return len(g.codes) / g.Wide }

// Code returns which level weight i of an entry has.
func (g *Grid) Code(entry, i int) int { return int(g.codes[entry*g.Wide+i]) }

// at returns weight i of an entry, without its sign.
func (g *Grid) at(entry, i int) int { return int(g.Levels[g.Code(entry, i)]) }

// Planes returns the codes as decoders look them up, a byte of each plane per entry. Of 8 weights, low has 2 bits each of the first
// four and high those of the others; of 4 weights, low has the low 2 bits of each and high their third bits.
func (g *Grid) Planes() (low, high []byte) {
	low, high = make([]byte, g.Len()), make([]byte, g.Len())
	for e := range low {
		for i := range g.Wide {
			code := g.codes[e*g.Wide+i]
			switch {
			case g.Wide == 4:
				low[e] |= code & 3 << (2 * i)
				high[e] |= code >> 2 << i
			case i < 4:
				low[e] |= code << (2 * i)
			default:
				high[e] |= code << (2 * (i - 4))
			}
		}
	}
	return low, high
}

// negate gives q the sign that bit i of a byte of signs has for it.
func negate(q int, signs uint32, i int) int {
	if signs>>i&1 != 0 {
		return -q
	}
	return q
}

// parity completes 7 bits of signs with an eighth, which makes the number of ones even.
func parity(signs uint32) uint32 {
	signs &= 127
	odd := signs ^ signs>>4
	odd ^= odd >> 2
	odd ^= odd >> 1
	return signs | (odd&1)<<7
}

// dwords is the plane of a field of bytes, of which four share a dword.
func dwords(role Role, byte, count int) Plane {
	return Plane{Fields: []Field{field(role, 8, 8*byte, Dim{count, 8})}, Spelling: fourBytes, Width: 4}
}

// inByte is the plane of a field of 1, 2 or 4 bits that keeps the bytes it has in the GGUF.
func inByte(role Role, bits, byte, count int) Plane {
	s := Spelling{Words: 1}
	for shift := 0; shift < 8; shift += bits {
		s.Values = append(s.Values, []Piece{{0, shift, bits}})
	}
	return Plane{Fields: []Field{field(role, bits, 8*byte, Dim{count, bits})}, Spelling: s, Width: 1}
}

// signsAndScale is the plane of 8 dwords of IQ2_XXS and IQ3_XXS, the first at a byte and each a step of bytes after the other: four
// times 7 bits of signs and 4 bits of scale.
func signsAndScale(byte, step int) Plane {
	s := Spelling{Words: 8}
	for i := range 32 {
		s.Values = append(s.Values, []Piece{{i / 4, i % 4 * 7, 7}})
	}
	for i := range 8 {
		s.Values = append(s.Values, []Piece{{i, 28, 4}})
	}
	return Plane{
		Fields: []Field{
			field(Signs, 7, 8*byte, Dim{4, 7}, Dim{8, 8 * step}),
			field(Scales, 4, 8*byte+28, Dim{8, 8 * step}),
		},
		Spelling: s, Width: 4,
	}
}
