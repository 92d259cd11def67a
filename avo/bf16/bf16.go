// Package bf16 adds to avo the instructions of AVX512_BF16, which it lacks, in avo's manner: a function for each opcode and each
// set of its suffixes, sources before the destination, an optional mask between them. What the operands may be is listed
// under Forms; the printers (gen/gas, gen/goasm) refuse others.
package bf16

import (
	"slices"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
)

// VDPBF16PS adds to each float32 of the destination the products of the two pairs of bfloat16 that stand in its place in the
// sources, by two fused multiply-adds to nearest even: the upper pair's, then the lower's. Denormals count as zeros, and results
// that would be denormal become zeros, whatever MXCSR says (Intel's manual, volume 2, VDPBF16PS).
//
// Forms:
//
//	VDPBF16PS      m128/xmm xmm [k] xmm
//	VDPBF16PS      m256/ymm ymm [k] ymm
//	VDPBF16PS      m512/zmm zmm [k] zmm
//	VDPBF16PS.BCST m32 xmm [k] xmm
//	VDPBF16PS.BCST m32 ymm [k] ymm
//	VDPBF16PS.BCST m32 zmm [k] zmm
func VDPBF16PS(c *build.Context, ops ...operand.Op)      { add(c, true, ops, "VDPBF16PS") }
func VDPBF16PS_Z(c *build.Context, ops ...operand.Op)    { add(c, true, ops, "VDPBF16PS", "Z") }
func VDPBF16PS_BCST(c *build.Context, ops ...operand.Op) { add(c, true, ops, "VDPBF16PS", "BCST") }
func VDPBF16PS_BCST_Z(c *build.Context, ops ...operand.Op) {
	add(c, true, ops, "VDPBF16PS", "BCST", "Z")
}

// VCVTNE2PS2BF16 rounds the float32 of the first source to bfloat16 in the lower half of the destination, and those of the second
// in the upper half: to nearest even, denormals as zeros, NaNs kept and made quiet.
//
// Forms:
//
//	VCVTNE2PS2BF16      m128/xmm xmm [k] xmm
//	VCVTNE2PS2BF16      m256/ymm ymm [k] ymm
//	VCVTNE2PS2BF16      m512/zmm zmm [k] zmm
//	VCVTNE2PS2BF16.BCST m32 xmm [k] xmm
//	VCVTNE2PS2BF16.BCST m32 ymm [k] ymm
//	VCVTNE2PS2BF16.BCST m32 zmm [k] zmm
func VCVTNE2PS2BF16(c *build.Context, ops ...operand.Op)   { add(c, false, ops, "VCVTNE2PS2BF16") }
func VCVTNE2PS2BF16_Z(c *build.Context, ops ...operand.Op) { add(c, false, ops, "VCVTNE2PS2BF16", "Z") }
func VCVTNE2PS2BF16_BCST(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNE2PS2BF16", "BCST")
}
func VCVTNE2PS2BF16_BCST_Z(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNE2PS2BF16", "BCST", "Z")
}

// VCVTNEPS2BF16 rounds the 16 float32 of the source to bfloat16, as VCVTNE2PS2BF16 does.
//
// Forms:
//
//	VCVTNEPS2BF16      m512/zmm [k] ymm
//	VCVTNEPS2BF16.BCST m32 [k] ymm
func VCVTNEPS2BF16(c *build.Context, ops ...operand.Op)   { add(c, false, ops, "VCVTNEPS2BF16") }
func VCVTNEPS2BF16_Z(c *build.Context, ops ...operand.Op) { add(c, false, ops, "VCVTNEPS2BF16", "Z") }
func VCVTNEPS2BF16_BCST(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16", "BCST")
}
func VCVTNEPS2BF16_BCST_Z(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16", "BCST", "Z")
}

// VCVTNEPS2BF16Y rounds the 8 float32 of the source to bfloat16, as VCVTNE2PS2BF16 does.
//
// Forms:
//
//	VCVTNEPS2BF16Y      m256/ymm [k] xmm
//	VCVTNEPS2BF16Y.BCST m32 [k] xmm
func VCVTNEPS2BF16Y(c *build.Context, ops ...operand.Op)   { add(c, false, ops, "VCVTNEPS2BF16Y") }
func VCVTNEPS2BF16Y_Z(c *build.Context, ops ...operand.Op) { add(c, false, ops, "VCVTNEPS2BF16Y", "Z") }
func VCVTNEPS2BF16Y_BCST(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16Y", "BCST")
}
func VCVTNEPS2BF16Y_BCST_Z(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16Y", "BCST", "Z")
}

// VCVTNEPS2BF16X rounds the 4 float32 of the source to bfloat16 and clears the rest of the destination, as VCVTNE2PS2BF16 does.
//
// Forms:
//
//	VCVTNEPS2BF16X      m128/xmm [k] xmm
//	VCVTNEPS2BF16X.BCST m32 [k] xmm
func VCVTNEPS2BF16X(c *build.Context, ops ...operand.Op)   { add(c, false, ops, "VCVTNEPS2BF16X") }
func VCVTNEPS2BF16X_Z(c *build.Context, ops ...operand.Op) { add(c, false, ops, "VCVTNEPS2BF16X", "Z") }
func VCVTNEPS2BF16X_BCST(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16X", "BCST")
}
func VCVTNEPS2BF16X_BCST_Z(c *build.Context, ops ...operand.Op) {
	add(c, false, ops, "VCVTNEPS2BF16X", "BCST", "Z")
}

// add appends an instruction to c's function. It reads all operands but the last, and that one too where it accumulates or
// where a mask without zeroing leaves parts of it.
func add(c *build.Context, accumulates bool, ops []operand.Op, opcode string, suffixes ...string) {
	i := &ir.Instruction{Opcode: opcode, Suffixes: suffixes, Operands: ops, ISA: []string{"AVX512BF16"}}
	if n := len(ops); n > 0 {
		i.Inputs, i.Outputs = slices.Clone(ops[:n-1]), ops[n-1:]
		merges := slices.ContainsFunc(i.Inputs, operand.IsK) && !slices.Contains(suffixes, "Z")
		if accumulates || merges {
			i.Inputs = append(i.Inputs, ops[n-1])
		}
	}
	if slices.ContainsFunc(ops, func(op operand.Op) bool { return operand.IsXMM(op) || operand.IsYMM(op) }) && opcode != "VCVTNEPS2BF16" {
		i.ISA = append(i.ISA, "AVX512VL")
	}
	c.Instruction(i)
}
