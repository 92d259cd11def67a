package entropy

import "math"

// counts is a histogram of symbols below a number.
type counts []int

// total returns how many symbols were counted.
func (c counts) total() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

func lgamma(x float64) float64 { y, _ := math.Lgamma(x); return y }

// information returns the bits that an adaptive coder takes for all that was counted: one that starts knowing nothing but how many symbols there
// are, and learns (Krichevsky and Trofimov, "The performance of universal encoding", 1981). So a finite sample does not look more orderly
// than what it comes from, as it would if its own frequencies were taken for known.
func (c counts) information() float64 {
	n, k := float64(c.total()), float64(len(c))
	nats := lgamma(n+k/2) - lgamma(k/2)
	for _, k := range c {
		if k > 0 {
			nats -= lgamma(float64(k)+0.5) - lgamma(0.5)
		}
	}
	return nats * math.Log2E
}

// known returns the bits for a coder that knows the frequencies beforehand.
func (c counts) known() (bits float64) {
	n := float64(c.total())
	for _, k := range c {
		if k > 0 {
			bits += float64(k) * math.Log2(n/float64(k))
		}
	}
	return bits
}

// per is bits over symbols, 0 for none of them.
func per(bits float64, symbols int) float64 {
	if symbols == 0 {
		return 0
	}
	return bits / float64(symbols)
}

// entropy returns the bits for a symbol.
func (c counts) entropy() float64 { return per(c.information(), c.total()) }

// cell is how often a symbol was counted.
type cell struct{ symbol, n int32 }

// joint is histograms of symbols by what was known before each of them.
type joint struct {
	marginal counts
	by       [][]cell // contexts that are complete
	open     []counts // others; nil where nothing was counted
}

func newJoint(contexts, symbols int) *joint {
	return &joint{marginal: make(counts, symbols), open: make([]counts, contexts)}
}

func (j *joint) add(context, symbol int) {
	if j.open[context] == nil {
		j.open[context] = make(counts, len(j.marginal))
	}
	j.open[context][symbol]++
	j.marginal[symbol]++
}

// end completes all contexts: what is added next is in others.
func (j *joint) end() {
	for context, c := range j.open {
		if c == nil {
			continue
		}
		var cells []cell
		for symbol, n := range c {
			if n > 0 {
				cells = append(cells, cell{int32(symbol), int32(n)})
			}
		}
		j.by = append(j.by, cells)
		j.open[context] = nil
	}
}

// entropy returns the bits for a symbol of an adaptive coder that knows its context. It learns how frequent symbols are on the whole, expects
// the same in every context as if it had seen some symbols there already, and goes by what it sees. How many is what serves best: with many,
// a context that says nothing costs nothing; with few, one that says much is learned at once.
func (j *joint) entropy() float64 {
	j.end()
	n := j.marginal.total()
	if n == 0 {
		return 0
	}
	best := math.Inf(1)
	prior := make([]float64, len(j.marginal))
	base := make([]float64, len(prior)) // lgamma of prior
	for seen := 1.0; seen <= 1<<20; seen *= 4 {
		for symbol, k := range j.marginal {
			if k > 0 {
				prior[symbol] = seen * float64(k) / float64(n)
				base[symbol] = lgamma(prior[symbol])
			}
		}
		nats := 0.0
		for _, cells := range j.by {
			total := 0.0
			for _, c := range cells {
				total += float64(c.n)
				nats -= lgamma(float64(c.n)+prior[c.symbol]) - base[c.symbol]
			}
			nats += lgamma(total+seen) - lgamma(seen)
		}
		best = min(best, nats*math.Log2E)
	}
	return per(best+j.marginal.information()-j.marginal.known(), n)
}
