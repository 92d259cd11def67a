package report

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// types is what `mage types` found as a table: a line for each model.
type types struct {
	Made   string // where and of what
	Legend string // how to read it
	Heads  []string
	Rows   [][]string
	Notes  []string
}

// Shape is what names of models begin with where no shape stands in the table.
const shape = "1b-"

// typeColumns are the columns of types after the model and before the goal of the first.
var typeColumns = []struct {
	head     string
	of       func(Result) bool
	interval bool
}{
	{"bits/weight", func(x Result) bool { return x.Quantity == Bits }, false},
	{"stock pp512, t/s", func(x Result) bool { return x.Quantity == Speed && x.Case == "pp512" && x.Build == Stock }, false},
	{"tuned", func(x Result) bool { return x.Quantity == Speed && x.Case == "pp512" && x.Build == Tuned }, false},
	{"ratio [95 %]", func(x Result) bool { return x.Quantity == SpeedOverStock && x.Case == "pp512" }, true},
	{"tg32 ratio", func(x Result) bool { return x.Quantity == SpeedOverStock && x.Case == "tg32" }, false},
	{"% of read loop", func(x Result) bool { return x.Quantity == ReadShare }, false},
	{"n=4, x", func(x Result) bool { return x.Quantity == BatchGain && x.Case == "tg, 4 sequences" }, false},
	{"n=8, x", func(x Result) bool { return x.Quantity == BatchGain && x.Case == "tg, 8 sequences" }, false},
}

// types is the table of r, nil where r has no results.
func (r Report) types() *types {
	if len(r.Results) == 0 {
		return nil
	}
	e := r.Environment
	made := fmt.Sprintf("mage types of %s on %s, %d cores, %d threads; target %s, llama-zen-turbo %s", r.Date.UTC().Format("2006-01-02 15:04 UTC"), e.CPU, e.Cores, r.Threads, e.Target, e.Toolchain)
	for _, pin := range slices.Sorted(maps.Keys(e.Pins)) {
		made += ", " + pin
	}
	t := &types{
		Made: fmt.Sprintf("%s, %s; stock and tuned from the same pin, compiler and flags, in turn, %d rounds, medians.", made, e.Compiler, r.Rounds),
		Legend: "Synthetic models with every matrix of the type; where no shape is named, Llama 3.2 1B's. pp512: a prompt of 512 tokens. " +
			"tg32: 32 tokens generated. % of read loop: decode beside a plain read of as many bytes in the same process. n: t/s of so many sequences together " +
			"over t/s of one. Intervals go by the noise of all rows.",
		Notes: slices.Clone(e.Notes),
	}
	t.Heads = []string{"type"}
	for _, c := range typeColumns {
		t.Heads = append(t.Heads, c.head)
	}
	t.Heads = append(t.Heads, "goal")

	missed := false
	for _, model := range models(r.Results) {
		results := slices.DeleteFunc(slices.Clone(r.Results), func(x Result) bool { return x.Model != model })
		find := func(of func(Result) bool) *Result {
			if i := slices.IndexFunc(results, of); i >= 0 {
				return &results[i]
			}
			return nil
		}
		goal := func(x Result) *Result {
			return find(func(y Result) bool { return y.Quantity == Goal && y.Case == x.Case && y.Unit == x.Unit })
		}
		row := []string{strings.TrimPrefix(model, shape)}
		last := ""
		for _, c := range typeColumns {
			x := find(c.of)
			if x == nil {
				row = append(row, "")
				continue
			}
			text := fixed(x.Value)
			compared := x.Unit == "x" || x.Unit == "%"
			g := goal(*x)
			if compared && g != nil && x.Value < g.Value {
				text += "*"
				missed = true
			}
			if c.interval && x.Interval != nil {
				text += fmt.Sprintf(" [%s, %s]", fixed(x.Interval.Low), fixed(x.Interval.High))
				if g != nil {
					last = fixed(g.Value)
				}
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, append(row, last))
	}
	t.Legend += " " + r.goals()
	if missed {
		t.Legend += " * is below its goal."
	}
	return t
}

// goals says which there are beside those of the last column.
func (r Report) goals() string {
	var said []string
	for _, x := range r.Results {
		if x.Quantity != Goal || x.Case == "pp512" {
			continue
		}
		text := fmt.Sprintf("%s %s %s", Workload(x.Case), fixed(x.Value), x.Unit)
		if x.Unit == "%" {
			text += " of the read loop"
		} else if x.Case == "tg32" {
			text += " stock, for grid types"
		}
		if !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	list := "Goals, agreed for AMD: the last column's for pp512"
	if len(said) > 0 {
		list += "; " + strings.Join(said, "; ")
	}
	return list + "."
}

// TypesTable writes the table of a report of `mage types` for a terminal, and the gates that fail.
func (r Report) TypesTable(w io.Writer) error {
	t := r.types()
	if t == nil {
		return errors.New("no type was measured")
	}
	fmt.Fprintf(w, "\n%s\n%s\n\n", t.Made, t.Legend)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.Heads}, t.Rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, note := range t.Notes {
		fmt.Fprintln(w, note)
	}
	if err := r.writeFailed(w); err != nil {
		return err
	}
	return r.writeHeld(w)
}

// Markers around what ReadmeTypes writes.
const (
	typesBegin = "<!-- types: `mage report:readme` writes what follows -->\n"
	typesEnd   = "<!-- types end -->\n"
)

// ReadmeTypes returns text with what is between its markers replaced by the table of r, a report of `mage types`.
func (r Report) ReadmeTypes(text string) (string, error) {
	t := r.types()
	if t == nil {
		return "", errors.New("the report has no type")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\n", t.Made, t.Legend)
	if r.Environment.Target != "zen5" {
		b.WriteString(noZen5)
	}
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(&b, "| %s ", strings.ReplaceAll(cell(c), "*", `\*`))
		}
		b.WriteString("|\n")
	}
	line(t.Heads)
	b.WriteString(strings.Repeat("|---", len(t.Heads)) + "|\n")
	for _, row := range t.Rows {
		line(row)
	}
	return between(text, typesBegin, typesEnd, b.String())
}
