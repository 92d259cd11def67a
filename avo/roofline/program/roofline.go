// Package program emits the micro-kernels that measure what a machine can do at best: bytes read and VPDPBUSD issued.
package program

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

const (
	// ReadChunk is the bytes that one iteration of the read kernel loads.
	ReadChunk = 1024
	// PeakChains is the independent accumulators of the peak kernel: enough to hide a latency of 5 at two a cycle.
	PeakChains = 24
)

// Programs returns the micro-kernels.
func Programs() []kernel.Program {
	return []kernel.Program{
		{
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
		},
		{
			Info: kernel.Info{
				Name: "zt_peak_vpdpbusd_512", Op: kernel.Peak,
				Oracle: "none: it has no result",
				Doc:    "issues independent 512-bit VPDPBUSD as fast as the CPU takes them.",
				Args:   []kernel.Arg{{Name: "rounds", Go: "int64", Doc: "rounds of program.PeakChains instructions, at least 1"}},
			},
			Emit: func(c *Context) {
				rounds := c.Load(c.Param("rounds"), c.GP64())
				a, b := c.ZMM(), c.ZMM()
				c.VPXORD(a, a, a)
				c.VPXORD(b, b, b)
				chains := make([]reg.VecVirtual, PeakChains)
				for i := range chains {
					chains[i] = c.ZMM()
					c.VPXORD(chains[i], chains[i], chains[i])
				}
				c.Label("round")
				for _, chain := range chains {
					c.VPDPBUSD(a, b, chain)
				}
				c.DECQ(rounds)
				c.JNZ(LabelRef("round"))
				c.VZEROUPPER()
				c.RET()
			},
		},
	}
}
