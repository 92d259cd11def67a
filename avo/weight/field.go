package weight

// Role says what the integers of a field are.
type Role string

const (
	Quants Role = "quants" // one per weight: q as Spec.LUT and Spec.Offset have it
	Scales Role = "scales" // one per Spec.Sub weights: s as Spec.Scale has it
	Mins   Role = "mins"   // one per Spec.Sub weights (of expanded Q2_K: 16): m
	D      Role = "d"      // one per block (NVFP4: four): the bits of d
	Min    Role = "min"    // one per block: the bits of min

	// Of grid types.
	Index     Role = "index"      // one per Grid.Wide weights: the low 8 bits of an entry's number
	IndexHigh Role = "index high" // its other bits, if it has more
	Signs     Role = "signs"      // one per 8 weights: a bit each, 1 for minus. A missing eighth makes the number of ones even
	Delta     Role = "delta"      // one per 8 or 32 weights: q is the grid's + 1, or - 1 if set

	Packed Role = "packed" // of TQ1_0: bytes of 5 or 4 trits
)

// Field is an array of unsigned integers in a GGUF block. Its parts spell the bits of each element, low part first.
type Field struct {
	Role  Role
	Parts []Part
}

// Part is some bits of every element of a field. The digits of an element's number, the lowest of radix Dims[0].N, tell where they
// lie: at bit Base plus each digit times its Step, bit i being bit i%8 of byte i/8.
type Part struct {
	Bits, Base int
	Dims       []Dim
}

// Dim is one digit of an element's number.
type Dim struct{ N, Step int }

// Bits returns the bits of an element.
func (f Field) Bits() int {
	n := 0
	for _, p := range f.Parts {
		n += p.Bits
	}
	return n
}

// Len returns the number of elements.
func (f Field) Len() int {
	n := 1
	for _, d := range f.Parts[0].Dims {
		n *= d.N
	}
	return n
}

// At returns where in a block bit b of element e lies.
func (f Field) At(e, b int) int {
	for _, p := range f.Parts {
		if b >= p.Bits {
			b -= p.Bits
			continue
		}
		at := p.Base + b
		for _, d := range p.Dims {
			at += e % d.N * d.Step
			e /= d.N
		}
		return at
	}
	panic("weight: bit beyond the field")
}

// Get returns element e of a block.
func (f Field) Get(block []byte, e int) uint32 {
	var v uint32
	for b := range f.Bits() {
		at := f.At(e, b)
		v |= uint32(block[at/8]>>(at%8)&1) << b
	}
	return v
}

// field returns a field of one part.
func field(role Role, bits, base int, dims ...Dim) Field {
	return Field{role, []Part{{bits, base, dims}}}
}
