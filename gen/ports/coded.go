package ports

import (
	"fmt"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	dot "github.com/llama-zen-turbo/llama-zen-turbo/avo/dot/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// CodedRows bounds the kernels of coded float weights. Those of codes with escapes go one of two ways through a block: they have two rows,
// the second named "with escapes".
func CodedRows() ([]Row, error) {
	without, with := dot.Paths()
	paths := map[string]kernel.Program{}
	for _, p := range with {
		paths[p.Name] = p
	}
	var programs []kernel.Program
	var names []string
	for _, p := range dot.Programs() {
		if _, ok := paths[p.Name]; !ok {
			programs, names = append(programs, p), append(names, p.Name)
			continue
		}
		programs, without = append(programs, without[0], paths[p.Name]), without[1:]
		names = append(names, p.Name, p.Name+escaped)
	}
	// Each by itself, since the two ways have a name in common.
	var rows []Row
	for i, p := range programs {
		row, err := Rows([]kernel.Program{p})
		if err != nil {
			return nil, err
		}
		row[0].Name = names[i]
		rows = append(rows, row[0])
	}
	return rows, nil
}

const escaped = " with escapes"

// Coded returns the code of the weights that a kernel multiplies or expands, and whether they are coded ones.
func (r Row) Coded() (c code.Code, ok bool) {
	name, _ := strings.CutSuffix(r.Type, dot.FMA)
	for _, d := range []code.Domain{code.BF16, code.F32} {
		for _, c := range d.Codes() {
			if name == dot.Type(d, c) {
				return c, true
			}
		}
	}
	return 0, false
}

// products returns the instruction by which a kernel of coded weights multiplies.
func (r Row) products() form {
	if strings.HasPrefix(r.Type, code.BF16.String()) && !strings.HasSuffix(r.Type, dot.FMA) {
		return form{opcode: "VDPBF16PS", class: Multiply, width: 512}
	}
	return form{opcode: "VFMADD231PS", class: Multiply, width: 512}
}

// CodedShare returns the part of CPU i's peak of its instruction for products that a kernel of coded weights can reach.
func (r Row) CodedShare(i int) (float64, error) {
	peak, err := CPUs[i].rate(r.products())
	return float64(r.Count(Multiply)) / peak / r.Bounds[i].Cycles, err
}

const codeText = "\nFloat weights as they are stored coded (`avo/code/DESIGN.md`). Least cycles for a block of 4 x 128 weights, bytes of the block a cycle, and what is\n" +
	"busy: with a row of activations, where no block has escapes and where all do; to expand it; and products of 6 rows by plain panels, as a share of\n" +
	"what the CPU's instruction for them can do. A branch tells the two ways apart, whose mispredictions no port is busy with.\n"

// writeCodes writes what there is to say of kernels of coded weights.
func writeCodes(b *strings.Builder, rows []Row) error {
	b.WriteString("\n## Codes\n" + codeText + "\n")
	titles := []string{"kernel"}
	for _, c := range CPUs {
		titles = append(titles, c.Name, "bytes", "busy")
	}
	line(b, titles...)
	rule(b, len(titles))
	for _, r := range rows {
		c, ok := r.Coded()
		if !ok || r.Op == kernel.Tile {
			continue
		}
		cells := []string{r.Name}
		for _, bound := range r.Bounds {
			cells = append(cells, cycles(bound), fmt.Sprintf("%.0f", float64(c.BlockBytes())/bound.Cycles), bound.Limit)
		}
		line(b, cells...)
	}

	titles = []string{"\nkernel"}
	for _, c := range CPUs {
		titles = append(titles, c.Name, "share", "busy")
	}
	line(b, titles...)
	rule(b, len(titles))
	for _, r := range rows {
		c, ok := r.Coded()
		if !ok || !c.Plain() || r.Op != kernel.Tile || r.Rows != dot.Rows {
			continue
		}
		cells := []string{r.Name}
		for i, bound := range r.Bounds {
			share, err := r.CodedShare(i)
			if err != nil {
				return err
			}
			cells = append(cells, cycles(bound), percent(share), bound.Limit)
		}
		line(b, cells...)
	}
	return nil
}
