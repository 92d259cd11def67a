package program

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// q2k multiplies quants by their sub-scales with a table for each row and sub-block: 0, s, 2s and 3s, of four rows to 16 bytes, which one
// VPMULLD makes for 16 rows. Two sub-blocks are a run, and their scales and mins a word of each row.
func (e *expander) q2k() {
	const subs = 2 // of a run
	multiples := broadcast(e.Context, 0x03020100)
	nibble, lowBits := broadcast(e.Context, 15), broadcast(e.Context, 0x03030303)
	ofRow := e.vector(func(i int) byte { return byte(i / 4 % 4 * 4) })
	at, p := e.Plane(weight.Mins)
	mins := elements(p, weight.Mins)
	moves := gather([][]weight.Piece{mins[0], mins[1]}, 16)
	pairs := broadcast(e.Context, moves[0].mask|moves[1].mask)
	low := broadcast(e.Context, moves[0].mask)
	if len(moves) != 2 || moves[0].word != moves[1].word || p.Width != 2 || p.Spelling.Words != runs {
		panic("program: mins of " + e.Name)
	}

	e.each(nil, func(v int) {
		words := e.ZMM()
		e.VPMOVZXWD(Mem{Base: e.w, Disp: at + line/2*v, Index: e.at, Scale: 2}, words)
		var tables [subs]reg.VecVirtual
		for i := range tables {
			tables[i] = e.ZMM()
			from := words
			if i > 0 {
				e.VPSRLD(U8(8*i), words, tables[i])
				from = tables[i]
			}
			e.VPANDD(nibble, from, tables[i])
			e.VPMULLD(multiples, tables[i], tables[i])
		}
		first, second := e.ZMM(), e.ZMM()
		e.VPSRLD(U8(moves[0].right), words, first)
		e.VPSLLD(U8(-moves[1].right), words, second)
		e.VPTERNLOGD(U8(0xe4), low, second, first)
		e.VPANDD(pairs, first, first)
		to := e.wideAt(weight.Mins).Offset(line * v)
		to.Index, to.Scale = e.at, 4
		e.VMOVDQU64(first, to)

		// A vector of packed quants has those of two vectors of each half of the panel.
		for q := range quads {
			packed := e.ofRun(weight.Quants, 8).Offset(q / 2 * line)
			index := e.ZMM()
			if shift := 2 * (q%2*vecs + v); shift > 0 {
				e.VPSRLD(U8(shift), packed, index)
			} else {
				e.VMOVDQU64(packed, index)
			}
			e.VPTERNLOGD(U8(0xea), ofRow, lowBits, index)
			e.VPSHUFB(index, tables[subs*q/quads], index)
			e.VMOVDQU64(index, Mem{Base: e.out, Disp: (vecs*q + v) * line})
		}
	})
}
