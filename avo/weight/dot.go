package weight

import (
	"fmt"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// Sums is a dot product on its way along k.
type Sums struct {
	Acc, Min float32
}

// Result returns the dot product.
func (s Sums) Result() float32 { return float32(s.Acc - s.Min) }

// Dot is the oracle of every GEMM kernel: a row of weights times a quantized row of activations, in the order of s.Order.
func (s *Spec) Dot(row []byte, a activation.Row) float32 { return s.Add(Sums{}, row, a).Result() }

// Add goes on with sums that an earlier part of the rows left. Go must not fuse or widen here, hence the explicit conversions.
func (s *Spec) Add(sums Sums, row []byte, a activation.Row) Sums {
	if a.Block() != s.Act.Block() || len(row) != s.Row(len(a.Quants)) {
		panic(fmt.Sprintf("weight: %d bytes of %s do not match %d activations of %s", len(row), s.Name, len(a.Quants), a.Format))
	}
	step := s.Step()
	for k0 := 0; k0 < len(a.Quants); k0 += step {
		var products, mins int32
		for k := k0; k < k0+step; k++ {
			w, q := s.at(row, k), int32(a.Quants[k])
			products += int32(w.S*w.Q) * q
			mins += int32(w.M) * q
		}
		w, delta := s.at(row, k0), a.Delta[k0/a.Block()]
		scale := float32(w.D * delta)
		switch s.Order {
		case AddFused:
			sums.Acc += ieee.FMA(scale, float32(products), float32(-w.Min*a.Sum[k0/a.Block()]))
		case TwoSums:
			sums.Min = ieee.FMA(float32(mins), float32(w.Min*delta), sums.Min)
			fallthrough
		default:
			sums.Acc = ieee.FMA(float32(products), scale, sums.Acc)
		}
	}
	return sums
}
