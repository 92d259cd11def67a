package entropy

import (
	"cmp"
	"math"
	"slices"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
)

// Law is how likely each 16-bit word of a code is among the weights of a panel.
type Law []float64

// Normal returns the law of words of a code for a panel whose rows hold Gaussian weights of the given deviations, rounded to the code's
// type.
func Normal(c code.Code, deviations ...float64) Law {
	return law(c, deviations, func(x float64) float64 { return math.Erf(x / math.Sqrt2) })
}

// Laplace is Normal for weights with the tails of a Laplace distribution: exponential ones, heavier than any that a trained model has.
func Laplace(c code.Code, deviations ...float64) Law {
	return law(c, deviations, func(x float64) float64 { return -math.Expm1(-x * math.Sqrt2) })
}

// law makes one of the probability that the size of a weight with a deviation of 1 is at most x.
func law(c code.Code, deviations []float64, within func(x float64) float64) Law {
	l := make(Law, 1<<16)
	magnitude := func(word int) float64 { return float64(math.Float32frombits(c.Widen(uint32(word)))) }
	for _, d := range deviations {
		below := 0.0 // the probability of everything that rounds to a smaller word
		for word := range 1 << 15 {
			next := magnitude(word + 1)
			if math.IsInf(next, 0) || math.IsNaN(next) {
				break
			}
			p := within((magnitude(word) + next) / 2 / d)
			for sign := range 2 {
				l[sign<<15|word] += (p - below) / 2 / float64(len(deviations))
			}
			below = p
		}
	}
	return l
}

// Rates are how likely a weight has the index of the mark, and how likely it has it for a byte that is rarer than the mark: blocks without such have
// no escapes.
type Rates struct{ Marked, Rare float64 }

// Flagged returns how likely a block has escapes.
func (r Rates) Flagged() float64 { return 1 - math.Pow(1-r.Rare, code.Rows*code.Cols) }

// Escapes returns how likely a weight is one.
func (r Rates) Escapes() float64 {
	others := 1 - math.Pow(1-r.Rare, code.Rows*code.Cols-1)
	return r.Rare + (r.Marked-r.Rare)*others
}

// Rates returns those of the palette that a code has for such a panel.
func (l Law) Rates(c code.Code) Rates {
	if c == code.B11 {
		return l.based(c.Entries())
	}
	return l.split(c.Entries(), 0)
}

// split returns the rates of a palette of so many high bytes, if a base is added to words first.
func (l Law) split(entries, base int) Rates {
	var high [256]float64
	for word, p := range l {
		high[(word+base)>>8&0xff] += p
	}
	return ratesOf(high[:], entries)
}

// ratesOf returns the rates of a palette of symbols of such probabilities.
func ratesOf(symbols []float64, entries int) (r Rates) {
	slices.SortFunc(symbols, func(a, b float64) int { return cmp.Compare(b, a) })
	for _, p := range symbols[entries:] {
		r.Rare += p
	}
	r.Marked = r.Rare + symbols[entries-1]
	return r
}

// based is split with the base that serves best, in steps of an eighth of a byte.
func (l Law) based(entries int) Rates {
	best := Rates{Marked: 1}
	for base := 0; base < 256; base += 32 {
		if r := l.split(entries, base); r.Marked < best.Marked {
			best = r
		}
	}
	return best
}

// exponents returns the rates of a palette of so many exponents of BF16.
func (l Law) exponents(entries int) Rates {
	var exponents [256]float64
	for word, p := range l {
		exponents[word>>7&0xff] += p
	}
	return ratesOf(exponents[:], entries)
}

// size returns the bytes of a panel of so many blocks and escapes, with its entry in the directory. Encoded panels are what it says.
func size(c code.Code, blocks, escapes int) int {
	head := 0
	if !c.Plain() {
		head = (c.PaletteBytes() + blocks + escapes + code.Line - 1) / code.Line * code.Line
	}
	return head + blocks*c.BlockBytes() + directory
}

// directory is the bytes that a coded tensor has of a panel besides it.
const directory = 8

// Bits returns the bits that a weight takes in a panel with rows of cols weights of which such a share escapes: blocks, head and directory. How many
// escape is binomial.
func Bits(c code.Code, cols int, escapes float64) float64 {
	weights, blocks := code.Rows*cols, (cols+code.Cols-1)/code.Cols
	return 8 / float64(weights) * expected(weights, escapes, func(n int) float64 { return float64(size(c, blocks, n)) })
}

// expected returns the mean of f of a number that is binomial of n and p.
func expected(n int, p float64, f func(int) float64) (mean float64) {
	if p == 0 {
		return f(0)
	}
	middle, far := float64(n)*p, 20+10*math.Sqrt(float64(n)*p)
	for k := max(0, int(middle-far)); k <= min(n, int(middle+far)); k++ {
		chance := lgamma(float64(n+1)) - lgamma(float64(k+1)) - lgamma(float64(n-k+1)) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
		mean += math.Exp(chance) * f(k)
	}
	return mean
}
