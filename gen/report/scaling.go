package report

import (
	"errors"
	"io"
	"slices"
	"strconv"
)

// threads is the case of a result of `mage scaling` without its number of threads, and the number; 0 for any other.
func threads(x Result) (string, int) {
	m := limitCase.FindStringSubmatch(x.Case)
	if m == nil {
		return x.Case, 0
	}
	n, _ := strconv.Atoi(m[2])
	return m[1], n
}

// scaling is what `mage scaling` found, a row for each model and number of threads; nil where r has no results.
func (r Report) scaling() *grid {
	if len(r.Results) == 0 {
		return nil
	}
	g := &grid{
		Made: r.made("scaling") + "; " + r.rounds(),
		Legend: "stock and tuned with so many threads, in turn. tg64: 64 tokens generated; pp512: a prompt of 512. % of read loop: generation beside a plain read of as many bytes by as many threads. " +
			"waiting: share of the threads' time at barriers in generation, of tuned with barriers and parts of work as upstream has them, and as they are.",
		Heads: []string{"model", "threads", "stock tg64, t/s", "tuned", "ratio [95 %]", "% of read loop, stock", "tuned", "waiting, %", "stock pp512, t/s", "tuned", "ratio [95 %]"},
		Notes: slices.Clone(r.Environment.Notes),
	}
	for _, model := range models(r.Results) {
		of := ofModel(r.Results, model)
		var counts []int
		for _, x := range of {
			if _, n := threads(x); n > 0 && !slices.Contains(counts, n) {
				counts = append(counts, n)
			}
		}
		slices.Sort(counts)
		for _, n := range counts {
			find := func(quantity, what, build string) *Result {
				return of.find(func(x Result) bool {
					name, threads := threads(x)
					return threads == n && name == what && x.Quantity == quantity && x.Build == build
				})
			}
			value := func(quantity, what, build string) string {
				if x := find(quantity, what, build); x != nil {
					return fixed(x.Value)
				}
				return ""
			}
			ratio := func(what string) string {
				x := find(SpeedOverStock, what, "")
				if x == nil || x.Interval == nil {
					return ""
				}
				return hundredths(x.Value) + " [" + hundredths(x.Interval.Low) + ", " + hundredths(x.Interval.High) + "]"
			}
			waiting := value(Waits, "tg64", Before)
			if now := value(Waits, "tg64", Tuned); now != "" {
				waiting += " -> " + now
			}
			g.Rows = append(g.Rows, []string{
				model, strconv.Itoa(n), value(Speed, "tg64", Stock), value(Speed, "tg64", Tuned), ratio("tg64"),
				value(ReadShare, "tg64", Stock), value(ReadShare, "tg64", Tuned), waiting,
				value(Speed, "pp512", Stock), value(Speed, "pp512", Tuned), ratio("pp512"),
			})
		}
	}
	return g
}

// ScalingTable writes what `mage scaling` found for a terminal.
func (r Report) ScalingTable(w io.Writer) error {
	g := r.scaling()
	if g == nil {
		return errors.New("nothing was measured")
	}
	return g.write(w)
}

// Markers around what ReadmeScaling writes.
const (
	scalingBegin = "<!-- scaling: `mage report:readme` writes what follows -->\n"
	scalingEnd   = "<!-- scaling end -->\n"
)

// ReadmeScaling returns text with what is between its markers replaced by the table of r, a report of `mage scaling`.
func (r Report) ReadmeScaling(text string) (string, error) {
	g := r.scaling()
	if g == nil {
		return "", errors.New("the report has no thread count")
	}
	g.Notes = nil
	return between(text, scalingBegin, scalingEnd, g.markdown(r.Environment.Target))
}
