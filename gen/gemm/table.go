package gemm

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Table writes a line for each product: our speed, and the others' over ours. + is faster than ours and - slower, beyond the noise.
func Table(w io.Writer, r report.Report) error {
	var others []string
	for _, x := range r.Results {
		if x.Quantity == OverOurs && !slices.Contains(others, x.Build) {
			others = append(others, x.Build)
		}
	}
	type key struct{ model, tokens, who string }
	ratios := map[key]report.Result{}
	for _, x := range r.Results {
		if x.Quantity == OverOurs {
			ratios[key{x.Model, x.Case, x.Build}] = x
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "weights\ttokens\tours, GFLOP/s\t%s\t\n", strings.Join(others, "\t"))
	for _, x := range r.Results {
		if x.Quantity != Speed || x.Build != Ours {
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%.0f\t", x.Model, strings.TrimSuffix(x.Case, " tokens"), x.Value)
		for _, who := range others {
			ratio := ratios[key{x.Model, x.Case, who}]
			fmt.Fprintf(tw, "%.2f%s\t", ratio.Value, sign(*ratio.Interval))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nOver ours: + faster, - slower, beyond the noise of 95 %. In the middle of all products, and how many:")
	for _, who := range others {
		var values []float64
		faster, slower := 0, 0
		for k, x := range ratios {
			if k.who != who {
				continue
			}
			values = append(values, x.Value)
			switch sign(*x.Interval) {
			case "+":
				faster++
			case "-":
				slower++
			}
		}
		fmt.Fprintf(w, "%s: %.2f; faster in %d, slower in %d of %d\n", who, statistics.Median(values), faster, slower, len(values))
	}
	for _, note := range r.Environment.Notes {
		fmt.Fprintln(w, note)
	}
	return nil
}

// sign says on which side of 1 an interval lies: a blank for both.
func sign(in statistics.Interval) string {
	switch {
	case in.Low > 1:
		return "+"
	case in.High < 1:
		return "-"
	}
	return " "
}
