package gas_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas/disasm"
)

func instruction(opcode string, operands ...Op) *ir.Instruction {
	words := strings.Split(opcode, ".")
	return &ir.Instruction{Opcode: words[0], Suffixes: words[1:], Operands: operands}
}

func TestRefusedInstructions(t *testing.T) {
	rax := Mem{Base: reg.RAX}
	for _, c := range []struct {
		i    *ir.Instruction
		want string
	}{
		{instruction("VEXP2PS", reg.Z0, reg.Z1), "opcode VEXP2PS is not in the allow-list"},
		{instruction("CALL", LabelRef("top")), "opcode CALL is not in the allow-list"},
		{instruction("PUSHQ", reg.RAX), "opcode PUSHQ is not in the allow-list"},
		{instruction("VPADDD.XYZ", reg.Z0, reg.Z1, reg.Z2), "unknown suffix .XYZ"},
		{instruction("VPADDD.Z", reg.Z0, reg.Z1, reg.Z2), ".Z without a mask"},
		{instruction("VPADDD", reg.Z0, reg.Z1, reg.K0, reg.Z2), "K0 means no mask"},
		{instruction("VMOVDQU8.Z", reg.Z0, reg.K1, rax), ".Z with a memory destination"},
		{instruction("VPADDD.BCST", reg.Z0, reg.Z1, reg.Z2), ".BCST without a memory operand"},
		{instruction("VPADDB.BCST", rax, reg.Z1, reg.Z2), "VPADDB has no embedded broadcast"},
		{instruction("VGF2P8AFFINEQB.BCST", U8(0), rax.Offset(8), reg.Z1, reg.Z2), "LEAQ the address first"},
		{instruction("VGF2P8AFFINEQB.BCST", U8(0), NewDataAddr(NewStaticSymbol("zt"), 0), reg.Z1, reg.Z2), "LEAQ the address first"},
		{instruction("MOVQ", reg.X0, reg.RAX), "use VMOVQ"},
		{instruction("SHLQ", U8(1), reg.RAX, reg.RCX), "double shift"},
		{instruction("JMP", reg.RAX), "jumps go to labels"},
		{&ir.Instruction{Opcode: "JMP", IsBranch: true, Operands: []Op{LabelRef("nowhere")}}, "no label nowhere"},
		{instruction("MOVQ", F64(1), reg.RAX), "not an integer"},
		{instruction("ADDQ", U32(1<<31), reg.RAX), "negative to Go's assembler"},
		{instruction("ADDQ", U64(1<<40), reg.RAX), "wider than the operation"},
		{instruction("ADDQ", U8(64), reg.RSP), "belongs to the frame"},
		{instruction("MOVQ", reg.NewVirtual(3, reg.KindGP, reg.S64), reg.RAX), "run pass.Compile first"},
		{instruction("MOVQ", reg.FramePointer, reg.RAX), "has no place here"},
		{instruction("MOVQ", Rel(3), reg.RAX), "cannot be expressed"},
		{instruction("MOVQ", Mem{Disp: 4}, reg.RAX), "absolute address"},
		{instruction("MOVQ", Mem{Base: reg.RAX, Index: reg.RCX}, reg.RAX), "scale is 0"},
		{instruction("MOVQ", Mem{Base: reg.EAX}, reg.RAX), "64-bit registers"},
		{instruction("MOVQ", Mem{Base: reg.RAX, Index: reg.RSP, Scale: 1}, reg.RAX), "belongs to the frame"},
		{instruction("MOVQ", Mem{Base: reg.RAX, Disp: 1 << 31}, reg.RAX), "does not fit in 32 bits"},
		{instruction("MOVQ", Mem{Base: reg.RAX, Symbol: NewStaticSymbol("zt")}, reg.RAX), "names a symbol beside"},
		{instruction("MOVQ", NewStackAddr(0), reg.RAX), "outside the 0 bytes of locals"},
		{instruction("MOVQ", NewStackAddr(-8), reg.RAX), "outside the 0 bytes of locals"},
		{instruction("MOVQ", NewParamAddr("a", 0), reg.RAX), "outside the 0 bytes of arguments"},
		{instruction("MOVQ", NewDataAddr(NewStaticSymbol("zt"), 0).Idx(reg.RAX, 8), reg.RAX), "LEAQ it first"},
		{instruction("MOVQ", NewDataAddr(NewStaticSymbol("zt·x"), 0), reg.RAX), "no C identifier"},
	} {
		var b bytes.Buffer
		err := gas.Print(&b, holding(c.i), "header")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one that says %q", source(c.i), err, c.want)
		} else if !strings.HasPrefix(err.Error(), "forms: "+c.i.Opcode) {
			t.Errorf("%v: want the function and the instruction in front", err)
		}
		if b.Len() > 0 {
			t.Errorf("%s: printed %q beside an error", source(c.i), b.String())
		}
	}
}

func TestRefusedFunctions(t *testing.T) {
	function := func(name, signature string) *ir.Function {
		fn := ir.NewFunction(name)
		s, err := gotypes.ParseSignature(signature)
		if err != nil {
			t.Fatal(err)
		}
		fn.SetSignature(s)
		fn.AddInstruction(&ir.Instruction{Opcode: "RET", IsTerminal: true})
		return fn
	}
	open := function("zt_f", "func()")
	open.AddLabel("end")
	odd := function("zt_f", "func()")
	odd.AllocLocal(12)
	for want, s := range map[string]ir.Section{
		"no C identifier":                      function("zt·f", "func()"),
		"2 results":                            function("zt_f", "func() (a, b int)"),
		"argument or result 1":                 function("zt_f", "func(n int, p []byte)"),
		"argument or result 0 is not a number": function("zt_f", "func() string"),
		"argument or result 0 is not":          function("zt_f", "func(x complex64)"),
		"runs off its end":                     open,
		"wants a multiple of 8":                odd,
		"data zt.f: the name is no C":          ir.NewStaticGlobal("zt.f"),
		"data zt_f: data overlap at offset ":   &ir.Global{Symbol: NewStaticSymbol("zt_f"), Data: []ir.Datum{{Offset: 0, Value: U32(0)}, {Offset: 3, Value: U8(0)}}},
	} {
		f := ir.NewFile()
		f.AddSection(s)
		if err := gas.Print(io.Discard, f, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one that says %q", err, want)
		}
	}
}

// TestLabels shows that two functions may have labels of the same name, and names that meet when put together.
func TestLabels(t *testing.T) {
	f := compiled(t, func(ctx *build.Context) {
		for _, c := range [][2]string{{"zt", "a_b"}, {"zt_a", "b"}, {"zt_b", "b"}} {
			ctx.Function(c[0])
			ctx.Label(c[1])
			ctx.DECQ(reg.RDI)
			ctx.JNE(LabelRef(c[1]))
			ctx.RET()
		}
	})
	got, err := disasm.GNU(t.Context(), f)
	skipMissing(t, err)
	for name, list := range got {
		if want := []string{"dec %rdi", "jne @0", "ret"}; !slices.Equal(list, want) {
			t.Errorf("%s is %q, want %q", name, list, want)
		}
	}
}

// TestHandBuilt covers what avo and Go's assembler lack, against the manual's operand order.
func TestHandBuilt(t *testing.T) {
	at := Mem{Base: reg.RAX, Disp: 64}
	is := []*ir.Instruction{
		instruction("VDPBF16PS", reg.Z1, reg.Z2, reg.Z3),
		instruction("VDPBF16PS.BCST.Z", at, reg.Z2, reg.K1, reg.Z3),
		instruction("VDPBF16PS.BCST", at, reg.Y2, reg.Y3),
		instruction("VCVTNE2PS2BF16.BCST", at, reg.Z2, reg.Z3),
		instruction("VCVTNEPS2BF16", reg.Z1, reg.Y2),
		instruction("VCVTNEPS2BF16.BCST", at, reg.Y2),
		instruction("VCVTNEPS2BF16X", at, reg.X2),
		instruction("VCVTNEPS2BF16X", reg.X1, reg.X2),
		instruction("VCVTNEPS2BF16X.Z", reg.X1, reg.K3, reg.X2),
		instruction("VCVTNEPS2BF16Y", reg.Y1, reg.X2),
		instruction("VCVTNEPS2BF16Y.BCST", at, reg.K2, reg.X2),
		instruction("PREFETCHW", at),
	}
	want := []string{
		"vdpbf16ps %zmm1,%zmm2,%zmm3",
		"vdpbf16ps 0x40(%rax){1to16},%zmm2,%zmm3{%k1}{z}",
		"vdpbf16ps 0x40(%rax){1to8},%ymm2,%ymm3",
		"vcvtne2ps2bf16 0x40(%rax){1to16},%zmm2,%zmm3",
		"vcvtneps2bf16 %zmm1,%ymm2",
		"vcvtneps2bf16 0x40(%rax){1to16},%ymm2",
		"vcvtneps2bf16x 0x40(%rax),%xmm2",
		"vcvtneps2bf16 %xmm1,%xmm2",
		"vcvtneps2bf16 %xmm1,%xmm2{%k3}{z}",
		"vcvtneps2bf16 %ymm1,%xmm2",
		"vcvtneps2bf16 0x40(%rax){1to8},%xmm2{%k2}",
		"prefetchw 0x40(%rax)",
		"ret",
	}
	for _, assembler := range [][]string{{"as"}, {"clang-19", "-c", "-x", "assembler"}} {
		t.Run(assembler[0], func(t *testing.T) {
			got, err := disasm.GNU(t.Context(), holding(is...), assembler...)
			skipMissing(t, err)
			if !slices.Equal(got["forms"], want) {
				t.Errorf("%q, want %q", got["forms"], want)
			}
		})
	}
}

// TestWriter shows that a failing writer is not taken for success.
func TestWriter(t *testing.T) {
	r, w := io.Pipe()
	broken := errors.New("broken")
	r.CloseWithError(broken)
	if err := gas.Print(w, holding(), ""); !errors.Is(err, broken) {
		t.Errorf("error is %v, want %v", err, broken)
	}
}
