package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// types is what `mage types` found as a table: a line for each model.
type types struct {
	Made   string // where and of what
	Legend string // how to read it
	Heads  []string
	Rows   [][]string
	Floats *floats // nil where there are none
	Notes  []string
}

// floats are its models of float weights, which have goals of their own.
type floats struct {
	Legend string
	Heads  []string
	Rows   [][]string
}

// floatColumns are the columns of floats after the model. Those with a goal are followed by it.
var floatColumns = []struct {
	head string
	of   func(Result) bool
	goal bool
}{
	{"bits/weight read", func(x Result) bool { return x.Quantity == Bits && x.Build == Tuned }, true},
	{"tg32, x stock", func(x Result) bool { return x.Quantity == SpeedOverStock && x.Case == "tg32" }, true},
	{"pp512, x stock", func(x Result) bool { return x.Quantity == SpeedOverStock && x.Case == "pp512" }, true},
	{"memory, x stock", func(x Result) bool { return x.Quantity == MemoryOverStock }, true},
	{"% of read loop", func(x Result) bool { return x.Quantity == ReadShare }, false},
	{"n=4, x", func(x Result) bool { return x.Quantity == BatchGain && x.Case == "tg, 4 sequences" }, false},
	{"n=8, x", func(x Result) bool { return x.Quantity == BatchGain && x.Case == "tg, 8 sequences" }, false},
}

// floats is the table of results' models of float weights, nil if there is none: those of which it was measured what is read of a weight.
func (r Report) floats() *floats {
	f := &floats{Heads: []string{"weights"}, Legend: "Float weights, coded without loss; f16-of-bf16: F16 that hold BF16 numbers; @12: with ZT_CODE=12; " +
		"trained: with the scatter of a trained model's rows and columns. bits/weight read: of what a generated token reads. memory: resident after a first token. * misses its goal."}
	for _, c := range floatColumns {
		f.Heads = append(f.Heads, c.head)
		if c.goal {
			f.Heads = append(f.Heads, "goal")
		}
	}
	for _, model := range models(r.Results) {
		of := ofModel(r.Results, model)
		if !of.float() {
			continue
		}
		row := []string{strings.TrimPrefix(model, shape)}
		for _, c := range floatColumns {
			value, wanted := "", ""
			if x := of.find(c.of); x != nil {
				value = fixed(x.Value)
				if x.Quantity == Bits {
					value = hundredths(x.Value)
				}
				missed := false
				if g, b := of.goal(*x), x.Bound; g != nil {
					wanted, missed = ">= "+fixed(g.Value), x.Value < g.Value
				} else if b != nil && b.Side == AtMost {
					wanted, missed = "<= "+fixed(b.Limit), x.Value > b.Limit
				} else if b != nil {
					wanted, missed = ">= "+fixed(b.Limit), x.Value < b.Limit
				}
				if missed {
					value += "*"
				}
				if x.Interval != nil && c.goal {
					value += fmt.Sprintf(" [%s, %s]", fixed(x.Interval.Low), fixed(x.Interval.High))
				}
			}
			row = append(row, value)
			if c.goal {
				row = append(row, wanted)
			}
		}
		f.Rows = append(f.Rows, row)
	}
	if f.Rows == nil {
		return nil
	}
	return f
}

// hundredths is a number of bits: three digits would hide what palettes and directories take.
func hundredths(bits float64) string { return strconv.FormatFloat(bits, 'f', 2, 64) }

func thousandths(ratio float64) string { return strconv.FormatFloat(ratio, 'f', 3, 64) }

// modelResults are those of one model.
type modelResults []Result

func ofModel(results []Result, model string) modelResults {
	return slices.DeleteFunc(slices.Clone(results), func(x Result) bool { return x.Model != model })
}

func (m modelResults) find(of func(Result) bool) *Result {
	if i := slices.IndexFunc(m, of); i >= 0 {
		return &m[i]
	}
	return nil
}

// goal is what x is to reach, nil for nothing.
func (m modelResults) goal(x Result) *Result {
	return m.find(func(y Result) bool { return y.Quantity == Goal && y.Case == x.Case && y.Unit == x.Unit })
}

// float says whether the model is one of float weights.
func (m modelResults) float() bool { return m.find(floatColumns[0].of) != nil }

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
	t := &types{
		Made: r.made("types") + "; stock and tuned from the same pin, compiler and flags, in turn, " + r.rounds(),
		Legend: "Synthetic models with every matrix of the type; where no shape is named, Llama 3.2 1B's. pp512: a prompt of 512 tokens. " +
			"tg32: 32 tokens generated. % of read loop: decode beside a plain read of as many bytes in the same process. n: t/s of so many sequences together " +
			"over t/s of one. Intervals go by the noise of all rows.",
		Floats: r.floats(),
		Notes:  slices.Clone(r.Environment.Notes),
	}
	t.Heads = []string{"type"}
	for _, c := range typeColumns {
		t.Heads = append(t.Heads, c.head)
	}
	t.Heads = append(t.Heads, "goal")

	missed := false
	for _, model := range models(r.Results) {
		of := ofModel(r.Results, model)
		if of.float() {
			continue
		}
		row := []string{strings.TrimPrefix(model, shape)}
		last := ""
		for _, c := range typeColumns {
			x := of.find(c.of)
			if x == nil {
				row = append(row, "")
				continue
			}
			text := fixed(x.Value)
			compared := x.Unit == "x" || x.Unit == "%"
			g := of.goal(*x)
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
		if x.Quantity != Goal || x.Case == "pp512" || ofModel(r.Results, x.Model).float() {
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
	if len(t.Rows) > 0 {
		if err := writeGrid(w, t.Heads, t.Rows); err != nil {
			return err
		}
	}
	if f := t.Floats; f != nil {
		fmt.Fprintf(w, "\n%s\n\n", f.Legend)
		if err := writeGrid(w, f.Heads, f.Rows); err != nil {
			return err
		}
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
	if len(t.Rows) > 0 {
		b.WriteString(markdownGrid(t.Heads, t.Rows))
	}
	if f := t.Floats; f != nil {
		fmt.Fprintf(&b, "\n%s\n\n", f.Legend)
		b.WriteString(markdownGrid(f.Heads, f.Rows))
	}
	return between(text, typesBegin, typesEnd, b.String())
}
