package host

import (
	"math"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Abs(want) {
		t.Errorf("%s is %g, not %g", what, got, want)
	}
}

// TestRead holds bandwidths to what can be counted on fingers.
func TestRead(t *testing.T) {
	two := Host{Name: "two CCDs", Cores: 16, Clock: 4e9, Core: 30e9, Group: 8, Link: 50e9, Memory: 80e9}
	for _, c := range []struct {
		h    Host
		n    int
		want float64
	}{
		{two, 1, 30e9},
		{two, 2, 60e9}, // one on each link
		{two, 3, 75e9}, // two share a link, 25 each, and the third keeps their pace
		{two, 4, 80e9}, // all memory gives
		{two, 16, 80e9},
		{Host{Cores: 16, Core: 5e9, Memory: 80e9}, 15, 75e9},
		{Host{Cores: 16, Core: 5e9, Memory: 80e9}, 16, 80e9},
	} {
		near(t, "bytes a second", c.h.Read(c.n), c.want)
	}
	if n := two.Saturated(); n != 4 {
		t.Errorf("memory is saturated with %d cores, not 4", n)
	}
}

// TestTime holds predictions to times reckoned by hand.
func TestTime(t *testing.T) {
	h := Host{Name: "h", Cores: 4, Clock: 4e9, Core: 8e9, Memory: 16e9}
	// 16 bits take 2 bytes at 8 GB/s, 250 ps, on one core, and 125 ps on two and more, which get 16 GB/s. 64 cycles for 64 weights take 250 ps on one
	// core, 125 on two, 62.5 on four.
	k := Kernel{Name: "k", Bits: 16, Cycles: 64}
	for _, c := range []struct {
		n    int
		o    Overlap
		want float64
	}{
		{1, 1, 250e-12}, {2, 1, 125e-12}, {4, 1, 125e-12},
		{1, 0, 500e-12}, {4, 0, 187.5e-12}, {4, 0.5, 156.25e-12},
	} {
		near(t, "seconds for a weight", h.Time(k, c.n, c.o), c.want)
	}
	near(t, "the share of computing", h.Share(k, 4), 0.5)

	// 8 bits and 96 cycles: 375 ps of computing on one core, 187.5 on two, 93.75 on four, where 62.5 ps of reading are shorter still.
	small := Kernel{Name: "small", Bits: 8, Cycles: 96}
	near(t, "seconds for a small weight", h.Time(small, 4, 1), 93.75e-12)
	if n := h.Wins(small, k, 1); n != 3 { // on three it computes for 125 ps
		t.Errorf("the smaller code wins from %d cores on, not 3", n)
	}
	if n := h.Wins(k, small, 1); n != 0 {
		t.Errorf("the larger code wins from %d cores on, though not with all", n)
	}
	// Where 128 bytes arrive in the 24 ns that 96 cycles last.
	near(t, "the bandwidth where they are alike", Flip(small, k, 4e9), 128/24e-9)
	alike := Host{Name: "alike", Cores: 1, Clock: 4e9, Core: Flip(small, k, 4e9), Memory: 1e12}
	near(t, "the ratio there", alike.Time(small, 1, 1)/alike.Time(k, 1, 1), 1)
	if !math.IsInf(Flip(Kernel{Bits: 8, Cycles: 1}, k, 4e9), 1) {
		t.Error("a code with fewer bits and cycles loses somewhere")
	}
}

func TestHosts(t *testing.T) {
	for _, h := range Hosts {
		if err := h.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, h := range []Host{{Name: "nothing"}, {Name: "odd", Cores: 10, Clock: 1, Core: 1, Memory: 1, Group: 4, Link: 1}} {
		if h.Check() == nil {
			t.Errorf("%s is no host", h.Name)
		}
	}
}

// TestKernels finds a bound for every code of every domain on every CPU, and that escapes are not free.
func TestKernels(t *testing.T) {
	d, err := boundDots()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range Hosts {
		for _, domain := range []code.Domain{code.BF16, code.F32} {
			for _, c := range domain.Codes() {
				few, ok := d.kernel(h.CPU, domain, c, Size{Bits: 1})
				many, _ := d.kernel(h.CPU, domain, c, Size{Bits: 1, Flagged: 1})
				if !ok || few.Cycles <= 0 {
					t.Errorf("%s: no cycles for %v of %v", h.CPU, c, domain)
				}
				if more := many.Cycles > few.Cycles; more == c.Plain() {
					t.Errorf("%s: %v of %v takes %g cycles without escapes and %g with them", h.CPU, c, domain, few.Cycles, many.Cycles)
				}
			}
		}
	}
}
