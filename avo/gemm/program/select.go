package program

import (
	"slices"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// full is a dword any bit of which may be set.
const full uint32 = 1<<32 - 1

// move takes bits of the dwords of a vector elsewhere: all right, or left if that is negative, by so many places to mask.
type move struct {
	word, right int
	mask        uint32
}

// gather returns the moves that bring values to bits at, at+every, at+2*every ... of a dword, pieces that go the same way together.
func gather(values [][]weight.Piece, every int) []move {
	var moves []move
	for i, value := range values {
		to := i * every
		for _, p := range value {
			m := move{p.Word, p.Shift - to, (1<<p.Bits - 1) << to}
			to += p.Bits
			same := slices.IndexFunc(moves, func(o move) bool { return o.word == m.word && o.right == m.right })
			if same < 0 {
				moves = append(moves, m)
			} else {
				moves[same].mask |= m.mask
			}
		}
	}
	return moves
}

// everyByte returns moves of one byte as those of the four bytes of a dword.
func everyByte(moves []move) []move {
	for i := range moves {
		moves[i].mask *= 0x01010101
	}
	return moves
}

// dirty reports whether bits beside what the moves bring can be set, if those of present can in the words.
func dirty(moves []move, present uint32) bool {
	m := moves[len(moves)-1] // selections before it left its other bits
	var mask uint32
	for _, o := range moves {
		mask |= o.mask
	}
	if m.right < 0 {
		return present<<-m.right&^mask != 0
	}
	return present>>m.right&^mask != 0
}

// needed returns the masks that these moves take. anyway: what lies beside the moved bits may stay.
func needed(moves []move, anyway bool, present uint32) []uint32 {
	var masks []uint32
	var have uint32
	for i, m := range moves {
		if i > 0 {
			masks = append(masks, have)
		}
		have |= m.mask
	}
	if !anyway && dirty(moves, present) {
		masks = append(masks, have)
	}
	return masks
}

// broadcastMasks loads the masks that some lists of moves take. anyway: what lies beside the moved bits may stay.
func (e *emitter) broadcastMasks(lists [][]move, anyway bool, present uint32) map[uint32]reg.VecVirtual {
	masks := map[uint32]reg.VecVirtual{}
	for _, moves := range lists {
		for _, m := range needed(moves, anyway, present) {
			if _, ok := masks[m]; !ok {
				masks[m] = broadcast(e.Context, m)
			}
		}
	}
	return masks
}

// selected emits moves from words in registers or memory to a vector. What lies beside the moved bits is cleared, unless anyway.
func (e *emitter) selected(moves []move, word func(int) Op, masks map[uint32]reg.VecVirtual, present uint32, anyway bool, to, scratch reg.VecVirtual) {
	list := needed(moves, anyway, present)
	if len(moves) == 1 && moves[0].right == 0 && len(list) == 1 {
		e.VPANDD(word(moves[0].word), masks[list[0]], to)
		return
	}
	for i, m := range moves {
		part := to
		if i > 0 {
			part = scratch
		}
		switch from := word(m.word); {
		case m.right > 0:
			e.VPSRLD(U8(m.right), from, part)
		case m.right < 0:
			e.VPSLLD(U8(-m.right), from, part)
		default:
			e.VMOVDQU64(from, part)
		}
		if i > 0 { // bits of the mask stay, the others come from the part
			e.VPTERNLOGD(U8(0xe4), masks[list[i-1]], part, to)
		}
	}
	if len(list) == len(moves) {
		e.VPANDD(masks[list[len(list)-1]], to, to)
	}
}
