package weight

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestMoves finds every bit of a panel block and every bit of 32 GGUF blocks once.
func TestMoves(t *testing.T) {
	each(t, func(t *testing.T, s *Spec) {
		from, to := make([]int, PanelRows*8*s.Bytes), make([]int, 8*s.PanelBytes())
		s.Moves(func(m Move) {
			from[8*s.Bytes*m.Row+m.From]++
			to[m.To]++
		})
		for i := range from {
			if from[i] != 1 {
				t.Fatalf("bit %d of byte %d of row %d is moved %d times", i%8, i/8%s.Bytes, i/8/s.Bytes, from[i])
			}
			if to[i] != 1 {
				t.Fatalf("bit %d of byte %d of the panel is filled %d times", i%8, i/8, to[i])
			}
		}
	})
}

func FuzzPack(f *testing.F) {
	for i := range Specs() {
		f.Add(uint8(i), uint64(i), uint8(31+i%3), uint8(i))
	}
	f.Fuzz(func(t *testing.T, spec uint8, seed uint64, n, blocks uint8) {
		s := Specs()[int(spec)%len(Specs())]
		r := rand.New(rand.NewPCG(seed, 1))
		rows := make([][]byte, 1+n%70)
		for i := range rows {
			rows[i] = s.random(r, s.Block*(1+int(blocks)%3))
		}
		packed := s.Pack(rows)
		if want := (len(rows) + 31) / 32 * 32 * len(rows[0]); len(packed) != want {
			t.Fatalf("%d bytes, want %d", len(packed), want)
		}
		for i, row := range s.Unpack(packed, len(rows), len(rows[0])/s.Bytes) {
			if !bytes.Equal(row, rows[i]) {
				t.Fatalf("%s: row %d of %d comes back otherwise", s.Name, i, len(rows))
			}
		}
	})
}

// unpack spells value i of a spelling as a kernel does. every is the distance in bits of the values that a word of 16 bits holds: 8
// for the bytes of quants, 16 for others. dirty leaves what lies beside the value.
func unpack(value []Piece, words []vector, every int, dirty bool) vector {
	repeat := func(mask int) uint16 {
		if every == 8 {
			mask |= mask << 8
		}
		return uint16(mask)
	}
	var v vector
	bits := 0
	for i, p := range value {
		next := words[p.Word].shift(p.Shift%16 - bits)
		if i == 0 {
			v = next
		} else {
			v = choose(repeat(1<<bits-1), v, next)
		}
		bits += p.Bits
	}
	if dirty {
		return v
	}
	return v.and(repeat(1<<bits - 1))
}

// TestUnpackQuants unpacks panels by vector operations, and finds the operand of VPDPBUSD for every row and k where it should be.
func TestUnpackQuants(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	each(t, func(t *testing.T, s *Spec) {
		if s.Planes[0].Fields[0].Role != Quants {
			t.Skip("quants of grids need a decoder")
		}
		var rows [][]byte
		for range PanelRows {
			rows = append(rows, s.random(r, s.Block))
		}
		offset, plane := s.Plane(Quants)
		memory := s.Pack(rows)[offset:][:plane.Size()]
		var table [16]byte
		if s.LUT != nil {
			for i, v := range s.LUT {
				table[i] = byte(int(v) + s.Offset)
			}
		}
		n, words := len(plane.Spelling.Values), make([]vector, plane.Spelling.Words)
		for i := range s.Block / 4 * 2 {
			if i%n == 0 {
				for w := range words {
					words[w], memory = load(memory), memory[64:]
				}
			}
			v := unpack(plane.Spelling.Values[i%n], words, 8, s.LUT != nil)
			if s.LUT != nil {
				v = v.permute(table)
			}
			for lane, got := range v {
				row, k := i%2*16+lane/4, i/2*4+lane%4
				if want := s.Code(rows[row], k).Q + s.Offset; int(got) != want {
					t.Fatalf("vector %d: weight %d of row %d is %d, want %d", i, k, row, got, want)
				}
			}
		}
		if len(memory) != 0 {
			t.Errorf("%d bytes are left", len(memory))
		}
	})
}

// TestUnpackScales unpacks scales and mins that share three words: to pairs, two neighbours in the halves of a dword, where words are
// dwords, else to one in each word.
func TestUnpackScales(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	tested := 0
	each(t, func(t *testing.T, s *Spec) {
		if _, ok := s.Field(Scales); !ok {
			t.Skip("no scales")
		}
		offset, plane := s.Plane(Scales)
		if plane.Spelling.Words != 3 {
			t.Skip("no scales in three words")
		}
		tested++
		var rows [][]byte
		for range PanelRows {
			rows = append(rows, s.random(r, s.Block))
		}
		memory := s.Pack(rows)[offset:]
		halves := plane.Width / 2
		for first := 0; first < PanelRows; first += 64 / plane.Width {
			var words [3]vector
			for w := range words {
				words[w] = load(memory[(w*PanelRows+first)*plane.Width:])
			}
			for pair := range len(plane.Spelling.Values) / halves {
				v := unpack(plane.Spelling.Values[pair*halves], words[:], 16, false)
				for i := 0; i < 64; i += 2 {
					row, e := first+i/plane.Width, pair*halves+i%plane.Width/2
					field := plane.Fields[e*len(plane.Fields)/plane.Len()]
					want := field.Get(rows[row], e%field.Len())
					if got := uint32(v[i]) | uint32(v[i+1])<<8; got != want {
						t.Fatalf("pair %d: value %d of row %d is %d, want %d", pair, e, row, got, want)
					}
				}
			}
		}
	})
	if tested != 5 {
		t.Errorf("%d types have scales in three words, want Q3_K, Q4_K, Q5_K, IQ4_XS and IQ1_M", tested)
	}
}
