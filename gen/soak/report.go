package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Version is the version of the JSON layout below. It grows when a field changes its meaning or goes away.
const Version = 1

// Report is the content of soak.json.
type Report struct {
	Version     int                `json:"version"`
	Date        time.Time          `json:"date"`
	Environment report.Environment `json:"environment"`
	Program     string             `json:"program"` // SHA-256 of llama-server
	Model       string             `json:"model"`
	Exact       bool               `json:"exact"`   // short answers had to be the same to the bit
	Threads     int                `json:"threads"` // of the server in every second process; half of them in the others
	Clients     int                `json:"clients"`
	Slots       int                `json:"slots"`
	Seed        uint64             `json:"seed"` // of the schedule
	Planned     float64            `json:"planned_seconds"`
	Ran         float64            `json:"ran_seconds"`
	Interrupted bool               `json:"interrupted"` // it was ended from outside; the results are of what ran
	Requests    int                `json:"requests"`
	Answered    int                `json:"answered"`
	Cancelled   int                `json:"cancelled"` // by their clients
	Tokens      int                `json:"tokens"`    // of answers
	Processes   int                `json:"processes"`
	Reloads     int                `json:"reloads"`                // in processes that went on
	Faults      []string           `json:"faults,omitempty"`       // the first that were seen, in words
	Before      []Pool             `json:"pools_before,omitempty"` // of huge pages that are not empty
	After       []Pool             `json:"pools_after,omitempty"`
	Results     []report.Result    `json:"results"`
	Samples     []Sample           `json:"samples"` // in the order taken
}

// FileName is the name of a report in its folder.
const FileName = "soak.json"

func (s *soaker) report(program string, interrupted bool) Report {
	broken := interrupted || s.book.hopeless()
	r := Report{
		Version: Version, Date: s.Date, Environment: s.Environment, Program: program, Model: s.Name, Exact: s.Exact,
		Threads: s.Threads, Clients: clients, Slots: slots, Seed: s.Seed,
		Planned: s.Duration.Seconds(), Ran: time.Since(s.start).Seconds(), Interrupted: interrupted,
		Processes: s.lives, Reloads: s.reloads, Results: s.verdict(broken), Samples: s.samples,
		Before: s.before, After: s.after,
	}
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Requests, r.Answered, r.Cancelled, r.Tokens, r.Faults = b.requests, b.answered, b.cancelled, b.tokens, b.said
	return r
}

// Write writes r to FileName in dir, which it makes where it is missing. The file changes all at once or not at all.
func (r Report) Write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("soak report: %w", err)
	}
	return report.WriteFile(dir, FileName, append(text, '\n'))
}

// Read reads the report in dir. A report of another Version is an error.
func Read(dir string) (Report, error) {
	path := filepath.Join(dir, FileName)
	text, err := os.ReadFile(path)
	if err != nil {
		return Report{}, fmt.Errorf("%w; `mage soak` writes it", err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != Version {
		return Report{}, fmt.Errorf("%s has layout version %d and this program reads %d; run `mage soak` again", path, r.Version, Version)
	}
	return r, nil
}

// Failed returns the results whose bound was broken.
func (r Report) Failed() []report.Result { return report.Report{Results: r.Results}.Failed() }

// ForRelease is how long what is released must have soaked.
const ForRelease = 24 * time.Hour

// Doubt says why r does not prove that the llama-server whose SHA-256 is program may be released; "" if it does.
func (r Report) Doubt(program string) string {
	switch failed := r.Failed(); {
	case r.Program != program:
		return "the soak ran another llama-server"
	case len(failed) > 0:
		return fmt.Sprintf("the soak found %s of %s", failed[0].Quantity, report.Number(failed[0].Value))
	case r.Interrupted:
		return "the soak was interrupted"
	case r.Planned < ForRelease.Seconds():
		return fmt.Sprintf("the soak took %v, not %.0f hours", time.Duration(r.Planned*float64(time.Second)), ForRelease.Hours())
	}
	return ""
}

// Table writes r for a terminal: what ran, a line for each check, what was seen, and the verdict.
func (r Report) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d and %d threads, %d clients on %d slots, %v of %v\n", r.Environment.CPU, max(1, r.Threads/2), r.Threads, r.Clients, r.Slots,
		time.Duration(r.Ran*float64(time.Second)).Round(time.Second), time.Duration(r.Planned*float64(time.Second)).Round(time.Second))
	fmt.Fprintf(w, "%d requests, %d answered with %d tokens, %d cancelled; %d processes, %d reloads\n\n",
		r.Requests, r.Answered, r.Tokens, r.Cancelled, r.Processes, r.Reloads)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "check\tmeasured\t95 %\tbound\tverdict\t")
	for _, x := range r.Results {
		measured, interval, bound := report.Number(x.Value), "", ""
		if x.Unit != "" {
			measured += " " + x.Unit
		}
		if x.Interval != nil {
			interval = report.Number(x.Interval.Low) + " .. " + report.Number(x.Interval.High)
		}
		if x.Bound != nil {
			bound = string(x.Bound.Side) + " " + report.Number(x.Bound.Limit)
		}
		fmt.Fprintf(tw, "%s: %s\t%s\t%s\t%s\t%s\t%s\n", x.Case, x.Quantity, measured, interval, bound, x.Verdict, x.Note)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, seen := range r.Faults {
		fmt.Fprintln(w, "seen:", seen)
	}
	verdict := "nothing wears out"
	if n := len(r.Failed()); n > 0 {
		verdict = fmt.Sprintf("%d checks fail", n)
	}
	if r.Interrupted {
		verdict += ", as far as it ran: it was interrupted"
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}
