// Package code is the specification of coded float weights: which codes there are, how a panel of weights lies in each, and the order in
// which products of coded weights are summed. DESIGN.md lays it down in words; here it is plain Go, which the kernels of avo/dot are held to.
package code

import "fmt"

// Shape of panels and blocks.
const (
	Rows = 4   // of weights in a panel
	Cols = 128 // weights of each row in a block
	Step = 64  // weights of a row in a step
	// Steps of a block: step 4*h+r is row r, weights 64*h .. 64*h+63.
	Steps = Rows * Cols / Step
)

// Line is what everything of a coded tensor is aligned to, in bytes: a vector, and a cache line.
const Line = 64

// Code is a way to store the words of a panel.
type Code uint8

// Codes, by the numbers that a coded tensor's directory has.
const (
	B11 Code = iota // BF16: low bytes and 3-bit indices into a palette of high bytes, once a base was added
	B12             // BF16: low bytes and 4-bit indices
	B16             // BF16 as they are
	H14             // F16: low bytes and 6-bit indices
	H16             // F16 as they are
	S32             // F32 as they are
)

// Codes lists all of them.
func Codes() []Code { return []Code{B11, B12, B16, H14, H16, S32} }

func (c Code) String() string {
	if int(c) < len(Codes()) {
		return [...]string{"B11", "B12", "B16", "H14", "H16", "S32"}[c]
	}
	return fmt.Sprintf("Code(%d)", uint8(c))
}

// indexBits returns the bits of an index into the palette, 0 of plain codes.
func (c Code) indexBits() int {
	switch c {
	case B11:
		return 3
	case B12:
		return 4
	case H14:
		return 6
	}
	return 0
}

// Plain reports whether the code stores words as they are: such panels have no head.
func (c Code) Plain() bool { return c.indexBits() == 0 }

// Entries returns how many bytes a palette has, its mark included: 0 of plain codes.
func (c Code) Entries() int {
	if c.Plain() {
		return 0
	}
	return 1 << c.indexBits()
}

// Vectors returns how many vectors of indices a block has.
func (c Code) Vectors() int { return Steps * c.indexBits() / 8 }

// WordBytes returns the size of a word that the code holds.
func (c Code) WordBytes() int {
	if c == S32 {
		return 4
	}
	return 2
}

// StepBytes returns how many bytes of a step lie together: its low bytes, or its words where the code is plain.
func (c Code) StepBytes() int {
	if c.Plain() {
		return Step * c.WordBytes()
	}
	return Step
}

// BlockBytes returns the size of a block.
func (c Code) BlockBytes() int { return c.Vectors()*Line + Steps*c.StepBytes() }

// bases returns what may be added to words before they are split into bytes.
func (c Code) bases() []uint16 {
	if c != B11 {
		return []uint16{0}
	}
	// High bytes are pairs of binades, and a base moves where they begin: in steps of a quarter of a binade.
	return []uint16{0, 32, 64, 96, 128, 160, 192, 224}
}

// PaletteBytes returns the size of the palette in a panel's head, and of the base behind it.
func (c Code) PaletteBytes() int {
	switch c {
	case B11, B12:
		return 16
	case H14:
		return 64
	}
	return 0
}

// Domain is the arithmetic of a product: the type that activations have, and the instruction that multiplies them.
type Domain uint8

// Domains.
const (
	BF16 Domain = iota // VDPBF16PS, for BF16 tensors
	F32                // FMA, for F16 and F32 tensors
)

func (d Domain) String() string { return [...]string{"bf16", "f32"}[d] }

// Bytes returns the size of an activation.
func (d Domain) Bytes() int { return 2 << d }

// Plain returns the plain code whose words are what the domain multiplies.
func (d Domain) Plain() Code { return [...]Code{B16, S32}[d] }

// Codes returns those that the domain has products with.
func (d Domain) Codes() []Code {
	if d == BF16 {
		return []Code{B11, B12, B16}
	}
	return Codes()
}

// weightOf returns which of a step's 64 weights is in byte p of its vectors, for a code with a palette.
func (c Code) weightOf(d Domain, p int) int {
	lane, half := p/16, p/8%2
	if d == F32 && c != H14 {
		// The words of a dword are the same element of neighbouring vectors of F32.
		q, b := p/2%4, p%2
		return 16*(2*half+b) + 4*lane + q
	}
	return 32*half + 8*lane + p%8
}

// piece is bits of an index: `bits` from bit `shift` of a byte of index vector `vector` on are those from bit `at` of the index on.
type piece struct{ vector, shift, bits, at int }

// pieces returns where the indices of a step lie.
func (c Code) pieces(step int) []piece {
	whole := 8 / c.indexBits() // indices that lie in a byte in one piece
	if step < whole*c.Vectors() {
		return []piece{{step / whole, step % whole * c.indexBits(), c.indexBits(), 0}}
	}
	if c == H14 {
		first := 3 * (step - 6)
		return []piece{{first, 6, 2, 0}, {first + 1, 6, 2, 2}, {first + 2, 6, 2, 4}}
	}
	// The top bits of three vectors together are two indices of B11.
	if step == 6 {
		return []piece{{0, 6, 2, 0}, {1, 6, 1, 2}}
	}
	return []piece{{1, 7, 1, 0}, {2, 6, 2, 1}}
}
