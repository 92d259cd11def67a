package model

import (
	"encoding/binary"
	"math"
	"sort"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// blocks draws random blocks of a quantized type: every bit is random but those of the scales d and the mins, which are set for the
// weights to have a given standard deviation and a mean of about zero. Nothing is quantized, and no type needs an encoder.
//
// The weights of a block are not Gaussian: codes are as likely as their bits, and two products or a grid lie between code and weight.
type blocks struct {
	spec   *weight.Spec
	d, min [][]int   // where in a block the bits of each element lie; min is empty in types without one
	codes  []float64 // values of the formats of d that are a byte, ascending
	spread float64   // standard deviation of weights where d is 1
	center float64   // min for each d that makes their mean zero
}

const (
	// varies is how far d departs from what its tensor asks for, either way.
	varies = 0.25
	// sampled is how many weights spread and center are estimated from: to about one in 300, as blocks that share a scale count once.
	sampled = 1 << 20
	// sampledFrom is the key of these.
	sampledFrom = 1
)

// newBlocks returns the blocks of a type, nil if it has no Spec.
func newBlocks(t gguf.Type) *blocks {
	for _, spec := range weight.Specs() {
		if !strings.EqualFold(spec.Name, t.String()) {
			continue
		}
		b := &blocks{spec: spec}
		for _, p := range spec.Planes {
			for _, f := range p.Fields {
				switch f.Role {
				case weight.D:
					b.d = places(f)
				case weight.Min:
					b.min = places(f)
				}
			}
		}
		if spec.Scale.Format != weight.FP16 {
			// The first code that is not above its neighbour is no number: 0x7f of UE4M3.
			for x := range uint32(256) {
				v := float64(spec.Scale.Float(x))
				if x > 0 && v <= b.codes[x-1] {
					break
				}
				b.codes = append(b.codes, v)
			}
		}
		b.estimate()
		return b
	}
	return nil
}

func places(f weight.Field) [][]int {
	list := make([][]int, f.Len())
	for e := range list {
		for bit := range f.Bits() {
			list[e] = append(list[e], f.At(e, bit))
		}
	}
	return list
}

// estimate sets spread and center.
func (b *blocks) estimate() {
	row := make([]byte, b.spec.Row(sampled))
	b.random(row, sampledFrom)
	// moments returns the mean and the mean square of the weights with every d and every min the same.
	moments := func(d, min float64) (mean, square float64) {
		for at := 0; at < len(row); at += b.spec.Bytes {
			block := row[at:][:b.spec.Bytes]
			for _, bits := range b.d {
				set(block, bits, b.scale(d, 0))
			}
			for _, bits := range b.min {
				set(block, bits, uint32(ieee.ToFloat16(float32(min))))
			}
		}
		for _, w := range b.spec.Dequantize(row) {
			mean += float64(w) / sampled
			square += float64(float64(w)*float64(w)) / sampled // converted so that the sum is not fused, which would depend on GOAMD64
		}
		return mean, square
	}
	mean, square := moments(1, 0)
	if b.min != nil {
		ofMin, _ := moments(0, 1)
		b.center = -mean / ofMin
		_, square = moments(1, b.center)
	}
	b.spread = math.Sqrt(square)
}

// fill makes row a row of random blocks whose weights have the standard deviation std. The key says which row.
func (b *blocks) fill(row []byte, key uint64, std float64) {
	b.random(row, key)
	typical := std / b.spread / math.Sqrt(1+varies*varies/3)
	key = mix(key) // for numbers that have nothing to do with the bits
	n := uint64(0)
	for at := 0; at < len(row); at += b.spec.Bytes {
		block := row[at:][:b.spec.Bytes]
		for e, bits := range b.d {
			n++
			h := mix(key + n*odd)
			d := typical * (1 + float64(varies*(2*fraction(h)-1)))
			// Where codes lie off centre and no min takes that away, blocks of either sign do.
			if b.min == nil && b.codes == nil && h&1 == 1 {
				d = -d
			}
			set(block, bits, b.scale(d, fraction(mix(h))))
			if b.min != nil {
				set(block, b.min[e], uint32(ieee.ToFloat16(float32(b.center*d))))
			}
		}
	}
}

// random fills a row with random bits, and turns those that no quantizer writes into others.
func (b *blocks) random(row []byte, key uint64) {
	var i int
	var n uint64
	for ; i+8 <= len(row); i += 8 {
		n++
		binary.LittleEndian.PutUint64(row[i:], mix(key+n*odd))
	}
	if i < len(row) {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], mix(key+(n+1)*odd))
		copy(row[i:], last[:])
	}
	digits := trits[b.spec.Name]
	if digits == nil {
		return
	}
	for at := 0; at < len(row); at += b.spec.Bytes {
		for i, table := range digits {
			row[at+i] = table[row[at+i]]
		}
	}
}

// scale returns bits that stand for d. Where d lies between two values of a byte, chance, which is 0 to 1, decides: on average the
// squares are right.
func (b *blocks) scale(d, chance float64) uint32 {
	if b.codes == nil {
		return uint32(ieee.ToFloat16(float32(d) / b.spec.Scale.Factor))
	}
	i := sort.SearchFloat64s(b.codes, d)
	switch {
	case i == len(b.codes):
		i--
	case i > 0 && b.codes[i] != d:
		low, high := b.codes[i-1], b.codes[i]
		if chance >= (float64(d*d)-float64(low*low))/(float64(high*high)-float64(low*low)) {
			i--
		}
	}
	return uint32(i)
}

// set gives the bits of a block at some places those of a value, the lowest first.
func set(block []byte, places []int, value uint32) {
	for i, at := range places {
		bit := byte(1) << (at % 8)
		block[at/8] &^= bit
		block[at/8] |= byte(value>>i&1) << (at % 8)
	}
}

// fraction returns a number from 0 up to 1 made from the high bits of a random one.
func fraction(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// trits holds, for each byte of a block whose digits have three values, which byte stands for a random one.
var trits = map[string][]*[256]byte{
	"TQ1_0": append(repeat(48, fractionOfTrits(5)), repeat(4, fractionOfTrits(4))...),
	"TQ2_0": repeat(64, pairsOfTrits()),
}

func repeat(n int, table *[256]byte) []*[256]byte {
	list := make([]*[256]byte, n)
	for i := range list {
		list[i] = table
	}
	return list
}

// fractionOfTrits returns bytes of TQ1_0, which hold a fraction in base 3 of up to five digits rounded up to 256ths.
func fractionOfTrits(digits int) *[256]byte {
	numbers := 1
	for range digits {
		numbers *= 3
	}
	var table [256]byte
	for i := range table {
		number := i * numbers >> 8
		table[i] = byte((number*256 + numbers - 1) / numbers)
	}
	return &table
}

// pairsOfTrits returns bytes of TQ2_0, of four trits in 2 bits each.
func pairsOfTrits() *[256]byte {
	var table [256]byte
	for i := range table {
		number := i * 81 >> 8
		for shift := 0; shift < 8; shift += 2 {
			table[i] |= byte(number%3) << shift
			number /= 3
		}
	}
	return &table
}
