package report

import (
	"errors"
	"fmt"
	"strings"
)

// Markers around what Readme writes.
const (
	readmeBegin = "<!-- ratios: `mage report:readme` writes what follows -->\n"
	readmeEnd   = "<!-- ratios end -->\n"
)

// Readme returns text with what is between its markers replaced by the ratios of r.
func (r Report) Readme(text string) (string, error) {
	table, err := r.markdown()
	if err != nil {
		return "", err
	}
	return between(text, readmeBegin, readmeEnd, table)
}

// between returns text with what is between two of its lines replaced.
func between(text, begin, end, new string) (string, error) {
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("the lines %q and %q are not in it", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + new + end + after, nil
}

// noZen5 stands below the machine where it is none.
const noZen5 = "This was no Zen 5: take the figures for what they are and repeat them on yours.\n\n"

// markdown is where and how r was measured, and its ratios to stock.
func (r Report) markdown() (string, error) {
	p := page{Report: r}
	speeds := p.ours(SpeedOverStock)
	if len(speeds) == 0 {
		return "", errors.New("the report has no speed: the run was of accuracy alone")
	}
	e := r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "`mage verify` of %s on %s, %d cores, %d threads; target `%s`, %s; stock and tuned from the same pin, compiler and\n"+
		"flags, in turn, %d rounds, medians with a 95 %% interval.\n\n", r.Date.UTC().Format("2006-01-02"), e.CPU, e.Cores, r.Threads, e.Target, e.Compiler, r.Rounds)
	if e.Target != "zen5" {
		b.WriteString(noZen5)
	}
	b.WriteString("| model | workload | tuned / stock | 95 % interval |\n|---|---|---|---|\n")
	for _, x := range append(speeds, p.ours(MemoryOverStock)...) {
		what, print := Workload(x.Case), fixed
		if x.Quantity == MemoryOverStock {
			what, print = "resident memory, "+x.Case, Number // which differs little
		}
		between := ""
		if x.Interval != nil {
			between = print(x.Interval.Low) + " .. " + print(x.Interval.High)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(x.Model), cell(what), print(x.Value), between)
	}
	shares := p.ofBuilds(func(x Result) bool { return x.Quantity == ReadShare })
	if shares != nil {
		b.WriteString("\n")
		for _, row := range shares.Rows {
			if stock, tuned := row.Cells[0], row.Cells[1]; stock != nil && tuned != nil {
				fmt.Fprintf(&b, "%s, %s: %s %% of a plain read loop, stock %s %%.\n", cell(row.Model), cell(Workload(row.Case)), fixed(tuned.Value), fixed(stock.Value))
			}
		}
	}
	return b.String(), nil
}

// cell is s in a table of Markdown.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s) }
