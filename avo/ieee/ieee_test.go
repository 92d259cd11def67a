package ieee

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestFloat16 holds both conversions to the definition of binary16: every pattern widens to its value, and comes back.
func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		got := Float16(uint16(h))
		exp, frac := h>>10&0x1f, h&0x3ff
		if exp == 0x1f && frac != 0 {
			if got == got {
				t.Fatalf("%04x widens to %v, want NaN", h, got)
			}
			continue
		}
		want := math.Ldexp(float64(frac+1024), exp-25)
		switch {
		case exp == 0:
			want = math.Ldexp(float64(frac), -24)
		case exp == 0x1f:
			want = math.Inf(1)
		}
		if h&0x8000 != 0 {
			want = -want
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("%04x widens to %v, want %v", h, got, want)
		}
		if back := ToFloat16(got); back != uint16(h) {
			t.Fatalf("%04x comes back as %04x", h, back)
		}
	}
	for f, want := range map[float32]uint16{
		65519: 0x7bff, 65520: 0x7c00, 1 + 0x1p-11: 0x3c00, 1 + 0x1.8p-10: 0x3c02, 0x1p-25: 0, 0x1.8p-25: 1, 0x1.ff8p-15: 0x3ff, 0x1.ffcp-15: 0x400,
	} {
		if got := ToFloat16(f); got != want {
			t.Errorf("%v rounds to %04x, want %04x", f, got, want)
		}
	}
}

// TestFMA holds FMA to exact arithmetic rounded once, where rounding twice would often differ.
func TestFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	twice := 0
	for range 200_000 {
		a := math.Float32frombits(r.Uint32N(0x10000000) + 0x38000000)
		b := math.Float32frombits(r.Uint32N(0x10000000) + 0x38000000)
		c := -float32(float64(a)*float64(b)) * (1 + float32(r.IntN(3)-1)*0x1p-24)
		if r.IntN(2) == 0 {
			c = math.Float32frombits(r.Uint32N(0x10000000)+0x38000000) * float32(r.IntN(2)*2-1)
		}
		exact := new(big.Float).SetPrec(500).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
		exact.Add(exact, new(big.Float).SetPrec(500).SetFloat64(float64(c)))
		want, _ := exact.Float32()
		if got := FMA(a, b, c); got != want {
			t.Fatalf("FMA(%v, %v, %v) = %v, want %v", a, b, c, got, want)
		}
		if float32(float64(a)*float64(b)+float64(c)) != want {
			twice++
		}
	}
	// A sum half way between two floats but for a bit far below it: float64 loses the bit and rounds to even.
	if got, want := FMA(1+0x1p-23, 1+0x1p-23, 0x1p30), float32(0x1p30); got != want {
		t.Errorf("FMA = %v, want %v", got, want)
	}
	if got, want := FMA(0x1p-40, 0x1p-40, float32(1)+0x1p-23), float32(1)+0x1p-23; got != want {
		t.Errorf("FMA = %v, want %v", got, want)
	}
	if got, want := FMA(1+0x1p-12, 1+0x1p-12, 0x1p13+0x1p-10), float32(big1()); got != want {
		t.Errorf("FMA = %v, want %v", got, want)
	}
	t.Logf("rounding twice would have been wrong %d times", twice)
}

// big1 computes (1+2^-12)^2 + 2^13 + 2^-10 exactly and rounds it once.
func big1() float32 {
	x := new(big.Float).SetPrec(500).SetFloat64(1 + 0x1p-12)
	x.Mul(x, x)
	x.Add(x, new(big.Float).SetPrec(500).SetFloat64(0x1p13+0x1p-10))
	f, _ := x.Float32()
	return f
}
