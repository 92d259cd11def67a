package code

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Source is the type that a tensor's weights have.
type Source uint8

// Sources.
const (
	FromBF16 Source = iota
	FromF16
	FromF32
)

func (s Source) String() string { return [...]string{"BF16", "F16", "F32"}[s] }

// Domain returns the arithmetic of products with such a tensor.
func (s Source) Domain() Domain {
	if s == FromBF16 {
		return BF16
	}
	return F32
}

// Codes returns those that can hold panels of such a tensor, some of them only if every weight allows it.
func (s Source) Codes() []Code {
	return [...][]Code{{B11, B12, B16}, {B11, B12, B16, H14, H16}, Codes()}[s]
}

// Widen returns the bits of the F32 that a word of a code is.
func (c Code) Widen(word uint32) uint32 {
	switch c {
	case B11, B12, B16:
		return word << 16
	case H14, H16:
		return math.Float32bits(ieee.Float16(uint16(word)))
	}
	return word
}

// As returns the word of a code that is exactly a weight, and whether there is one: both must widen to the same 32 bits, and the weight
// come back from them. So a NaN that a conversion would make quiet has none.
func (s Source) As(c Code, weight uint32) (word uint32, ok bool) {
	own := [...]Code{B16, H16, S32}[s]
	wide := own.Widen(weight)
	switch c {
	case B11, B12, B16:
		if s == FromBF16 {
			return weight, true
		}
		word = wide >> 16
	case H14, H16:
		if s == FromF16 {
			return weight, true
		}
		word = uint32(ieee.ToFloat16(math.Float32frombits(wide)))
	case S32:
		word = wide
	}
	// Widening makes a signalling NaN of F16 quiet, which is another one when it comes back.
	back := s != FromF16 || uint32(ieee.ToFloat16(math.Float32frombits(wide))) == weight
	return word, c.Widen(word) == wide && back
}

// Words returns a panel's weights as words of a code, and whether each of them is one.
func (s Source) Words(c Code, weights Words) (words Words, ok bool) {
	for row := range weights {
		words[row] = make([]uint32, len(weights[row]))
		for k, w := range weights[row] {
			if words[row][k], ok = s.As(c, w); !ok {
				return words, false
			}
		}
	}
	return words, true
}

// Panels returns the weights in each code that holds all of them exactly.
func (s Source) Panels(weights Words) []Panel {
	var panels []Panel
	for _, c := range s.Codes() {
		if words, ok := s.Words(c, weights); ok {
			panels = append(panels, Encode(c, s.Domain(), words))
		}
	}
	return panels
}

// Choose returns the weights in the code that takes the fewest bits, and of equals the one that takes the least to decode.
func (s Source) Choose(weights Words) Panel {
	panels := s.Panels(weights)
	best := panels[0]
	for _, p := range panels[1:] {
		if p.Bits() < best.Bits() || p.Bits() == best.Bits() && p.Code.Plain() {
			best = p
		}
	}
	return best
}
