package weight

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// panel is the packed block of 32 random rows.
type panel struct {
	*Spec
	rows      [][]byte
	packed    []byte
	low, high []byte // the grid's planes
}

func newPanel(s *Spec, r *rand.Rand) panel {
	p := panel{Spec: s}
	for range PanelRows {
		p.rows = append(p.rows, s.random(r, s.Block))
	}
	p.packed = s.Pack(p.rows)
	if s.Grid != nil {
		p.low, p.high = s.Grid.Planes()
	}
	return p
}

// load loads a word of rows 16v..16v+15 from the plane of a role, extended to dwords by VPMOVZX where it is shorter.
func (p panel) load(role Role, word, v int) (dwords vector) {
	offset, plane := p.Plane(role)
	for lane := range 16 {
		copy(dwords[4*lane:][:plane.Width], p.packed[offset+(word*PanelRows+16*v+lane)*plane.Width:])
	}
	return dwords
}

// lookUp looks 64 indices up in a table of one byte an entry. The bits of an index above 7 are the low ones of high.
func lookUp(table []byte, index, high vector) vector {
	if len(table) == 128 {
		return index.permute128(table)
	}
	half := len(table) / 2
	by, bit := index, 7
	if half > 128 {
		by, bit = high, bits.TrailingZeros(uint(half))-8
	}
	return by.blend(bit, lookUp(table[:half], index, high), lookUp(table[half:], index, high))
}

// Controls of spread are given for a dword, the place of its lowest bit, and byte i of the result in it.

// sevens spreads the 7-bit fields of a dword to bytes and completes them with a parity.
func sevens(dwords vector) vector {
	return dwords.spread(func(dword, i int) int { return dword + 7*i }).even()
}

// values returns 128+q for the codes of levels and a sign, which lie in an index of VPERMB at the given bits.
func (g *Grid) values(q func(level int, minus bool) int, code []int, sign int) (table vector) {
	for i := range table {
		level := 0
		for b, at := range code {
			level |= i >> at & 1 << b
		}
		if level < len(g.Levels) {
			table[i] = byte(128 + q(int(g.Levels[level]), i>>sign&1 != 0))
		}
	}
	return table
}

func signed(level int, minus bool) int {
	if minus {
		return -level
	}
	return level
}

func shifted(level int, minus bool) int {
	if minus {
		return level - 1
	}
	return level + 1
}

// eights decodes entries of 8 weights: from indices, a byte each, and for each vector the bytes whose bit 2 is the sign.
func (p panel) eights(index, high vector, q func(int, bool) int, sign func(e int) vector) (out [8]vector) {
	codes := [2]vector{lookUp(p.low, index, high), lookUp(p.high, index, high)}
	table := p.Grid.values(q, []int{0, 1}, 2)
	for e := range out {
		code := codes[e%2].spread(func(dword, i int) int { return dword + 8*(e/2) + 2*i })
		out[e] = choose(0x0303, code, sign(e)).permute64(table)
	}
	return out
}

// signBytes spreads bytes of signs so that each sign is bit 2.
func signBytes(signs vector) func(e int) vector {
	return func(e int) vector {
		return signs.spread(func(dword, i int) int { return dword + 4*e + i - 2 })
	}
}

// fours decodes entries of 4 weights, from a dword of indices for each half of the 32.
func (p panel) fours(index, high [2]vector, signs vector) (out [8]vector) {
	table := p.Grid.values(signed, []int{1, 2, 0}, 4)
	for half := range 2 {
		low := lookUp(p.low, index[half], high[half])
		// The third bits of four codes and their four signs share a byte.
		top := choose(0x0f0f, lookUp(p.high, index[half], high[half]),
			signs.spread(func(dword, i int) int { return dword + 16*half + 4*i - 4 }))
		for j := range 4 {
			code := low.spread(func(dword, i int) int { return dword + 8*j + 2*i - 1 })
			rest := top.spread(func(dword, i int) int { return dword + 8*j + i })
			out[4*half+j] = choose(0x0606, code, rest).permute64(table)
		}
	}
	return out
}

// decoders turn weights 32b..32b+31 of rows 16v..16v+15 into 8 vectors of VPDPBUSD's operand.
var decoders = map[string]func(p panel, b, v int) [8]vector{
	"IQ2_XXS": func(p panel, b, v int) [8]vector {
		return p.eights(p.load(Index, b, v), vector{}, signed, signBytes(sevens(p.load(Signs, b, v))))
	},
	"IQ2_XS": func(p panel, b, v int) [8]vector {
		high := p.load(IndexHigh, b, v)
		return p.eights(p.load(Index, b, v), high, signed, signBytes(high.shift(1).even()))
	},
	"IQ2_S": func(p panel, b, v int) [8]vector {
		high := p.load(IndexHigh, b, v).spread(func(dword, i int) int { return dword + 2*i })
		return p.eights(p.load(Index, b, v), high, signed, signBytes(p.load(Signs, b, v)))
	},
	"IQ1_S": func(p panel, b, v int) [8]vector {
		words := p.load(IndexHigh, b, v)
		high := words.spread(func(dword, i int) int { return dword + 3*i })
		delta := words.spread(func(dword, _ int) int { return dword + 15 - 2 })
		return p.eights(p.load(Index, b, v), high, shifted, func(int) vector { return delta })
	},
	"IQ1_M": func(p panel, b, v int) [8]vector {
		words := p.load(IndexHigh, b, v)
		high := words.spread(func(dword, i int) int { return dword + 4*i })
		return p.eights(p.load(Index, b, v), high, shifted, func(e int) vector {
			return words.spread(func(dword, _ int) int { return dword + 4*(e/2) + 3 - 2 })
		})
	},
	"IQ3_XXS": func(p panel, b, v int) [8]vector {
		index := [2]vector{p.load(Index, 2*b, v), p.load(Index, 2*b+1, v)}
		return p.fours(index, [2]vector{}, sevens(p.load(Signs, b, v)))
	},
	"IQ3_S": func(p panel, b, v int) [8]vector {
		index := [2]vector{p.load(Index, 2*b, v), p.load(Index, 2*b+1, v)}
		var high [2]vector
		for half := range high {
			high[half] = p.load(IndexHigh, b, v).spread(func(dword, i int) int { return dword + 4*half + i })
		}
		return p.fours(index, high, p.load(Signs, b, v))
	},
	"TQ1_0": func(p panel, b, v int) (out [8]vector) {
		// Four trits of a byte as 2 bits each, and the fifth.
		var low, high [256]byte
		for i := range low {
			for digit := range 4 {
				low[i] |= byte(Trit(byte(i), digit) << (2 * digit))
			}
			high[i] = byte(Trit(byte(i), 4))
		}
		for e := range out {
			first, digit := trit(32*b + 4*e)
			bytes := p.load(Packed, first/4, v)
			if digit < 4 {
				out[e] = lookUp(low[:], bytes, vector{}).shift(2 * digit).and(0x0303)
			} else {
				out[e] = lookUp(high[:], bytes, vector{})
			}
			for i := range out[e] {
				out[e][i] += 127
			}
		}
		return out
	},
}

// TestDecode decodes panels of grid types by vector operations, and finds the operand of VPDPBUSD for every row and k.
func TestDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	each(t, func(t *testing.T, s *Spec) {
		decode, ok := decoders[s.Name]
		if _, quants := s.Field(Quants); ok == quants {
			t.Fatalf("quants to unpack: %v, a decoder: %v", quants, ok)
		}
		if !ok {
			t.Skip("unpacked in registers")
		}
		p := newPanel(s, r)
		for b := range s.Block / 32 {
			for v := range 2 {
				for e, got := range decode(p, b, v) {
					for lane, u := range got {
						row, k := 16*v+lane/4, 32*b+4*e+lane%4
						if want := s.Code(p.rows[row], k).Q + s.Offset; int(u) != want {
							t.Fatalf("weight %d of row %d is %d, want %d", k, row, u, want)
						}
					}
				}
			}
		}
	})
}
