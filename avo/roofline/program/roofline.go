// Package program emits the micro-kernels that measure what a machine can do at best: bytes read, and arithmetic instructions
// issued.
package program

import (
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/bf16"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

const (
	// ReadChunk is the bytes that one iteration of the read kernel loads.
	ReadChunk = 1024
	// PeakChains is the independent accumulators of a peak kernel: enough to hide a latency of 12 at two instructions a cycle.
	PeakChains = 24
)

// Operations of one instruction of the peak kernels, a multiplication and an addition counting as two.
const (
	VNNIOps = 2 * 64 // bytes
	FMAOps  = 2 * 16 // float32
	BF16Ops = 2 * 32 // bfloat16
)

// Programs returns the micro-kernels.
func Programs() []kernel.Program {
	return []kernel.Program{
		read(),
		peak("vpdpbusd", "*byte", "64 unsigned bytes", "*byte", "64 signed bytes", "*byte", "16 int32: what the instructions add up to",
			func(c *Context, a, b, sum Op) { c.VPDPBUSD(b, a, sum) },
			func(c *Context, x, sum Op) { c.VPADDD(x, sum, sum) }),
		// Whether integer scales of sub-blocks cost anything beside the products: they do not where VPMULLD takes other ports.
		peak("vpdpbusd_vpmulld", "*byte", "64 unsigned bytes", "*byte", "64 signed bytes", "*byte", "16 int32: what VPDPBUSD adds up to",
			func(c *Context, a, b, sum Op) { c.VPDPBUSD(b, a, sum); c.VPMULLD(b, a, c.ZMM()) },
			func(c *Context, x, sum Op) { c.VPADDD(x, sum, sum) }),
		peak("vfmadd", "*float32", "16 float32", "*float32", "16 float32", "*float32", "16 float32: what the instructions add up to",
			func(c *Context, a, b, sum Op) { c.VFMADD231PS(b, a, sum) },
			func(c *Context, x, sum Op) { c.VADDPS(x, sum, sum) }),
		peak("vdpbf16ps", "*byte", "32 bfloat16", "*byte", "32 bfloat16", "*float32", "16 float32: what the instructions add up to",
			func(c *Context, a, b, sum Op) { bf16.VDPBF16PS(c, b, a, sum) },
			func(c *Context, x, sum Op) { c.VADDPS(x, sum, sum) }),
	}
}

func read() kernel.Program {
	return kernel.Program{
		Info: kernel.Info{
			Name: "zt_read_512", Op: kernel.Read,
			Oracle: "none: it has no result",
			Doc:    "loads memory into registers and drops it.",
			Args: []kernel.Arg{
				{Name: "p", Go: "*byte", Doc: "start"},
				{Name: "chunks", Go: "int64", Doc: "chunks of program.ReadChunk bytes, at least 1"},
			},
		},
		Emit: func(c *Context) {
			p := c.Load(c.Param("p"), c.GP64())
			chunks := c.Load(c.Param("chunks"), c.GP64())
			c.Label("chunk")
			for i := range ReadChunk / 64 {
				c.VMOVDQU64(Mem{Base: p, Disp: 64 * i}, c.ZMM())
			}
			c.ADDQ(U32(ReadChunk), p)
			c.DECQ(chunks)
			c.JNZ(LabelRef("chunk"))
			c.VZEROUPPER()
			c.RET()
		},
	}
}

// peak returns a kernel that adds the product of a and b to PeakChains accumulators, round after round, and stores what they add
// up to. The types are Go's of the arguments, each beside what is behind the pointer.
func peak(instruction, aType, a, bType, b, sumType, sum string, multiply func(c *Context, a, b, sum Op), add func(c *Context, x, sum Op)) kernel.Program {
	return kernel.Program{
		Info: kernel.Info{
			Name: "zt_peak_" + instruction + "_512", Op: kernel.Peak,
			Oracle: "rounds * program.PeakChains products, exact while float32 holds the sums",
			Doc:    "issues independent 512-bit " + strings.ToUpper(strings.ReplaceAll(instruction, "_", " and ")) + " as fast as the CPU takes them.",
			Args: []kernel.Arg{
				{Name: "rounds", Go: "int64", Doc: "rounds of program.PeakChains instructions, at least 1"},
				{Name: "a", Go: aType, Doc: a},
				{Name: "b", Go: bType, Doc: b},
				{Name: "sum", Go: sumType, Out: true, Doc: sum},
			},
		},
		Emit: func(c *Context) {
			rounds := c.Load(c.Param("rounds"), c.GP64())
			from := [2]reg.Register{c.Load(c.Param("a"), c.GP64()), c.Load(c.Param("b"), c.GP64())}
			to := c.Load(c.Param("sum"), c.GP64())
			a, b := c.ZMM(), c.ZMM()
			c.VMOVDQU64(Mem{Base: from[0]}, a)
			c.VMOVDQU64(Mem{Base: from[1]}, b)
			chains := make([]reg.VecVirtual, PeakChains)
			for i := range chains {
				chains[i] = c.ZMM()
				c.VPXORD(chains[i], chains[i], chains[i])
			}
			c.Label("round")
			for _, chain := range chains {
				multiply(c, a, b, chain)
			}
			c.DECQ(rounds)
			c.JNZ(LabelRef("round"))
			for _, chain := range chains[1:] {
				add(c, chain, chains[0])
			}
			c.VMOVDQU64(chains[0], Mem{Base: to})
			c.VZEROUPPER()
			c.RET()
		},
	}
}
