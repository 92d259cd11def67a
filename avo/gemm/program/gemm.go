// Package program emits the int8 GEMM kernels and the quantizers of activations from the specifications of weight types.
package program

import (
	"fmt"
	"math/bits"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

const isa = "avx512vnni"

const (
	Rows      = 6                     // activation rows of the tallest kernel: 24 sums and what feeds them take all 32 registers
	vecs      = weight.PanelRows / 16 // vectors that hold a dword for each weight row of a panel
	nearBytes = 3 << 10               // how far before their use the prefetching kernels ask for weights to come from L2 to L1
	spanK     = 32                    // weights that one round of the inner loop computes where there are no sub-scales
	vnniK     = 4                     // products that VPDPBUSD adds to a dword
	line      = 64                    // bytes of a vector, and of a cache line
)

// Programs returns the GEMM kernels of every weight type that unpacks in registers: for 1 to Rows activation rows, so that any number of
// them is a sum of these, each with and without prefetching. The quantizers of their activations follow.
func Programs() []kernel.Program {
	var programs []kernel.Program
	for _, s := range weight.Specs() {
		if !s.Readable() {
			continue
		}
		for rows := 1; rows <= Rows; rows++ {
			programs = append(programs,
				typed{s, rows, false}.program(),
				typed{s, rows, true}.program())
		}
	}
	programs = append(programs, expanding()...)
	return append(programs, quantizeQ81(), quantizeQ8K())
}

// typed emits the GEMM of rows activation rows by a panel of a weight type. All that it knows of the type is in its Spec.
type typed struct {
	*weight.Spec
	rows  int
	ahead bool // prefetches
}

func (t typed) group() activation.Group { return activation.Group{Format: t.Act, Rows: t.rows} }

// super reports whether integer sums run over a block of several sub-blocks or of more than 32 weights: float sums then wait in
// memory for the block's end.
func (t typed) super() bool { return t.Step() > 64 }

// span returns how many weights the products of one round of the inner loop cover: those that share a sub-scale.
func (t typed) span() int { return min(t.Sub, spanK) }

// chained reports whether all products of a block go to one sum: no sub-scale comes between them, nor where the sum of parts starts.
func (t typed) chained() bool { return t.super() && !t.scaled() && t.Offset == 0 }

// direct reports whether a sub-scale is a byte of its own, which a kernel loads where it needs it.
func (t typed) direct() bool {
	_, p := t.Plane(weight.Scales)
	return p.Width == 1
}

// scaled reports whether there are integer sub-scales.
func (t typed) scaled() bool {
	_, ok := t.Field(weight.Scales)
	return ok
}

// Work is what a kernel keeps in its work space: the float sums that do not fit into registers beside the integers, as vectors
// [rows][2] each, and behind them unpacked sub-scales. It returns where the parts start and the size, all in bytes.
func (t typed) work() (mins, scales, size int) {
	sums := t.rows * vecs * line
	mins, scales = sums, sums
	if t.Order == weight.TwoSums {
		scales += sums
	}
	size = scales
	if t.scaled() && !t.direct() {
		size += t.Block / t.Sub * vecs * line
	}
	return mins, scales, size
}

// WorkBytes returns the size of the work space that the kernel of a type with so many rows needs, 0 if it uses none.
func WorkBytes(s *weight.Spec, rows int) int {
	t := typed{s, rows, false}
	if !t.super() {
		return 0
	}
	_, _, size := t.work()
	return size
}

func (t typed) program() kernel.Program {
	suffix, doc := "", ""
	if t.ahead {
		suffix, doc = "_ahead", ", prefetching weights"
	}
	args := []kernel.Arg{
		{Name: "dst", Go: "*float32", Out: true, Doc: "result of the first activation row at the panel's first column"},
		{Name: "stride", Go: "int64", Doc: "bytes from a result row to the next"},
		{Name: "a", Go: "*byte", Doc: fmt.Sprintf("activation group of %d rows of %v (activation.Lay)", t.rows, t.Act)},
		{Name: "w", Go: "*byte", Doc: "weight panel (weight.Spec.Pack)"},
		{Name: "blocks", Go: "int64", Doc: fmt.Sprintf("blocks of %d along k, at least 1", t.Block)},
		{Name: "mask", Go: "uint64", Doc: "bit c set: column c is stored"},
		{Name: "accumulate", Go: "int64", Doc: "0 starts the sums at zero, 1 at what dst holds"},
	}
	if t.super() && t.Order == weight.TwoSums {
		args[6].Doc = "0 starts the sums at zero, 1 at what the call for the blocks before left in work"
	}
	if n := WorkBytes(t.Spec, t.rows); n > 0 {
		args = append(args, kernel.Arg{Name: "work", Go: "*byte", Out: true, Doc: fmt.Sprintf("work space of %d bytes", n)})
	} else {
		args = append(args, kernel.Arg{Name: "work", Go: "*byte", Out: true, Doc: "not used"})
	}
	if t.ahead {
		args = append(args,
			kernel.Arg{Name: "next", Go: "*byte", Doc: "the first line of weights to bring to L2, by one prefetch for each line of the panel"},
			kernel.Arg{Name: "step", Go: "int64", Doc: "bytes from one of these prefetches to the next: 64 for as many bytes as the panel has"})
	}
	return kernel.Program{
		Info: kernel.Info{
			Name: fmt.Sprintf("zt_gemm_%s_%dx%d_%s%s", strings.ToLower(t.Name), t.rows, weight.PanelRows, isa, suffix),
			Op:   kernel.GEMM, Type: t.Name, Rows: t.rows, Cols: weight.PanelRows, Ahead: t.ahead,
			Oracle: "weight.Spec.Dot; upstream: " + t.Spec.Oracle,
			Doc:    fmt.Sprintf("multiplies %d activation rows by a panel of %d weight rows of %s%s.", t.rows, weight.PanelRows, t.Name, doc),
			Args:   args,
		},
		Emit: func(c *Context) {
			e := newEmitter(c, t)
			if t.super() {
				e.superBlocks()
			} else {
				e.blocks()
			}
		},
	}
}

// emitter writes one kernel. The tallest leaves hardly a register free, so those of the inner loop are named here once and reused.
type emitter struct {
	*Context
	typed
	a, w       reg.Register
	next, step reg.Register // of the lines to prefetch

	total   [][]reg.VecVirtual // sums over blocks as floats, or over a super-block as integers
	sums    [][]reg.VecVirtual // of products, over weights that share a scale
	weights []reg.VecVirtual
	x, y    reg.VecVirtual // activations and what is needed shortly
	words   []reg.VecVirtual
	masks   map[uint32]reg.VecVirtual
	table   reg.VecVirtual

	quants     weight.Plane
	quantsAt   int
	selections [][]move // of each value that the quants' spelling repeats
}

func newEmitter(c *Context, t typed) *emitter {
	e := &emitter{Context: c, typed: t, total: grid(c, t.rows, vecs), sums: grid(c, t.rows, vecs)}
	if t.chained() {
		e.sums = e.total
	}
	e.weights = []reg.VecVirtual{c.ZMM(), c.ZMM()}
	e.x, e.y = c.ZMM(), c.ZMM()
	e.a = c.Load(c.Param("a"), c.GP64())
	e.w = c.Load(c.Param("w"), c.GP64())
	if t.ahead {
		e.next = c.Load(c.Param("next"), c.GP64())
		e.step = c.Load(c.Param("step"), c.GP64())
	}

	e.quantsAt, e.quants = t.Plane(weight.Quants)
	for _, value := range e.quants.Spelling.Values {
		e.selections = append(e.selections, everyByte(gather([][]weight.Piece{value}, 0)))
	}
	e.masks = e.broadcastMasks(e.selections, t.LUT != nil, full)
	if t.LUT != nil {
		e.loadTable()
	}
	const registers = 32
	others := 4*t.rows + 2 + 2 + len(e.masks)
	if t.LUT != nil {
		others++
	}
	if n := e.quants.Spelling.Words; len(e.quants.Spelling.Values) > 1 && others+n <= registers {
		e.words = grid(c, 1, n)[0]
	}
	return e
}

// loadTable makes a vector of four copies of the table of values, so that an index of 6 bits finds what its low 4 say.
func (e *emitter) loadTable() {
	e.Comment("The table of values, made unsigned by the offset")
	var halves [2]uint64
	for i, v := range e.LUT {
		halves[i/8] |= uint64(uint8(int(v)+e.Offset)) << (i % 8 * 8)
	}
	e.table = e.ZMM()
	value := e.GP64()
	e.MOVQ(U64(halves[0]), value)
	e.VMOVQ(value, e.table.AsX())
	e.MOVQ(U64(halves[1]), value)
	e.VPINSRQ(U8(1), value, e.table.AsX(), e.table.AsX())
	e.VSHUFI32X4(U8(0), e.table, e.table, e.table)
}

// products adds the products of span weights to the sums. q points at the weights' first vector and a at the first row's first
// activation, both with a displacement.
func (e *emitter) products(q Mem, a func(row int) Mem, span int) {
	for j := range span / vnniK {
		for v := range vecs {
			e.vector(q, vecs*j+v, e.weights[v])
		}
		for r := range e.rows {
			// A register broadcast serves every vector of the row: two loads fewer per step than memory operands.
			e.VPBROADCASTD(a(r).Offset(vnniK*j), e.x)
			for v := range vecs {
				e.VPDPBUSD(e.x, e.weights[v], e.sums[r][v])
			}
		}
	}
}

// quantBytes returns the size of the quants of n weights of each row.
func (e *emitter) quantBytes(n int) int {
	return n * weight.PanelRows * e.quants.Spelling.Words / len(e.quants.Spelling.Values)
}

// vector unpacks vector i from q on.
func (e *emitter) vector(q Mem, i int, to reg.VecVirtual) {
	spelling := e.quants.Spelling
	value, q := i%len(spelling.Values), q.Offset(i/len(spelling.Values)*spelling.Words*line)
	if value == 0 {
		for w := range spelling.Words {
			e.prefetchLine(q.Offset(line * w))
			if e.words != nil {
				e.VMOVDQU64(q.Offset(line*w), e.words[w])
			}
		}
	}
	word := func(w int) Op {
		if e.words != nil {
			return e.words[w]
		}
		return q.Offset(line * w)
	}
	e.selected(e.selections[value], word, e.masks, full, e.LUT != nil, to, e.x)
	if e.LUT != nil {
		e.VPERMB(e.table, to, to)
	}
}

// prefetchLine asks for the next line that the caller wants in L2, and for the line of weights a little behind m to come to L1. L1 has too few
// buffers for what is on its way from memory, L2 enough; from there a line still takes longer than kernels with much to unpack
// can look ahead.
func (e *emitter) prefetchLine(m Mem) {
	if e.ahead {
		e.PREFETCHT1(Mem{Base: e.next})
		e.ADDQ(e.step, e.next)
		e.PREFETCHT0(m.Offset(nearBytes))
	}
}

// prefetch asks for the planes other than quants.
func (e *emitter) prefetch() {
	if e.quantsAt != 0 {
		panic("program: " + e.Name + " does not start with its quants")
	}
	for at := (e.quants.Size() + line - 1) / line * line; at < e.PanelBytes(); at += line {
		e.prefetchLine(Mem{Base: e.w, Disp: at})
	}
}

// scale loads the floats of role, element i, for the panel's rows 16v..16v+15. It uses x and y.
func (e *emitter) scale(role weight.Role, i, v int, to reg.VecVirtual) {
	at, p := e.Plane(role)
	m := Mem{Base: e.w, Disp: at + (i*weight.PanelRows+16*v)*p.Width}
	switch e.Scale.Format {
	case weight.FP16:
		e.VCVTPH2PS(m, to)
	case weight.F32:
		e.VMOVUPS(m, to)
	case weight.E8M0:
		// (x-1)<<23 is the float, but for 0 and 1, whose floats are denormal: (x+1)<<21, which is the less one for all others.
		e.VPMOVZXBD(m, to)
		e.VPTERNLOGD(U8(0xff), e.x, e.x, e.x)
		e.VPSUBD(e.x, to, e.y)
		e.VPADDD(e.x, to, to)
		e.VPSLLD(U8(21), e.y, e.y)
		e.VPSLLD(U8(23), to, to)
		e.VPMAXSD(e.y, to, to)
	case weight.UE4M3:
		// Its 7 bits are an FP16's of the same mantissa, whose exponent has one bit more and a bias that differs by 7 after halving.
		constant, number := e.GP32(), e.K()
		e.VPMOVZXBW(m, e.x.AsY())
		e.MOVL(U32(0x007f007f), constant)
		e.VPBROADCASTD(constant, e.y)
		e.VPCMPUW(U8(4), e.y.AsY(), e.x.AsY(), number)
		e.VPANDD(e.y.AsY(), e.x.AsY(), e.x.AsY())
		e.VPSLLW(U8(7), e.x.AsY(), e.x.AsY())
		e.VCVTPH2PS_Z(e.x.AsY(), number, to)
		e.MOVL(U32(0x43000000), constant) // 128
		e.VPBROADCASTD(constant, e.y)
		e.VMULPS(e.y, to, to)
	default:
		panic("program: unknown format of " + e.Name)
	}
	if e.Scale.Factor != 1 {
		panic("program: the scale of " + e.Name + " has a factor")
	}
}

// blocks emits a kernel that keeps float sums in registers and adds to them after every few weights.
func (e *emitter) blocks() {
	dst := e.Load(e.Param("dst"), e.GP64())
	stride := e.Load(e.Param("stride"), e.GP64())
	blocks := e.Load(e.Param("blocks"), e.GP64())
	masks := columnMasks(e.Context, vecs)
	e.start(dst, stride, masks)
	g := e.group()

	e.Label("block")
	e.prefetch()
	for k := 0; k < e.Block; k += e.Step() {
		block, within := k/g.Block()*g.BlockBytes(), k%g.Block()
		quants := func(r int) Mem { return Mem{Base: e.a, Disp: block + g.Quants(r) + within} }
		e.begin(block, quants)
		e.products(Mem{Base: e.w, Disp: e.quantsAt + e.quantBytes(k)}, quants, e.Step())
		e.add(block, k/e.Step())
	}
	e.ADDQ(U32(e.Block/g.Block()*g.BlockBytes()), e.a)
	e.ADDQ(U32(e.PanelBytes()), e.w)
	e.DECQ(blocks)
	e.JNZ(LabelRef("block"))

	row := e.GP64()
	e.MOVQ(dst, row)
	for r := range e.total {
		for v := range vecs {
			e.VMOVUPS(e.total[r][v], masks[v], Mem{Base: row, Disp: line * v})
		}
		if r+1 < e.rows {
			e.ADDQ(stride, row)
		}
	}
	e.VZEROUPPER()
	e.RET()
}

// start zeroes the float sums, or loads them from dst to go on with an earlier call's.
func (e *emitter) start(dst, stride reg.Register, masks []reg.OpmaskVirtual) {
	for r := range e.total {
		for _, sum := range e.total[r] {
			e.VXORPS(sum.AsX(), sum.AsX(), sum.AsX())
		}
	}
	accumulate := e.Load(e.Param("accumulate"), e.GP64())
	e.TESTQ(accumulate, accumulate)
	e.JZ(LabelRef("block"))
	row := e.GP64()
	e.MOVQ(dst, row)
	for r := range e.total {
		for v, sum := range e.total[r] {
			e.VMOVUPS_Z(Mem{Base: row, Disp: line * v}, masks[v], sum)
		}
		if r+1 < e.rows {
			e.ADDQ(stride, row)
		}
	}
}

// begin starts the sums at what undoes the weights' offset: w*a = (w+offset)*a - offset*a.
func (e *emitter) begin(block int, quants func(int) Mem) {
	g, shift := e.group(), bits.TrailingZeros(uint(e.Offset))
	if e.Offset != 0 && e.Step() < g.Block() {
		e.Comment("Start each sum at -offset*sum(a) of fewer weights than the group has sums of")
		constant := e.GP32()
		e.MOVL(U32(e.Offset*0x01010101), constant)
		e.VPBROADCASTD(constant, e.y)
	} else if e.Offset != 0 {
		e.Comment("Start each sum at -offset*sum(a)")
	}
	for r := range e.rows {
		first := e.sums[r][0]
		corr := Mem{Base: e.a, Disp: block + g.Corr(r)}
		switch {
		case e.Offset == 0:
			zero(e.Context, first)
		case e.Step() < g.Block():
			zero(e.Context, e.x)
			zero(e.Context, first)
			for k := 0; k < e.Step(); k += vnniK {
				e.VPDPBUSD_BCST(quants(r).Offset(k), e.y, e.x)
			}
			e.VPSUBD(e.x, first, first)
		case shift == 7:
			e.VPBROADCASTD(corr, first)
		default:
			e.VPSRAD_BCST(U8(7-shift), corr, first)
		}
		e.copies(r)
	}
}

// copies starts the other sums of a row as the first.
func (e *emitter) copies(r int) {
	for v := 1; v < vecs; v++ {
		if e.Offset == 0 {
			zero(e.Context, e.sums[r][v])
		} else {
			e.VMOVDQA64(e.sums[r][0], e.sums[r][v])
		}
	}
}

// add scales the sums with element i of the block's scales and adds them to the totals.
func (e *emitter) add(block, i int) {
	g := e.group()
	comment := "acc = fma(float(dot), d_w*d_a, acc)"
	if e.Order == weight.AddFused {
		comment = "acc = acc + fma(d_w*d_a, float(dot), m*s)"
	}
	e.Comment(comment)
	for v := range vecs {
		d, min := e.weights[0], e.weights[1]
		e.scale(weight.D, i, v, d)
		if e.Order == weight.AddFused {
			e.scale(weight.Min, i, v, min)
		}
		for r := range e.rows {
			sum := e.sums[r][v]
			e.VMULPS_BCST(Mem{Base: e.a, Disp: block + g.Delta(r)}, d, e.x)
			e.VCVTDQ2PS(sum, sum)
			if e.Order == weight.AddFused {
				e.VMULPS_BCST(Mem{Base: e.a, Disp: block + g.Sum(r)}, min, e.y)
				e.VFMADD231PS(e.x, sum, e.y)
				e.VADDPS(e.y, e.total[r][v], e.total[r][v])
			} else {
				e.VFMADD231PS(e.x, sum, e.total[r][v])
			}
		}
	}
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
