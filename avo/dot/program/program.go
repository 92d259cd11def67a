// Package program emits the kernels that multiply activations by panels of coded float weights, for every code and domain of avo/code.
package program

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/bf16"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// Rows is how many rows of activations the tallest kernel multiplies: 24 sums leave registers enough to decode.
const Rows = 6

const (
	line      = code.Line
	nearBytes = 1 << 10 // how far before their use kernels ask for weights to come from L2 to L1
)

// Programs returns all kernels, domain by domain and code by code.
func Programs() []kernel.Program { return programs(asFlagged) }

func programs(p path) []kernel.Program {
	var all []kernel.Program
	for _, d := range []code.Domain{code.BF16, code.F32} {
		for _, c := range d.Codes() {
			add := func(op kernel.Op, rows int, fma bool) {
				all = append(all, shape{domain: d, code: c, op: op, rows: rows, fma: fma, path: p}.program())
			}
			add(kernel.Dot, 1, false)
			for rows := range Rows {
				add(kernel.Tile, rows+1, false)
			}
			if d == code.BF16 && c.Plain() {
				for rows := range Rows {
					add(kernel.Tile, rows+1, true)
				}
			}
			if c != d.Plain() {
				add(kernel.Expand, 0, false)
			}
		}
	}
	return all
}

// path is which of the two ways through a block a kernel has.
type path int

const (
	asFlagged   path = iota // either, by the block's flag
	noEscapes               // for Paths: as if every block's flag were clear
	onlyEscapes             // the same, set
)

// Paths returns the kernels of codes with escapes as if no block had any, and as if every block had. They have straight loops, from which
// gen/ports can tell the bounds of both ways through a kernel, and are for nothing else.
func Paths() (without, with []kernel.Program) {
	for i, list := range []*[]kernel.Program{&without, &with} {
		for _, p := range programs([]path{noEscapes, onlyEscapes}[i]) {
			if c, ok := codeOf(p.Info); ok && !c.Plain() {
				*list = append(*list, p)
			}
		}
	}
	return without, with
}

// codeOf returns the code of a kernel's type.
func codeOf(k kernel.Info) (code.Code, bool) {
	_, name, _ := strings.Cut(k.Type, "_")
	for _, c := range code.Codes() {
		if strings.ToLower(c.String()) == name {
			return c, true
		}
	}
	return 0, false
}

// shape is what a kernel is generated from.
type shape struct {
	domain code.Domain
	code   code.Code
	op     kernel.Op
	rows   int  // of activations
	fma    bool // multiplies by FMA what VDPBF16PS is for
	path   path
}

// Type returns what kernels of a domain and code have as their type.
func Type(d code.Domain, c code.Code) string {
	return d.String() + "_" + strings.ToLower(c.String())
}

// FMA ends the type and the name of kernels that do by two FMAs what VDPBF16PS is for, to the same bits: there are CPUs on which it takes
// four times as long as one.
const FMA = "_fma"

func (s shape) name() string {
	name := fmt.Sprintf("zt_%s_%s", s.op, Type(s.domain, s.code))
	if s.op == kernel.Tile {
		name += fmt.Sprintf("_%d", s.rows)
	}
	if s.fma {
		name += FMA
	}
	return name
}

// prefetches reports whether the kernel heeds ahead: plain panels that several rows of activations meet come from a cache.
func (s shape) prefetches() bool {
	return s.op != kernel.Expand && !s.fma && (s.code != s.domain.Plain() || s.rows == 1)
}

func (s shape) order() code.Order {
	if s.op == kernel.Dot {
		return code.Dot
	}
	return code.Tile
}

// vectors returns how many vectors the domain makes of a step's 64 weights.
func (s shape) vectors() int { return code.Step * s.domain.Bytes() / line }

func (s shape) program() kernel.Program {
	head := kernel.Arg{Name: "head", Go: "*byte", Doc: "the panel's palette, flags and escapes, and 64 bytes more that may be read"}
	if s.code.Plain() {
		head.Doc = "not used"
	}
	blocks := kernel.Arg{Name: "blocks", Go: "*byte", Doc: fmt.Sprintf("the panel's blocks, %d bytes each (avo/code/DESIGN.md)", s.code.BlockBytes())}
	n := kernel.Arg{Name: "n", Go: "int64", Doc: "blocks of 4 x 128, at least 1"}
	ahead := kernel.Arg{Name: "ahead", Go: "int64", Doc: "bytes from a line of the blocks to the one that is asked to come to L2 with it"}
	if !s.prefetches() {
		ahead.Doc = "not used"
	}
	act := kernel.Arg{Name: "act", Go: "*byte", Doc: fmt.Sprintf("%d row(s) of activations, [k/64][%d][64] of %v", s.rows, s.rows, s.domain)}

	info := kernel.Info{Name: s.name(), Op: s.op, Type: Type(s.domain, s.code), Rows: s.rows, Cols: code.Rows}
	by := ""
	if s.fma {
		info.Type += FMA
		by = ", by FMA"
	}
	switch s.op {
	case kernel.Dot:
		info.Oracle = "code.Panel.Products in order dot; upstream: vec_dot"
		info.Doc = fmt.Sprintf("multiplies a row of activations by 4 rows of %v in the order of vec_dot.", s.code)
		info.Args = []kernel.Arg{{Name: "out", Go: "*float32", Out: true, Doc: "4 sums"}, act, head, blocks, n, ahead}
	case kernel.Tile:
		info.Oracle = "code.Panel.Products in order tile; upstream: tinyBLAS"
		info.Doc = fmt.Sprintf("multiplies %d row(s) of activations by 4 rows of %v in the order of tinyBLAS%s.", s.rows, s.code, by)
		info.Args = []kernel.Arg{{Name: "out", Go: "*float32", Out: true, Doc: "4 sums for each row of activations"},
			{Name: "stride", Go: "int64", Doc: "bytes from the sums of a row of activations to the next"}, act, head, blocks, n, ahead}
	case kernel.Expand:
		info.Oracle = "code.Panel.Expand"
		info.Doc = fmt.Sprintf("expands blocks of %v to %v.", s.code, s.domain.Plain())
		info.Args = []kernel.Arg{{Name: "to", Go: "*byte", Out: true, Doc: fmt.Sprintf("%d bytes a block, best aligned to 64", s.domain.Plain().BlockBytes())}, head, blocks, n}
	}
	return kernel.Program{Info: info, Emit: func(c *Context) { newEmitter(c, s).emit() }}
}

// emitter writes one kernel. Registers are named once and used again: the tallest kernels leave few free.
type emitter struct {
	*Context
	shape
	w, act, n, ahead reg.Register
	to               reg.Register // where an expanded block goes
	flags, escapes   reg.Register

	sums          [][code.Rows][]reg.VecVirtual // [rows of activations][rows of weights][sums of the order]
	x             []reg.VecVirtual              // activations, or decoded vectors
	v             []reg.VecVirtual              // weights as the domain multiplies them
	low, high     reg.VecVirtual
	index         reg.VecVirtual
	palette, mark reg.VecVirtual
	base          reg.VecVirtual // of B11: what was added to words
	quarters      reg.VecVirtual // indices made of the top bits of other vectors
	upper         reg.VecVirtual // a mask of the upper halves of dwords
	mxcsr         reg.GPVirtual  // the caller's
	constants     Mem
	offsets       map[string]int // of constants
	size          int            // of all of them
}

func newEmitter(c *Context, s shape) *emitter {
	e := &emitter{Context: c, shape: s}
	e.w = c.Load(c.Param("blocks"), c.GP64())
	e.n = c.Load(c.Param("n"), c.GP64())
	if s.op == kernel.Expand {
		e.to = c.Load(c.Param("to"), c.GP64())
	} else {
		e.act = c.Load(c.Param("act"), c.GP64())
	}
	if s.prefetches() {
		e.ahead = c.Load(c.Param("ahead"), c.GP64())
		e.ADDQ(e.w, e.ahead) // the address of what to prefetch, from here on
	}
	return e
}

// constant returns where some bytes lie that the kernel has as a constant.
func (e *emitter) constant(b []byte) Mem {
	if e.offsets == nil {
		e.offsets = map[string]int{}
		e.constants = e.StaticGlobal(e.name() + "_constants")
		e.DataAttributes(attr.RODATA | attr.NOPTR)
	}
	at, ok := e.offsets[string(b)]
	if !ok {
		at = e.size
		e.offsets[string(b)] = at
		for ; len(b) > 0; b = b[4:] {
			e.AppendDatum(U32(binary.LittleEndian.Uint32(b)))
			e.size += 4
		}
	}
	return e.constants.Offset(at)
}

// every returns a constant of 4 equal bytes, for embedded broadcasts.
func (e *emitter) every(b byte) Mem { return e.constant([]byte{b, b, b, b}) }

func (e *emitter) emit() {
	e.start()
	e.Label("block")
	switch {
	case e.fma:
		e.fused()
	case e.code.Plain():
		e.plain()
	default:
		switch e.path {
		case asFlagged:
			flag := e.GP32()
			e.MOVBLZX(Mem{Base: e.flags}, flag)
			e.INCQ(e.flags)
			e.TESTL(flag, flag)
			e.JNZ(LabelRef("escapes"))
			e.coded(false)
		case noEscapes:
			e.coded(false)
		case onlyEscapes:
			e.coded(true)
		}
	}
	e.Label("next")
	e.ADDQ(U32(e.code.BlockBytes()), e.w)
	if e.prefetches() {
		e.ADDQ(U32(e.code.BlockBytes()), e.ahead)
	}
	if e.op == kernel.Expand {
		e.ADDQ(U32(e.domain.Plain().BlockBytes()), e.to)
	} else {
		e.ADDQ(U32(code.Cols*e.rows*e.domain.Bytes()), e.act)
	}
	e.DECQ(e.n)
	e.JNZ(LabelRef("block"))

	e.finish()
	e.VZEROUPPER()
	e.RET()
	if !e.code.Plain() && e.path == asFlagged {
		e.Comment("A block with escapes")
		e.Label("escapes")
		e.coded(true)
		e.JMP(LabelRef("next"))
	}
}

// start sets registers up.
func (e *emitter) start() {
	for range e.rows {
		var sums [code.Rows][]reg.VecVirtual
		for r := range sums {
			for range e.domain.Sums(e.order()) {
				sum := e.ZMM()
				e.VPXORD(sum, sum, sum)
				sums[r] = append(sums[r], sum)
			}
		}
		e.sums = append(e.sums, sums)
	}
	e.low, e.high, e.index = e.ZMM(), e.ZMM(), e.ZMM()
	if e.code.Plain() {
		e.v = []reg.VecVirtual{e.ZMM(), e.ZMM(), e.ZMM(), e.ZMM()}
		e.x = []reg.VecVirtual{e.ZMM()}
		if e.fma {
			e.flushDenormals()
		}
		return
	}
	e.v = []reg.VecVirtual{e.ZMM(), e.high}
	if e.op == kernel.Dot {
		for range e.vectors() {
			e.x = append(e.x, e.ZMM())
		}
	}
	e.quarters = e.ZMM()

	head := e.Load(e.Param("head"), e.GP64())
	e.palette, e.mark = e.ZMM(), e.ZMM()
	switch e.code {
	case code.H14:
		e.VMOVDQU64(Mem{Base: head}, e.palette)
	case code.B12:
		e.VBROADCASTI32X4(Mem{Base: head}, e.palette)
	case code.B11:
		e.VPBROADCASTQ(Mem{Base: head}, e.palette)
		e.base = e.ZMM()
		e.VPBROADCASTW(Mem{Base: head, Disp: e.code.Entries()}, e.base)
	}
	e.VPBROADCASTB(Mem{Base: head, Disp: e.code.Entries() - 1}, e.mark)
	e.flags, e.escapes = e.GP64(), e.GP64()
	e.LEAQ(Mem{Base: head, Disp: e.code.PaletteBytes()}, e.flags)
	e.LEAQ(Mem{Base: e.flags, Index: e.n, Scale: 1}, e.escapes)
}

// prefetch asks for the lines of later blocks that lie where those of a step lie in this one: step by step, since a burst of requests
// would fill the buffers of what is on its way. L1 has fewer of these than L2, so from memory lines come to L2, and to L1 shortly
// before their use.
func (e *emitter) prefetch(step int) {
	lines := e.code.BlockBytes() / line
	for at := lines * step / code.Steps; e.prefetches() && at < lines*(step+1)/code.Steps; at++ {
		e.PREFETCHT1(Mem{Base: e.ahead, Disp: at * line})
		e.PREFETCHT0(Mem{Base: e.w, Disp: at*line + nearBytes})
	}
}

// activations is where vector v of half h of a block lies, of a row of activations.
func (e *emitter) activations(row, h, v int) Mem {
	return Mem{Base: e.act, Disp: (h*e.rows+row)*code.Step*e.domain.Bytes() + v*line}
}

// add adds the products of a vector of weights and one of activations, which may be in memory, to sums.
func (e *emitter) add(act Op, weights, sum reg.VecVirtual) {
	if e.domain == code.BF16 {
		bf16.VDPBF16PS(e.Context, act, weights, sum)
	} else {
		e.VFMADD231PS(act, weights, sum)
	}
}

// What VDPBF16PS does whatever MXCSR says: denormals are zeros, and become such.
const denormalsAreZeros = 1<<6 | 1<<15

// flushDenormals makes FMA take denormals as VDPBF16PS does. Results have their place in memory already, which serves to set MXCSR.
func (e *emitter) flushDenormals() {
	out := Mem{Base: e.Load(e.Param("out"), e.GP64())}
	flushing := e.GP32()
	e.mxcsr = e.GP32()
	e.VSTMXCSR(out)
	e.MOVL(out, e.mxcsr)
	e.MOVL(e.mxcsr, flushing)
	e.ORL(U32(denormalsAreZeros), flushing)
	e.MOVL(flushing, out)
	e.VLDMXCSR(out)
	e.upper = e.ZMM()
	e.VPBROADCASTD(e.constant([]byte{0, 0, 0xff, 0xff}), e.upper)
}

// fused emits a block of B16 by FMAs. VDPBF16PS adds the product of the upper halves of dwords first, then that of the lower ones.
func (e *emitter) fused() {
	halves := []func(m Mem, to reg.VecVirtual){
		func(m Mem, to reg.VecVirtual) { e.VPANDD(m, e.upper, to) },
		func(m Mem, to reg.VecVirtual) { e.VPSLLD(U8(16), m, to) },
	}
	for h := range code.Cols / code.Step {
		for v := range e.vectors() {
			for _, half := range halves {
				for r := range code.Rows {
					half(Mem{Base: e.w, Disp: ((code.Rows*h+r)*e.vectors() + v) * line}, e.v[r])
				}
				for row, sums := range e.sums {
					half(e.activations(row, h, v), e.x[0])
					for r := range code.Rows {
						e.VFMADD231PS(e.x[0], e.v[r], sums[r][0])
					}
				}
			}
		}
	}
}

// plain emits a block of a plain code: vectors of the four rows of weights meet each row of activations together.
func (e *emitter) plain() {
	for h := range code.Cols / code.Step {
		for v := range e.vectors() {
			for r := range code.Rows {
				if v == 0 {
					e.prefetch(code.Rows*h + r)
				}
				at := Mem{Base: e.w, Disp: (code.Rows*h+r)*e.code.StepBytes() + v*e.code.StepBytes()/e.vectors()}
				if e.op == kernel.Expand {
					e.load(at, e.v[r])
					e.VMOVDQU64(e.v[r], e.expanded(code.Rows*h+r, v))
					continue
				}
				e.load(at, e.v[r])
			}
			for row, sums := range e.sums {
				e.VMOVDQU64(e.activations(row, h, v), e.x[0])
				for r := range code.Rows {
					e.add(e.x[0], e.v[r], sums[r][v%len(sums[r])])
				}
			}
		}
	}
}

// load loads a vector of weights of a plain code as the domain multiplies them.
func (e *emitter) load(m Mem, to reg.VecVirtual) {
	switch {
	case e.code == e.domain.Plain():
		e.VMOVDQU64(m, to)
	case e.code == code.B16:
		e.VPMOVZXWD(m, to)
		e.VPSLLD(U8(16), to, to)
	default:
		e.VCVTPH2PS(m, to)
	}
}

// expanded is where vector v of a step goes.
func (e *emitter) expanded(step, v int) Mem {
	return Mem{Base: e.to, Disp: (step*e.vectors() + v) * line}
}

// coded emits a block of a code with a palette, with or without looking for escapes.
func (e *emitter) coded(escapes bool) {
	for h := range code.Cols / code.Step {
		for v, x := range e.x {
			e.VMOVDQU64(e.activations(0, h, v), x)
		}
		for r := range code.Rows {
			s := code.Rows*h + r
			e.prefetch(s)
			e.decode(s, escapes)
			e.widen(func(v int, weights reg.VecVirtual) {
				if e.op == kernel.Expand {
					e.VMOVDQU64(weights, e.expanded(s, v))
				}
				for row, sums := range e.sums {
					var act Op = e.activations(row, h, v)
					if e.x != nil {
						act = e.x[v]
					}
					e.add(act, weights, sums[r][v%len(sums[r])])
				}
			})
		}
	}
}

// decode makes low and high of a step's low and high bytes.
func (e *emitter) decode(step int, escapes bool) {
	e.VPERMB(e.palette, e.indices(step), e.high)
	e.VMOVDQU64(Mem{Base: e.w, Disp: e.code.Vectors()*line + step*code.Step}, e.low)
	if !escapes {
		return
	}
	found, count := e.K(), e.GP64()
	e.VPCMPEQB(e.mark, e.high, found)
	e.VMOVDQU64(Mem{Base: e.escapes}, e.index)
	e.VPEXPANDB(e.index, found, e.high)
	e.KMOVQ(found, count)
	e.POPCNTQ(count, count)
	e.ADDQ(count, e.escapes)
}

// indices returns a vector whose bytes have a step's indices in their low bits. The bits above them are others', of which VPERMB ignores
// two, and for which the palette is repeated.
func (e *emitter) indices(step int) Op {
	q := func(i int) Mem { return Mem{Base: e.w, Disp: i * line} }
	var shift int
	switch bits := e.code.Vectors(); { // as many as an index has bits, since steps are
	case step < 8/bits*bits:
		whole := 8 / bits
		e.VMOVDQU64(q(step/whole), e.index)
		shift = step % whole * bits
	case e.code == code.H14:
		e.join(q(3*(step-6)), q(3*(step-6)+1), q(3*(step-6)+2))
		return e.quarters
	default:
		if step == 6 {
			e.join(q(0), q(1), q(2))
			return e.quarters
		}
		e.VPSRLD(U8(3), e.quarters, e.index)
		return e.index
	}
	if shift > 0 {
		e.VPSRLD(U8(shift), e.index, e.index)
	}
	return e.index
}

// join makes indices of the top two bits of each byte of three vectors.
func (e *emitter) join(a, b, c Mem) {
	e.VPSRLD(U8(6), a, e.quarters)
	e.VPSRLD(U8(4), b, e.index)
	e.VPTERNLOGD_BCST(U8(0xe4), e.every(0x03), e.index, e.quarters)
	e.VPSRLD(U8(2), c, e.index)
	e.VPTERNLOGD_BCST(U8(0xe4), e.every(0x0f), e.index, e.quarters)
}

// widen makes vectors of the step's weights, one after the other, of low and high, and hands them on.
func (e *emitter) widen(each func(v int, weights reg.VecVirtual)) {
	e.VPUNPCKLBW(e.high, e.low, e.v[0])
	e.VPUNPCKHBW(e.high, e.low, e.v[1])
	for half, words := range e.v[:2] {
		if e.code == code.B11 {
			e.VPSUBW(e.base, words, words)
		}
		switch {
		case e.domain == code.BF16:
			each(half, words)
		case e.code == code.H14:
			e.VCVTPH2PS(words.AsY(), e.low)
			each(2*half, e.low)
			e.VEXTRACTI64X4(U8(1), words, words.AsY())
			e.VCVTPH2PS(words.AsY(), e.low)
			each(2*half+1, e.low)
		default:
			e.VPSLLD(U8(16), words, e.low)
			each(2*half, e.low)
			e.VPANDD_BCST(e.constant([]byte{0, 0, 0xff, 0xff}), words, words)
			each(2*half+1, words)
		}
	}
}

// finish reduces the sums and stores the results.
func (e *emitter) finish() {
	if e.op == kernel.Expand {
		return
	}
	out := e.Load(e.Param("out"), e.GP64())
	if e.fma {
		e.MOVL(e.mxcsr, Mem{Base: out})
		e.VLDMXCSR(Mem{Base: out})
	}
	if e.op == kernel.Dot {
		var columns [][code.Rows]reg.VecVirtual
		sums := e.sums[0]
		for i := range e.domain.Sums(code.Dot) {
			columns = append(columns, [code.Rows]reg.VecVirtual{sums[0][i], sums[1][i], sums[2][i], sums[3][i]})
		}
		if e.domain == code.F32 {
			for r := range code.Rows {
				e.VADDPS(columns[2][r], columns[0][r], columns[0][r])
				e.VADDPS(columns[3][r], columns[1][r], columns[1][r])
				e.VADDPS(columns[1][r], columns[0][r], columns[0][r])
			}
			e.VMOVUPS(e.reduce(columns[:1]).AsX(), Mem{Base: out})
			return
		}
		total := e.reduce(columns)
		second, zero := e.ZMM(), e.ZMM()
		e.VEXTRACTF32X4(U8(1), total, second.AsX())
		e.VPXORD(zero, zero, zero)
		e.VADDPS(total.AsX(), zero.AsX(), total.AsX())
		e.VADDPS(second.AsX(), total.AsX(), total.AsX())
		e.VMOVUPS(total.AsX(), Mem{Base: out})
		return
	}
	stride := e.Load(e.Param("stride"), e.GP64())
	for from := 0; from < e.rows; from += 4 {
		var columns [][code.Rows]reg.VecVirtual
		for _, sums := range e.sums[from:min(from+4, e.rows)] {
			columns = append(columns, [code.Rows]reg.VecVirtual{sums[0][0], sums[1][0], sums[2][0], sums[3][0]})
		}
		total := e.reduce(columns)
		for i := range columns {
			if i == 0 {
				e.VMOVUPS(total.AsX(), Mem{Base: out})
			} else {
				e.VEXTRACTF32X4(U8(i), total, Mem{Base: out})
			}
			if from+i+1 < e.rows {
				e.ADDQ(stride, out)
			}
		}
	}
}

// reduce adds up the lanes of each of up to four columns of four vectors, in pairs i and i+8, then i and i+4, i+2, i+1, as code.Product
// does: four vectors at a time, since each step leaves half as much. Quarter i of the result has the four sums of column i.
func (e *emitter) reduce(columns [][code.Rows]reg.VecVirtual) reg.VecVirtual {
	half := func(low, high func(to reg.VecVirtual)) reg.VecVirtual {
		a, b := e.ZMM(), e.ZMM()
		low(a)
		high(b)
		e.VADDPS(b, a, a)
		return a
	}
	quarters := func(a, b reg.VecVirtual, low, high uint8) reg.VecVirtual {
		return half(
			func(to reg.VecVirtual) { e.VSHUFF32X4(U8(low), b, a, to) },
			func(to reg.VecVirtual) { e.VSHUFF32X4(U8(high), b, a, to) })
	}
	var fours []reg.VecVirtual // of each column: quarter r has four lanes of row r
	for _, rows := range columns {
		ab := quarters(rows[0], rows[1], 0x44, 0xee) // lower halves of a and b, and upper ones
		cd := quarters(rows[2], rows[3], 0x44, 0xee)
		fours = append(fours, quarters(ab, cd, 0x88, 0xdd)) // even quarters, and odd ones
	}
	column := func(i int) reg.VecVirtual { return fours[min(i, len(fours)-1)] }
	twos := func(a, b reg.VecVirtual) reg.VecVirtual {
		return half(
			func(to reg.VecVirtual) { e.VUNPCKLPD(b, a, to) },
			func(to reg.VecVirtual) { e.VUNPCKHPD(b, a, to) })
	}
	ab := twos(column(0), column(1))
	cd := ab
	if len(columns) > 2 {
		cd = twos(column(2), column(3))
	}
	// Quarter r has lane c of column c: even and odd lanes added.
	total := half(
		func(to reg.VecVirtual) { e.VSHUFPS(U8(0x88), cd, ab, to) },
		func(to reg.VecVirtual) { e.VSHUFPS(U8(0xdd), cd, ab, to) })
	order, index := e.ZMM(), make([]byte, line)
	for i := range 16 {
		index[4*i] = byte(i%4*4 + i/4)
	}
	e.VMOVDQU64(e.constant(index), order)
	e.VPERMPS(total, order, total)
	return total
}
