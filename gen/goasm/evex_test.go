package goasm

import (
	"bytes"
	"debug/elf"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// form is an opcode at one width with the widths of its operands.
type form struct {
	opcode           string
	sources, to      reg.Spec
	twoSources       bool
	unit, displacing int // bytes of memory that a broadcast and a full source take
}

var specs = []reg.Spec{reg.S128, reg.S256, reg.S512}

func forms() []form {
	var all []form
	for _, opcode := range slices.Sorted(maps.Keys(bf16)) {
		for k, spec := range specs {
			size := 16 << k
			f := form{opcode: opcode, sources: spec, to: spec, twoSources: bf16[opcode].sources == 2, unit: 4, displacing: size}
			if bf16[opcode].narrows {
				if bf16[opcode].width != 8*size {
					continue
				}
				f.to = specs[max(0, k-1)]
			}
			all = append(all, f)
		}
	}
	return all
}

func vectorRegister(n int, s reg.Spec) reg.Register {
	return reg.LookupPhysical(reg.KindVector, reg.Index(n), s)
}

func generalRegister(n int) reg.Register {
	return reg.LookupPhysical(reg.KindGP, reg.Index(n), reg.S64)
}

// instruction puts a first source among random registers, and a mask and suffixes where they are asked for.
func (f form) instruction(rng *rand.Rand, first operand.Op, mask int, suffixes ...string) *ir.Instruction {
	ops := []operand.Op{first}
	if f.twoSources {
		ops = append(ops, vectorRegister(rng.IntN(32), f.sources))
	}
	if mask > 0 {
		ops = append(ops, reg.LookupPhysical(reg.KindOpmask, reg.Index(mask), reg.S64))
	}
	return &ir.Instruction{Opcode: f.opcode, Suffixes: suffixes, Operands: append(ops, vectorRegister(rng.IntN(32), f.to))}
}

// samples are instructions of every form: with every register in every place, and with every kind of address.
func samples() []*ir.Instruction {
	rng := rand.New(rand.NewPCG(1, 2))
	var is []*ir.Instruction
	for _, f := range forms() {
		for n := range 32 {
			for _, suffixes := range [][]string{nil, {"Z"}} {
				is = append(is, f.instruction(rng, vectorRegister(n, f.sources), n%7+1, suffixes...))
			}
			i := f.instruction(rng, vectorRegister(n, f.sources), 0)
			i.Operands[len(i.Operands)-1] = vectorRegister(31-n, f.to)
			is = append(is, i)
		}
		for base := -1; base < 16; base++ {
			for index := -1; index < 16; index++ {
				if base == 4 || index == 4 || base < 0 && index < 0 { // the stack pointer has a test of its own
					continue
				}
				m := operand.Mem{}
				if base >= 0 {
					m.Base = generalRegister(base)
				}
				if index >= 0 {
					m.Index, m.Scale = generalRegister(index), 1<<rng.IntN(4)
				}
				for _, suffixes := range [][]string{nil, {"BCST"}, {"Z"}, {"BCST", "Z"}} {
					unit, mask := f.displacing, 0
					if slices.Contains(suffixes, "BCST") {
						unit = f.unit
					}
					if slices.Contains(suffixes, "Z") {
						mask = 1 + rng.IntN(7)
					}
					for _, disp := range []int{0, 1, -1, unit, 127 * unit, 128 * unit, -128 * unit, -129 * unit, unit / 2, 127, -128, 1<<31 - 1, -1 << 31} {
						m.Disp = disp
						is = append(is, f.instruction(rng, m, mask, suffixes...))
					}
				}
			}
		}
	}
	return is
}

// TestEncodings holds every sample to what an assembler makes of it, byte by byte.
func TestEncodings(t *testing.T) {
	is := samples()
	fn := ir.NewFunction("samples")
	for _, i := range is {
		fn.AddInstruction(i)
	}
	fn.AddInstruction(&ir.Instruction{Opcode: "RET", IsTerminal: true})
	f := ir.NewFile()
	f.AddSection(fn)
	var text bytes.Buffer
	if err := gas.Print(&text, f, "samples"); err != nil {
		t.Fatal(err)
	}
	var body strings.Builder // without the saving of registers
	for line := range strings.Lines(text.String()) {
		if !strings.HasSuffix(line, gas.FrameMark+"\n") {
			body.WriteString(line)
		}
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.s"), filepath.Join(dir, "out.o")
	if err := os.WriteFile(in, []byte(body.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(is))
	for _, assembler := range [][]string{{"as"}, {"clang-19", "-c"}} {
		t.Run(assembler[0], func(t *testing.T) {
			complaint, err := exec.Command(assembler[0], append(assembler[1:], "-o", out, in)...).CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				t.Skip(err)
			} else if err != nil {
				t.Fatalf("%v\n%.1000s", err, complaint)
			}
			object, err := elf.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer object.Close()
			code, err := object.Section(".text").Data()
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range is {
				got, err := encode(i)
				if err != nil {
					t.Fatalf("%s: %v", source(i), err)
				}
				if !bytes.HasPrefix(code, got) {
					t.Fatalf("%s is % x, want % x ...", source(i), got, code[:min(len(code), 12)])
				}
				code = code[len(got):]
			}
			if !bytes.Equal(code, []byte{0xc3}) {
				t.Errorf("% x left, want a return", code)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	instruction := func(opcode string, operands ...operand.Op) *ir.Instruction {
		words := strings.Split(opcode, ".")
		return &ir.Instruction{Opcode: words[0], Suffixes: words[1:], Operands: operands}
	}
	rax := operand.Mem{Base: reg.RAX}
	for _, c := range []struct {
		i    *ir.Instruction
		want string
	}{
		{instruction("VDPBF16PS", reg.Z1, reg.Z2), "2 operands; it takes 3, and a mask before the last"},
		{instruction("VDPBF16PS", reg.Z1, reg.Z2, reg.Z3, reg.Z4), "Z3 is no mask"},
		{instruction("VDPBF16PS", reg.Z1, reg.Z2, reg.K0, reg.Z4), "K0 means no mask"},
		{instruction("VDPBF16PS.Z", reg.Z1, reg.Z2, reg.Z3), ".Z without a mask"},
		{instruction("VDPBF16PS.RN_SAE", reg.Z1, reg.Z2, reg.Z3), "unknown suffix .RN_SAE"},
		{instruction("VDPBF16PS.BCST", reg.Z1, reg.Z2, reg.Z3), ".BCST without a memory operand"},
		{instruction("VDPBF16PS", reg.Z1, rax, reg.Z3), "(AX) is not a Z register"},
		{instruction("VDPBF16PS", reg.Z1, reg.Z2, rax), "(AX) is not a vector register"},
		{instruction("VDPBF16PS", reg.Z1, reg.Y2, reg.Z3), "Y2 is not a Z register"},
		{instruction("VDPBF16PS", reg.Y1, reg.Z2, reg.Z3), "Y1 is not a Z register"},
		{instruction("VDPBF16PS", operand.U8(1), reg.Z2, reg.Z3), "$0x01 is not a Z register"},
		{instruction("VCVTNEPS2BF16", reg.Z1, reg.Z2), "Z2 is not a Y register"},
		{instruction("VCVTNEPS2BF16Y", reg.Y1, reg.Y2), "Y2 is not an X register"},
		{instruction("VCVTNEPS2BF16X", reg.Y1, reg.X2), "Y1 is not an X register"},
		{instruction("VDPBF16PS", reg.NewVirtual(3, reg.KindVector, reg.S512), reg.Z2, reg.Z3), "run pass.Compile first"},
		{instruction("VDPBF16PS", operand.Mem{Disp: 4}, reg.Z2, reg.Z3), "absolute address"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.RAX, Index: reg.RCX}, reg.Z2, reg.Z3), "scale is 0"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.RAX, Index: reg.RSP, Scale: 1}, reg.Z2, reg.Z3), "SP cannot be an index"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.EAX}, reg.Z2, reg.Z3), "64-bit registers"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.RAX, Index: reg.Z1, Scale: 1}, reg.Z2, reg.Z3), "64-bit registers"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.RAX, Disp: 1 << 31}, reg.Z2, reg.Z3), "does not fit in 32 bits"},
		{instruction("VDPBF16PS", operand.NewParamAddr("a", 0), reg.Z2, reg.Z3), "only known to Go's assembler"},
		{instruction("VDPBF16PS", operand.NewDataAddr(operand.NewStaticSymbol("zt"), 0), reg.Z2, reg.Z3), "only known to Go's assembler"},
		{instruction("VDPBF16PS", operand.Mem{Base: reg.RAX, Symbol: operand.NewStaticSymbol("zt")}, reg.Z2, reg.Z3), "names a symbol beside"},
	} {
		fn := ir.NewFunction("zt_f")
		fn.AddInstruction(c.i)
		f := ir.NewFile()
		f.AddSection(fn)
		_, err := lower(f)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "zt_f: "+c.i.Opcode) {
			t.Errorf("%s: error is %v, want one that names the function and the instruction and says %q", source(c.i), err, c.want)
		}
	}
}

// TestData checks the words that bytes of every length become.
func TestData(t *testing.T) {
	code := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb}
	for n, want := range map[int]string{
		6:  "LONG $0x04030201; WORD $0x0605",
		7:  "LONG $0x04030201; WORD $0x0605; BYTE $0x07",
		8:  "LONG $0x04030201; LONG $0x08070605",
		11: "LONG $0x04030201; LONG $0x08070605; WORD $0x0a09; BYTE $0x0b",
	} {
		if got := data(code[:n]); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	if got, want := data(make([]byte, 7)), "LONG $0x00000000; WORD $0x0000; BYTE $0x00"; got != want {
		t.Errorf("zeros are %q, want %q", got, want)
	}
}
