package program

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// quantizeQ80 emits the activation quantizer. It writes one row of a group; the caller calls it for each row.
func quantizeQ80() kernel.Program {
	return kernel.Program{
		Info: kernel.Info{
			Name: "zt_quantize_q8_0_" + isa, Op: kernel.Quantize, Type: "Q8_0",
			Oracle: "ggml's quantize_row_q8_0 on x86: the same order of maxima, division, rounding to nearest even and FP16 scale",
			Doc:    "quantizes one row of activations into its place in a group.",
			Args: []kernel.Arg{
				{Name: "x", Go: "*float32", Doc: "the row"},
				{Name: "quants", Go: "*byte", Out: true, Doc: "where the row's 32 int8 of the first block go"},
				{Name: "delta", Go: "*byte", Out: true, Doc: "where its float32 scale goes: the FP16 scale, widened"},
				{Name: "corr", Go: "*byte", Out: true, Doc: "where its int32 -128*sum(quants) goes"},
				{Name: "blocks", Go: "int64", Doc: "blocks of 32, at least 1"},
				{Name: "stride", Go: "int64", Doc: "bytes from a block of the group to the next"},
			},
		},
		Emit: emitQuantizeQ80,
	}
}

func emitQuantizeQ80(c *Context) {
	x := c.Load(c.Param("x"), c.GP64())
	quants := c.Load(c.Param("quants"), c.GP64())
	delta := c.Load(c.Param("delta"), c.GP64())
	corr := c.Load(c.Param("corr"), c.GP64())
	blocks := c.Load(c.Param("blocks"), c.GP64())
	stride := c.Load(c.Param("stride"), c.GP64())

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
	d := c.XMM()
	c.VDIVSS(limit, m.AsX(), d)
	c.VCVTPS2PH(U8(0), d, d)
	c.VCVTPH2PS(d, d)
	c.VMOVSS(d, Mem{Base: delta})
	nonzero := c.K()
	c.VCMPSS(U8(4), zero.AsX(), m.AsX(), nonzero) // NEQ_UQ: true for NaN, as != in C
	inverse := c.XMM()
	c.VDIVSS_Z(m.AsX(), limit, nonzero, inverse)
	scale := c.ZMM()
	c.VBROADCASTSS(inverse, scale)

	q := c.YMM()
	for i := range 2 {
		v := c.ZMM()
		c.VMULPS(Mem{Base: x, Disp: 64 * i}, scale, v)
		c.VCVTPS2DQ(v, v)
		if i == 0 {
			c.VPMOVSDB(v, q.AsX())
		} else {
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
	half := c.XMM()
	c.VEXTRACTI128(U8(1), sum, half)
	c.VPADDD(sum.AsX(), half, half)
	other := c.XMM()
	c.VPSHUFD(U8(0x4e), half, other)
	c.VPADDD(other, half, half)
	c.VPSHUFD(U8(0xb1), half, other)
	c.VPADDD(other, half, half)
	c.VPSUBD(half, zero.AsX(), half)
	c.VMOVD(half, Mem{Base: corr})

	c.ADDQ(U8(4*gemm.BlockSize), x)
	c.ADDQ(stride, quants)
	c.ADDQ(stride, delta)
	c.ADDQ(stride, corr)
	c.DECQ(blocks)
	c.JNZ(LabelRef("block"))
	c.VZEROUPPER()
	c.RET()
}
