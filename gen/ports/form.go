package ports

import (
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Class is instructions that the same ports do.
type Class int

const (
	None            Class = iota // done by renaming registers, or by load and store ports alone
	VNNI                         // products of bytes, summed
	Multiply                     // of floats, and fused with an addition, or with two of BF16
	IntegerMultiply              // of words and dwords
	Convert                      // between integers and floats
	Add                          // floats
	Extreme                      // of floats: maxima and minima
	Shuffle                      // moves bytes across a vector, widens, inserts, extracts
	Shift
	Logic     // and additions of integers
	Select    // by mask
	Compare   // or test, into a mask
	MaskLogic // among masks
	ToMask    // from a general register
	FromMask  // to one
	ToVector  // from a general register to a vector's lowest lane
	Divide
	Scalar
	Branch
	Prefetch

	// Classes of parts of instructions.
	VectorLoad
	ScalarLoad
	Store
)

var classNames = map[Class]string{None: "none", VNNI: "VNNI", Multiply: "multiply", IntegerMultiply: "integer multiply", Convert: "convert", Add: "add",
	Extreme: "extreme", Shuffle: "shuffle", Shift: "shift", Logic: "logic", Select: "select", Compare: "compare", MaskLogic: "mask logic",
	ToMask: "to mask", FromMask: "from mask", ToVector: "to vector", Divide: "divide", Scalar: "scalar", Branch: "branch", Prefetch: "prefetch",
	VectorLoad: "load", ScalarLoad: "scalar load", Store: "store"}

func (c Class) String() string { return classNames[c] }

// classes of opcodes without suffixes. Moves, which may load or store or neither, are not among them.
var classes = func() map[string]Class {
	m := map[string]Class{}
	for class, opcodes := range map[Class][]string{
		VNNI:            {"VPDPBUSD"},
		Multiply:        {"VFMADD231PS", "VFNMADD231PS", "VMULPS", "VMULSS", "VDPBF16PS"},
		IntegerMultiply: {"VPMULLD", "VPMULLW", "VPMADDWD", "VPMADDUBSW"},
		Convert:         {"VCVTDQ2PS", "VCVTPS2DQ", "VCVTPH2PS", "VCVTPS2PH"},
		Add:             {"VADDPS", "VSUBPS"},
		Extreme:         {"VMAXPS", "VMAXSS"},
		Shuffle: {"VPERMB", "VPERMD", "VPERMI2B", "VPERMT2B", "VPSHUFB", "VPSHUFD", "VSHUFI32X4", "VSHUFF32X4", "VPUNPCKLDQ", "VPUNPCKHDQ",
			"VPUNPCKLQDQ", "VPUNPCKHQDQ", "VPUNPCKLBW", "VPUNPCKHBW", "VMOVHLPS", "VMOVSHDUP", "VEXTRACTF128", "VEXTRACTI128", "VEXTRACTI64X4",
			"VINSERTI128", "VINSERTI64X4", "VPMOVZXBD", "VPMOVZXBW", "VPMOVZXWD", "VPMOVSXBD", "VPMOVSXBW", "VPMOVSXWD", "VPMOVDB", "VPMOVDW", "VPMOVWB", "VPMOVSDB",
			"VPMULTISHIFTQB", "VPEXPANDB"},
		Shift: {"VPSRLD", "VPSLLD", "VPSRAD", "VPSRLW", "VPSLLW", "VPSRAW", "VPSRLQ", "VPSLLQ", "VPSRLVD", "VPSLLVD", "VPROLD", "VPRORD",
			"VGF2P8AFFINEQB"},
		Logic: {"VPANDD", "VPANDQ", "VPANDND", "VPORD", "VPORQ", "VPXORD", "VXORPS", "VANDPS", "VPTERNLOGD", "VPADDD", "VPSUBD", "VPADDB", "VPSUBB",
			"VPADDW", "VPSUBW", "VPMAXSD", "VPMINSD"},
		Select:    {"VPBLENDMB", "VPBLENDMD", "VPMOVM2B"},
		Compare:   {"VPCMPEQB", "VPCMPUW", "VPCMPB", "VPCMPUB", "VPTESTMB", "VPTESTMD", "VPTESTNMB", "VCMPPS", "VCMPSS", "VPMOVB2M"},
		MaskLogic: {"KANDQ", "KANDNQ", "KORQ", "KXORQ", "KNOTQ", "KSHIFTRQ", "KSHIFTLQ"},
		ToVector:  {"VMOVD", "VMOVQ", "VPINSRQ"},
		Divide:    {"VDIVSS", "VDIVPS"},
		Scalar: {"ADDQ", "SUBQ", "ADDL", "INCQ", "DECQ", "DECL", "XORQ", "XORL", "ANDQ", "ANDL", "SHRQ", "SHLQ", "SHRL", "SHLL", "LEAQ", "LEAL", "TESTQ",
			"TESTL", "CMPQ", "CMOVLNE", "TZCNTL", "POPCNTQ", "MOVQ", "MOVL", "MOVBLZX", "MOVWLZX"},
		Branch:   {"JNZ", "JNE", "JZ", "JE", "JMP"},
		Prefetch: {"PREFETCHT0", "PREFETCHT1", "PREFETCHT2", "PREFETCHNTA"},
	} {
		for _, o := range opcodes {
			m[o] = class
		}
	}
	return m
}()

// moves are opcodes that only move vectors, with what one that loads reads of a 512-bit vector, in bits: 0 all of it.
var moves = map[string]int{
	"VMOVDQU64": 0, "VMOVDQA64": 0, "VMOVDQU": 0, "VMOVDQA": 0, "VMOVDQU8": 0, "VMOVUPS": 0, "VMOVAPS": 0, "VMOVSS": 32,
	"VPBROADCASTD": 32, "VPBROADCASTQ": 64, "VBROADCASTSS": 32, "VBROADCASTI32X4": 128, "VBROADCASTI64X2": 128, "VBROADCASTI64X4": 256,
}

// idioms are opcodes that make zero of a register and itself, which takes no port.
var idioms = []string{"VPXORD", "VXORPS", "XORQ", "XORL"}

// narrow is how many times smaller than the vector that it makes is what an instruction reads.
var narrow = map[string]int{
	"VPMOVZXBD": 4, "VPMOVSXBD": 4, "VPMOVZXBW": 2, "VPMOVSXBW": 2, "VPMOVZXWD": 2, "VPMOVSXWD": 2, "VCVTPH2PS": 2,
	"VPMOVDB": 4, "VPMOVSDB": 4, "VPMOVDW": 2, "VPMOVWB": 2, "VCVTPS2PH": 2, // these write it
}

// form is what the ports see of an instruction.
type form struct {
	opcode      string
	class       Class
	width       int  // bits of the widest register
	load, store int  // bits
	scalar      bool // loads by any load port, not by those for vectors
}

// scalarMoves are opcodes that only load or store where they have an operand in memory.
var scalarMoves = []string{"MOVQ", "MOVL", "MOVBLZX", "MOVWLZX"}

// formOf finds the form of an instruction. One whose opcode is not in the tables above is an error: it would go uncounted.
func formOf(i *ir.Instruction) (form, error) {
	f := form{opcode: i.Opcode}
	var memory operand.Op
	var general, mask, vector int
	for _, o := range i.Operands {
		switch {
		case operand.IsMem(o):
			memory = o
		default:
			if r, ok := o.(reg.Register); ok {
				f.width = max(f.width, 8*int(r.Size()))
				switch r.Kind() {
				case reg.KindVector:
					vector++
				case reg.KindOpmask:
					mask++
				default:
					general++
				}
			}
		}
	}
	if vector == 0 && mask == 0 {
		f.width = 0
	}
	var known bool
	part, move := moves[i.Opcode]
	switch {
	case i.Opcode == "KMOVQ" || i.Opcode == "KMOVD" || i.Opcode == "KMOVW" || i.Opcode == "KMOVB":
		known = true
		switch last := i.Operands[len(i.Operands)-1]; {
		case memory != nil:
			return f, fmt.Errorf("%s to or from memory is not in the tables of package ports", i.Opcode)
		case general == 0:
			f.class = MaskLogic
		case last.(reg.Register).Kind() == reg.KindOpmask:
			f.class = ToMask
		default:
			f.class = FromMask
		}
		f.width = 0
	case move:
		known = true
		switch {
		case memory != nil: // the ports below
		case general > 0:
			f.class = Shuffle
		case part > 0:
			f.class = Shuffle
		case mask > 0:
			f.class = Select
		}
	default:
		f.class, known = classes[i.Opcode]
	}
	if !known {
		return f, fmt.Errorf("opcode %s is not in the tables of package ports", i.OpcodeWithSuffixes())
	}
	if slices.Contains(idioms, i.Opcode) && i.Operands[0] == i.Operands[1] {
		f.class = None
	}
	if i.Opcode == "MOVQ" && general == 2 {
		f.class = None
	}
	if memory == nil || i.Opcode == "LEAQ" || i.Opcode == "LEAL" {
		return f, nil
	}
	size := f.width
	switch {
	case slices.Contains(i.Suffixes, "BCST"):
		size = 32
	case f.class == Scalar || f.class == Prefetch || f.class == ToVector:
		size = 64
	case part > 0:
		size = part
	case narrow[i.Opcode] > 0:
		size = f.width / narrow[i.Opcode]
	}
	if slices.Contains(i.Outputs, memory) {
		f.store = size
		if f.class == ToVector {
			f.class = None // VMOVD of a vector
		}
	} else {
		f.load, f.scalar = size, f.class == Scalar || f.class == Prefetch
	}
	if f.class == Prefetch || slices.Contains(scalarMoves, i.Opcode) {
		f.class = None
	}
	return f, nil
}
