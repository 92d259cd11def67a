package gas

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// source is the instruction as Go's assembler would read it.
func source(i *ir.Instruction) string {
	var operands []string
	for _, op := range i.Operands {
		operands = append(operands, op.Asm())
	}
	return strings.TrimSpace(i.OpcodeWithSuffixes() + " " + strings.Join(operands, ", "))
}

// instruction translates one instruction; labels are the names of the function's labels. Go and AT&T order operands alike
// but where opcode.swap says otherwise; a mask, which Go writes before the destination, decorates it in AT&T, and a
// suffix for rounding becomes an operand.
func (fr *frame) instruction(i *ir.Instruction, labels map[ir.Label]string) (string, error) {
	op, ok := opcodes[i.Opcode]
	if !ok {
		return "", fmt.Errorf("opcode %s is not in the allow-list of gen/gas (opcodes.go); add it there if it belongs", i.Opcode)
	}
	suffix, err := parseSuffixes(i.Suffixes)
	if err != nil {
		return "", err
	}
	operands, mask, err := splitMask(op, i.Operands)
	if err != nil {
		return "", err
	}
	op, operands, err = op.settle(i.Opcode, operands)
	if err != nil {
		return "", err
	}
	if i.Opcode[0] == 'J' && (len(operands) != 1 || i.TargetLabel() == nil) {
		return "", errors.New("jumps go to labels")
	}

	var args []string
	memory := false
	for _, o := range operands {
		var arg string
		var err error
		switch o := o.(type) {
		case reg.Register:
			arg, err = register(o)
		case operand.Mem:
			memory = true
			var displaced bool
			if arg, displaced, err = fr.address(o); err == nil && suffix.broadcast {
				if displaced && strings.HasPrefix(i.Opcode, "VGF2P8AFFINE") {
					return "", errors.New("clang 19 mis-encodes the displacement of this broadcast; LEAQ the address first")
				}
				if op.elem == 0 || op.width < op.elem {
					return "", fmt.Errorf("%s has no embedded broadcast", i.Opcode)
				}
				arg += fmt.Sprintf("{1to%d}", op.width/op.elem)
			}
		case operand.LabelRef:
			if arg, ok = labels[ir.Label(o)]; !ok {
				err = fmt.Errorf("no label %s in the function", o)
			}
		case operand.Constant:
			arg, err = immediate(o)
		default:
			err = fmt.Errorf("operand %s of type %T cannot be expressed", o.Asm(), o)
		}
		if err != nil {
			return "", err
		}
		args = append(args, arg)
	}

	if name := "vcvtneps2bf16"; strings.HasPrefix(op.name, name) && (suffix.broadcast || !memory) {
		op.name = name // {1toN} or a register says the width, and clang takes no letter beside them
	}
	if suffix.broadcast && !memory {
		return "", errors.New(".BCST without a memory operand")
	}
	if suffix.zeroing && mask == "" {
		return "", errors.New(".Z without a mask")
	}
	if mask != "" {
		last := len(args) - 1
		args[last] += "{" + mask + "}"
		if suffix.zeroing {
			if operand.IsMem(operands[last]) {
				return "", errors.New(".Z with a memory destination faults; drop it, masked-out elements keep what memory holds")
			}
			args[last] += "{z}"
		}
	}
	if suffix.rounding != "" {
		at := 0
		if len(args) > 0 && (args[0][0] == '$' || strings.Contains(op.name, "si2s")) { // behind an immediate or an integer source
			at = 1
		}
		args = slices.Insert(args, at, suffix.rounding)
	}
	if op.swap {
		slices.Reverse(args)
	}
	return strings.TrimSpace(op.name + "\t" + strings.Join(args, ", ")), nil
}

type suffixes struct {
	zeroing, broadcast bool
	rounding           string // an AT&T operand
}

func parseSuffixes(list []string) (s suffixes, err error) {
	for _, name := range list {
		switch name {
		case "Z":
			s.zeroing = true
		case "BCST":
			s.broadcast = true
		case "RN_SAE", "RD_SAE", "RU_SAE", "RZ_SAE", "SAE":
			s.rounding = "{" + strings.ToLower(strings.ReplaceAll(name, "_", "-")) + "}"
		default:
			return s, fmt.Errorf("unknown suffix .%s", name)
		}
	}
	return s, nil
}

// splitMask takes the mask out of the operands of a vector instruction. It stands before the destination; a mask register
// before the only other operand is a source.
func splitMask(op opcode, operands []operand.Op) (rest []operand.Op, mask string, err error) {
	n := len(operands)
	if op.name[0] != 'v' || n < 3 || !isMask(operands[n-2]) {
		return operands, "", nil
	}
	if mask, err = register(operands[n-2].(reg.Register)); err != nil {
		return nil, "", err
	}
	if mask == "%k0" {
		return nil, "", errors.New("K0 means no mask; take K1 to K7")
	}
	return slices.Concat(operands[:n-2], operands[n-1:]), mask, nil
}

// settle fixes what depends on the operands: the width of a vector instruction, and the forms that general instructions
// have in common with others of the same Go name or that the two assemblers read differently.
func (op opcode) settle(name string, operands []operand.Op) (opcode, []operand.Op, error) {
	vector := op.name[0] == 'v'
	widest := 0
	for _, o := range operands {
		if r, ok := o.(reg.Register); ok && r.Kind() == reg.KindVector {
			widest = max(widest, 8*int(r.Size()))
		}
	}
	if op.width == 0 {
		op.width = widest
	}
	if vector {
		return op, operands, nil
	}
	n := len(operands)
	if widest > 0 && name != "MOVSS" && name != "MOVSD" {
		return op, nil, fmt.Errorf("legacy SSE form; use V%s", name)
	}
	switch name {
	case "SHLW", "SHLL", "SHLQ", "SHRW", "SHRL", "SHRQ":
		if n != 2 {
			return op, nil, errors.New("the double shift is not in the allow-list of gen/gas")
		}
	case "MOVLQZX": // the 32-bit move that clears the upper half
		return op, narrow(operands), nil
	}
	if n == 0 || name[0] == 'K' {
		return op, operands, nil
	}
	_, toRegister := operands[n-1].(reg.Register)
	for _, o := range operands {
		c, ok := o.(operand.Constant)
		if !ok {
			continue
		}
		load := name == "MOVQ" && toRegister // the only instruction with a 64-bit constant
		size := map[byte]int{'b': 1, 'w': 2, 'l': 4, 'q': 4}[op.name[len(op.name)-1]]
		if c.Bytes() > size && !load {
			return op, nil, fmt.Errorf("constant %s is wider than the operation takes", c.Asm())
		}
		// Go extends a 32-bit constant by its sign whatever its type, except in this load, which it makes a 32-bit move.
		// GNU as takes the value as it is.
		if u, ok := c.(operand.U32); ok && u >= 1<<31 && op.name[len(op.name)-1] == 'q' {
			if !load {
				return op, nil, fmt.Errorf("constant %s is negative to Go's assembler; write an I32, or MOVQ it to a register", c.Asm())
			}
			op.name = "movl"
			return op, narrow(operands), nil
		}
	}
	return op, operands, nil
}

// narrow takes the low 32 bits of general purpose registers.
func narrow(operands []operand.Op) []operand.Op {
	operands = slices.Clone(operands)
	for k, o := range operands {
		if r, ok := o.(reg.GP); ok {
			operands[k] = r.As32()
		}
	}
	return operands
}
