package tune

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	roofline "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
)

// Table writes for a terminal what the kernels took.
func (r Result) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "type\trows\tbound\tmeasured\t95 % interval\tbound / measured\tbusy\t")
	for _, k := range r.Kernels {
		rows := fmt.Sprint(k.Row.Rows)
		switch {
		case k.Op == kernel.Peak:
			rows = k.Name
		case k.Op == kernel.Expand:
			rows = "expanded"
		case k.Ahead:
			rows += ", prefetching"
		}
		i := k.Cycles.Interval()
		fmt.Fprintf(tw, "%s\t%s\t%.1f\t%.1f\t%.1f .. %.1f\t%s\t%s\t\n", k.Type, rows, r.bound(k), k.Cycles.Median(), i.Low, i.High,
			percent(r.bound(k)/k.Cycles.Median()), k.Bounds[r.CPU].Limit)
	}
	fmt.Fprintln(tw)
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "Cycles for a block of a panel, in the L2 cache, of %g VPDPBUSD each; the median of %d. busy is what the bound says never to idle.\n",
		ports.CPUs[r.CPU].Peak(), kernelRounds)
	return err
}

func (r Result) bound(k Kernel) float64 { return k.Bounds[r.CPU].Cycles }

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

// Write writes r as a page of tables, which is committed for its target.
func (r Result) Write(w io.Writer) error {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	c := ports.CPUs[r.CPU]
	p("# Choices for %s\n\nWritten by `mage tune` on %s, load average %.1f before.\n\n", r.Target.Name, r.Host, r.Load)
	p("The unit is the cycle in which a kernel of nothing but VPDPBUSD starts %g of them, measured in turns with everything else (`gen/tune`): of one thread, in\n"+
		"the time that it had of a CPU. Ranges are 95 %% intervals of the median of %d measurements of kernels and %d of products.\n",
		c.Peak(), kernelRounds, matrixRounds)

	p("\n## Kernels\n\nCycles for a block of a panel: the bound that `gen/ports/bounds.md` has for `%s`, what was measured, and the share that the bound is of\n"+
		"it. %d KiB of weights, in rows of %d, lie in the L2 cache, from where few rows of large weights have to wait for them.\n", c.Name, panels(r.Target)>>10, along)
	r.kernelTable(&b, "without prefetching", func(k Kernel) bool { return k.Op == kernel.GEMM && !k.Ahead })
	r.kernelTable(&b, "prefetching", func(k Kernel) bool { return k.Op == kernel.GEMM && k.Ahead })
	r.kernelTable(&b, "expanding", func(k Kernel) bool { return k.Op == kernel.Expand })

	r.kernelTable(&b, fmt.Sprintf("%d VPDPBUSD and as many VPMULLD", roofline.PeakChains), func(k Kernel) bool { return k.Op == kernel.Peak })

	p("\n## Rows of a tile\n\nShare of the peak that products reach with tiles of so many rows. `gen/target` has %d x %d.\n", r.Target.Tile.Rows, r.Target.Tile.Cols)
	r.choices(&b, r.Rows, func(c Choice) string { return fmt.Sprintf("%d rows", c.Tile) })
	p("\n## Part of the L2 cache\n\nShare of the peak where the weights that meet all rows before the next do fill so much of the %d KiB. The runtime has %g.\n",
		r.Target.L2>>10, usual)
	r.choices(&b, r.L2, func(c Choice) string { return fmt.Sprintf("%g", c.L2) })
	_, err := io.WriteString(w, b.String())
	return err
}

// kernelTable writes a table of some kernels, if there are any: a row for each type and a column for each number of activation rows.
func (r Result) kernelTable(b *strings.Builder, title string, which func(Kernel) bool) {
	var types []string // a kernel that has none counts by its name
	cells := map[string][]string{}
	titles := []string{title}
	for _, k := range r.Kernels {
		if !which(k) {
			continue
		}
		t := k.Type
		if t == "" {
			t = k.Name
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
		i := k.Cycles.Interval()
		cells[t] = append(cells[t], fmt.Sprintf("%.1f; %.1f (%.1f .. %.1f); %s", r.bound(k), k.Cycles.Median(), i.Low, i.High, percent(r.bound(k)/k.Cycles.Median())))
		if n := len(cells[t]); n == len(titles) {
			column := fmt.Sprintf("%d rows", k.Row.Rows)
			if k.Op != kernel.GEMM {
				column = "bound; measured; share"
			}
			titles = append(titles, column)
		}
	}
	if types == nil {
		return
	}
	b.WriteString("\n")
	table(b, titles, func(row func(cells ...string)) {
		for _, t := range types {
			row(append([]string{t}, cells[t]...)...)
		}
	})
}

// choices writes a table for each shape: a row for each type and a column for each choice.
func (r Result) choices(b *strings.Builder, choices []Choice, title func(Choice) string) {
	for len(choices) > 0 {
		shape := choices[0].Shape
		n := 0
		for n < len(choices) && choices[n].Shape == shape {
			n++
		}
		fmt.Fprintf(b, "\n%s: %d x %d weights by %d rows\n\n", shape.Name, shape.Cols, shape.K, shape.N)
		titles := []string{"type"}
		for _, c := range choices[:n] {
			if c.Type == choices[0].Type {
				titles = append(titles, title(c))
			}
		}
		table(b, titles, func(row func(cells ...string)) {
			for i := 0; i < n; i += len(titles) - 1 {
				cells := []string{choices[i].Type}
				for _, c := range choices[i:][:len(titles)-1] {
					v := c.Share.Interval()
					cells = append(cells, fmt.Sprintf("%.1f %% (%.1f .. %.1f)", 100*c.Share.Median(), 100*v.Low, 100*v.High))
				}
				row(cells...)
			}
		})
		choices = choices[n:]
	}
}

func table(b *strings.Builder, titles []string, fill func(row func(cells ...string))) {
	row := func(cells ...string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	row(titles...)
	b.WriteString("|" + strings.Repeat("---|", len(titles)) + "\n")
	fill(row)
}
