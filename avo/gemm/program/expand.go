package program

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// expanding returns the kernels of types whose quants are looked up: one for each that expands its panels, and the GEMM kernels that
// read those. The latter read from a cache and so never prefetch.
func expanding() []kernel.Program {
	var programs []kernel.Program
	for _, s := range weight.Wides() {
		for rows := 1; rows <= Rows; rows++ {
			programs = append(programs, typed{s, rows, 0}.program())
		}
	}
	for _, s := range weight.Specs() {
		if s.Wide() != nil {
			programs = append(programs, expand(s))
		}
	}
	return programs
}

// expansions emit the loop over blocks of each type.
var expansions = map[string]func(*expander){
	"IQ1_S":   (*expander).iq1s,
	"IQ1_M":   (*expander).iq1m,
	"IQ2_XXS": (*expander).iq2xxs,
	"IQ2_XS":  (*expander).iq2xs,
	"IQ2_S":   (*expander).iq2s,
	"IQ3_XXS": (*expander).iq3xxs,
	"IQ3_S":   (*expander).iq3s,
	"TQ1_0":   (*expander).tq1,
}

func expand(s *weight.Spec) kernel.Program {
	wide := s.Wide()
	return kernel.Program{
		Info: kernel.Info{
			Name: fmt.Sprintf("zt_expand_%s_%s", strings.ToLower(s.Name), isa),
			Op:   kernel.Expand, Type: s.Name, Cols: weight.PanelRows,
			Oracle: "weight.Spec.Expand",
			Doc:    fmt.Sprintf("expands a panel of %s to one of %s, which has GEMM kernels.", s.Name, wide.Name),
			Args: []kernel.Arg{
				{Name: "dst", Go: "*byte", Out: true, Doc: fmt.Sprintf("panel of %s, %d bytes a block, best aligned to 64 (weight.Wides)", wide.Name, wide.PanelBytes())},
				{Name: "w", Go: "*byte", Doc: fmt.Sprintf("weight panel, %d bytes a block (weight.Spec.Pack)", s.PanelBytes())},
				{Name: "blocks", Go: "int64", Doc: "blocks of 256 along k, at least 1"},
			},
		},
		Emit: func(c *Context) {
			e := &expander{Context: c, Spec: s, wide: wide}
			e.dst = c.Load(c.Param("dst"), c.GP64())
			e.w = c.Load(c.Param("w"), c.GP64())
			e.blocks = c.Load(c.Param("blocks"), c.GP64())
			e.constants = c.StaticGlobal("zt_" + strings.ToLower(s.Name))
			c.DataAttributes(attr.RODATA | attr.NOPTR)
			expansions[s.Name](e)
		},
	}
}

const (
	runK  = 32           // weights of a run
	quads = runK / vnniK // its vectors for 16 rows
	runs  = 256 / runK   // in a block
)

// expander writes the expansion of one type. Grids are looked up in runs of 32 weights of 16 rows: eight vectors, of which vector q holds
// weights 4q..4q+3 of the run. Indices and signs of a run are a dword for each row, or two.
type expander struct {
	*Context
	*weight.Spec
	wide           *weight.Spec
	dst, w, blocks reg.Register
	at             reg.Register // 32 times the run
	out            reg.Register // where the expanded quants of the run go

	constants Mem
	size      int // of the constants so far

	low, high []Op // the planes that indices are looked up in, as vectors
	levels    reg.VecVirtual
	beside    reg.VecVirtual // the bits of an index of levels that the low plane holds
	spreads   []reg.VecVirtual
}

// constant adds bytes to the kernel's constants.
func (e *expander) constant(b []byte) Mem {
	m := e.constants.Offset(e.size)
	for ; len(b) > 0; b = b[8:] {
		e.AppendDatum(U64(binary.LittleEndian.Uint64(b)))
		e.size += 8
	}
	return m
}

// vector makes a constant vector.
func (e *expander) vector(f func(i int) byte) reg.VecVirtual {
	b := make([]byte, line)
	for i := range b {
		b[i] = f(i)
	}
	v := e.ZMM()
	e.VMOVDQU64(e.constant(b), v)
	return v
}

// bytes makes a vector of which each dword has four bytes.
func (e *expander) fourBytes(f func(i int) byte) reg.VecVirtual {
	return e.vector(func(i int) byte { return f(i % 4) })
}

// spread makes a control of VPMULTISHIFTQB: byte i of each dword becomes 8 bits from bit from(i) of the dword on. Bits beyond the dword
// are of no use.
func (e *expander) spread(from func(i int) int) reg.VecVirtual {
	return e.vector(func(i int) byte { return byte(32*(i/4%2)+from(i%4)) & 63 })
}

// table makes a table for VPERMB of the operand of VPDPBUSD that each index of 6 bits stands for.
func (e *expander) table(of func(index int) int) reg.VecVirtual {
	return e.vector(func(i int) byte { return byte(of(i) + e.Offset) })
}

// level returns what a code of the grid means, 0 where the grid has no such code.
func (e *expander) level(code int) int {
	if code < len(e.Grid.Levels) {
		return int(e.Grid.Levels[code])
	}
	return 0
}

// sign gives a level the sign that a bit says.
func sign(level, bit int) int { return level * (1 - 2*(bit&1)) }

// planes makes constants of the two planes that indices are looked up in. Those of 256 entries stay in registers.
func (e *expander) planes(low, high []byte) {
	resident := len(low) == 256
	e.low, e.high = e.vectors(low, resident), e.vectors(high, resident)
}

// vectors makes constants of a table, in registers if it is resident.
func (e *expander) vectors(table []byte, resident bool) (ops []Op) {
	for ; len(table) > 0; table = table[line:] {
		m := e.constant(table[:line])
		if resident {
			ops = append(ops, e.load(m))
		} else {
			ops = append(ops, m)
		}
	}
	return ops
}

// lookUp replaces indices by what the planes hold for them. bits are the indices' bits from the eighth on; no opmask register but those
// may be in use if there are four.
func (e *expander) lookUp(index reg.VecVirtual, bits ...reg.OpmaskVirtual) (low, high reg.VecVirtual) {
	low, high = index, e.copied(index)
	e.tables(bits, nil, 0, func(entry int, k reg.OpmaskVirtual) {
		// Of the bytes that are still indices, those that k has; the others are, or will be, another table's.
		e.choose(e.low[entry/line:], k, low)
		e.choose(e.high[entry/line:], k, high)
	})
	return low, high
}

// choose replaces indices of 7 bits, those that k has, by the entries of a table of two vectors.
func (e *expander) choose(table []Op, k reg.OpmaskVirtual, index reg.VecVirtual) {
	first := table[0]
	if m, ok := first.(Mem); ok {
		first = e.load(m)
	}
	e.VPERMI2B(table[1], first, k, index)
}

// tables calls f for each 128 entries with the indices among them.
func (e *expander) tables(bits []reg.OpmaskVirtual, of reg.OpmaskVirtual, entry int, f func(int, reg.OpmaskVirtual)) {
	if len(bits) == 0 {
		f(entry, of)
		return
	}
	top, rest := bits[len(bits)-1], bits[:len(bits)-1]
	set, clear := top, e.K()
	if of != nil {
		set = e.K()
		e.KANDQ(of, top, set)
	}
	e.tables(rest, set, entry+128<<len(rest), f)
	if of != nil {
		e.KANDNQ(of, top, clear)
	} else {
		e.KNOTQ(top, clear)
	}
	e.tables(rest, clear, entry, f)
}

// eighth is the indices' eighth bit.
func (e *expander) eighth(index reg.VecVirtual) reg.OpmaskVirtual {
	k := e.K()
	e.VPMOVB2M(index, k)
	return k
}

// test returns the bytes of which the bits of another vector are set.
func (e *expander) test(bits, v reg.VecVirtual) reg.OpmaskVirtual {
	k := e.K()
	e.VPTESTMB(bits, v, k)
	return k
}

// ofRun is what a plane holds of the run: so many bytes for each row.
func (e *expander) ofRun(role weight.Role, bytes int) Mem {
	at, _ := e.Plane(role)
	return Mem{Base: e.w, Disp: at, Index: e.at, Scale: uint8(bytes)}
}

// wideAt is where a plane of the expanded block lies.
func (e *expander) wideAt(role weight.Role) Mem {
	at, _ := e.wide.Plane(role)
	return Mem{Base: e.dst, Disp: at}
}

// load loads a vector.
func (e *expander) load(m Mem) reg.VecVirtual {
	v := e.ZMM()
	e.VMOVDQU64(m, v)
	return v
}

// copied returns a copy of a vector.
func (e *expander) copied(v reg.VecVirtual) reg.VecVirtual {
	c := e.ZMM()
	e.VMOVDQA64(v, c)
	return c
}

// multishift returns v's bits as a control of spread says.
func (e *expander) multishift(v, control reg.VecVirtual) reg.VecVirtual {
	x := e.ZMM()
	e.VPMULTISHIFTQB(v, control, x)
	return x
}

// write looks the index of each weight up in levels, and writes vector q of the run for rows 16v..16v+15. Bits of an index come from a
// where beside has ones, from b elsewhere. a is overwritten.
func (e *expander) write(a, b reg.VecVirtual, q, v int) {
	e.VPTERNLOGD(U8(0xe4), e.beside, b, a)
	e.VPERMB(e.levels, a, a)
	e.VMOVDQU64(a, Mem{Base: e.out, Disp: (vecs*q + v) * line})
}

// each emits the loops over blocks and runs: block at the start of each block, run for each half of the panel.
func (e *expander) each(block func(), run func(v int)) {
	e.at, e.out = e.GP64(), e.GP64()
	e.eachBlock(func() {
		if block != nil {
			block()
		}
		e.XORQ(e.at, e.at)
		e.MOVQ(e.dst, e.out)
		e.Label("run")
		for v := range vecs {
			run(v)
		}
		e.ADDQ(U32(runK*weight.PanelRows), e.out)
		e.ADDQ(U8(runK), e.at)
		e.CMPQ(e.at, U32(runs*runK))
		e.JNE(LabelRef("run"))
	})
}

// eachBlock emits the loop over blocks, and the widening of d.
func (e *expander) eachBlock(block func()) {
	factor := broadcast(e.Context, math.Float32bits(e.Scale.Factor))
	e.Label("block")
	block()
	from, _ := e.Plane(weight.D)
	for v := range vecs {
		d := e.ZMM()
		e.VCVTPH2PS(Mem{Base: e.w, Disp: from + line/2*v}, d)
		e.VMULPS(factor, d, d)
		e.VMOVUPS(d, e.wideAt(weight.D).Offset(line*v))
	}
	e.ADDQ(U32(e.PanelBytes()), e.w)
	e.ADDQ(U32(e.wide.PanelBytes()), e.dst)
	e.DECQ(e.blocks)
	e.JNZ(LabelRef("block"))
	e.VZEROUPPER()
	e.RET()
}

// odd makes bytes 2n+1 of the n that lie at bit 1 of each, among other bits.
type odd struct{ mask, one reg.VecVirtual }

func (e *expander) odd(bits int, every uint32) odd {
	return odd{broadcast(e.Context, (2<<bits-2)*every), broadcast(e.Context, every)}
}

func (e *expander) makeOdd(o odd, x reg.VecVirtual) { e.VPTERNLOGD(U8(0xea), o.one, o.mask, x) }

// nibbleScales returns the emitter of sub-scales that lie two to a byte.
func (e *expander) nibbleScales() func() {
	o := e.odd(4, 0x01010101)
	// The low nibbles of 32 bytes, then their high ones, one bit to the left.
	control := e.vector(func(i int) byte { return byte(8*(i%8)+i/32*4-1) & 63 })
	return func() {
		from, p := e.Plane(weight.Scales)
		for i := range p.Size() / weight.PanelRows {
			x := e.ZMM()
			e.VBROADCASTI64X4(Mem{Base: e.w, Disp: from + weight.PanelRows*i}, x)
			e.VPMULTISHIFTQB(x, control, x)
			e.makeOdd(o, x)
			e.VMOVDQU64(x, e.wideAt(weight.Scales).Offset(line*i))
		}
	}
}

// signsAndScale returns the emitter of a dword's sub-scale and its four bytes of signs, of which the eighth is missing.
func (e *expander) signsAndScale() func(v int) (signs reg.VecVirtual) {
	seven := e.spread(func(i int) int { return 7 * i })
	even := e.even(0)
	one := broadcast(e.Context, 1)
	return func(v int) reg.VecVirtual {
		x, scale := e.load(e.ofRun(weight.Signs, 4).Offset(line*v)), e.ZMM()
		e.VPSRLD(U8(27), x, scale)
		e.VPORD(one, scale, scale)
		to := e.wideAt(weight.Scales).Offset(line / 4 * v)
		to.Index, to.Scale = e.at, 1
		e.VPMOVDB(scale, to)
		signs := e.multishift(x, seven)
		e.VGF2P8AFFINEQB(U8(0), even, signs, signs)
		return signs
	}
}

// even is the matrix by which VGF2P8AFFINEQB moves 7 bits from bit first on to bit 0 and sets bit 7 if the number of ones is odd.
// Byte 7-i of the matrix has the bits that bit i of the result is the parity of.
func (e *expander) even(first int) reg.VecVirtual {
	return e.vector(func(i int) byte {
		if i%8 == 0 {
			return 127 << first
		}
		return 1 << (7 - i%8 + first)
	})
}

// wideGrid prepares for grids of 8 weights: the index of levels has the code in bits 0 and 1 and what lies beside it in bit 2.
func (e *expander) wideGrid(of func(code, bit int) int) {
	e.levels = e.table(func(i int) int { return of(i&3, i>>2&1) })
	e.beside = broadcast(e.Context, 0x03030303)
	for g := range quads / 2 {
		e.spreads = append(e.spreads, e.spread(func(i int) int { return 8*g + 2*i }))
	}
}

// writeEights writes a run of a grid of 8 weights. beside returns the bits that belong beside the codes of vector q.
func (e *expander) writeEights(v int, low, high reg.VecVirtual, beside func(q int) reg.VecVirtual) {
	for q := range quads {
		codes := low
		if q%2 == 1 {
			codes = high
		}
		e.write(e.multishift(codes, e.spreads[q/2]), beside(q), q, v)
	}
}

// signs returns the emitter of the signs of vector q, from bytes of 8, in bit 2.
func (e *expander) signs() func(signs reg.VecVirtual) func(q int) reg.VecVirtual {
	var spreads []reg.VecVirtual
	for q := range quads {
		spreads = append(spreads, e.spread(func(i int) int { return 4*q + i - 2 }))
	}
	return func(signs reg.VecVirtual) func(q int) reg.VecVirtual {
		return func(q int) reg.VecVirtual { return e.multishift(signs, spreads[q]) }
	}
}

func (e *expander) iq2xxs() {
	e.planes(e.Grid.Planes())
	e.wideGrid(func(code, bit int) int { return sign(e.level(code), bit) })
	signsOf, beside := e.signsAndScale(), e.signs()
	e.each(nil, func(v int) {
		signs := signsOf(v)
		index := e.load(e.ofRun(weight.Index, 4).Offset(line * v))
		low, high := e.lookUp(index, e.eighth(index))
		e.writeEights(v, low, high, beside(signs))
	})
}

func (e *expander) iq2xs() {
	e.planes(e.Grid.Planes())
	e.wideGrid(func(code, bit int) int { return sign(e.level(code), bit) })
	beside, even, one := e.signs(), e.even(1), broadcast(e.Context, 0x01010101)
	e.each(e.nibbleScales(), func(v int) {
		index := e.load(e.ofRun(weight.Index, 4).Offset(line * v))
		x := e.load(e.ofRun(weight.Signs, 4).Offset(line * v))
		low, high := e.lookUp(index, e.eighth(index), e.test(one, x))
		e.VGF2P8AFFINEQB(U8(0), even, x, x)
		e.writeEights(v, low, high, beside(x))
	})
}

func (e *expander) iq2s() {
	e.planes(e.Grid.Planes())
	e.wideGrid(func(code, bit int) int { return sign(e.level(code), bit) })
	beside, highBits := e.signs(), e.highBits()
	low := e.fourBytes(func(i int) byte { return 1 << (2 * i) })
	high := e.fourBytes(func(i int) byte { return 2 << (2 * i) })
	e.each(e.nibbleScales(), func(v int) {
		x := highBits(v)
		index := e.load(e.ofRun(weight.Index, 4).Offset(line * v))
		codes0, codes4 := e.lookUp(index, e.eighth(index), e.test(low, x), e.test(high, x))
		signs := e.load(e.ofRun(weight.Signs, 4).Offset(line * v))
		e.writeEights(v, codes0, codes4, beside(signs))
	})
}

// highBits returns the emitter of the byte that each row has for a run, four times to a dword.
func (e *expander) highBits() func(v int) reg.VecVirtual {
	var rows []reg.VecVirtual
	for v := range vecs {
		rows = append(rows, e.vector(func(i int) byte { return byte(16*v + i/4) }))
	}
	return func(v int) reg.VecVirtual {
		x := e.ZMM()
		e.VMOVDQU64(e.ofRun(weight.IndexHigh, 1), x.AsY())
		e.VPERMB(x, rows[v], x)
		return x
	}
}

// stepsOf is how many neighbouring entries of the largest grid have no more than two codes for their last four weights, since entries
// are in order of those first.
const stepsOf = 16

// orderedGrid returns the emitter of look-ups in the grid of 2048 entries: of indices whose bits from the ninth on are in bits 4 to 6 of x.
// The low plane takes 16 tables. Of the high one, the index without its low 4 bits finds two codes and from where on the second holds.
func (e *expander) orderedGrid() func(index, x reg.VecVirtual) (low, high reg.VecVirtual) {
	const chunks = 128
	plane, codes := e.Grid.Planes()
	var first, second, from [chunks]byte
	for c := range chunks {
		of := codes[stepsOf*c:][:stepsOf]
		first[c], second[c] = of[0], of[stepsOf-1]
		n := bytes.Count(of, first[c:][:1])
		from[c] = byte(n)
		if first[c] != second[c] && n+bytes.Count(of, second[c:][:1]) != stepsOf {
			panic("program: more than two codes among neighbours in the grid of " + e.Name)
		}
	}
	e.low = e.vectors(plane, false)
	firsts, seconds, froms := e.vectors(first[:], true), e.vectors(second[:], true), e.vectors(from[:], true)
	nibbles := broadcast(e.Context, 0x0f0f0f0f)
	var bits []reg.VecVirtual
	for i := range 3 {
		bits = append(bits, broadcast(e.Context, 0x10101010<<i))
	}
	return func(index, x reg.VecVirtual) (low, high reg.VecVirtual) {
		high = e.ZMM()
		e.VPSRLW(U8(4), index, high)
		e.VPTERNLOGD(U8(0xe4), nibbles, x, high)
		start, rest := e.copied(high), e.ZMM()
		e.VPERMI2B(froms[1], froms[0], start)
		e.VPANDD(nibbles, index, rest)
		k := e.K()
		const notLess = 5
		e.VPCMPUB(U8(notLess), start, rest, k)
		e.choose(seconds, k, high)
		e.KNOTQ(k, k)
		e.choose(firsts, k, high)

		masks := []reg.OpmaskVirtual{e.eighth(index)}
		for _, b := range bits {
			masks = append(masks, e.test(b, x))
		}
		low = index
		e.tables(masks, nil, 0, func(entry int, k reg.OpmaskVirtual) { e.choose(e.low[entry/line:], k, low) })
		return low, high
	}
}

func (e *expander) iq1s() {
	e.wideGrid(func(code, bit int) int { return e.level(code) + sign(1, bit) })
	threes := e.spread(func(i int) int { return 3*i - 4 })
	lookUp, o := e.orderedGrid(), e.odd(3, 0x00010001)
	e.each(nil, func(v int) {
		words := e.ofRun(weight.IndexHigh, 2)
		if v == 0 { // for both halves
			scales := e.ZMM()
			e.VPSRLW(U8(11), words, scales)
			e.makeOdd(o, scales)
			to := e.wideAt(weight.Scales)
			to.Index, to.Scale = e.at, 1
			e.VPMOVWB(scales, to)
		}
		delta := e.ZMM()
		e.VPMOVSXWD(words.Offset(line/2*v), delta)
		x := e.multishift(delta, threes)
		e.VPSRAD(U8(15), delta, delta)
		low, high := lookUp(e.load(e.ofRun(weight.Index, 4).Offset(line*v)), x)
		e.writeEights(v, low, high, func(int) reg.VecVirtual { return delta })
	})
}

func (e *expander) iq1m() {
	e.wideGrid(func(code, bit int) int { return e.level(code) + sign(1, bit) })
	fours := e.spread(func(i int) int { return 4*i - 4 })
	var deltas []reg.VecVirtual // of which bit 3 becomes bit 2 of four bytes
	for g := range quads / 2 {
		deltas = append(deltas, e.spread(func(int) int { return 4*g + 1 }))
	}
	lookUp := e.orderedGrid()
	e.each(e.wordScales(), func(v int) {
		words := e.ZMM()
		e.VPMOVZXWD(e.ofRun(weight.IndexHigh, 2).Offset(line/2*v), words)
		x := e.multishift(words, fours)
		low, high := lookUp(e.load(e.ofRun(weight.Index, 4).Offset(line*v)), x)
		var delta reg.VecVirtual
		e.writeEights(v, low, high, func(q int) reg.VecVirtual {
			if q%2 == 0 {
				delta = e.multishift(words, deltas[q/2])
			}
			return delta
		})
	})
}

// wordScales returns the emitter of sub-scales that share words of 16 bits.
func (e *expander) wordScales() func() {
	from, p := e.Plane(weight.Scales)
	o := e.odd(3, 0x00010001)
	return func() {
		for i, value := range elements(p, weight.Scales) {
			moves := gather([][]weight.Piece{value}, 0)
			scales, part := e.ZMM(), e.ZMM()
			for j, m := range moves {
				word := Mem{Base: e.w, Disp: from + weight.PanelRows*p.Width*m.word}
				to := scales
				if j > 0 {
					to = part
				}
				// One to the left of the value's place.
				if m.right > 0 {
					e.VPSRLW(U8(m.right-1), word, to)
				} else {
					e.VPSLLW(U8(1-m.right), word, to)
				}
				if j > 0 {
					mask := broadcast(e.Context, m.mask<<1*0x00010001)
					e.VPTERNLOGD(U8(0xca), scales, part, mask)
					scales = mask
				}
			}
			e.makeOdd(o, scales)
			e.VPMOVWB(scales, e.wideAt(weight.Scales).Offset(weight.PanelRows*i))
		}
	}
}

// narrowGrid prepares for grids of 4 weights: the index of levels has the code's low bits in bits 2 and 3, its third in bit 1 and the
// sign in bit 5, so that one spread brings the latter two from the halves of a byte.
func (e *expander) narrowGrid() {
	e.planes(e.Grid.Planes())
	e.levels = e.table(func(i int) int { return sign(e.level(i>>2&3|i>>1&1<<2), i>>5) })
	e.beside = broadcast(e.Context, 0x0c0c0c0c)
	for b := range quads / 2 {
		e.spreads = append(e.spreads, e.spread(func(i int) int { return 8*b + 2*i - 2 }))
	}
}

// writeFours returns the emitter of a run's half of a grid of 4 weights: four vectors.
func (e *expander) writeFours() func(v, half int, index reg.VecVirtual, bits []reg.OpmaskVirtual, signs reg.VecVirtual) {
	var thirds, nibbles []reg.VecVirtual
	for b := range quads / 2 {
		thirds = append(thirds, e.spread(func(i int) int { return 8*b + i - 1 }))
	}
	for half := range 2 { // those of 16 bits, each in the high half of a byte
		nibbles = append(nibbles, e.spread(func(i int) int { return 16*half + 4*i - 4 }))
	}
	lowNibbles := broadcast(e.Context, 0x0f0f0f0f)
	return func(v, half int, index reg.VecVirtual, bits []reg.OpmaskVirtual, signs reg.VecVirtual) {
		low, high := e.lookUp(index, bits...)
		e.VPTERNLOGD(U8(0xe4), lowNibbles, e.multishift(signs, nibbles[half]), high)
		for b := range quads / 2 {
			e.write(e.multishift(low, e.spreads[b]), e.multishift(high, thirds[b]), quads/2*half+b, v)
		}
	}
}

func (e *expander) iq3xxs() {
	e.narrowGrid()
	signsOf, write := e.signsAndScale(), e.writeFours()
	e.each(nil, func(v int) {
		signs := signsOf(v)
		for half := range 2 {
			index := e.load(e.ofRun(weight.Index, 8).Offset(line * (vecs*half + v)))
			write(v, half, index, []reg.OpmaskVirtual{e.eighth(index)}, signs)
		}
	})
}

func (e *expander) iq3s() {
	e.narrowGrid()
	write, highBits := e.writeFours(), e.highBits()
	var ninth []reg.VecVirtual
	for half := range 2 {
		ninth = append(ninth, e.fourBytes(func(i int) byte { return 1 << (4*half + i) }))
	}
	e.each(e.nibbleScales(), func(v int) {
		x := highBits(v)
		signs := e.load(e.ofRun(weight.Signs, 4).Offset(line * v))
		for half := range 2 {
			index := e.load(e.ofRun(weight.Index, 8).Offset(line * (vecs*half + v)))
			write(v, half, index, []reg.OpmaskVirtual{e.eighth(index), e.test(ninth[half], x)}, signs)
		}
	})
}

// tq1 looks bytes up: for the first four digits, 2 bits each, and for the fifth as it is written.
func (e *expander) tq1() {
	low, high := make([]byte, 256), make([]byte, 256)
	for b := range low {
		for digit := range 4 {
			low[b] |= byte(weight.Trit(byte(b), digit) << (2 * digit))
		}
		high[b] = byte(weight.Trit(byte(b), 4) - 1 + e.Offset)
	}
	e.planes(low, high)
	e.levels = e.table(func(i int) int { return i&3 - 1 })
	from, _ := e.Plane(weight.Packed)
	packed, count := e.GP64(), e.GP64()
	e.out = e.GP64()
	e.eachBlock(func() {
		e.LEAQ(Mem{Base: e.w, Disp: from}, packed)
		e.MOVQ(e.dst, e.out)
		// Dwords of packed bytes, and how many digits they have: those of one digit are as many vectors.
		for _, part := range []struct{ dwords, digits int }{{8, 5}, {4, 5}, {1, 4}} {
			label := fmt.Sprintf("dwords%d", part.dwords)
			e.MOVQ(U32(part.dwords), count)
			e.Label(label)
			for v := range vecs {
				index := e.load(Mem{Base: packed, Disp: line * v})
				low, high := e.lookUp(index, e.eighth(index))
				for digit := range part.digits {
					x := low
					if digit == 4 {
						x = high
					} else {
						if digit > 0 {
							x = e.ZMM()
							e.VPSRLW(U8(2*digit), low, x)
						}
						y := e.ZMM()
						e.VPERMB(e.levels, x, y)
						x = y
					}
					e.VMOVDQU64(x, Mem{Base: e.out, Disp: (part.dwords*digit*vecs + v) * line})
				}
			}
			e.ADDQ(U32(vecs*line), packed)
			e.ADDQ(U32(vecs*line), e.out)
			e.DECQ(count)
			e.JNZ(LabelRef(label))
			e.ADDQ(U32(part.dwords*(part.digits-1)*vecs*line), e.out)
		}
	})
}
