package code

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Words are the weights of a panel, row by row: BF16 or F16 in the low 16 bits, or F32. Rows that are shorter than the longest, and all
// to a multiple of Cols, stand for zeros behind them.
type Words [Rows][]uint32

// blocks returns how many blocks the longest row takes.
func (w Words) blocks() int {
	k := 0
	for _, row := range w {
		k = max(k, len(row))
	}
	return (k + Cols - 1) / Cols
}

// at returns weight k of a row.
func (w Words) at(row, k int) uint32 {
	if k < len(w[row]) {
		return w[row][k]
	}
	return 0
}

// Panel is a panel of coded weights.
type Panel struct {
	Code   Code
	Domain Domain // the order of bytes depends on it
	Head   []byte // palette and base, flags and escapes, of a multiple of 64 bytes; none of plain codes
	Blocks []byte
}

// Len returns the number of blocks.
func (p Panel) Len() int { return len(p.Blocks) / p.Code.BlockBytes() }

// Bits returns the size of the panel.
func (p Panel) Bits() int { return 8 * (len(p.Head) + len(p.Blocks)) }

// Palette is what a code with indices looks high bytes up in. The high and the low byte of a word are those of the word plus the base, modulo 2^16:
// only B11 has a base that is not zero.
type Palette struct {
	Base  uint16
	Bytes []byte // what indices stand for, the last being the mark
}

// High returns the high byte of a word.
func (p Palette) High(word uint32) byte { return byte((word + uint32(p.Base)) >> 8) }

// Palette returns the palette that suits words best, and how many of them are escapes at most: all that have the mark's byte are none if no
// block has one of theirs and one that the palette lacks. Entries are the most frequent bytes, of equals the smaller. The base is that with which the
// fewest words have the index of the mark, which count as none if the palette lacks no byte: of several the smallest.
func (c Code) Palette(w Words) (palette Palette, escapes int) {
	fewest := -1
	for _, base := range c.bases() {
		p, marked, rare := c.palette(w, base)
		need := marked
		if rare == 0 {
			need = 0
		}
		if fewest < 0 || need < fewest {
			palette, escapes, fewest = p, marked, need
		}
	}
	return palette, escapes
}

// palette returns the palette with a base, how many words have the index of its mark, and how many of these a byte that it lacks.
func (c Code) palette(w Words, base uint16) (p Palette, marked, rare int) {
	p.Base = base
	var count [256]int
	n := w.blocks() * Cols
	for row := range w {
		for k := range n {
			count[p.High(w.at(row, k))]++
		}
	}
	order := make([]byte, len(count))
	for i := range order {
		order[i] = byte(i)
	}
	slices.SortStableFunc(order, func(a, b byte) int { return cmp.Compare(count[b], count[a]) })
	for _, b := range order[c.Entries():] {
		rare += count[b]
	}
	p.Bytes = order[:c.Entries()]
	return p, rare + count[order[c.Entries()-1]], rare
}

// Encode codes a panel by the palette that leaves the fewest escapes. Words must be of the code's width: it panics where they are not, and
// where the domain has no such code.
func Encode(c Code, d Domain, w Words) Panel {
	if c.Plain() {
		return EncodeBy(Palette{}, c, d, w)
	}
	palette, _ := c.Palette(w)
	return EncodeBy(palette, c, d, w)
}

// EncodeBy codes a panel by any palette of different bytes, as many as the code has entries. The base may be any in B11, and is 0 in others.
func EncodeBy(palette Palette, c Code, d Domain, w Words) Panel {
	if !slices.Contains(d.Codes(), c) {
		panic(fmt.Sprintf("code: %v is none of %v's", c, d))
	}
	for _, row := range w {
		for _, word := range row {
			if c.WordBytes() == 2 && word > 0xffff {
				panic(fmt.Sprintf("code: %#x is no word of %v", word, c))
			}
		}
	}
	p := Panel{Code: c, Domain: d, Blocks: make([]byte, w.blocks()*c.BlockBytes())}
	if c.Plain() {
		for at := range w.blocks() * Steps {
			row, k := at%Rows, at/Rows*Step
			for i := range Step {
				p.put(at*Step+i, w.at(row, k+i))
			}
		}
		return p
	}

	if len(palette.Bytes) != c.Entries() || palette.Base != 0 && c != B11 {
		panic(fmt.Sprintf("code: a palette of %d bytes and a base of %d for %v", len(palette.Bytes), palette.Base, c))
	}
	mark := len(palette.Bytes) - 1
	p.Head = slices.Clone(palette.Bytes)
	if c == B11 {
		p.Head = binary.LittleEndian.AppendUint16(p.Head, palette.Base)
		p.Head = append(p.Head, make([]byte, c.PaletteBytes()-len(p.Head))...)
	}
	flags := make([]byte, w.blocks())
	var escapes []byte
	for b := range flags {
		block := p.Blocks[b*c.BlockBytes():][:c.BlockBytes()]
		var marked []byte
		for s := range Steps {
			low := block[c.Vectors()*Line+s*Step:][:Step]
			for at := range low {
				word := w.at(s%Rows, b*Cols+s/Rows*Step+c.weightOf(d, at))
				low[at] = byte(word + uint32(palette.Base))
				high := palette.High(word)
				index := bytes.IndexByte(palette.Bytes[:mark], high)
				if index < 0 {
					index = mark
					marked = append(marked, high)
				}
				for _, i := range c.pieces(s) {
					block[i.vector*Line+at] |= byte(index>>i.at&(1<<i.bits-1)) << i.shift
				}
			}
		}
		if slices.ContainsFunc(marked, func(high byte) bool { return high != palette.Bytes[mark] }) {
			flags[b] = 1
			escapes = append(escapes, marked...)
		}
	}
	p.Head = append(append(p.Head, flags...), escapes...)
	for len(p.Head)%Line != 0 {
		p.Head = append(p.Head, 0)
	}
	return p
}

// put writes word i of a plain panel.
func (p Panel) put(i int, word uint32) {
	if p.Code.WordBytes() == 4 {
		binary.LittleEndian.PutUint32(p.Blocks[4*i:], word)
	} else {
		binary.LittleEndian.PutUint16(p.Blocks[2*i:], uint16(word))
	}
}

// get reads word i of a plain panel.
func (p Panel) get(i int) uint32 {
	if p.Code.WordBytes() == 4 {
		return binary.LittleEndian.Uint32(p.Blocks[4*i:])
	}
	return uint32(binary.LittleEndian.Uint16(p.Blocks[2*i:]))
}

// Palette returns the palette in a panel's head, of a code that has one.
func (p Panel) Palette() Palette {
	palette := Palette{Bytes: p.Head[:p.Code.Entries()]}
	if p.Code == B11 {
		palette.Base = binary.LittleEndian.Uint16(p.Head[p.Code.Entries():])
	}
	return palette
}

// Decode returns the words of a panel, of a multiple of Cols in each row. It is an error if the head ends before the escapes do, or does
// not fit the blocks otherwise.
func (p Panel) Decode() (Words, error) {
	var w Words
	for row := range w {
		w[row] = make([]uint32, p.Len()*Cols)
	}
	c := p.Code
	if c.Plain() {
		for at := range p.Len() * Steps {
			for i := range Step {
				w[at%Rows][at/Rows*Step+i] = p.get(at*Step + i)
			}
		}
		return w, nil
	}
	if len(p.Head) < c.PaletteBytes()+p.Len() {
		return w, fmt.Errorf("a head of %d bytes has no room for a palette and flags of %d blocks", len(p.Head), p.Len())
	}
	palette, flags, escapes := p.Palette(), p.Head[c.PaletteBytes():][:p.Len()], p.Head[c.PaletteBytes()+p.Len():]
	mark := c.Entries() - 1
	for b, flag := range flags {
		block := p.Blocks[b*c.BlockBytes():][:c.BlockBytes()]
		for s := range Steps {
			low := block[c.Vectors()*Line+s*Step:][:Step]
			for at := range low {
				index := 0
				for _, i := range c.pieces(s) {
					index |= int(block[i.vector*Line+at]) >> i.shift & (1<<i.bits - 1) << i.at
				}
				high := palette.Bytes[index]
				if index == mark && flag != 0 {
					if len(escapes) == 0 {
						return w, errors.New("there are more escapes than the head holds")
					}
					high, escapes = escapes[0], escapes[1:]
				}
				w[s%Rows][b*Cols+s/Rows*Step+c.weightOf(p.Domain, at)] = uint32(uint16(high)<<8 | uint16(low[at]) - palette.Base)
			}
		}
	}
	return w, nil
}
