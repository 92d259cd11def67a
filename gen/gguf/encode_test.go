package gguf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// halfValue is the number that a half's bits stand for, after IEEE 754-2008 binary16.
func halfValue(h uint16) float64 {
	exponent, fraction := int(h>>10&31), float64(h&1023)
	v := math.Ldexp(fraction, -24)
	if exponent > 0 {
		v = math.Ldexp(1024+fraction, exponent-25)
	}
	if h>>15 == 1 {
		return -v
	}
	return v
}

// TestFloat16 checks all halves, and the points half way between neighbours and one float32 to either side, which is where
// rounding decides.
func TestFloat16(t *testing.T) {
	for h := uint16(0); h < 0x7c00; h++ {
		x := halfValue(h)
		next := halfValue(h + 1) // of the largest half: 65536, which stands for infinity
		middle := float32((x + next) / 2)
		even := h + h&1
		for _, c := range []struct {
			x    float32
			want uint16
		}{
			{float32(x), h}, {middle, even},
			{math.Nextafter32(middle, 0), h}, {math.Nextafter32(middle, math.MaxFloat32), h + 1},
		} {
			if got := float16(c.x); got != c.want {
				t.Fatalf("float16(%g) = %#x, want %#x", c.x, got, c.want)
			}
			if got := float16(-c.x); got != c.want|0x8000 {
				t.Fatalf("float16(%g) = %#x, want %#x", -c.x, got, c.want|0x8000)
			}
		}
	}
	for x, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, float32(math.Inf(-1)): 0xfc00, 1e-30: 0} {
		if got := float16(x); got != want {
			t.Errorf("float16(%g) = %#x, want %#x", x, got, want)
		}
	}
	if got := float16(float32(math.NaN())); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
		t.Errorf("float16(NaN) = %#x, not a NaN", got)
	}
}

func TestBfloat16(t *testing.T) {
	for _, c := range []struct{ bits, want uint32 }{
		{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82},
		{0x3f807fff, 0x3f80}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0x7f800001, 0x7fc0}, {0x00000001, 0x0000}, {0x0000ffff, 0x0001},
	} {
		if got := bfloat16(math.Float32frombits(c.bits)); uint32(got) != c.want {
			t.Errorf("bfloat16(%#x) = %#x, want %#x", c.bits, got, c.want)
		}
	}
}

// TestQ8_0Known has a block to check by eye: d is 8/127, so q is 15.875 x, and x = 4 falls on the tie 63.5.
func TestQ8_0Known(t *testing.T) {
	ramp := make([]float32, 32)
	for i := range ramp {
		ramp[i] = float32(i-16) / 2
	}
	for _, c := range []struct {
		name string
		src  []float32
		want string
	}{
		{"zeros", make([]float32, 32), "0000" + hex.EncodeToString(make([]byte, 32))},
		{"ramp", ramp, "082c" + "81899199a1a9b1b9c0c8d0d8e0e8f0f8" + "0008101820283038" + "40474f575f676f77"},
	} {
		dst := make([]byte, 34)
		Encode(dst, Q8_0, c.src)
		if got := hex.EncodeToString(dst); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// referenceQ8_0 follows the definition with exact arithmetic: each float32 operation is the exact result rounded once.
func referenceQ8_0(src []float32) []byte {
	round := func(r *big.Rat) float32 { f, _ := r.Float32(); return f }
	rat := func(x float32) *big.Rat { return new(big.Rat).SetFloat64(float64(x)) }
	top := float32(0)
	for _, x := range src {
		top = max(top, float32(math.Abs(float64(x))))
	}
	d := round(new(big.Rat).Quo(rat(top), big.NewRat(127, 1)))
	out := binary.LittleEndian.AppendUint16(nil, float16(d))
	for _, x := range src {
		q := float32(0)
		if d != 0 {
			q = round(new(big.Rat).Mul(rat(x), rat(round(new(big.Rat).Inv(rat(d))))))
		}
		out = append(out, byte(int(math.Round(float64(q))))) // halves away from zero, as C's roundf
	}
	return out
}

func TestQ8_0Definition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		src := make([]float32, 32)
		for i := range src {
			src[i] = float32(math.Ldexp(rng.NormFloat64(), n%40-20))
			if n%5 == 0 { // multiples of half a step, so that x/d is at or beside a tie
				src[i] = float32(rng.IntN(255)-127) / 2
			}
		}
		if n%5 == 0 {
			src[rng.IntN(32)] = 127 // d is 1
		}
		got := make([]byte, 34)
		Encode(got, Q8_0, src)
		if want := referenceQ8_0(src); !bytes.Equal(got, want) {
			t.Fatalf("block %v\ngives % x\nwant  % x", src, got, want)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	src := make([]float32, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range src {
		src[i] = float32(rng.NormFloat64())
	}
	for _, typ := range []Type{F32, F16, BF16, Q8_0} {
		dst := make([]byte, typ.RowBytes(int64(len(src))))
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				Encode(dst, typ, src)
			}
		})
	}
}
