package entropy

import (
	"cmp"
	"math/bits"
	"slices"
)

// fixed is what the symbols of a part take in the best fixed-width code that AVX-512 could unpack in a few instructions: in a panel, indices of equal
// width into a palette of the panel's most frequent symbols, the last index for all others, whose bytes follow in a list; bits that
// are zero in the whole panel left out. A panel for which that does not pay keeps its symbols as they are.
//
// It is an estimate in favour of the code: nothing is rounded up to whole vectors but the palette to whole bytes.
type fixed struct {
	width  int // bits of a symbol, 8 at most
	counts     // of the panel at hand
	bits   int // of all panels before
}

func newFixed(width int) *fixed { return &fixed{width: width, counts: make(counts, 1<<width)} }

// end closes a panel.
func (f *fixed) end() {
	f.bits += f.best()
	clear(f.counts)
}

// best returns the bits of the panel at hand.
func (f *fixed) best() int {
	n, used := f.total(), 0
	for symbol, k := range f.counts {
		if k > 0 {
			used |= symbol
		}
	}
	best := n * f.width
	if used == 0 {
		return 0
	}
	best = min(best, n*(bits.Len(uint(used))-bits.TrailingZeros(uint(used))))
	sorted := slices.SortedFunc(slices.Values(f.counts), func(a, b int) int { return cmp.Compare(b, a) })
	for width := 1; width < f.width; width++ {
		escapes := n
		for _, k := range sorted[:1<<width-1] {
			escapes -= k
		}
		best = min(best, n*width+8*escapes+8<<width)
	}
	return best
}
