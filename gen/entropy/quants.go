package entropy

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// quants measures a quantized type by the fields of its blocks.
type quants struct {
	spec   *weight.Spec
	fields []*field
	rows   int // of the panel at hand

	scales    *field // nil where there are no sub-scales
	high, low *field // bytes of d; of 8 bits it has no low one
	strengths []int  // of the parts of a row
}

// field is one of a spec, or a byte of one of 16 bits: histograms of 2^16 symbols would want more samples than models have blocks.
type field struct {
	name   string
	places [][]int // where in a block the bits of each element lie
	alone  counts
	given  []*knowledge
	fixed  *fixed
	group  int   // neighbours that are one symbol of fixed
	now    []int // the elements of a row, and those of the one before
	before []int
}

// knowledge is something that is known before a symbol, as a number.
type knowledge struct {
	name string
	*joint
	of func(element int) int // of a row
}

// Strengths are the sizes of effective scales, d times sub-scale, in eighths of a binade above or below the mean of their row. A scale that is
// large for its row has a block with one large weight, and the others are small for it.
const (
	perBinade = 8
	strengths = 2 * 2 * 4 * perBinade // 4 binades up and down, of either sign
)

func newQuants(s *weight.Spec) *quants {
	q := &quants{spec: s}
	for _, plane := range s.Planes {
		for _, f := range plane.Fields {
			if f.Bits() <= 8 {
				x := q.field(string(f.Role), f, 0, f.Bits())
				switch f.Role {
				case weight.Scales:
					q.scales = x
				case weight.D:
					q.high = x
				}
				continue
			}
			high := q.field(string(f.Role)+", high byte", f, f.Bits()-8, 8)
			low := q.field(string(f.Role)+", low byte", f, 0, f.Bits()-8)
			low.after("its high byte", high)
			if f.Role == weight.D {
				q.high, q.low = high, low
			}
		}
	}
	for _, f := range q.fields {
		switch {
		case f.name == string(weight.Quants) && q.high != nil:
			f.know("the scale of its block", strengths, func(i int) int { return q.strengths[i*len(q.strengths)/len(f.now)] })
		case f.name == string(weight.Mins) && q.scales != nil:
			f.after("the scale of its part", q.scales)
		}
	}
	return q
}

// field adds bits from..from+bits-1 of a field to the measure, with the contexts that all have.
func (q *quants) field(name string, of weight.Field, from, bits int) *field {
	// Several small elements together fill up what a permutation of bytes can look up.
	group := 1
	for 2*group*bits <= 8 && of.Len()%(2*group) == 0 {
		group *= 2
	}
	f := &field{name: name, alone: make(counts, 1<<bits), fixed: newFixed(group * bits), group: group}
	for e := range of.Len() {
		var places []int
		for b := range bits {
			places = append(places, of.At(e, from+b))
		}
		f.places = append(f.places, places)
	}
	f.know("the one before it", len(f.alone)+1, func(i int) int {
		if i == 0 {
			return len(f.alone)
		}
		return f.now[i-1]
	})
	f.know("that of the row before", len(f.alone)+1, func(i int) int {
		if f.before == nil {
			return len(f.alone)
		}
		return f.before[i]
	})
	if n := of.Len(); n > 1 {
		f.know("its place in the block", n, func(i int) int { return i % n })
	}
	q.fields = append(q.fields, f)
	return f
}

// know adds a context of n values to a field.
func (f *field) know(name string, n int, of func(element int) int) {
	f.given = append(f.given, &knowledge{name, newJoint(n, len(f.alone)), of})
}

// after adds the element of another field that covers the same weights as a context.
func (f *field) after(name string, other *field) {
	f.know(name, len(other.alone), func(i int) int { return other.now[i*len(other.now)/len(f.now)] })
}

func (q *quants) row(b []byte, first bool) {
	if first || q.rows == weight.PanelRows {
		q.end()
	}
	q.rows++
	blocks := len(b) / q.spec.Bytes
	for _, f := range q.fields {
		f.before, f.now = f.now, f.before[:0]
		if first {
			f.before = nil
		}
		for i := range blocks {
			block := b[i*q.spec.Bytes:][:q.spec.Bytes]
			for _, places := range f.places {
				v := 0
				for bit, at := range places {
					v |= int(block[at/8]>>(at%8)&1) << bit
				}
				f.now = append(f.now, v)
			}
		}
	}
	if q.high != nil {
		q.strengthen()
	}
	for _, f := range q.fields {
		for i, v := range f.now {
			f.alone[v]++
			for _, c := range f.given {
				c.add(c.of(i), v)
			}
		}
		width := f.fixed.width / f.group
		for i := 0; i < len(f.now); i += f.group {
			symbol := 0
			for at, v := range f.now[i:][:f.group] {
				symbol |= v << (at * width)
			}
			f.fixed.counts[symbol]++
		}
	}
}

// end closes a panel.
func (q *quants) end() {
	for _, f := range q.fields {
		f.fixed.end()
	}
	q.rows = 0
}

// scale returns the effective scale of part i of n of the row at hand.
func (q *quants) scale(i, n int) float64 {
	at := i * len(q.high.now) / n
	bits := q.high.now[at]
	if q.low != nil {
		bits = bits<<8 | q.low.now[at]
	}
	d := float64(q.spec.Scale.Float(uint32(bits)))
	if q.scales != nil {
		d *= float64(q.spec.Scale.Sub(uint32(q.scales.now[i])))
	}
	return d
}

// strengthen sets the strengths of the row at hand.
func (q *quants) strengthen() {
	n := len(q.high.now)
	if q.scales != nil {
		n = len(q.scales.now)
	}
	var mean float64
	for i := range n {
		mean += math.Abs(q.scale(i, n)) / float64(n)
	}
	q.strengths = q.strengths[:0]
	for i := range n {
		s := q.scale(i, n)
		strength := 0                               // of a block of zeros
		if ratio := math.Abs(s) / mean; ratio > 0 { // not so of zeros, and of scales that are no numbers
			strength = int(min(max(math.Round(perBinade*math.Log2(ratio))+strengths/4, 0), strengths/2-1))
		}
		if s < 0 {
			strength += strengths / 2
		}
		q.strengths = append(q.strengths, strength)
	}
}

func (q *quants) parts() []Part {
	q.end()
	var list []Part
	for _, f := range q.fields {
		share := float64(len(f.places)) / float64(q.spec.Block) // of a weight
		p := Part{Name: f.name, Stored: share * float64(len(f.places[0])), Bits: share * f.alone.entropy()}
		p.Best, p.Fixed = p.Bits, share*per(float64(f.fixed.bits), f.alone.total())
		for _, c := range f.given {
			p.consider(share*c.entropy(), c.name)
		}
		list = append(list, p)
	}
	return list
}

// consider takes a context with which the part needs so many bits per weight, if that saves a thousandth of what is stored.
func (p *Part) consider(bits float64, given string) {
	if bits < p.Best-p.Stored/1000 {
		p.Best, p.Given = bits, given
	}
}

func (q *quants) codes() []Use { return nil }
