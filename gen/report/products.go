package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Ours is the build of products by our kernels, in a report of `mage blas`.
const Ours = "ours"

// rivals are those whose products r holds against ours.
func (r Report) rivals() []string {
	var names []string
	for _, x := range r.Results {
		if x.Quantity == SpeedOverOurs && !slices.Contains(names, x.Build) {
			names = append(names, x.Build)
		}
	}
	return names
}

// products is what `mage blas` found, a row for each matrix and number of tokens; nil where r has no results.
func (r Report) products() *grid {
	g := r.productGrid()
	if g == nil {
		return nil
	}
	g.Heads = append([]string{"weights", "tokens", "ours, GFLOP/s"}, r.rivals()...)
	for _, x := range r.Results {
		if x.Quantity != Product || x.Build != Ours {
			continue
		}
		row := []string{x.Model, strings.TrimSuffix(x.Case, " tokens"), fixed(x.Value)}
		of := ofModel(r.Results, x.Model)
		for _, who := range r.rivals() {
			ratio := of.find(func(y Result) bool { return y.Quantity == SpeedOverOurs && y.Case == x.Case && y.Build == who })
			if ratio == nil || ratio.Interval == nil {
				row = append(row, "")
				continue
			}
			row = append(row, hundredths(ratio.Value)+side(*ratio.Interval))
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// productsBrief has a row for each type and number of tokens.
func (r Report) productsBrief() *grid {
	g := r.productGrid()
	if g == nil {
		return nil
	}
	g.Heads = append([]string{"weights", "tokens", "matrices"}, r.rivals()...)
	g.Legend += " Medians of the matrices; in brackets in how many of them it is faster and slower."
	type kind struct{ weights, tokens string }
	kindOf := func(x Result) kind {
		weights, _, _ := strings.Cut(x.Model, " ")
		return kind{weights, x.Case}
	}
	var kinds []kind
	matrices := map[kind]int{}
	for _, x := range r.Results {
		if x.Quantity == Product && x.Build == Ours {
			if k := kindOf(x); matrices[k] == 0 {
				kinds = append(kinds, k)
			}
			matrices[kindOf(x)]++
		}
	}
	for _, k := range kinds {
		row := []string{k.weights, strings.TrimSuffix(k.tokens, " tokens"), fmt.Sprint(matrices[k])}
		for _, who := range r.rivals() {
			var ratios []float64
			count := map[string]int{}
			for _, x := range r.Results {
				if x.Quantity == SpeedOverOurs && x.Build == who && kindOf(x) == k {
					ratios = append(ratios, x.Value)
					if x.Interval != nil {
						count[side(*x.Interval)]++
					}
				}
			}
			if ratios == nil {
				row = append(row, "")
				continue
			}
			row = append(row, fmt.Sprintf("%s (%d, %d)", hundredths(statistics.Median(ratios)), count["+"], count["-"]))
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

func (r Report) productGrid() *grid {
	if len(r.Results) == 0 {
		return nil
	}
	return &grid{
		Made: r.made("blas") + "; " + r.rounds(),
		Legend: "Products of float weights with activations, in turn: speeds over ours; + faster, - slower, beyond the noise of 95 %. stock: tinyBLAS. slices: each of our " +
			"threads calls the library for a part of the weights; own threads: the library is called once and has as many. Making weights F32 counts.",
		Notes: slices.Clone(r.Environment.Notes),
	}
}

// side says on which side of 1 an interval of a ratio lies: nothing for both.
func side(in statistics.Interval) string {
	switch {
	case in.Low > 1:
		return "+"
	case in.High < 1:
		return "-"
	}
	return ""
}

// ProductsTable writes what `mage blas` found for a terminal, each product and then in brief.
func (r Report) ProductsTable(w io.Writer) error {
	g, brief := r.products(), r.productsBrief()
	if g == nil {
		return errors.New("nothing was measured")
	}
	if err := g.write(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return writeGrid(w, brief.Heads, brief.Rows)
}

// Markers around what ReadmeProducts writes.
const (
	productsBegin = "<!-- blas: `mage report:readme` writes what follows -->\n"
	productsEnd   = "<!-- blas end -->\n"
)

// ReadmeProducts returns text with what is between its markers replaced by the brief table of r, a report of `mage blas`.
func (r Report) ReadmeProducts(text string) (string, error) {
	g := r.productsBrief()
	if g == nil {
		return "", errors.New("the report has no product")
	}
	// Paths say nothing elsewhere.
	for i, note := range g.Notes {
		g.Notes[i], _, _ = strings.Cut(note, " (/")
	}
	return between(text, productsBegin, productsEnd, g.markdown(r.Environment.Target))
}
