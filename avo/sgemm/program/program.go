// Package program emits the float32 matrix product that the reference model is trained with.
package program

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// The tile that one call computes. Its 16 accumulators hide the latency of FMA at two a cycle, and the 8 broadcasts and 2 loads of a
// step stay below its 16 FMAs.
const (
	Rows = 8
	Cols = 32
)

// Name is the kernel's.
const Name = "zt_gemm_f32_8x32_avx512f"

// Programs returns the kernel.
func Programs() []kernel.Program {
	return []kernel.Program{{
		Info: kernel.Info{
			Name: Name, Op: kernel.GEMM, Type: "f32", Rows: Rows, Cols: Cols,
			Oracle: "c = fma(a, b, c) for each k in order, in float32",
			Doc:    "adds the product of 8 rows of k elements and a panel of k rows of 32 to a tile of 8 rows of 32. Strides are in bytes.",
			Args: []kernel.Arg{
				{Name: "a", Go: "*float32", Doc: "first element of row 0"},
				{Name: "row", Go: "int64", Doc: "stride from a row of a to the next"},
				{Name: "step", Go: "int64", Doc: "stride from an element of a's row to the next"},
				{Name: "b", Go: "*float32", Doc: "the panel, 32 elements for each k without gaps, 64-byte aligned"},
				{Name: "k", Go: "int64", Doc: "elements of a row of a, at least 1"},
				{Name: "c", Go: "*float32", Out: true, Doc: "first element of the tile"},
				{Name: "next", Go: "int64", Doc: "stride from a row of the tile to the next"},
			},
		},
		Emit: emit,
	}}
}

func emit(c *Context) {
	load := func(name string) reg.GPVirtual { return c.Load(c.Param(name), c.GP64()).(reg.GPVirtual) }
	a, row, step, b, k, tile, next := load("a"), load("row"), load("step"), load("b"), load("k"), load("c"), load("next")

	// A base reaches its own row and, by the scaled stride, the two after it.
	var bases []reg.GPVirtual
	for i := range 3 {
		base := c.GP64()
		if i == 0 {
			c.MOVQ(a, base)
		} else {
			c.LEAQ(Mem{Base: bases[i-1], Index: row, Scale: 2}, base)
			c.ADDQ(row, base)
		}
		bases = append(bases, base)
	}
	var acc [Rows][2]reg.VecVirtual
	out := c.GP64()
	c.MOVQ(tile, out)
	for i := range acc {
		for j := range acc[i] {
			acc[i][j] = c.ZMM()
			c.VMOVUPS(Mem{Base: out, Disp: 64 * j}, acc[i][j])
		}
		c.ADDQ(next, out)
	}

	c.Label("step")
	b0, b1 := c.ZMM(), c.ZMM()
	c.VMOVAPS(Mem{Base: b}, b0)
	c.VMOVAPS(Mem{Base: b, Disp: 64}, b1)
	for i := range acc {
		at := Mem{Base: bases[i/3]}
		if i%3 > 0 {
			at.Index, at.Scale = row, uint8(i%3)
		}
		x := c.ZMM()
		c.VBROADCASTSS(at, x)
		c.VFMADD231PS(b0, x, acc[i][0])
		c.VFMADD231PS(b1, x, acc[i][1])
	}
	for _, base := range bases {
		c.ADDQ(step, base)
	}
	c.ADDQ(U32(4*Cols), b)
	c.DECQ(k)
	c.JNZ(LabelRef("step"))

	for i := range acc {
		for j := range acc[i] {
			c.VMOVUPS(acc[i][j], Mem{Base: tile, Disp: 64 * j})
		}
		c.ADDQ(next, tile)
	}
	c.VZEROUPPER()
	c.RET()
}
