package gas

import (
	"fmt"
	"strconv"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gpNames are the 64, 32, 16 and 8-bit names of the general purpose registers in the order of their encoding.
var gpNames = [16][4]string{
	{"rax", "eax", "ax", "al"}, {"rcx", "ecx", "cx", "cl"}, {"rdx", "edx", "dx", "dl"}, {"rbx", "ebx", "bx", "bl"},
	{"rsp", "esp", "sp", "spl"}, {"rbp", "ebp", "bp", "bpl"}, {"rsi", "esi", "si", "sil"}, {"rdi", "edi", "di", "dil"},
	{"r8", "r8d", "r8w", "r8b"}, {"r9", "r9d", "r9w", "r9b"}, {"r10", "r10d", "r10w", "r10b"},
	{"r11", "r11d", "r11w", "r11b"}, {"r12", "r12d", "r12w", "r12b"}, {"r13", "r13d", "r13w", "r13b"},
	{"r14", "r14d", "r14w", "r14b"}, {"r15", "r15d", "r15w", "r15b"},
}

// gp names the low bytes of general purpose register id; size is 1, 2, 4 or 8.
func gp(id reg.Index, size int) string {
	names := gpNames[id]
	return "%" + map[int]string{8: names[0], 4: names[1], 2: names[2], 1: names[3]}[size]
}

// Encodings of the registers that the calling convention names.
const (
	rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi = 0, 1, 2, 3, 4, 5, 6, 7
	r8, r9, r12, r13, r14, r15             = 8, 9, 12, 13, 14, 15
)

func register(r reg.Register) (string, error) {
	p := reg.ToPhysical(r)
	if p == nil {
		return "", fmt.Errorf("register %s is not allocated; run pass.Compile first", r.Asm())
	}
	id := p.PhysicalIndex()
	switch p.Kind() {
	case reg.KindGP:
		if id == rsp {
			return "", fmt.Errorf("the stack pointer belongs to the frame; use AllocLocal")
		}
		if p.Mask() == reg.S8H.Mask() {
			return "%" + gpNames[id][3][:1] + "h", nil
		}
		return gp(id, int(p.Size())), nil
	case reg.KindVector:
		return fmt.Sprintf("%%%cmm%d", map[uint]byte{16: 'x', 32: 'y', 64: 'z'}[p.Size()], id), nil
	case reg.KindOpmask:
		return fmt.Sprintf("%%k%d", id), nil
	}
	return "", fmt.Errorf("register %s has no place here", r.Asm())
}

// immediate returns the value of an integer constant as Go's assembler reads it: unsigned types are not sign extended.
func immediate(c operand.Constant) (string, error) {
	switch c := c.(type) {
	case operand.U8:
		return fmt.Sprintf("$%#x", uint8(c)), nil
	case operand.U16:
		return fmt.Sprintf("$%#x", uint16(c)), nil
	case operand.U32:
		return fmt.Sprintf("$%#x", uint32(c)), nil
	case operand.U64:
		return fmt.Sprintf("$%#x", uint64(c)), nil
	case operand.I8:
		return fmt.Sprintf("$%d", int8(c)), nil
	case operand.I16:
		return fmt.Sprintf("$%d", int16(c)), nil
	case operand.I32:
		return fmt.Sprintf("$%d", int32(c)), nil
	case operand.I64:
		return fmt.Sprintf("$%d", int64(c)), nil
	}
	return "", fmt.Errorf("constant %s is not an integer; put it in a data section", c.Asm())
}

// address writes a memory operand of the function laid out by fr and says whether it has a displacement.
func (fr *frame) address(m operand.Mem) (asm string, displaced bool, err error) {
	if m.Index != nil && m.Scale != 1 && m.Scale != 2 && m.Scale != 4 && m.Scale != 8 {
		return "", false, fmt.Errorf("index scale is %d; it must be 1, 2, 4 or 8", m.Scale)
	}
	disp, base := m.Disp, ""
	switch {
	case m.Base == nil:
		if m.Index == nil {
			return "", false, fmt.Errorf("%s is an absolute address; give it a base register", m.Asm())
		}
	case m.Base == reg.FramePointer:
		if disp < 0 || disp >= fr.argBytes {
			return "", false, fmt.Errorf("%s lies outside the %d bytes of arguments and results", m.Asm(), fr.argBytes)
		}
		disp, base = disp+fr.args, "%rsp"
	case isStackPointer(m.Base):
		if m.Symbol.Name != "" || disp < 0 || disp >= fr.args {
			return "", false, fmt.Errorf("%s lies outside the %d bytes of locals; use AllocLocal", m.Asm(), fr.args)
		}
		base = "%rsp"
	case m.Base == reg.StaticBase:
		if m.Index != nil {
			return "", false, fmt.Errorf("%s indexes a symbol, which position independent code cannot; LEAQ it first", m.Asm())
		}
		if !identifier.MatchString(m.Symbol.Name) {
			return "", false, fmt.Errorf("symbol %q is no C identifier", m.Symbol.Name)
		}
		asm = m.Symbol.Name
		if disp != 0 {
			asm += fmt.Sprintf("%+d", disp)
		}
		return asm + "(%rip)", true, nil
	default:
		if base, err = addressRegister(m.Base); err != nil {
			return "", false, err
		}
	}
	if m.Symbol.Name != "" && m.Base != reg.FramePointer {
		return "", false, fmt.Errorf("%s names a symbol beside a base register", m.Asm())
	}
	if disp != int(int32(disp)) {
		return "", false, fmt.Errorf("displacement %d does not fit in 32 bits", disp)
	}
	if disp != 0 {
		asm = strconv.Itoa(disp)
	}
	asm += "(" + base
	if m.Index != nil {
		index, err := addressRegister(m.Index)
		if err != nil {
			return "", false, err
		}
		asm += fmt.Sprintf(",%s,%d", index, m.Scale)
	}
	return asm + ")", disp != 0, nil
}

// addressRegister names a base, or an index, which gathers and scatters hold in a vector register.
func addressRegister(r reg.Register) (string, error) {
	if r.Kind() != reg.KindVector && (r.Kind() != reg.KindGP || r.Size() != 8) {
		return "", fmt.Errorf("%s cannot be part of an address; addresses take 64-bit registers", r.Asm())
	}
	return register(r)
}

func isStackPointer(r reg.Register) bool {
	p := reg.ToPhysical(r)
	return r == reg.StackPointer || p != nil && p.Kind() == reg.KindGP && p.PhysicalIndex() == rsp
}

func isMask(op operand.Op) bool {
	r, ok := op.(reg.Register)
	return ok && r.Kind() == reg.KindOpmask
}
