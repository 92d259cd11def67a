package entropy

import (
	"encoding/binary"
	"fmt"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// format is the bits that a float has of each kind, from the top: a sign, an exponent, a mantissa.
type format struct{ exponent, mantissa int }

var formats = map[gguf.Type]format{gguf.BF16: {8, 7}, gguf.F16: {5, 10}, gguf.F32: {8, 23}}

// The mantissa is taken in pieces, of which only the first can be expected to depend on the exponent: the density of weights changes
// within a binade, but hardly within a 128th of one.
const firstPiece, otherPieces = 7, 8

// floats measures a type of floats by their signs, exponents and pieces of their mantissas.
type floats struct {
	format
	signs, exponents counts
	previous, above  *joint // exponents by the one before, and by that of the row before
	byRow, byPanel   *joint // exponents by the others in the row, and in the panel
	pieces           []piece
	now, before      []int // exponents of a row, and of the one before
	panels           *panels
}

// piece is bits of the mantissa from bit at on, by the exponent.
type piece struct {
	at, bits int
	*joint
}

func newFloats(t gguf.Type) *floats {
	f := &floats{format: formats[t], panels: newPanels(t)}
	n := 1 << f.exponent
	f.signs, f.exponents = make(counts, 2), make(counts, n)
	f.previous, f.above = newJoint(n+1, n), newJoint(n+1, n)
	f.byRow, f.byPanel = newJoint(1, n), newJoint(1, n)
	for left, most := f.mantissa, firstPiece; left > 0; most = otherPieces {
		bits := min(left, most)
		left -= bits
		f.pieces = append(f.pieces, piece{left, bits, newJoint(n, 1<<bits)})
	}
	return f
}

func (f *floats) row(b []byte, first bool) {
	if first {
		f.before = nil
		f.end()
	}
	n := len(f.exponents)
	f.now = f.now[:0]
	previous := n // no exponent
	words := wordsOf(b, 1+f.exponent+f.mantissa)
	for i, w := range words {
		e := int(w>>f.mantissa) & (n - 1)
		f.signs[w>>(f.exponent+f.mantissa)]++
		f.exponents[e]++
		f.previous.add(previous, e)
		above := n
		if f.before != nil {
			above = f.before[i]
		}
		f.above.add(above, e)
		f.byRow.add(0, e)
		f.byPanel.add(0, e)
		for _, p := range f.pieces {
			p.add(e, int(w>>p.at)&(1<<p.bits-1))
		}
		f.now, previous = append(f.now, e), e
	}
	f.byRow.end()
	f.now, f.before = f.before, f.now
	if f.panels.row(words) {
		f.byPanel.end()
	}
}

// end closes a matrix.
func (f *floats) end() {
	if f.panels.end() {
		f.byPanel.end()
	}
}

func (f *floats) parts() []Part {
	f.end()
	sign := Part{Name: "sign", Stored: 1, Bits: f.signs.entropy()}
	exponent := Part{Name: "exponent", Stored: float64(f.exponent), Bits: f.exponents.entropy()}
	sign.Best, exponent.Best = sign.Bits, exponent.Bits
	exponent.consider(f.previous.entropy(), "the one before it")
	exponent.consider(f.above.entropy(), "that of the row before")
	exponent.consider(f.byRow.entropy(), "the others of its row")
	exponent.consider(f.byPanel.entropy(), "the others of its panel")
	list := []Part{sign, exponent}
	for _, p := range f.pieces {
		part := Part{Name: fmt.Sprintf("mantissa, bits %d to %d", p.at, p.at+p.bits-1), Stored: float64(p.bits), Bits: p.marginal.entropy()}
		part.Best = part.Bits
		part.consider(p.entropy(), "the exponent")
		list = append(list, part)
	}
	return list
}

func (f *floats) codes() []Use {
	f.end()
	return f.panels.result()
}

// wordsOf returns the words of so many bits, 16 or 32, that b holds.
func wordsOf(b []byte, bits int) []uint32 {
	words := make([]uint32, 8*len(b)/bits)
	for i := range words {
		if bits == 16 {
			words[i] = uint32(binary.LittleEndian.Uint16(b[2*i:]))
		} else {
			words[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
	}
	return words
}
