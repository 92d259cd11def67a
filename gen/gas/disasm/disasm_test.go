package disasm_test

import (
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas/disasm"
)

// program has two functions: zt_plain has neither locals nor saved registers; zt_full has both, more arguments than
// registers, a result, data and two ways out, one of them a jump to a RET.
func program(t *testing.T, locals int) *ir.File {
	ctx := build.NewContext()
	ctx.StaticGlobal("zt_first")
	ctx.DataAttributes(attr.RODATA | attr.NOPTR)
	ctx.AddDatum(0, U32(1))
	table := ctx.StaticGlobal("zt_table")
	ctx.DataAttributes(attr.RODATA | attr.NOPTR)
	ctx.AddDatum(60, U32(1))

	ctx.Function("zt_plain")
	ctx.SignatureExpr("func(p *byte)")
	p := ctx.Load(ctx.Param("p"), ctx.GP64())
	ctx.VMOVUPS(ctx.ZMM(), Mem{Base: p})
	ctx.RET()

	ctx.Function("zt_full")
	ctx.SignatureExpr("func(a, b, c, d, e, f, g1, h int64, s float32) int32")
	local := ctx.AllocLocal(locals)
	h := ctx.Load(ctx.Param("h"), reg.R13)
	ctx.CMPQ(h, Imm(3))
	ctx.JEQ(LabelRef("done"))
	s, err := ctx.Param("s").Resolve()
	if err != nil {
		t.Fatal(err)
	}
	x := ctx.XMM()
	ctx.VMOVSS(s.Addr, x)
	ctx.Label("again")
	ctx.VMOVSS(x, local.Offset(8))
	ctx.VPTERNLOGD_Z(Imm(0x96), table.Offset(4), ctx.ZMM(), ctx.K(), ctx.ZMM())
	ctx.CMPL(table, I32(1000))
	ctx.DECQ(h)
	ctx.JNE(LabelRef("again"))
	ctx.Store(reg.R13L, ctx.ReturnIndex(0))
	ctx.RET()
	ctx.Label("done")
	ctx.RET()

	f, err := ctx.Result()
	if err == nil {
		err = pass.Compile.Execute(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var listing = map[string][]string{
	"zt_plain": {
		"mov 0x0(FP),%rax",
		"vmovups %zmm0,(%rax)",
		"ret",
	},
	"zt_full": {
		"mov 0x38(FP),%r13",
		"cmp $0x3,%r13",
		"je @11",
		"vmovss 0x40(FP),%xmm0",
		"vmovss %xmm0,0x8(%rsp)",
		"vpternlogd $0x96,zt_table+4(%rip),%zmm1,%zmm2{%k1}{z}",
		"cmpl $0x3e8,zt_table+0(%rip)",
		"dec %r13",
		"jne @4",
		"mov %r13d,0x48(FP)",
		"ret",
		"ret",
	},
}

func TestListing(t *testing.T) {
	for _, locals := range []int{16, 128, 4096} {
		t.Run(strconv.Itoa(locals), func(t *testing.T) { testListing(t, program(t, locals)) })
	}
}

func testListing(t *testing.T, f *ir.File) {
	check := func(name string, list func() (map[string][]string, error)) {
		t.Run(name, func(t *testing.T) {
			got, err := list()
			if errors.Is(err, exec.ErrNotFound) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(listing) {
				t.Errorf("%d functions, want %d", len(got), len(listing))
			}
			for fn, want := range listing {
				if !slices.Equal(got[fn], want) {
					t.Errorf("%s:\n%s\nwant:\n%s", fn, strings.Join(got[fn], "\n"), strings.Join(want, "\n"))
				}
			}
		})
	}
	check("Go", func() (map[string][]string, error) { return disasm.Go(t.Context(), f) })
	check("as", func() (map[string][]string, error) { return disasm.GNU(t.Context(), f) })
	check("clang-19", func() (map[string][]string, error) {
		return disasm.GNU(t.Context(), f, "clang-19", "-c", "-x", "assembler")
	})
}

// TestComplaint shows that what an assembler says reaches the caller.
func TestComplaint(t *testing.T) {
	f := program(t, 16)
	f.Functions()[0].AddInstruction(&ir.Instruction{Opcode: "VPADDD", Operands: []Op{reg.Z0, reg.Z1, reg.RAX}})
	f.Functions()[0].AddInstruction(&ir.Instruction{Opcode: "RET", IsTerminal: true})
	for name, list := range map[string]func() (map[string][]string, error){
		"VPADDD": func() (map[string][]string, error) { return disasm.Go(t.Context(), f) },
		"vpaddd": func() (map[string][]string, error) { return disasm.GNU(t.Context(), f) },
	} {
		_, err := list()
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip(err)
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want one that names %s", err, name)
		}
	}
	if _, err := disasm.GNU(t.Context(), program(t, 16), "no-such-assembler"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error is %v, want exec.ErrNotFound", err)
	}
}
