// Package host predicts how fast a machine generates tokens from weights in one code or another, and so which code is the better default
// where it cannot be measured.
//
// Generating a token reads every weight once. All cores read at the same time, each its own part, and decode and multiply what arrives: the
// time is that of the bytes or that of the instructions, whichever is longer, as far as the two overlap. Caches are taken to be empty of
// weights, other work (attention, norms, waiting for each other) is left out.
package host

import (
	"fmt"
	"math"
)

// Host is a machine. Rates are bytes a second.
type Host struct {
	Name   string
	Source string // where the figures are from
	CPU    string // of gen/ports, whose ports the kernels run on
	Cores  int
	Clock  float64 // cycles a second with all cores busy
	Core   float64 // what one core can read by itself
	Group  int     // cores that share a link to memory: a CCD's; 0 where links are no limit
	Link   float64 // what a group can read
	Memory float64 // what all can read
}

// Read returns the bytes a second that n cores read together, spread evenly over the groups.
func (h Host) Read(n int) float64 {
	rate := min(float64(n)*h.Core, h.Memory)
	if h.Group == 0 {
		return rate
	}
	groups := h.Cores / h.Group
	// A core's share is the same everywhere, so the fullest group sets it.
	fullest := (n + groups - 1) / groups
	return min(rate, float64(n)*h.Link/float64(fullest))
}

// Kernel is a product with weights of a code.
type Kernel struct {
	Name   string
	Bits   float64 // that a weight takes in memory: with heads, escapes and directory
	Cycles float64 // of a core for 64 weights, if it waits for nothing
}

// Overlap is the part of the shorter of two times, for bytes and for instructions, that passes during the longer one. 1 is what a core that looks
// far enough ahead reaches, by its prefetchers or by instructions; 0 is one that reads, then decodes.
type Overlap float64

// Time returns the seconds for a weight on n cores.
func (h Host) Time(k Kernel, n int, o Overlap) float64 {
	bytes, cycles := h.bytes(k, n), h.cycles(k, n)
	return max(bytes, cycles) + float64(1-o)*min(bytes, cycles)
}

// bytes returns the seconds that the bytes of a weight take.
func (h Host) bytes(k Kernel, n int) float64 { return k.Bits / 8 / h.Read(n) }

// cycles returns the seconds that the instructions for a weight take.
func (h Host) cycles(k Kernel, n int) float64 { return k.Cycles / 64 / (float64(n) * h.Clock) }

// Share returns the part of the time for bytes that instructions take: where it is above 1, the kernel and not the memory sets the pace.
func (h Host) Share(k Kernel, n int) float64 { return h.cycles(k, n) / h.bytes(k, n) }

// Saturated returns the number of cores from which on more of them read no more.
func (h Host) Saturated() int {
	for n := 1; n < h.Cores; n++ {
		if h.Read(n) >= h.Read(h.Cores)*(1-1e-9) {
			return n
		}
	}
	return h.Cores
}

// Wins returns the fewest cores from which on, up to all, a is not slower than b, or 0 if it is slower on all cores.
func (h Host) Wins(a, b Kernel, o Overlap) int {
	least := 0
	for n := h.Cores; n > 0 && h.Time(a, n, o) <= h.Time(b, n, o)*(1+1e-9); n-- {
		least = n
	}
	return least
}

// Flip returns the read bandwidth of a core, in bytes a second, above which b is faster than a on a core of the clock, for overlap 1: what it takes for
// the cycles of a, the one with fewer bits, to become the limit and to take longer than all of b. It is infinite if a takes no more cycles.
func Flip(a, b Kernel, clock float64) float64 {
	if a.Cycles <= b.Cycles {
		return math.Inf(1)
	}
	// a's cycles against b's bytes: below, b waits longer for memory than a computes.
	return b.Bits / 8 * 64 * clock / a.Cycles
}

// Check says what is wrong with h.
func (h Host) Check() error {
	switch {
	case h.Cores < 1 || h.Clock <= 0 || h.Core <= 0 || h.Memory <= 0:
		return fmt.Errorf("%s: cores, clock and bandwidths must be above 0", h.Name)
	case h.Group != 0 && (h.Cores%h.Group != 0 || h.Link <= 0):
		return fmt.Errorf("%s: %d cores are no whole groups of %d with a link each", h.Name, h.Cores, h.Group)
	}
	return nil
}
