// Package ports is a throughput model of kernels that needs no clock. It counts the instructions of a kernel's loop in the kernel's own
// IR and asks how few cycles the execution ports of a CPU could do them in.
//
// The answer is a bound: no kernel runs faster than its CPU's ports allow, and one that waits for memory, or for its own results, runs
// slower. What it says of a change to a kernel is exact, though, where a measurement on a shared machine says nothing below some percent.
// `mage tune` shows both side by side.
package ports

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// CPU is what the model knows of one. A port is a letter or a digit, a set of ports several: "01" is either of two.
type CPU struct {
	Name    string // of the column in a table
	Title   string
	Sources []string // of the ports
	Pipes   string   // what the vector pipes, whose names are digits, are called in the CPU's manuals
	// Dispatch is how many operations enter the core a cycle. An instruction counts as its operations other than loads and stores, or as
	// one if it has no others; moves between registers and zeroing idioms take part too, a branch that its flags' maker fuses with does not.
	Dispatch int
	// Vector is the bits that a pipe computes, Load and Store those that a port of theirs carries a cycle. What is wider takes it twice.
	Vector, Load, Store int
	Latency             int // of VPDPBUSD's sum, in cycles

	classes map[Class]string  // operations of a class
	opcodes map[string]string // operations of opcodes that differ from their class
}

// operations is n operations that each of ports can do.
type operations struct {
	n     int
	ports string
}

// parse reads operations as uops.info writes them, without the p: 1*05+2*5 is one for port 0 or 5 and two for port 5.
func parse(text string) []operations {
	var list []operations
	for part := range strings.SplitSeq(text, "+") {
		n, set, _ := strings.Cut(part, "*")
		count, err := strconv.Atoi(n)
		if err != nil || set == "" {
			panic("ports: operations " + text)
		}
		list = append(list, operations{count, set})
	}
	return list
}

// Bound is the least time that a CPU takes for something.
type Bound struct {
	Cycles float64
	Limit  string // what is busy in each of these cycles
}

// set is a set of ports, a bit for each.
type set uint64

func setOf(ports string) set {
	var s set
	for _, p := range []byte(ports) {
		s |= 1 << (p - '0')
	}
	return s
}

// least returns the least number of cycles in which ports can do what is demanded of each set of them, and the ports that are then never
// idle.
//
// Any ports have to do at least what no other port can. So a bound is, for each set of ports, the demands on its subsets over its size. The
// largest of these bounds is reached by some sharing out, with operations split at will: that is the theorem of maximal flow and
// minimal cut, in the form of Hall's. Only unions of demanded sets can be the largest.
func least(demands map[set]int) (cycles float64, busy set) {
	unions := map[set]bool{0: true}
	for s := range demands {
		for u := range unions {
			unions[u|s] = true
		}
	}
	delete(unions, 0)
	for u := range unions {
		work := 0
		for s, n := range demands {
			if s&^u == 0 {
				work += n
			}
		}
		size := bits.OnesCount64(uint64(u))
		c := float64(work) / float64(size)
		// Of sets that are as busy, the smallest and first is named.
		if order := cmp.Or(cmp.Compare(c, cycles), cmp.Compare(bits.OnesCount64(uint64(busy)), size), cmp.Compare(busy, u)); order > 0 {
			cycles, busy = c, u
		}
	}
	return cycles, busy
}

// Names of ports that are not vector pipes. Load ports beyond those for vectors serve scalars and prefetches.
const (
	loads, stores = "LMNO", "ST"
	scalars       = "abcdef"
	branches      = "jk"
	divider       = "D"
)

// describe names a set of ports.
func (c CPU) describe(s set) string {
	var pipes string
	var others []string
	for p := range 64 {
		if s>>p&1 == 0 {
			continue
		}
		port := string(rune('0' + p))
		name := ""
		switch {
		case strings.Contains(loads, port):
			name = "load"
		case strings.Contains(stores, port):
			name = "store"
		case strings.Contains(scalars, port):
			name = "scalar"
		case strings.Contains(branches, port):
			name = "branch"
		case strings.Contains(divider, port):
			name = "divide"
		default:
			pipes += port
		}
		if name != "" && !slices.Contains(others, name) {
			others = append(others, name)
		}
	}
	if pipes != "" {
		others = append([]string{c.Pipes + pipes}, others...)
	}
	return strings.Join(others, "+")
}

// Bound returns the least time that c takes for a round of a loop.
func (c CPU) Bound(l Loop) (Bound, error) {
	demands := map[set]int{}
	slots := 0
	for _, s := range l.Steps {
		operations, err := c.operations(s.form)
		if err != nil {
			return Bound{}, fmt.Errorf("%s: %w", l.Kernel, err)
		}
		n := 0
		for _, o := range operations {
			if o.ports[0] != loads[0] && o.ports[0] != stores[0] {
				n += o.n
			}
			demands[setOf(o.ports)] += o.n * c.passes(s.form, o) * s.Times
		}
		if !s.fused {
			slots += max(n, 1) * s.Times
		}
	}
	cycles, busy := least(demands)
	b := Bound{cycles, c.describe(busy)}
	if dispatch := float64(slots) / float64(c.Dispatch); dispatch > cycles {
		b = Bound{dispatch, "dispatch"}
	}
	return b, nil
}

// operations returns what the ports of c do for an instruction.
func (c CPU) operations(f form) ([]operations, error) {
	var list []operations
	text, ok := c.opcodes[f.opcode]
	if !ok {
		text, ok = c.classes[f.class]
	}
	switch {
	case f.class == None:
	case !ok:
		return nil, fmt.Errorf("%s has no ports for %s (%v)", c.Name, f.opcode, f.class)
	default:
		list = parse(text)
	}
	if f.load > 0 {
		ports := c.classes[VectorLoad]
		if f.scalar {
			ports = c.classes[ScalarLoad]
		}
		list = append(list, parse(ports)...)
	}
	if f.store > 0 {
		list = append(list, parse(c.classes[Store])...)
	}
	return list, nil
}

// passes returns how often an operation of an instruction takes its port.
func (c CPU) passes(f form, o operations) int {
	width, port := f.width, c.Vector
	switch o.ports[0] {
	case loads[0]:
		width, port = f.load, c.Load
	case stores[0]:
		width, port = f.store, c.Store
	}
	if width > port {
		return width / port
	}
	return 1
}

// Peak returns how many 512-bit VPDPBUSD c does a cycle.
func (c CPU) Peak() float64 {
	rate, err := c.rate(form{opcode: "VPDPBUSD", class: VNNI, width: 512})
	if err != nil {
		panic("ports: VPDPBUSD of " + c.Name)
	}
	return rate
}

// rate returns how many of an instruction c does a cycle if it does nothing else.
func (c CPU) rate(f form) (float64, error) {
	list, err := c.operations(f)
	if err != nil {
		return 0, err
	}
	demands := map[set]int{}
	for _, o := range list {
		demands[setOf(o.ports)] += o.n * c.passes(f, o)
	}
	cycles, _ := least(demands)
	return 1 / cycles, nil
}
