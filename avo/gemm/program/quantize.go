package program

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// quantizeQ81 emits the quantizer of activations in blocks of 32: Q8_1, of which Q8_0 is a part. It writes one row of a group; the
// caller calls it for each row.
func quantizeQ81() kernel.Program {
	return kernel.Program{
		Info: kernel.Info{
			Name: "zt_quantize_q8_1_" + isa, Op: kernel.Quantize, Type: "Q8_1",
			Oracle: "activation.Quantize, which is ggml's quantize_row_q8_1, and but for the sum quantize_row_q8_0, on x86",
			Doc:    "quantizes one row of activations into its place in a group.",
			Args: []kernel.Arg{
				{Name: "x", Go: "*float32", Doc: "the row"},
				{Name: "quants", Go: "*byte", Out: true, Doc: "where the row's 32 int8 of the first block go"},
				{Name: "delta", Go: "*byte", Out: true, Doc: "where its float32 scale goes: the FP16 scale, widened"},
				{Name: "corr", Go: "*byte", Out: true, Doc: "where its int32 -128*sum(quants) goes"},
				{Name: "sum", Go: "*byte", Out: true,
					Doc: "where its float32 s goes: the sum of quants times the scale before that was rounded to FP16, rounded to FP16 and widened"},
				{Name: "blocks", Go: "int64", Doc: "blocks of 32, at least 1"},
				{Name: "stride", Go: "int64", Doc: "bytes from a block of the group to the next"},
			},
		},
		Emit: emitQuantize32,
	}
}

func emitQuantize32(c *Context) {
	x := c.Load(c.Param("x"), c.GP64())
	quants := c.Load(c.Param("quants"), c.GP64())
	delta := c.Load(c.Param("delta"), c.GP64())
	corr := c.Load(c.Param("corr"), c.GP64())
	blocks := c.Load(c.Param("blocks"), c.GP64())
	stride := c.Load(c.Param("stride"), c.GP64())
	s := c.Load(c.Param("sum"), c.GP64())

	bits := c.GP32()
	abs := c.YMM()
	c.MOVL(U32(0x7fffffff), bits)
	c.VPBROADCASTD(bits, abs)
	x128 := c.YMM()
	c.MOVL(U32(0x80808080), bits)
	c.VPBROADCASTD(bits, x128)
	limit := c.XMM()
	c.MOVL(U32(0x42fe0000), bits) // 127.0
	c.VMOVD(bits, limit)
	zero := c.YMM()
	c.VPXORD(zero, zero, zero)

	c.Label("block")
	c.Comment("Maximum magnitude, in the operand order of the oracle: VMAXPS returns its second source when one is NaN.")
	var m reg.VecVirtual
	for i := range 4 {
		v := c.YMM()
		c.VANDPS(Mem{Base: x, Disp: 32 * i}, abs, v)
		if i == 0 {
			m = v
		} else {
			c.VMAXPS(v, m, m)
		}
	}
	high := c.YMM()
	c.VEXTRACTF128(U8(1), m, high.AsX())
	c.VMAXPS(m.AsX(), high.AsX(), m.AsX())
	c.VMOVHLPS(m.AsX(), m.AsX(), high.AsX())
	c.VMAXPS(high.AsX(), m.AsX(), m.AsX())
	c.VMOVSHDUP(m.AsX(), high.AsX())
	c.VMAXSS(high.AsX(), m.AsX(), m.AsX())

	c.Comment("d = max/127, kept as FP16 would keep it; 1/d = 127/max, or 0 where the block is all zero.")
	unrounded, d := c.XMM(), c.XMM()
	c.VDIVSS(limit, m.AsX(), unrounded)
	c.VCVTPS2PH(U8(0), unrounded, d)
	c.VCVTPH2PS(d, d)
	c.VMOVSS(d, Mem{Base: delta})
	nonzero := c.K()
	c.VCMPSS(U8(4), zero.AsX(), m.AsX(), nonzero) // NEQ_UQ: true for NaN, as != in C
	inverse := c.XMM()
	c.VDIVSS_Z(m.AsX(), limit, nonzero, inverse)
	scale := c.ZMM()
	c.VBROADCASTSS(inverse, scale)

	q := c.YMM()
	var integers reg.VecVirtual // their sum, which quants need not have where they were clamped
	for i := range 2 {
		v := c.ZMM()
		c.VMULPS(Mem{Base: x, Disp: 64 * i}, scale, v)
		c.VCVTPS2DQ(v, v)
		if i == 0 {
			integers = c.ZMM()
			c.VMOVDQA64(v, integers)
			c.VPMOVSDB(v, q.AsX())
		} else {
			c.VPADDD(v, integers, integers)
			upper := c.XMM()
			c.VPMOVSDB(v, upper)
			c.VINSERTI128(U8(1), upper, q, q)
		}
	}
	c.VMOVDQU(q, Mem{Base: quants})

	c.Comment("corr = -sum(128*q)")
	sum := c.YMM()
	c.VMOVDQA(zero, sum)
	c.VPDPBUSD(q, x128, sum)
	half := sumLanes(c, sum)
	c.VPSUBD(half, zero.AsX(), half)
	c.VMOVD(half, Mem{Base: corr})
	c.Comment("s = d*sum, kept as FP16 would keep it")
	upper := c.YMM()
	c.VEXTRACTI64X4(U8(1), integers, upper)
	c.VPADDD(upper, integers.AsY(), upper)
	total := sumLanes(c, upper)
	c.VCVTDQ2PS(total, total)
	c.VMULSS(total, unrounded, total)
	c.VCVTPS2PH(U8(0), total, total)
	c.VCVTPH2PS(total, total)
	c.VMOVSS(total, Mem{Base: s})
	c.ADDQ(stride, s)

	c.ADDQ(U8(4*32), x)
	c.ADDQ(stride, quants)
	c.ADDQ(stride, delta)
	c.ADDQ(stride, corr)
	c.DECQ(blocks)
	c.JNZ(LabelRef("block"))
	c.VZEROUPPER()
	c.RET()
}

// sumLanes returns the sum of eight int32 in the first lane.
func sumLanes(c *Context, sum reg.VecVirtual) reg.VecVirtual {
	half := c.XMM()
	c.VEXTRACTI128(U8(1), sum, half)
	c.VPADDD(sum.AsX(), half, half)
	other := c.XMM()
	c.VPSHUFD(U8(0x4e), half, other)
	c.VPADDD(other, half, half)
	c.VPSHUFD(U8(0xb1), half, other)
	c.VPADDD(other, half, half)
	return half
}

// quantizeQ8K emits the quantizer of activations in blocks of 256.
func quantizeQ8K() kernel.Program {
	return kernel.Program{
		Info: kernel.Info{
			Name: "zt_quantize_q8_k_" + isa, Op: kernel.Quantize, Type: "Q8_K",
			Oracle: "activation.Quantize, which is ggml's quantize_row_q8_K",
			Doc:    "quantizes one row of activations into its place in a group.",
			Args: []kernel.Arg{
				{Name: "x", Go: "*float32", Doc: "the row"},
				{Name: "quants", Go: "*byte", Out: true, Doc: "where the row's 256 int8 of the first block go"},
				{Name: "delta", Go: "*byte", Out: true, Doc: "where its float32 scale goes"},
				{Name: "corr", Go: "*byte", Out: true, Doc: "where its 16 int32 -sum(16 quants) go"},
				{Name: "sums32", Go: "*byte", Out: true, Doc: "where its 8 int16 sums of 32 quants go"},
				{Name: "sums16", Go: "*byte", Out: true, Doc: "where its 16 int16 sums of 16 quants go"},
				{Name: "blocks", Go: "int64", Doc: "blocks of 256, at least 1"},
				{Name: "stride", Go: "int64", Doc: "bytes from a block of the group to the next"},
			},
		},
		Emit: emitQuantize256,
	}
}

func emitQuantize256(c *Context) {
	x := c.Load(c.Param("x"), c.GP64())
	quants := c.Load(c.Param("quants"), c.GP64())
	blocks := c.Load(c.Param("blocks"), c.GP64())
	offset := c.GP64() // of the block in the group
	c.XORQ(offset, offset)

	abs := broadcast(c, 0x7fffffff)
	magic := broadcast(c, 0x4b400000) // 1.5*2^23
	mantissa := broadcast(c, 0x007fffff)
	half := broadcast(c, 0x00400000)
	limit := broadcast(c, 127)
	bytesOfOne := broadcast(c, 0x01010101)
	wordsOfOne := broadcast(c, 0x00010001)
	c.Comment("Dword 4i+j of the sums of 16 comes from lane j's dword i")
	order, bytes := c.ZMM(), c.GP64()
	c.MOVQ(U64(0x0d0905010c080400), bytes)
	c.VMOVQ(bytes, order.AsX())
	c.MOVQ(U64(0x0f0b07030e0a0602), bytes)
	c.VPINSRQ(U8(1), bytes, order.AsX(), order.AsX())
	c.VPMOVZXBD(order.AsX(), order)

	c.Label("block")
	c.Comment("Maximum magnitude. VMAXPS returns its second source, the maximum so far, for a NaN.")
	m := c.ZMM()
	zero(c, m)
	for i := range 16 {
		v := c.ZMM()
		c.VPANDD(Mem{Base: x, Disp: 64 * i}, abs, v)
		c.VMAXPS(m, v, m)
	}
	other := c.ZMM()
	c.VSHUFF32X4(U8(0x4e), m, m, other)
	c.VMAXPS(m, other, m)
	c.VSHUFF32X4(U8(0xb1), m, m, other)
	c.VMAXPS(m, other, m)
	c.VPSHUFD(U8(0x4e), m, other)
	c.VMAXPS(m, other, m)
	c.VPSHUFD(U8(0xb1), m, other)
	c.VMAXPS(m, other, m)

	c.Comment("The first element that has it, from the last sixteen to the first: lane bits below, number of the sixteen above")
	found := c.GP32()
	c.XORL(found, found)
	for i := 15; i >= 0; i-- {
		v, equal, lanes, number := c.ZMM(), c.K(), c.GP32(), c.GP32()
		c.VPANDD(Mem{Base: x, Disp: 64 * i}, abs, v)
		c.VCMPPS(U8(0), m, v, equal)
		c.KMOVW(equal, lanes)
		c.LEAL(Mem{Base: lanes.As64(), Disp: i << 16}, number)
		c.TESTL(lanes, lanes)
		c.CMOVLNE(number, found)
	}
	lane := c.GP32()
	c.TZCNTL(found, lane)
	c.SHRL(U8(16), found)
	c.SHLL(U8(4), found)
	c.ADDL(lane, found)
	extreme := c.XMM()
	c.VMOVSS(Mem{Base: x, Index: found.As64(), Scale: 4}, extreme)

	c.Comment("scale = -127/extreme, d = 1/scale; all is 0 where the block is")
	constant, minus127, one, scale := c.GP32(), c.XMM(), c.XMM(), c.ZMM()
	c.MOVL(U32(0xc2fe0000), constant)
	c.VMOVD(constant, minus127)
	c.VDIVSS(extreme, minus127, scale.AsX())
	nonzero := c.K()
	c.VPTESTMD(m, m, nonzero)
	c.MOVL(U32(0x3f800000), constant)
	c.VMOVD(constant, one)
	d := c.XMM()
	c.VDIVSS_Z(scale.AsX(), one, nonzero, d)
	at := func(name string) Mem { return Mem{Base: c.Load(c.Param(name), c.GP64()), Index: offset, Scale: 1} }
	c.VMOVSS(d, at("delta"))
	c.VBROADCASTSS(scale.AsX(), scale)

	for i := range 16 {
		v := c.ZMM()
		c.VMULPS(Mem{Base: x, Disp: 64 * i}, scale, v)
		c.VADDPS(magic, v, v)
		c.VPANDD(mantissa, v, v)
		c.VPSUBD(half, v, v)
		c.VPMINSD_Z(limit, v, nonzero, v)
		c.VPMOVDB(v, Mem{Base: quants, Disp: 16 * i})
	}

	c.Comment("Sums of 4, and then of 16 by adding what transposes 4x4 dwords in every lane")
	sums := make([]reg.VecVirtual, 4)
	for i := range sums {
		sums[i] = c.ZMM()
		zero(c, sums[i])
		c.VPDPBUSD(Mem{Base: quants, Disp: 64 * i}, bytesOfOne, sums[i])
	}
	for i := 0; i < 4; i += 2 {
		high := c.ZMM()
		c.VPUNPCKHDQ(sums[i+1], sums[i], high)
		c.VPUNPCKLDQ(sums[i+1], sums[i], sums[i])
		c.VPADDD(high, sums[i], sums[i])
	}
	high, sum := c.ZMM(), c.ZMM()
	c.VPUNPCKHQDQ(sums[2], sums[0], high)
	c.VPUNPCKLQDQ(sums[2], sums[0], sum)
	c.VPADDD(high, sum, sum)
	c.VPERMD(sum, order, sum)

	corr := c.ZMM()
	zero(c, corr)
	c.VPSUBD(sum, corr, corr)
	c.VMOVDQU64(corr, at("corr"))
	words := c.YMM()
	c.VPMOVDW(sum, words)
	c.VMOVDQU(words, at("sums16"))
	c.VPMADDWD(wordsOfOne.AsY(), words, words)
	c.VPMOVDW(words, words.AsX())
	c.VMOVDQU(words.AsX(), at("sums32"))

	stride := c.Load(c.Param("stride"), c.GP64())
	c.ADDQ(U32(4*256), x)
	c.ADDQ(stride, quants)
	c.ADDQ(stride, offset)
	c.DECQ(blocks)
	c.JNZ(LabelRef("block"))
	c.VZEROUPPER()
	c.RET()
}

// broadcast returns a vector of a constant.
func broadcast(c *Context, value uint32) reg.VecVirtual {
	constant, v := c.GP32(), c.ZMM()
	c.MOVL(U32(value), constant)
	c.VPBROADCASTD(constant, v)
	return v
}

// zero clears a vector. avo does not know that VPXORD of a register with itself reads nothing, and would keep it live for that.
func zero(c *Context, v reg.VecVirtual) {
	i, err := x86.VPXORD(v, v, v)
	if err != nil {
		panic(err)
	}
	i.CancellingInputs = true
	c.Instruction(i)
}
