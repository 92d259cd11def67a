package weight

import "github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"

var tq1_0 = Spec{
	Name: "TQ1_0", Block: 256, Bytes: 54, Act: activation.Q8_K,
	Planes: []Plane{dwords(Packed, 0, 52), halfPlane(D, 52)},
	Offset: 128, Sub: 256, Scale: Scale{Factor: 1}, Order: Fused, Wide: x8_256,
	Code: func(b []byte, k int) Weight {
		i, digit := trit(k)
		return Weight{Q: Trit(b[i], digit) - 1, S: 1, D: half(b, 52)}
	},
	Oracle: "ggml_vec_dot_tq1_0_q8_K_generic",
}

// trit returns the byte and the digit of weight k: 32 bytes of five digits, 16 of five and 4 of four, the digits of neighbouring
// weights in neighbouring bytes.
func trit(k int) (byte, digit int) {
	switch {
	case k < 160:
		return k % 32, k / 32
	case k < 240:
		return 32 + k%16, (k - 160) / 16
	}
	return 48 + k%4, (k - 240) / 4
}

// Trit returns digit 0..4, the highest first, of a byte that stands for the fraction b/256 in base 3.
func Trit(b byte, digit int) int {
	for range digit {
		b *= 3
	}
	return int(b) * 3 >> 8
}
