package code

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Order is one of the two in which stock adds products up.
type Order uint8

// Orders.
const (
	Dot  Order = iota // stock's vec_dot: one row of activations, experts
	Tile              // tinyBLAS
)

func (o Order) String() string { return [...]string{"dot", "tile"}[o] }

// lanes is what a vector of sums holds.
type lanes [16]float32

// reduce adds lanes i and i+8, then i and i+4, i+2, i+1.
func (l lanes) reduce() float32 {
	for n := len(l) / 2; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}

// add adds others lane by lane.
func (l *lanes) add(others lanes) {
	for i := range l {
		l[i] += others[i]
	}
}

// Sums returns how many vectors of sums a row takes.
func (d Domain) Sums(o Order) int {
	switch {
	case o == Tile:
		return 1
	case d == BF16:
		return 2
	}
	return 4
}

// Product returns the product of a row of weights and one of activations, which are BF16 in the low 16 bits in domain BF16, and F32 in F32.
// Their length is a multiple of 64, or they count as if zeros followed.
func (d Domain) Product(o Order, weights, activations []uint32) float32 {
	sums := make([]lanes, d.Sums(o))
	per := 1 // elements in a lane
	if d == BF16 {
		per = 2
	}
	at := func(x []uint32, k int) uint32 {
		if k < len(x) {
			return x[k]
		}
		return 0
	}
	for k, v := 0, 0; k < len(weights); k, v = k+16*per, v+1 {
		sum := &sums[v%len(sums)]
		for i := range sum {
			if d == BF16 {
				sum[i] = dpbf16(at(weights, k+2*i+1), at(activations, k+2*i+1), sum[i])
				sum[i] = dpbf16(at(weights, k+2*i), at(activations, k+2*i), sum[i])
			} else {
				sum[i] = ieee.FMA(math.Float32frombits(at(weights, k+i)), math.Float32frombits(at(activations, k+i)), sum[i])
			}
		}
	}
	switch len(sums) {
	case 2:
		return (0 + sums[0].reduce()) + sums[1].reduce()
	case 4:
		sums[0].add(sums[2])
		sums[1].add(sums[3])
		sums[0].add(sums[1])
	}
	return sums[0].reduce()
}

// dpbf16 is one of the two fused multiply-adds of VDPBF16PS, of bfloat16 x and y: denormals are zeros, before and after (avo/bf16). A sum is
// denormal if it is less than the smallest normal number once it is rounded to 24 bits, as if there were smaller exponents.
func dpbf16(x, y uint32, acc float32) float32 {
	a, b, c := flush(math.Float32frombits(x<<16)), flush(math.Float32frombits(y<<16)), flush(acc)
	sum := ieee.FMA(a, b, c)
	if math.Abs(float64(sum)) > 0x1p-126 {
		return sum
	}
	// The product is exact in float64, and so is the sum where the bits that float64 drops could tip the rounding.
	const up = 0x1p64
	if rounded := float32((float64(a)*float64(b) + float64(c)) * up); math.Abs(float64(rounded)) < 0x1p-126*up {
		return float32(math.Copysign(0, float64(sum)))
	}
	return sum
}

// flush turns a denormal into a zero of its sign.
func flush(f float32) float32 {
	if b := math.Float32bits(f); b&0x7f800000 == 0 {
		return math.Float32frombits(b & 0x80000000)
	}
	return f
}

// Products returns the products of each row of a panel with one of activations. It is an error if the panel does not decode.
func (p Panel) Products(o Order, activations []uint32) (products [Rows]float32, err error) {
	words, err := p.Decode()
	if err != nil {
		return products, err
	}
	for row, w := range words {
		products[row] = p.Domain.Product(o, p.wide(w), activations)
	}
	return products, nil
}

// wide returns words as what the domain multiplies.
func (p Panel) wide(words []uint32) []uint32 {
	if p.Domain == BF16 {
		return words
	}
	wide := make([]uint32, len(words))
	for k, w := range words {
		wide[k] = p.Code.Widen(w)
	}
	return wide
}

// Expand returns the panel in the domain's plain code.
func (p Panel) Expand() (Panel, error) {
	words, err := p.Decode()
	if err != nil {
		return Panel{}, err
	}
	for row := range words {
		words[row] = p.wide(words[row])
	}
	return Encode(p.Domain.Plain(), p.Domain, words), nil
}

// Group lays up to six rows of activations out as kernels read them: [k/64][rows][64] elements of the domain, k padded with zeros to a
// multiple of 128.
func (d Domain) Group(rows [][]uint32) []byte {
	k := (len(rows[0]) + Cols - 1) / Cols * Cols
	group := make([]byte, 0, k*len(rows)*d.Bytes())
	for from := 0; from < k; from += Step {
		for _, row := range rows {
			for i := from; i < from+Step; i++ {
				var e uint32
				if i < len(row) {
					e = row[i]
				}
				for b := range d.Bytes() {
					group = append(group, byte(e>>(8*b)))
				}
			}
		}
	}
	return group
}
