package bf16

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/cpuid/v2"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// TestOperands checks what register allocation is told of each instruction: which operands it reads, and what it needs of a CPU.
func TestOperands(t *testing.T) {
	m := operand.Mem{Base: reg.RAX}
	a, b, k, z := reg.Z1, reg.Z2, reg.K1, reg.Z3
	for _, c := range []struct {
		emit      func(*build.Context)
		want, isa string
	}{
		{func(c *build.Context) { VDPBF16PS(c, a, b, z) }, "VDPBF16PS reads Z1 Z2 Z3", "AVX512BF16"},
		{func(c *build.Context) { VDPBF16PS_Z(c, a, b, k, z) }, "VDPBF16PS.Z reads Z1 Z2 K1 Z3", "AVX512BF16"},
		{func(c *build.Context) { VDPBF16PS_BCST(c, m, b, z) }, "VDPBF16PS.BCST reads AX Z2 Z3", "AVX512BF16"},
		{func(c *build.Context) { VDPBF16PS_BCST_Z(c, m, b, k, z) }, "VDPBF16PS.BCST.Z reads AX Z2 K1 Z3", "AVX512BF16"},
		{func(c *build.Context) { VDPBF16PS(c, reg.X1, reg.X2, reg.X3) }, "VDPBF16PS reads X1 X2 X3", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNE2PS2BF16(c, a, b, z) }, "VCVTNE2PS2BF16 reads Z1 Z2", "AVX512BF16"},
		{func(c *build.Context) { VCVTNE2PS2BF16(c, a, b, k, z) }, "VCVTNE2PS2BF16 reads Z1 Z2 K1 Z3", "AVX512BF16"},
		{func(c *build.Context) { VCVTNE2PS2BF16_Z(c, a, b, k, z) }, "VCVTNE2PS2BF16.Z reads Z1 Z2 K1", "AVX512BF16"},
		{func(c *build.Context) { VCVTNE2PS2BF16_BCST(c, m, b, z) }, "VCVTNE2PS2BF16.BCST reads AX Z2", "AVX512BF16"},
		{func(c *build.Context) { VCVTNE2PS2BF16_BCST_Z(c, m, b, k, z) }, "VCVTNE2PS2BF16.BCST.Z reads AX Z2 K1", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16(c, a, reg.Y3) }, "VCVTNEPS2BF16 reads Z1", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16(c, a, k, reg.Y3) }, "VCVTNEPS2BF16 reads Z1 K1 Y3", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16_Z(c, a, k, reg.Y3) }, "VCVTNEPS2BF16.Z reads Z1 K1", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16_BCST(c, m, reg.Y3) }, "VCVTNEPS2BF16.BCST reads AX", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16_BCST_Z(c, m, k, reg.Y3) }, "VCVTNEPS2BF16.BCST.Z reads AX K1", "AVX512BF16"},
		{func(c *build.Context) { VCVTNEPS2BF16Y(c, reg.Y1, reg.X3) }, "VCVTNEPS2BF16Y reads Y1", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16Y_Z(c, reg.Y1, k, reg.X3) }, "VCVTNEPS2BF16Y.Z reads Y1 K1", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16Y_BCST(c, m, reg.X3) }, "VCVTNEPS2BF16Y.BCST reads AX", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16Y_BCST_Z(c, m, k, reg.X3) }, "VCVTNEPS2BF16Y.BCST.Z reads AX K1", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16X(c, reg.X1, reg.X3) }, "VCVTNEPS2BF16X reads X1", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16X_Z(c, reg.X1, k, reg.X3) }, "VCVTNEPS2BF16X.Z reads X1 K1", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16X_BCST(c, m, reg.X3) }, "VCVTNEPS2BF16X.BCST reads AX", "AVX512BF16 AVX512VL"},
		{func(c *build.Context) { VCVTNEPS2BF16X_BCST_Z(c, m, k, reg.X3) }, "VCVTNEPS2BF16X.BCST.Z reads AX K1", "AVX512BF16 AVX512VL"},
	} {
		ctx := build.NewContext()
		ctx.Function("f")
		c.emit(ctx)
		f, err := ctx.Result()
		if err != nil {
			t.Fatal(err)
		}
		i := f.Functions()[0].Instructions()[0]
		got := i.OpcodeWithSuffixes() + " reads"
		for _, r := range i.InputRegisters() {
			got += " " + r.Asm()
		}
		if isa := strings.Join(i.ISA, " "); got != c.want || isa != c.isa {
			t.Errorf("%s, needs %s; want %s, %s", got, isa, c.want, c.isa)
		}
		if to := i.OutputRegisters(); len(to) != 1 || to[0] != i.Operands[len(i.Operands)-1] {
			t.Errorf("%s writes %v", c.want, to)
		}
	}
}

// TestArithmetic holds what the CPU makes of random bits to what the functions' comments say of rounding, denormals and NaNs.
func TestArithmetic(t *testing.T) {
	if !cpuid.CPU.Has(cpuid.AVX512BF16) {
		t.Skip("this CPU has no AVX512_BF16")
	}
	f, err := kernel.Compile([]kernel.Program{{
		Info: kernel.Info{Name: "zt_bf16", Args: []kernel.Arg{
			{Name: "a", Go: "*byte"}, {Name: "b", Go: "*byte"}, {Name: "acc", Go: "*byte"}, {Name: "to", Go: "*byte", Out: true},
		}},
		Emit: func(c *build.Context) {
			var p [4]reg.Register
			for i, name := range []string{"a", "b", "acc", "to"} {
				p[i] = c.Load(c.Param(name), c.GP64())
			}
			at := func(i, disp int) operand.Mem { return operand.Mem{Base: p[i], Disp: disp} }
			a, b, sum, both, half := c.ZMM(), c.ZMM(), c.ZMM(), c.ZMM(), c.YMM()
			c.VMOVDQU64(at(0, 0), a)
			c.VMOVDQU64(at(1, 0), b)
			c.VMOVDQU64(at(2, 0), sum)
			VDPBF16PS(c, b, a, sum)
			VCVTNE2PS2BF16(c, b, a, both)
			VCVTNEPS2BF16(c, a, half)
			c.VMOVDQU64(sum, at(3, 0))
			c.VMOVDQU64(both, at(3, 64))
			c.VMOVDQU(half, at(3, 128))
			c.VZEROUPPER()
			c.RET()
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	if err := gas.Print(&source, f, "test"); err != nil {
		t.Fatal(err)
	}
	fn := checker.Assemble(t, source.String())["zt_bf16"]

	a, b, acc := checker.AtEnd[uint32](t, "a", 16, 64), checker.AtEnd[uint32](t, "b", 16, 64), checker.AtEnd[uint32](t, "acc", 16, 64)
	sums, halves := make([]uint32, 16), make([]uint16, 48)
	to := checker.AtEnd[uint16](t, "to", 32+48, 32)
	rng := checker.Rand(t)
	for range 20_000 {
		for i := range 16 {
			a[i], b[i], acc[i] = rng.Uint32(), rng.Uint32(), rng.Uint32()
			switch rng.IntN(3) {
			case 0: // products and sums of like sizes
				a[i], b[i], acc[i] = a[i]&0x83ff83ff|0x3c003c00, b[i]&0x83ff83ff|0x3c003c00, acc[i]&0x83ffffff|0x3c000000
			case 1: // around the smallest normal number
				a[i], b[i], acc[i] = a[i]&0x81ff81ff|0x20002000, b[i]&0x81ff81ff|0x1f001f00, acc[i]&0x81ffffff
			}
		}
		fn.Call(t, a, b, acc, to)
		for i := range 16 {
			sums[i] = fma(a[i]>>16, b[i]>>16, acc[i])
			sums[i] = fma(a[i]&0xffff, b[i]&0xffff, sums[i])
			halves[i], halves[16+i], halves[32+i] = round(b[i]), round(a[i]), round(a[i])
		}
		for i, want := range sums {
			got := uint32(to[2*i]) | uint32(to[2*i+1])<<16
			if got != want && !(isNaN(got) && isNaN(want)) {
				t.Fatalf("VDPBF16PS of %#08x and %#08x to %#08x is %#08x, want %#08x", a[i], b[i], acc[i], got, want)
			}
		}
		for i, want := range halves {
			if got := to[32+i]; got != want {
				t.Fatalf("element %d of the conversions is %#04x, want %#04x", i, got, want)
			}
		}
	}
}

func isNaN(bits uint32) bool { return bits&0x7fffffff > 0x7f800000 }

// flushed is a float32 with a denormal turned to a zero of its sign.
func flushed(bits uint32) float64 {
	if bits&0x7f800000 == 0 {
		bits &= 0x80000000
	}
	return float64(math.Float32frombits(bits))
}

// fma returns the float32 of x*y+acc, x and y being bfloat16. The product, 16 bits wide, is exact in float64, and so is the sum
// wherever the bits that float64 drops could tip the rounding to float32.
func fma(x, y, acc uint32) uint32 {
	sum := flushed(x<<16)*flushed(y<<16) + flushed(acc)
	bits := math.Float32bits(float32(sum))
	// It is denormal if it is that once rounded to 24 bits, as if there were smaller exponents.
	if math.Abs(float64(float32(sum*0x1p64))) < 0x1p-126*0x1p64 {
		bits &= 0x80000000
	}
	return bits
}

// round returns a float32 as bfloat16.
func round(bits uint32) uint16 {
	switch {
	case isNaN(bits):
		return uint16(bits>>16) | 0x40
	case bits&0x7f800000 == 0:
		return uint16(bits>>16) & 0x8000
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
