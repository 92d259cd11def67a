package entropy

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/host"
)

// typical is the length of rows that hosts are predicted for.
const typical = 2048

// predicted returns the sizes of codes that hosts are predicted with: of Gaussian weights in rows of typical length, as a mean over the positions
// of their scale between powers of two.
func predicted() map[code.Code]host.Size {
	sizes := map[code.Code]host.Size{}
	for _, c := range code.Codes() {
		var s host.Size
		for i := range positions {
			var r Rates
			if !c.Plain() {
				r = Normal(c, scaleAt(i)).Rates(c)
			}
			s.Bits += Bits(c, typical, r.Escapes()) / positions
			s.Flagged += r.Flagged() / positions
		}
		sizes[c] = s
	}
	return sizes
}

// scaleAt is the scale at one of the positions: of a size that models have, whose rows of some thousand weights keep the size of their inputs.
func scaleAt(position int) float64 { return math.Exp2(-6 + 2*float64(position)/positions) }
