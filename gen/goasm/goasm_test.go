package goasm_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/bf16"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas/disasm"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/goasm"
)

// TestProgram sends a program with a loop, locals and an argument through both assemblers: instructions that stand as bytes must
// not disturb the jumps and the frame around them.
func TestProgram(t *testing.T) {
	ctx := build.NewContext()
	ctx.Function("zt_sum")
	ctx.SignatureExpr("func(p *byte, n int64)")
	local := ctx.AllocLocal(128)
	p := ctx.Load(ctx.Param("p"), ctx.GP64())
	n := ctx.Load(ctx.Param("n"), ctx.GP64())
	x, half, sum, k := ctx.ZMM(), ctx.YMM(), ctx.ZMM(), ctx.K()
	ctx.VPXORD(sum, sum, sum)
	ctx.KXNORW(k, k, k)
	ctx.Label("again")
	ctx.VMOVUPS(Mem{Base: p}, x)
	bf16.VDPBF16PS(ctx, Mem{Base: p, Index: n, Scale: 8, Disp: 64}, x, sum)
	bf16.VDPBF16PS_BCST_Z(ctx, Mem{Base: p, Disp: 4}, x, k, sum)
	bf16.VCVTNE2PS2BF16(ctx, sum, x, x)
	bf16.VCVTNEPS2BF16_Z(ctx, sum, k, half)
	ctx.VMOVUPS(x, local.Offset(64))
	bf16.VDPBF16PS(ctx, local.Offset(64), x, sum)
	bf16.VCVTNEPS2BF16X(ctx, local, x.AsX())
	bf16.VCVTNEPS2BF16Y(ctx, local.Offset(4), half.AsX())
	ctx.DECQ(n)
	ctx.JNZ(LabelRef("again"))
	ctx.RET()
	f, err := ctx.Result()
	if err == nil {
		err = pass.Compile.Execute(f)
	}
	if err != nil {
		t.Fatal(err)
	}

	text, err := goasm.Print(f, printer.Config{Name: "a test", Pkg: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"// Requires: AVX512BF16, AVX512F, AVX512VL\n",
		"\tLONG $0x487ef262; LONG $0x01c85452 // VDPBF16PS 64(AX)(CX*8), Z0, Z2\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
	want, err := disasm.GNU(t.Context(), f)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	got, err := disasm.Go(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := got["zt_sum"], want["zt_sum"]; !slices.Equal(a, b) {
		t.Errorf("Go:\n%s\nGNU:\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}
