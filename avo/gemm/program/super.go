package program

import (
	"math/bits"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// superBlocks emits a kernel whose sums stay integer over a block of 256: those of products in registers, times their sub-scale added
// to a total in registers. Float sums, which are touched once a block, lie in the work space.
func (e *emitter) superBlocks() {
	blocks := e.Load(e.Param("blocks"), e.GP64())
	work := e.Load(e.Param("work"), e.GP64())
	minsAt, scalesAt, _ := e.work()
	at := func(r, v int) Mem { return Mem{Base: work, Disp: (vecs*r + v) * line} }
	e.startWork(at, minsAt)
	g := e.group()
	span := e.span()

	e.Label("block")
	e.prefetch()
	q, a, corr, scales, count := e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64()
	var scaleStep int
	if e.scaled() {
		if e.direct() {
			offset, p := e.Plane(weight.Scales)
			e.LEAQ(Mem{Base: e.w, Disp: offset}, scales)
			scaleStep = weight.PanelRows * p.Width
		} else {
			e.unpackScales(Mem{Base: work, Disp: scalesAt})
			e.LEAQ(Mem{Base: work, Disp: scalesAt}, scales)
			scaleStep = vecs * line
		}
	}
	e.LEAQ(Mem{Base: e.w, Disp: e.quantsAt}, q)
	e.MOVQ(e.a, a)
	e.MOVQ(e.a, corr)
	e.MOVQ(U32(e.Block/span), count)
	for r := range e.rows {
		for v := range vecs {
			zero(e.Context, e.total[r][v])
		}
	}

	e.Label("sub")
	if e.Offset != 0 {
		e.Comment("Start each sum at -offset*sum(a)")
	}
	shift := bits.TrailingZeros(uint(e.Offset))
	for r := range e.rows {
		if e.chained() {
			break
		}
		first := e.sums[r][0]
		if e.Offset == 0 {
			zero(e.Context, first)
		}
		for i := 0; e.Offset != 0 && i < span/16; i++ {
			m, to := Mem{Base: corr, Disp: g.Corr(r) + 4*i}, first
			if i > 0 {
				to = e.x
			}
			if shift == 0 {
				e.VPBROADCASTD(m, to)
			} else {
				e.VPSLLD_BCST(U8(shift), m, to)
			}
			if i > 0 {
				e.VPADDD(to, first, first)
			}
		}
		e.copies(r)
	}
	e.products(Mem{Base: q}, func(r int) Mem { return Mem{Base: a, Disp: g.Quants(r)} }, span)
	for v := range vecs {
		if e.chained() {
			break
		}
		if e.scaled() {
			m := Mem{Base: scales, Disp: scaleStep / vecs * v}
			switch {
			case !e.direct():
				e.VMOVDQU64(m, e.weights[v])
			case e.Scale.Signed:
				e.VPMOVSXBD(m, e.weights[v])
			default:
				panic("program: unsigned bytes of scales")
			}
		}
		for r := range e.rows {
			if e.scaled() {
				e.VPMULLD(e.weights[v], e.sums[r][v], e.sums[r][v])
			}
			e.VPADDD(e.sums[r][v], e.total[r][v], e.total[r][v])
		}
	}
	e.ADDQ(U32(e.quantBytes(span)), q)
	e.ADDQ(U8(span), a)
	if e.Offset != 0 {
		e.ADDQ(U8(span/16*4), corr)
	}
	if e.scaled() {
		e.ADDQ(U32(scaleStep), scales)
	}
	e.DECQ(count)
	e.JNZ(LabelRef("sub"))

	e.Comment("acc = fma(float(sum), d_w*d_a, acc)")
	for v := range vecs {
		e.scale(weight.D, 0, v, e.weights[v])
		for r := range e.rows {
			e.addTo(at(r, v), e.total[r][v], r, e.weights[v])
		}
	}
	if e.Order == weight.TwoSums {
		e.mins(at, minsAt)
	}
	e.ADDQ(U32(g.BlockBytes()), e.a)
	e.ADDQ(U32(e.PanelBytes()), e.w)
	e.DECQ(blocks)
	e.JNZ(LabelRef("block"))
	e.store(at, minsAt)
}

// addTo adds an integer sum times the scales of weights and of activation row r to floats in memory. It uses x and y.
func (e *emitter) addTo(m Mem, sum reg.VecVirtual, r int, d reg.VecVirtual) {
	e.VMULPS_BCST(Mem{Base: e.a, Disp: e.group().Delta(r)}, d, e.x)
	e.VCVTDQ2PS(sum, sum)
	e.VMOVUPS(m, e.y)
	e.VFMADD231PS(e.x, sum, e.y)
	e.VMOVUPS(e.y, m)
}

// planeWord loads word w of a plane other than quants for rows 16v..16v+15 as dwords.
func (e *emitter) planeWord(at int, p weight.Plane, w, v int, to reg.VecVirtual) {
	m := Mem{Base: e.w, Disp: at + (w*weight.PanelRows+16*v)*p.Width}
	switch p.Width {
	case 4:
		e.VMOVDQU64(m, to)
	case 2:
		e.VPMOVZXWD(m, to)
	default:
		e.VPMOVZXBD(m, to)
	}
}

// present is the bits that a word of a plane can have set.
func present(p weight.Plane) uint32 { return full >> (32 - 8*p.Width) }

// elements returns the spelling of elements of a field in a plane whose spelling covers all of its elements.
func elements(p weight.Plane, role weight.Role) [][]weight.Piece {
	first := 0
	for _, f := range p.Fields {
		if f.Role == role {
			return p.Spelling.Values[first:][:f.Len()]
		}
		first += f.Len()
	}
	panic("program: the plane has no " + string(role))
}

// unpackScales writes the sub-scales of a block to memory as [sub-block][2] vectors of int32.
func (e *emitter) unpackScales(m Mem) {
	at, p := e.Plane(weight.Scales)
	var lists [][]move
	for _, value := range elements(p, weight.Scales) {
		lists = append(lists, gather([][]weight.Piece{value}, 0))
	}
	e.Comment("Sub-scales")
	masks := e.broadcastMasks(lists, false, present(p))
	if e.Scale.Odd || e.Scale.Signed {
		panic("program: sub-scales of " + e.Name)
	}
	var bias reg.VecVirtual
	if e.Scale.Bias != 0 {
		bias = broadcast(e.Context, uint32(int32(e.Scale.Bias)))
	}
	value, scratch := e.ZMM(), e.ZMM()
	for v := range vecs {
		words := map[int]reg.VecVirtual{}
		for i, moves := range lists {
			word := e.loaded(words, at, p, v, moves)
			e.selected(moves, word, masks, present(p), false, value, scratch)
			if e.Scale.Bias != 0 {
				e.VPADDD(bias, value, value)
			}
			e.VMOVDQU64(value, m.Offset((vecs*i+v)*line))
		}
	}
}

// loaded loads the words that moves take, unless words has them, and returns where they are.
func (e *emitter) loaded(words map[int]reg.VecVirtual, at int, p weight.Plane, v int, moves []move) func(int) Op {
	for _, m := range moves {
		if _, ok := words[m.word]; !ok {
			words[m.word] = e.ZMM()
			e.planeWord(at, p, m.word, v, words[m.word])
		}
	}
	return func(w int) Op { return words[w] }
}

// mins adds the block's mins times the sums of activations to the second float sums. Two mins in the halves of a dword meet two sums
// in VPMADDWD.
func (e *emitter) mins(at func(r, v int) Mem, minsAt int) {
	g := e.group()
	offset, p := e.Plane(weight.Mins)
	values := elements(p, weight.Mins)
	sums := g.Sums32
	if e.Block/len(values) == 16 {
		sums = g.Sums16
	}
	var lists [][]move
	for i := 0; i < len(values); i += 2 {
		lists = append(lists, gather(values[i:][:2], 16))
	}
	e.Comment("min = fma(float(sum of m*sum(a)), dmin*d_a, min)")
	masks := e.broadcastMasks(lists, false, present(p))
	scratch := e.ZMM()
	pairs := grid(e.Context, len(lists), vecs)
	for v := range vecs {
		words := map[int]reg.VecVirtual{}
		for i, moves := range lists {
			if whole := moves[0]; whole.right == 0 && whole.mask == full { // pairs as they are
				e.planeWord(offset, p, whole.word, v, pairs[i][v])
				continue
			}
			e.selected(moves, e.loaded(words, offset, p, v, moves), masks, present(p), false, pairs[i][v], scratch)
		}
		e.scale(weight.Min, 0, v, e.weights[v])
	}
	for r := range e.rows {
		for i := range lists {
			e.VPBROADCASTD(Mem{Base: e.a, Disp: sums(r) + 4*i}, e.x)
			for v := range vecs {
				total := e.sums[r][v]
				if i == 0 {
					e.VPMADDWD(pairs[i][v], e.x, total)
				} else {
					e.VPMADDWD(pairs[i][v], e.x, e.y)
					e.VPADDD(e.y, total, total)
				}
			}
		}
		for v := range vecs {
			e.addTo(at(r, v).Offset(minsAt), e.sums[r][v], r, e.weights[v])
		}
	}
}

// columns calls f for each vector of results, with what stands for its row in dst and for its mask.
func (e *emitter) columns(f func(r, v int, dst Mem, mask reg.OpmaskVirtual)) {
	row := e.Load(e.Param("dst"), e.GP64())
	stride := e.Load(e.Param("stride"), e.GP64())
	masks := columnMasks(e.Context, vecs)
	for r := range e.rows {
		for v := range vecs {
			f(r, v, Mem{Base: row, Disp: line * v}, masks[v])
		}
		if r+1 < e.rows {
			e.ADDQ(stride, row)
		}
	}
}

// startWork zeroes the float sums, or goes on with those of an earlier call.
func (e *emitter) startWork(at func(r, v int) Mem, minsAt int) {
	accumulate := e.Load(e.Param("accumulate"), e.GP64())
	e.TESTQ(accumulate, accumulate)
	if e.Order == weight.TwoSums {
		e.JNZ(LabelRef("block"))
	} else {
		e.JNZ(LabelRef("resume"))
	}
	zero(e.Context, e.x)
	for r := range e.rows {
		for v := range vecs {
			e.VMOVUPS(e.x, at(r, v))
			if e.Order == weight.TwoSums {
				e.VMOVUPS(e.x, at(r, v).Offset(minsAt))
			}
		}
	}
	if e.Order == weight.TwoSums {
		return
	}
	e.JMP(LabelRef("block"))
	e.Label("resume")
	e.columns(func(r, v int, dst Mem, mask reg.OpmaskVirtual) {
		e.VMOVUPS_Z(dst, mask, e.x)
		e.VMOVUPS(e.x, at(r, v))
	})
}

// store writes the results: the float sums, less the second ones if there are two.
func (e *emitter) store(at func(r, v int) Mem, minsAt int) {
	e.columns(func(r, v int, dst Mem, mask reg.OpmaskVirtual) {
		e.VMOVUPS(at(r, v), e.x)
		if e.Order == weight.TwoSums {
			e.VSUBPS(at(r, v).Offset(minsAt), e.x, e.x)
		}
		e.VMOVUPS(e.x, mask, dst)
	})
	e.VZEROUPPER()
	e.RET()
}
