package program

import (
	"bytes"
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// wideGrid prepares for grids of 8 weights: the index of levels has the code in bits 0 and 1 and what lies beside it in bit 2.
func (e *expander) wideGrid(of func(code, bit int) int) {
	e.levels = e.table(func(i int) int { return of(i&3, i>>2&1) })
	e.beside = broadcast(e.Context, 0x03030303)
	for g := range quads / 2 {
		e.spreads = append(e.spreads, e.spread(func(i int) int { return 8*g + 2*i }))
	}
}

// index loads the indices into a grid of 8 weights, four to a run.
func (e *expander) index(v int) reg.VecVirtual {
	return e.load(e.ofRun(weight.Index, 4).Offset(line * v))
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
		low, high := e.lookUp(e.indices(e.index(v)))
		e.writeEights(v, low, high, beside(signs))
	})
}

func (e *expander) iq2xs() {
	e.planes(e.Grid.Planes())
	e.wideGrid(func(code, bit int) int { return sign(e.level(code), bit) })
	beside, even, one := e.signs(), e.even(1), broadcast(e.Context, 0x01010101)
	e.each(e.nibbleScales(), func(v int) {
		index := e.index(v)
		x := e.load(e.ofRun(weight.Signs, 4).Offset(line * v))
		low, high := e.lookUp(e.indices(index, e.test(one, x)))
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
		index := e.index(v)
		codes0, codes4 := e.lookUp(e.indices(index, e.test(low, x), e.test(high, x)))
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
	e.low = e.vectors(plane)
	firsts, seconds, froms := e.vectors(first[:]), e.vectors(second[:]), e.vectors(from[:])
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

		i := e.indices(index, e.test(bits[0], x), e.test(bits[1], x), e.test(bits[2], x))
		return e.find(e.low, i, len(i.bits)), high
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
		low, high := lookUp(e.index(v), x)
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
		low, high := lookUp(e.index(v), x)
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
	low, high := e.Grid.Planes()
	n := len(high) / 2
	for i := range n { // half bytes, those of entries that differ in the highest bit in one byte
		high[i] |= high[n+i] << 4
	}
	e.planes(low, high[:n])
	e.levels = e.table(func(i int) int { return sign(e.level(i>>2&3|i>>1&1<<2), i>>5) })
	e.beside = broadcast(e.Context, 0x0c0c0c0c)
	for b := range quads / 2 {
		e.spreads = append(e.spreads, e.spread(func(i int) int { return 8*b + 2*i - 2 }))
	}
}

// writeFours returns the emitter of a run's half of a grid of 4 weights: four vectors.
func (e *expander) writeFours() func(v, half int, i indices, signs reg.VecVirtual) {
	var thirds, nibbles []reg.VecVirtual
	for b := range quads / 2 {
		thirds = append(thirds, e.spread(func(i int) int { return 8*b + i - 1 }))
	}
	for half := range 2 { // those of 16 bits, each in the high half of a byte
		nibbles = append(nibbles, e.spread(func(i int) int { return 16*half + 4*i - 4 }))
	}
	lowNibbles := broadcast(e.Context, 0x0f0f0f0f)
	return func(v, half int, i indices, signs reg.VecVirtual) {
		top := len(i.bits) - 1
		low, high, others := e.find(e.low, i, top+1), e.find(e.high, i, top), e.ZMM()
		e.VPSRLW(U8(4), high, others)
		e.VMOVDQU8(others, i.bits[top], high)
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
			write(v, half, e.indices(index), signs)
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
			write(v, half, e.indices(index, e.test(ninth[half], x)), signs)
		}
	})
}

// tq1 looks bytes up: for the first four of their digits, 2 bits each, and for the fifth as it is written.
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
			e.prefetch(13)
			for v := range vecs {
				to := func(digit int) Mem { return Mem{Base: e.out, Disp: (part.dwords*digit*vecs + v) * line} }
				i := e.indices(e.load(Mem{Base: packed, Disp: line * v}))
				codes := e.find(e.low, i, 1)
				for digit := range 4 {
					x, from := e.ZMM(), codes
					if digit > 0 {
						e.VPSRLW(U8(2*digit), codes, x)
						from = x
					}
					e.VPERMB(e.levels, from, x)
					e.VMOVDQU64(x, to(digit))
				}
				if part.digits == 5 {
					e.VMOVDQU64(e.find(e.high, i, 1), to(4))
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
