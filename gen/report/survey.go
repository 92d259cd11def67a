package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// grid is a table for people, of a terminal, the page or the README.
type grid struct {
	Made   string // where and of what
	Legend string // how to read it
	Heads  []string
	Rows   [][]string
	Notes  []string
}

// made says when, where and of what `mage target` made r.
func (r Report) made(target string) string {
	e := r.Environment
	made := fmt.Sprintf("mage %s of %s on %s, %d cores, %d threads; target %s, llama-zen-turbo %s", target, r.Date.UTC().Format("2006-01-02 15:04 UTC"), e.CPU, e.Cores, r.Threads, e.Target, e.Toolchain)
	for _, pin := range slices.Sorted(maps.Keys(e.Pins)) {
		made += ", " + pin
	}
	return made + ", " + e.Compiler
}

// rounds says what values are of.
func (r Report) rounds() string { return fmt.Sprintf("%d rounds, medians.", r.Rounds) }

// write writes g for a terminal.
func (g *grid) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n%s\n\n", g.Made, g.Legend)
	if err := writeGrid(w, g.Heads, g.Rows); err != nil {
		return err
	}
	for _, note := range g.Notes {
		fmt.Fprintln(w, note)
	}
	return nil
}

// markdown is g with the warning that the machine was no Zen 5 where it was none.
func (g *grid) markdown(target string) string {
	text := fmt.Sprintf("%s\n\n%s\n\n", g.Made, g.Legend)
	if target != "zen5" {
		text += noZen5
	}
	text += markdownGrid(g.Heads, g.Rows)
	for _, note := range g.Notes {
		text += "\n" + cell(note) + "\n"
	}
	return text
}

func writeGrid(w io.Writer, heads []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heads}, rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

func markdownGrid(heads []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(&b, "| %s ", strings.ReplaceAll(cell(c), "*", `\*`))
		}
		b.WriteString("|\n")
	}
	line(heads)
	b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}
