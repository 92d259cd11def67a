package goasm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// encoding is what the manual writes as EVEX.<width>.<prefix>.0F38.W0 <opcode> /r of an instruction on 32-bit elements.
type encoding struct {
	prefix  byte // pp: 2 for F3, 3 for F2
	opcode  byte
	sources int // registers or memory before the mask and the destination
	// narrows: the destination is half as wide as the source, of width bits, and xmm at least. Otherwise the destination's
	// width is the instruction's, and width is 0.
	narrows bool
	width   int
}

// bf16 are the instructions of AVX512_BF16 (Intel's Software Developer's Manual, volume 2, on each), by Go's way of naming
// and ordering operands: sources before the destination, the last source of the manual first, and a letter for the width of
// the source where the destination does not show it.
var bf16 = map[string]*encoding{
	"VDPBF16PS":      {prefix: 2, opcode: 0x52, sources: 2},
	"VCVTNE2PS2BF16": {prefix: 3, opcode: 0x72, sources: 2},
	"VCVTNEPS2BF16":  {prefix: 2, opcode: 0x72, sources: 1, narrows: true, width: 512},
	"VCVTNEPS2BF16Y": {prefix: 2, opcode: 0x72, sources: 1, narrows: true, width: 256},
	"VCVTNEPS2BF16X": {prefix: 2, opcode: 0x72, sources: 1, narrows: true, width: 128},
}

// evex is the fields of an instruction with an EVEX prefix, register numbers in 0 to 31.
type evex struct {
	*encoding
	width       int // bits
	reg, vvvv   int
	rm          operand.Op
	mask        int // 0: none
	zero, bcast bool
}

// encode returns the machine code of one of the instructions in bf16.
func encode(i *ir.Instruction) ([]byte, error) {
	e := evex{encoding: bf16[i.Opcode]}
	for _, suffix := range i.Suffixes {
		switch suffix {
		case "Z":
			e.zero = true
		case "BCST":
			e.bcast = true
		default:
			return nil, fmt.Errorf("unknown suffix .%s", suffix)
		}
	}

	n := e.sources
	switch {
	case len(i.Operands) == n+2:
		k, ok := i.Operands[n].(reg.Register)
		if !ok || k.Kind() != reg.KindOpmask {
			return nil, fmt.Errorf("%s is no mask", i.Operands[n].Asm())
		}
		var err error
		if e.mask, err = number(k); err != nil {
			return nil, err
		}
		if e.mask == 0 {
			return nil, errors.New("K0 means no mask; take K1 to K7")
		}
	case len(i.Operands) != n+1:
		return nil, fmt.Errorf("%d operands; it takes %d, and a mask before the last", len(i.Operands), n+1)
	case e.zero:
		return nil, errors.New(".Z without a mask")
	}

	to := i.Operands[len(i.Operands)-1]
	e.width = e.encoding.width
	if !e.narrows {
		e.width = bits(to)
	}
	destination := e.width
	if e.narrows {
		destination = max(128, e.width/2)
	}
	var err error
	if e.reg, err = vector(to, destination); err != nil {
		return nil, err
	}
	if n == 2 {
		if e.vvvv, err = vector(i.Operands[1], e.width); err != nil {
			return nil, err
		}
	}
	e.rm = i.Operands[0]
	return e.bytes()
}

// bits is the width of a vector register; 0 for anything else.
func bits(op operand.Op) int {
	if r, ok := op.(reg.Register); ok && r.Kind() == reg.KindVector {
		return 8 * int(r.Size())
	}
	return 0
}

// vector returns the number of a vector register of width bits.
func vector(op operand.Op, width int) (int, error) {
	if width == 0 || bits(op) != width {
		want := map[int]string{0: "a vector register", 128: "an X register", 256: "a Y register", 512: "a Z register"}[width]
		return 0, fmt.Errorf("%s is not %s", op.Asm(), want)
	}
	return number(op.(reg.Register))
}

func number(r reg.Register) (int, error) {
	p := reg.ToPhysical(r)
	if p == nil {
		return 0, fmt.Errorf("register %s is not allocated; run pass.Compile first", r.Asm())
	}
	return int(p.PhysicalIndex()), nil
}

// bytes lays e out: Intel's manual, volume 2, section 2.7 (EVEX) and tables 2-1 to 2-3 (ModRM and SIB).
func (e *evex) bytes() ([]byte, error) {
	var tail []byte // ModRM, SIB and displacement
	rmHigh := 0     // X and B: bits 4 and 3 of a register, or bit 3 of an index and of a base
	modReg := byte(e.reg&7) << 3
	switch rm := e.rm.(type) {
	case operand.Mem:
		unit := e.width / 8
		if e.bcast {
			unit = 4
		}
		var err error
		if tail, rmHigh, err = address(rm, unit); err != nil {
			return nil, err
		}
		tail[0] |= modReg
	default:
		if e.bcast {
			return nil, errors.New(".BCST without a memory operand")
		}
		r, err := vector(rm, e.width)
		if err != nil {
			return nil, err
		}
		tail, rmHigh = []byte{0xc0 | modReg | byte(r&7)}, r>>3
	}

	const map0F38 = 2
	flag := func(set bool, bit int) byte {
		if set {
			return 1 << bit
		}
		return 0
	}
	// The high bits of register numbers are stored inverted.
	p0 := map0F38 | flag(e.reg&8 == 0, 7) | byte(^rmHigh&3)<<5 | flag(e.reg&16 == 0, 4)
	p1 := byte(^e.vvvv&15)<<3 | 1<<2 | e.prefix
	p2 := flag(e.zero, 7) | map[int]byte{128: 0, 256: 1, 512: 2}[e.width]<<5 | flag(e.bcast, 4) | flag(e.vvvv&16 == 0, 3) | byte(e.mask)
	return append([]byte{0x62, p0, p1, p2, e.opcode}, tail...), nil
}

// address returns ModRM, SIB and displacement of a memory operand, and bit 3 of its index and base. A displacement of up to
// 127 units, of unit bytes, takes one byte.
func address(m operand.Mem, unit int) (tail []byte, high int, err error) {
	const rsp, rbp = 4, 5 // in rm, rsp announces a SIB byte and rbp without displacement means none of a base
	base, index := -1, -1
	switch {
	case m.Base == nil:
		if m.Index == nil {
			return nil, 0, fmt.Errorf("%s is an absolute address; give it a base register", m.Asm())
		}
	case m.Base == reg.StackPointer:
		base = rsp
	case m.Base == reg.FramePointer || m.Base == reg.StaticBase:
		return nil, 0, fmt.Errorf("where %s lies is only known to Go's assembler; load it or its address first", m.Asm())
	default:
		if base, err = pointer(m.Base); err != nil {
			return nil, 0, err
		}
	}
	if m.Symbol.Name != "" {
		return nil, 0, fmt.Errorf("%s names a symbol beside a base register", m.Asm())
	}
	if m.Index != nil {
		if index, err = pointer(m.Index); err != nil {
			return nil, 0, err
		}
		if index == rsp {
			return nil, 0, errors.New("SP cannot be an index")
		}
	}
	if m.Disp != int(int32(m.Disp)) {
		return nil, 0, fmt.Errorf("displacement %d does not fit in 32 bits", m.Disp)
	}

	var mod byte
	disp := binary.LittleEndian.AppendUint32(nil, uint32(m.Disp))
	compressed := m.Disp / unit
	switch {
	case base < 0: // always four bytes
	case m.Disp == 0 && base&7 != rbp:
		disp = nil
	case m.Disp%unit == 0 && compressed == int(int8(compressed)):
		mod, disp = 1, []byte{byte(compressed)}
	default:
		mod = 2
	}
	if index < 0 && base&7 != rsp {
		tail = []byte{mod<<6 | byte(base&7)}
		return append(tail, disp...), base >> 3, nil
	}
	sib := byte(rsp<<3 | rbp) // neither index nor base
	if base >= 0 {
		sib = sib&^7 | byte(base&7)
		high |= base >> 3
	}
	if index >= 0 {
		scale, ok := map[uint8]byte{1: 0, 2: 1, 4: 2, 8: 3}[m.Scale]
		if !ok {
			return nil, 0, fmt.Errorf("index scale is %d; it must be 1, 2, 4 or 8", m.Scale)
		}
		sib = scale<<6 | byte(index&7)<<3 | sib&7
		high |= index >> 3 << 1
	}
	tail = []byte{mod<<6 | rsp, sib}
	return append(tail, disp...), high, nil
}

// pointer returns the number of a 64-bit general purpose register.
func pointer(r reg.Register) (int, error) {
	if r.Kind() != reg.KindGP || r.Size() != 8 {
		return 0, fmt.Errorf("%s cannot be part of an address; addresses take 64-bit registers", r.Asm())
	}
	return number(r)
}
