package host

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
)

// comparisons are the columns of a host's table: models of a type in a code, and in the code that stores the type as it is.
var comparisons = []struct {
	title       string
	domain      code.Domain
	coded, asIs code.Code
}{
	{"BF16 in B12", code.BF16, code.B12, code.B16},
	{"BF16 in B11", code.BF16, code.B11, code.B16},
	{"F16 in H14", code.F32, code.H14, code.H16},
	{"F16 from BF16 in B12", code.F32, code.B12, code.H16},
	{"in B11", code.F32, code.B11, code.H16},
	{"F32 from BF16 in B12", code.F32, code.B12, code.S32},
	{"in B11", code.F32, code.B11, code.S32},
}

// Table writes what is predicted for Hosts, with weights of the given sizes by code, as Markdown: the kernels first, then a table for each host.
func Table(sizes map[code.Code]Size) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "| code | bits | blocks with escapes |")
	d, err := boundDots()
	if err != nil {
		return "", err
	}
	for _, c := range ports.CPUs {
		fmt.Fprintf(&b, " %s, bf16 | f32 |", c.Name)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|---|", len(ports.CPUs)) + "\n")
	for _, c := range code.Codes() {
		fmt.Fprintf(&b, "| %v | %.2f | %.0f %% |", c, sizes[c].Bits, 100*sizes[c].Flagged)
		for _, cpu := range ports.CPUs {
			for _, domain := range []code.Domain{code.BF16, code.F32} {
				if k, ok := d.kernel(cpu.Name, domain, c, sizes[c]); ok {
					fmt.Fprintf(&b, " %.1f |", k.Cycles)
				} else {
					b.WriteString(" |")
				}
			}
		}
		b.WriteString("\n")
	}
	for _, h := range Hosts {
		if err := h.Check(); err != nil {
			return "", err
		}
		h.table(&b, d, sizes)
	}
	return b.String(), nil
}

// table writes the table of a host.
func (h Host) table(b *strings.Builder, d dots, sizes map[code.Code]Size) {
	fmt.Fprintf(b, "\n%s: %s. %d cores at %.2g GHz.\n\n| cores | GB/s |", h.Name, h.Source, h.Cores, h.Clock/giga)
	for _, c := range comparisons {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString(" B11 computes |\n|---|---|" + strings.Repeat("---|", len(comparisons)+1) + "\n")
	b12, _ := d.kernel(h.CPU, code.BF16, code.B12, sizes[code.B12])
	b11, _ := d.kernel(h.CPU, code.BF16, code.B11, sizes[code.B11])
	for _, n := range slices.Compact([]int{1, h.Saturated(), h.Cores}) {
		fmt.Fprintf(b, "| %d | %.0f |", n, h.Read(n)/giga)
		for _, c := range comparisons {
			coded, _ := d.kernel(h.CPU, c.domain, c.coded, sizes[c.coded])
			asIs, _ := d.kernel(h.CPU, c.domain, c.asIs, sizes[c.asIs])
			fmt.Fprintf(b, " %.2f |", h.Time(asIs, n, 1)/h.Time(coded, n, 1))
		}
		fmt.Fprintf(b, " %.0f %% |\n", 100*h.Share(b11, n))
	}
	fmt.Fprintf(b, "\nMemory is saturated with %d cores. ", h.Saturated())
	switch n := h.Wins(b11, b12, 1); n {
	case 0:
		b.WriteString("B12 is faster than B11 with all of them")
	case 1:
		b.WriteString("B11 is the faster code of BF16 with any number of them")
	default:
		fmt.Fprintf(b, "B11 is the faster code of BF16 from %d on", n)
	}
	if flip := Flip(b11, b12, h.Clock); !math.IsInf(flip, 0) {
		fmt.Fprintf(b, "; B12 would be where a core reads more than %.0f GB/s", flip/giga)
	}
	fmt.Fprintf(b, ". With all cores B11 is %.3f times as fast as B12, and %.3f times if reading and computing took turns.\n",
		h.Time(b12, h.Cores, 1)/h.Time(b11, h.Cores, 1), h.Time(b12, h.Cores, 0)/h.Time(b11, h.Cores, 0))
}
