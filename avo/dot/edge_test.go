package dot_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
)

// TestSmallestNormal takes what is hardly anything from the smallest normal number. VDPBF16PS, FMA that flushes denormals, and the
// specification must agree on whether that is left or zero, which depends on how a result that is no longer normal is rounded.
func TestSmallestNormal(t *testing.T) {
	funcs := conventions(t)["go"]
	bf16 := func(f float64) uint32 { return math.Float32bits(float32(f)) >> 16 }
	for exponent := -153; exponent <= -147; exponent++ {
		t.Run(fmt.Sprint(exponent), func(t *testing.T) {
			for mantissa := 0; mantissa < 128; mantissa += code.Rows {
				for _, sign := range []float64{1, -1} {
					act := make([]uint32, 64)
					act[0], act[32] = bf16(0x1p-63), bf16(0x1p-70)
					var w code.Words
					for row := range w {
						w[row] = make([]uint32, 64)
						w[row][0] = bf16(sign * 0x1p-63)
						w[row][32] = bf16(-sign * math.Ldexp(1+float64(mantissa+row)/128, exponent+70))
					}
					p := problem{Panel: code.Encode(code.B16, code.BF16, w)}
					p.activations[0] = act
					for _, k := range kernels(code.BF16, code.B16) {
						if k.Rows == 1 {
							p.check(t, k, funcs[k.Name], 0, 0)
						}
					}
				}
			}
		})
	}
}
