package report

import (
	"errors"
	"io"
	"slices"
)

// choices is what `mage flags` found, a row for each compiler choice; nil where r has no results.
func (r Report) choices() *grid {
	if len(r.Results) == 0 {
		return nil
	}
	g := &grid{
		Made:   r.made("flags") + "; " + r.rounds(),
		Legend: "The tuned build with another compiler choice over the default one, in turn; 95 % intervals. tg64: 64 tokens generated behind a prompt of 512, which is pp512.",
		Heads:  []string{"choice", "size, MiB"},
		Notes:  slices.Clone(r.Environment.Notes),
	}
	var names []string
	for _, x := range r.Results {
		if x.Model != "" && !slices.Contains(names, x.Model) {
			names = append(names, x.Model)
		}
	}
	workloads := []string{"tg64", "pp512"}
	for _, name := range names {
		for _, what := range workloads {
			g.Heads = append(g.Heads, name+" "+what)
		}
	}
	for _, x := range r.Results {
		if x.Quantity != Size {
			continue
		}
		row := []string{x.Build, fixed(x.Value)}
		for _, name := range names {
			for _, what := range workloads {
				ratio := ofModel(r.Results, name).find(func(y Result) bool { return y.Quantity == SpeedOverDefault && y.Build == x.Build && y.Case == what })
				if ratio == nil || ratio.Interval == nil {
					row = append(row, "")
					continue
				}
				in := ratio.Interval
				row = append(row, thousandths(ratio.Value)+" ["+thousandths(in.Low)+", "+thousandths(in.High)+"]"+side(*in))
			}
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// ChoicesTable writes what `mage flags` found for a terminal.
func (r Report) ChoicesTable(w io.Writer) error {
	g := r.choices()
	if g == nil {
		return errors.New("nothing was measured")
	}
	return g.write(w)
}

// Markers around what ReadmeChoices writes.
const (
	choicesBegin = "<!-- flags: `mage report:readme` writes what follows -->\n"
	choicesEnd   = "<!-- flags end -->\n"
)

// ReadmeChoices returns text with what is between its markers replaced by the table of r, a report of `mage flags`.
func (r Report) ReadmeChoices(text string) (string, error) {
	g := r.choices()
	if g == nil {
		return "", errors.New("the report has no compiler choice")
	}
	return between(text, choicesBegin, choicesEnd, g.markdown(r.Environment.Target))
}
