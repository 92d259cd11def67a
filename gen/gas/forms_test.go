package gas_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas/disasm"
)

// form is one line of the tables in avo's documentation: VADDPD.BCST m64 zmm k zmm.
type form struct {
	opcode   string
	suffixes []string
	operands []string
}

// forms reads avo's tables, which it does not export, from the comments of its constructors.
func forms(t *testing.T) []form {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/mmcloughlin/avo/x86").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(strings.TrimSpace(string(dir)), "zctors.go")
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var all []form
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		_, table, _ := strings.Cut(fn.Doc.Text(), "Forms:\n")
		for line := range strings.Lines(table) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			opcode := strings.Split(words[0], ".")
			all = append(all, form{opcode[0], opcode[1:], words[1:]})
		}
	}
	return all
}

const variants = 3

// sample returns an operand of type typ for place k, or nil when the variant has none to add.
func sample(typ string, variant, k int, evex bool) Op {
	gp := func(registers ...reg.Register) Op { return registers[k] }
	switch typ {
	case "1", "3":
		return U8(typ[0] - '0')
	case "imm2u":
		return U8(variant)
	case "imm8":
		return U8([]int{5, 100, 0xc8}[variant])
	case "imm16":
		return []Op{U16(0x1234), I16(-300), U16(0x7fff)}[variant]
	case "imm32":
		return []Op{U32(0x12345678), I32(-300000), U32(0x7fffffff)}[variant]
	case "imm64":
		return []Op{U64(0x123456789abcdef0), I64(-3e12), U64(1 << 63)}[variant]
	case "al", "cl":
		return map[string]Op{"al": reg.AL, "cl": reg.CL}[typ]
	case "ax":
		return reg.AX
	case "eax":
		return reg.EAX
	case "xmm0":
		return reg.X0
	case "rax":
		return reg.RAX
	case "r8":
		return [...]Op{gp(reg.AL, reg.CL, reg.DL), gp(reg.R8B, reg.R11B, reg.R15B), gp(reg.SIB, reg.DIB, reg.DIB)}[variant]
	case "r16":
		return [...]Op{gp(reg.AX, reg.CX, reg.DX), gp(reg.R8W, reg.R11W, reg.R15W), gp(reg.SI, reg.DI, reg.BP)}[variant]
	case "r32":
		return [...]Op{gp(reg.EAX, reg.ECX, reg.EDX), gp(reg.R8L, reg.R11L, reg.R15L), gp(reg.ESI, reg.EDI, reg.EBP)}[variant]
	case "r64":
		return [...]Op{gp(reg.RAX, reg.RCX, reg.RDX), gp(reg.R8, reg.R11, reg.R15), gp(reg.RSI, reg.RDI, reg.RBP)}[variant]
	case "xmm", "ymm", "zmm":
		id := []reg.Index{1, 5, 10}[variant] + reg.Index(k)
		if evex && variant == 2 {
			id += 16
		}
		return reg.LookupPhysical(reg.KindVector, id, map[byte]reg.Spec{'x': reg.S128, 'y': reg.S256, 'z': reg.S512}[typ[0]])
	case "k":
		return reg.LookupPhysical(reg.KindOpmask, reg.Index(1+2*variant+k)%7+1, reg.S64)
	case "rel8", "rel32":
		return LabelRef("top")
	case "vm32x", "vm32y", "vm32z", "vm64x", "vm64y", "vm64z":
		spec := map[byte]reg.Spec{'x': reg.S128, 'y': reg.S256, 'z': reg.S512}[typ[4]]
		index := reg.LookupPhysical(reg.KindVector, []reg.Index{0, 13, 15}[variant], spec)
		if evex && variant == 2 {
			index = reg.LookupPhysical(reg.KindVector, 31, spec)
		}

		return Mem{Base: []reg.Register{reg.RAX, reg.R12, reg.RBP}[variant], Index: index, Scale: []uint8{1, 4, 8}[variant], Disp: []int{0, 64, -0x123}[variant]}
	}
	if typ[0] == 'm' {
		return []Op{
			Mem{Base: reg.RAX},
			Mem{Base: reg.R13, Index: reg.R14, Scale: 8, Disp: 64},
			Mem{Base: reg.RBP, Index: reg.RCX, Scale: 1, Disp: -0x1234},
		}[variant]
	}
	return nil
}

// instruction builds a variant of a form through avo's checks.
func (f form) instruction(t *testing.T, variant int, evex bool) *ir.Instruction {
	ctx := build.NewContext()
	ctx.Function("f")
	method := reflect.ValueOf(ctx).MethodByName(strings.Join(append([]string{f.opcode}, f.suffixes...), "_"))
	if !method.IsValid() {
		t.Fatalf("%v: avo has no such constructor", f)
	}
	var args []reflect.Value
	for k, typ := range f.operands {
		op := sample(typ, variant, k, evex)
		if op == nil {
			t.Fatalf("%v: no sample of type %s", f, typ)
		}
		args = append(args, reflect.ValueOf(op))
	}
	method.Call(args)
	file, err := ctx.Result()
	if err != nil {
		t.Fatalf("%v: %v", f, err)
	}
	return file.Functions()[0].Instructions()[0]
}

// holding wraps instructions to a file of one function.
func holding(is ...*ir.Instruction) *ir.File {
	fn := ir.NewFunction("forms")
	fn.AddLabel("top")
	for _, i := range is {
		fn.AddInstruction(i)
	}
	fn.AddInstruction(&ir.Instruction{Opcode: "RET", IsTerminal: true})
	f := ir.NewFile()
	f.AddSection(fn)
	return f
}

func source(i *ir.Instruction) string {
	var operands []string
	for _, op := range i.Operands {
		operands = append(operands, op.Asm())
	}
	return i.OpcodeWithSuffixes() + " " + strings.Join(operands, ", ")
}

// refusals are the forms of allowed opcodes that Print refuses, by its message, and why.
var refusals = map[string]string{
	".Z with a memory destination":    "the CPU faults (#UD) on what avo and Go's assembler accept",
	"clang 19 mis-encodes":            "clang 19 gets the compressed displacement of VGF2P8AFFINEQB's broadcast wrong",
	"jumps go to labels":              "JMP to a register or through memory",
	"legacy SSE form; use VMOVQ":      "MOVQ with a vector register",
	"the double shift is not in the ": "SHLQ and its kin with three operands are another instruction",
}

// handBuilt are the opcodes that avo lacks; TestHandBuilt covers them.
var handBuilt = []string{"PREFETCHW", "VDPBF16PS", "VCVTNE2PS2BF16", "VCVTNEPS2BF16", "VCVTNEPS2BF16X", "VCVTNEPS2BF16Y"}

// TestForms holds every form that avo has of every allowed opcode, with several operands each, to the instruction that Go's
// assembler makes of it. No form is known to differ.
func TestForms(t *testing.T) {
	missing := gas.Allowed()
	for _, name := range handBuilt {
		delete(missing, name)
	}
	allowed := maps.Clone(missing)
	unmet := maps.Clone(refusals)
	var is []*ir.Instruction
	for _, f := range forms(t) {
		if !allowed[f.opcode] {
			continue
		}
		delete(missing, f.opcode)
		evex := strings.Contains(strings.Join(f.instruction(t, 0, false).ISA, " "), "AVX512")
		for v := range variants {
			i := f.instruction(t, v, evex)
			if err := gas.Print(io.Discard, holding(i), ""); err == nil {
				is = append(is, i)
			} else if message := expected(err); message != "" {
				delete(unmet, message)
			} else {
				t.Error(err)
			}
		}
	}
	for name := range missing {
		t.Errorf("avo has no form of the allowed opcode %s", name)
	}
	for message, reason := range unmet {
		t.Errorf("no form was refused with %q (%s)", message, reason)
	}
	if t.Failed() {
		return
	}
	t.Logf("%d instructions", len(is))
	compare(t, is)
}

func expected(err error) string {
	for message := range refusals {
		if strings.Contains(err.Error(), message) {
			return message
		}
	}
	return ""
}

// compare holds what GNU as and clang make of is to what Go's assembler does.
func compare(t *testing.T, is []*ir.Instruction) {
	t.Helper()
	// go tool objdump takes time quadratic in the length of a function.
	const chunk = 500
	f := ir.NewFile()
	name := func(k int) string { return fmt.Sprintf("forms%d", k/chunk) }
	for k := 0; k < len(is); k += chunk {
		fn := holding(is[k:min(k+chunk, len(is))]...).Functions()[0]
		fn.Name = name(k)
		f.AddSection(fn)
	}
	want, err := disasm.Go(t.Context(), f)
	skipMissing(t, err)
	for _, assembler := range [][]string{{"as"}, {"clang-19", "-c", "-x", "assembler"}} {
		t.Run(assembler[0], func(t *testing.T) {
			got, err := disasm.GNU(t.Context(), f, assembler...)
			skipMissing(t, err)
			for k, i := range is {
				if g, w := got[name(k)][k%chunk], want[name(k)][k%chunk]; g != w {
					t.Errorf("%s is %q for Go, %q when printed", source(i), w, g)
				}
			}
		})
	}
}

// skipMissing skips a test that wants a tool which is not there.
func skipMissing(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestConstants tries the corners where assemblers disagree about the sign and width of constants.
func TestConstants(t *testing.T) {
	var is []*ir.Instruction
	refused := 0
	for _, opcode := range strings.Fields("ADDB ADDW ADDL ADDQ ANDL ANDQ CMPB CMPL CMPQ IMUL3Q MOVB MOVW MOVL MOVQ SUBQ TESTL TESTQ XORQ") {
		for _, c := range []Constant{
			U8(0), U8(1), U8(127), U8(128), U8(255), I8(-1), I8(-128), U16(0xffff), I16(-1), I32(-128), I32(128), I32(-1 << 31),
			U32(1<<31 - 1), U32(1 << 31), U32(1<<32 - 1), U64(1 << 32), U64(1 << 63), I64(-1),
		} {
			spec := map[byte]reg.Spec{'B': reg.S8, 'W': reg.S16, 'L': reg.S32, 'Q': reg.S64}[opcode[len(opcode)-1]]
			for _, to := range []Op{reg.LookupPhysical(reg.KindGP, 9, spec), Mem{Base: reg.RCX}} {
				operands := []Op{c, to}
				if strings.HasPrefix(opcode, "CMP") {
					operands = []Op{to, c}
				} else if opcode == "IMUL3Q" {
					operands = append(operands, reg.RDX)
				}
				i := &ir.Instruction{Opcode: opcode, Operands: operands}
				if err := gas.Print(io.Discard, holding(i), ""); err != nil {
					if !strings.Contains(err.Error(), "constant") {
						t.Error(err)
					}
					refused++
					continue
				}
				is = append(is, i)
			}
		}
	}
	if refused == 0 {
		t.Error("no constant was refused")
	}
	compare(t, is)
}
