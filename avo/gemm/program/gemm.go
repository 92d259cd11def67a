// Package program emits the int8 GEMM kernels whose data layouts and Go reference package gemm holds.
package program

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

const isa = "avx512vnni"

// ahead is how many blocks before their use the prefetching kernels ask for weights. 8 blocks are 8.5 KiB, or about 0.3 us of one
// core's share of the memory.
const ahead = 8

// Programs returns every kernel of the family: for each tile a target asks for, one GEMM for each height up to the tile's,
// so that any number of activation rows is a sum of them, each with and without prefetching, and the activation quantizer.
func Programs() []kernel.Program {
	var programs []kernel.Program
	done := map[target.Tile]bool{}
	for _, t := range target.All() {
		for rows := 1; rows <= t.Tile.Rows; rows++ {
			tile := target.Tile{Rows: rows, Cols: t.Tile.Cols}
			if !done[tile] {
				done[tile] = true
				programs = append(programs, tiled{tile, 0}.program(), tiled{tile, ahead}.program())
			}
		}
	}
	return append(programs, quantizeQ80())
}

// tiled emits the GEMM of one tile shape: Rows activation rows by Cols weight rows.
type tiled struct {
	target.Tile
	ahead int // blocks of weights prefetched before their use, 0 for none
}

func (t tiled) program() kernel.Program {
	suffix, doc := "", ""
	if t.ahead > 0 {
		suffix, doc = "_ahead", fmt.Sprintf(", prefetching weights %d blocks ahead", t.ahead)
	}
	return kernel.Program{
		Info: kernel.Info{
			Name: fmt.Sprintf("zt_gemm_q8_0_%dx%d_%s%s", t.Rows, t.Cols, isa, suffix),
			Op:   kernel.GEMM, Type: "Q8_0", Rows: t.Rows, Cols: t.Cols, Ahead: t.ahead,
			Oracle: "sum over blocks in k order of fma(float(dot), d_w*d_a, acc), as ggml's generic vec_dot_q8_0_q8_0 computes it with contraction",
			Doc:    fmt.Sprintf("multiplies %d activation rows by a panel of %d weight rows%s.", t.Rows, t.Cols, doc),
			Args: []kernel.Arg{
				{Name: "dst", Go: "*float32", Out: true, Doc: "result of the first activation row at the panel's first column"},
				{Name: "stride", Go: "int64", Doc: "bytes from a result row to the next"},
				{Name: "a", Go: "*byte", Doc: fmt.Sprintf("activation group of %d rows (gemm.GroupQ80)", t.Rows)},
				{Name: "w", Go: "*byte", Doc: "weight panel, 64-byte aligned (gemm.PackQ80)"},
				{Name: "blocks", Go: "int64", Doc: "blocks of 32 along k, at least 1"},
				{Name: "mask", Go: "uint64", Doc: "bit c set: column c is stored"},
				{Name: "accumulate", Go: "int64", Doc: "0 starts the sums at zero, 1 at what dst holds"},
			},
		},
		Emit: t.emit,
	}
}

func (t tiled) emit(c *Context) {
	vecs := t.Cols / 16
	dst := c.Load(c.Param("dst"), c.GP64())
	stride := c.Load(c.Param("stride"), c.GP64())
	a := c.Load(c.Param("a"), c.GP64())
	w := c.Load(c.Param("w"), c.GP64())
	blocks := c.Load(c.Param("blocks"), c.GP64())
	masks := columnMasks(c, vecs)

	acc := grid(c, t.Rows, vecs)
	t.start(c, acc, dst, stride, masks)

	c.Label("block")
	sums := grid(c, t.Rows, vecs)
	c.Comment("Start each sum at -128*sum(a): weights are stored as w+128, and (w+128)*a - 128*a = w*a.")
	for r := range sums {
		c.VPBROADCASTD(Mem{Base: a, Disp: gemm.CorrOffset(t.Rows, r)}, sums[r][0])
		for v := 1; v < vecs; v++ {
			c.VMOVDQA64(sums[r][0], sums[r][v])
		}
	}
	for j := range gemm.BlockSize / 4 {
		c.Comment(fmt.Sprintf("k = %d..%d", 4*j, 4*j+3))
		weights := make([]reg.VecVirtual, vecs)
		for v := range weights {
			weights[v] = c.ZMM()
			if t.ahead > 0 {
				c.PREFETCHT0(Mem{Base: w, Disp: t.ahead*gemm.PanelBlockBytes(t.Cols) + gemm.WeightOffset(t.Cols, j, v)})
			}
			c.VMOVDQU64(Mem{Base: w, Disp: gemm.WeightOffset(t.Cols, j, v)}, weights[v])
		}
		for r := range sums {
			// A register broadcast serves every vector of the row: two loads fewer per step than memory operands, which
			// would make load ports and not VPDPBUSD the limit where two of the latter issue a cycle.
			av := c.ZMM()
			c.VPBROADCASTD(Mem{Base: a, Disp: gemm.QuantOffset(r) + 4*j}, av)
			for v := range weights {
				c.VPDPBUSD(av, weights[v], sums[r][v])
			}
		}
	}
	c.Comment("acc = fma(float(dot), d_w*d_a, acc)")
	scales := make([]reg.VecVirtual, vecs)
	for v := range scales {
		scales[v] = c.ZMM()
		c.VCVTPH2PS(Mem{Base: w, Disp: gemm.ScaleOffset(t.Cols) + 32*v}, scales[v])
	}
	for r := range sums {
		for v := range scales {
			scale := c.ZMM()
			c.VMULPS_BCST(Mem{Base: a, Disp: gemm.DeltaOffset(t.Rows, r)}, scales[v], scale)
			c.VCVTDQ2PS(sums[r][v], sums[r][v])
			c.VFMADD231PS(scale, sums[r][v], acc[r][v])
		}
	}
	c.ADDQ(U32(gemm.GroupBlockBytes(t.Rows)), a)
	c.ADDQ(U32(gemm.PanelBlockBytes(t.Cols)), w)
	c.DECQ(blocks)
	c.JNZ(LabelRef("block"))

	row := c.GP64()
	c.MOVQ(dst, row)
	for r := range acc {
		for v := range acc[r] {
			c.VMOVUPS(acc[r][v], masks[v], Mem{Base: row, Disp: 64 * v})
		}
		if r+1 < t.Rows {
			c.ADDQ(stride, row)
		}
	}
	c.VZEROUPPER()
	c.RET()
}

// columnMasks loads the column mask into one opmask register for every 16 columns.
func columnMasks(c *Context, vecs int) []reg.OpmaskVirtual {
	mask := c.Load(c.Param("mask"), c.GP64())
	masks := make([]reg.OpmaskVirtual, vecs)
	for v := range masks {
		masks[v] = c.K()
		c.KMOVW(mask.(reg.GPVirtual).As32(), masks[v])
		if v+1 < vecs {
			c.SHRQ(U8(16), mask)
		}
	}
	return masks
}

// start zeroes the accumulators, or loads them from dst to go on with an earlier call's sums.
func (t tiled) start(c *Context, acc [][]reg.VecVirtual, dst, stride reg.Register, masks []reg.OpmaskVirtual) {
	for r := range acc {
		for v := range acc[r] {
			c.VXORPS(acc[r][v].AsX(), acc[r][v].AsX(), acc[r][v].AsX())
		}
	}
	accumulate := c.Load(c.Param("accumulate"), c.GP64())
	c.TESTQ(accumulate, accumulate)
	c.JZ(LabelRef("block"))
	row := c.GP64()
	c.MOVQ(dst, row)
	for r := range acc {
		for v := range acc[r] {
			c.VMOVUPS_Z(Mem{Base: row, Disp: 64 * v}, masks[v], acc[r][v])
		}
		if r+1 < t.Rows {
			c.ADDQ(stride, row)
		}
	}
}

// grid allocates rows x vecs vector registers.
func grid(c *Context, rows, vecs int) [][]reg.VecVirtual {
	g := make([][]reg.VecVirtual, rows)
	for r := range g {
		g[r] = make([]reg.VecVirtual, vecs)
		for v := range g[r] {
			g[r][v] = c.ZMM()
		}
	}
	return g
}
