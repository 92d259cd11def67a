package program

import (
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

// expanding returns the kernels of types whose panels are expanded: one for each that does that, and the GEMM kernels that read those.
// The latter read from a cache and so never prefetch.
func expanding() []kernel.Program {
	var programs []kernel.Program
	for _, s := range weight.Wides() {
		for rows := 1; rows <= Rows; rows++ {
			programs = append(programs, typed{s, rows, false}.program())
		}
	}
	for _, s := range weight.Specs() {
		if s.Wide != nil {
			programs = append(programs, expand(s))
		}
	}
	return programs
}

// expansions emit the loop over blocks of each type.
var expansions = map[string]func(*expander){
	"Q2_K":    (*expander).q2k,
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
	wide := s.Wide
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
	latencyBytes = 2048 // how far ahead weights are asked for at least: what a core that expands fast takes of memory in 90 ns

	runK  = 32           // weights of a run
	quads = runK / vnniK // its vectors for 16 rows
	runs  = 256 / runK   // in a block
)

// expander writes the expansion of one type, in runs of 32 weights of 16 rows: eight vectors, of which vector q holds weights 4q..4q+3 of
// the run. Of grids, indices and signs of a run are a dword for each row, or two.
type expander struct {
	*Context
	*weight.Spec
	wide           *weight.Spec
	dst, w, blocks reg.Register
	at             reg.Register // 32 times the run
	out            reg.Register // where the expanded quants of the run go
	next           reg.Register // what to prefetch

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

// fourBytes makes a vector whose dwords are alike.
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

// planes makes constants of the two planes that indices are looked up in.
func (e *expander) planes(low, high []byte) {
	e.low, e.high = e.vectors(low), e.vectors(high)
}

// vectors makes constants of a table, which stay in registers if they are few.
func (e *expander) vectors(table []byte) (ops []Op) {
	resident := len(table) <= 256
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

// indices are 64 numbers of entries: a byte of each, and the bits from the eighth on.
type indices struct {
	low  reg.VecVirtual
	bits []reg.OpmaskVirtual
	not  reg.OpmaskVirtual // the eighth bit, inverted
}

func (e *expander) indices(low reg.VecVirtual, others ...reg.OpmaskVirtual) indices {
	eighth, not := e.K(), e.K()
	e.VPMOVB2M(low, eighth)
	e.KNOTQ(eighth, not)
	return indices{low, append([]reg.OpmaskVirtual{eighth}, others...), not}
}

// lookUp returns what the planes hold.
func (e *expander) lookUp(i indices) (low, high reg.VecVirtual) {
	return e.find(e.low, i, len(i.bits)), e.find(e.high, i, len(i.bits))
}

// find returns the entries of a table for indices of 7 bits and so many more.
func (e *expander) find(table []Op, i indices, bits int) reg.VecVirtual {
	half := len(table) / 2
	switch bits {
	case 0:
		found := e.copied(i.low)
		e.VPERMI2B(table[1], table[0], found)
		return found
	case 1:
		found := e.copied(i.low)
		e.choose(table[half:], i.bits[0], found)
		e.choose(table[:half], i.not, found)
		return found
	}
	found, others := e.find(table[:half], i, bits-1), e.find(table[half:], i, bits-1)
	e.VMOVDQU8(others, i.bits[bits-1], found)
	return found
}

// choose replaces indices of 7 bits, those that k has, by the entries of a table of two vectors.
func (e *expander) choose(table []Op, k reg.OpmaskVirtual, index reg.VecVirtual) {
	first := table[0]
	if m, ok := first.(Mem); ok {
		first = e.load(m)
	}
	e.VPERMI2B(table[1], first, k, index)
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

// prefetch asks for the next of so many parts of a later block. Without it a single row of activations takes up to twice the time, since
// the planes of a block are read from several places at once, a line here and there.
func (e *expander) prefetch(parts int) {
	part := (e.PanelBytes() + parts - 1) / parts
	for at := 0; at < part; at += line {
		e.PREFETCHT0(Mem{Base: e.next, Disp: at})
	}
	e.ADDQ(U32(part), e.next)
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
		e.prefetch(runs)
		for v := range vecs {
			run(v)
		}
		e.ADDQ(U32(runK*weight.PanelRows), e.out)
		e.ADDQ(U8(runK), e.at)
		e.CMPQ(e.at, U32(runs*runK))
		e.JNE(LabelRef("run"))
	})
}

// eachBlock emits the loop over blocks, and the widening of d and min.
func (e *expander) eachBlock(block func()) {
	factor := broadcast(e.Context, math.Float32bits(e.Scale.Factor))
	e.next = e.GP64()
	e.Label("block")
	e.LEAQ(Mem{Base: e.w, Disp: (latencyBytes + e.PanelBytes() - 1) / e.PanelBytes() * e.PanelBytes()}, e.next)
	block()
	for _, role := range []weight.Role{weight.D, weight.Min} {
		if _, ok := e.Field(role); !ok {
			continue
		}
		from, _ := e.Plane(role)
		for v := range vecs {
			d := e.ZMM()
			e.VCVTPH2PS(Mem{Base: e.w, Disp: from + line/2*v}, d)
			e.VMULPS(factor, d, d)
			e.VMOVUPS(d, e.wideAt(role).Offset(line*v))
		}
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
