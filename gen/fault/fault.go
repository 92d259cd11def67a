// Package fault puts the programs of a build through what goes wrong on a machine: no huge pages, no memory, kills, broken and changing
// model files, full disks. Each scenario has one outcome that a user would expect: it works, with a fallback that is said, or it ends
// with a line that says why and an exit status other than 0. Never a wrong answer, a crash, or a program that hangs, and
// nothing left behind: no process, no file, no page of the huge page pool.
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Options says what to put through the faults.
type Options struct {
	Stock, Tuned string // folders of programs: zt-probe, llama-completion, llama-server
	Tests        string // folder of the tuned build's PreloadTests
	Model        string // a Q8_0 model of the tiny shape
	Floats       string // a BF16 one of the tiny64 shape
	Date         time.Time
	Environment  report.Environment // what report.Host cannot know
}

var programs = []string{"zt-probe", "llama-completion", "llama-server"}

// Skip is the verdict on a scenario that this machine cannot stage.
const Skip report.Verdict = "skip"

// Outcome is what became of a scenario.
type Outcome struct {
	Scenario string         `json:"scenario"`
	Expected string         `json:"expected"`
	Got      string         `json:"got"` // what happened, or why it was skipped
	Verdict  report.Verdict `json:"verdict"`
	Seconds  float64        `json:"seconds"`
}

// Version is the version of the JSON layout below. It grows when a field changes its meaning or goes away.
const Version = 1

// Report is the content of faults.json.
type Report struct {
	Version     int                `json:"version"`
	Date        time.Time          `json:"date"`
	Environment report.Environment `json:"environment"`
	Outcomes    []Outcome          `json:"outcomes"`
}

// FileName is the name of a report in its folder.
const FileName = "faults.json"

// Write writes r to FileName in dir, which it makes where it is missing. The file changes all at once or not at all.
func (r Report) Write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return report.WriteFile(dir, FileName, append(text, '\n'))
}

// Table writes r for a terminal.
func (r Report) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "scenario\texpected\tgot\tverdict")
	for _, o := range r.Outcomes {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.Scenario, o.Expected, o.Got, o.Verdict)
	}
	return tw.Flush()
}

// failure is the error for a report with failed scenarios: one line that names each of them.
func (r Report) failure() error {
	var failed []string
	for _, o := range r.Outcomes {
		if o.Verdict == report.Fail {
			failed = append(failed, o.Scenario+": "+o.Got)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d fault scenarios fail: %s", len(failed), len(r.Outcomes), strings.Join(failed, "; "))
}

// scenario is one fault and its expected outcome. run returns what happened where that is the expected outcome; its error is a failure,
// or a skipped.
type scenario struct {
	name, expected string
	run            func(context.Context, *lab) (got string, err error)
}

// lab is where scenarios run.
type lab struct {
	machine
	stock, tuned program.Build
	tests        program.Build
	model        string
	floats       string
	models       string // folder of altered models
	work         string // where programs run; nothing may stay there
	limit        time.Duration

	need    int // pages of the pool that the model takes, once it is known
	running []*process
	answers map[string]string // by what gave them
}

// limit is how long a program may take before it counts as hung. The longest takes a second or two on an idle machine.
const limit = 60 * time.Second

// Run puts o's programs through every scenario. The report is returned even with an error: failed scenarios, or a run that could not
// go on.
func Run(ctx context.Context, log *progress.Log, o Options) (Report, error) {
	r := Report{Version: Version, Date: o.Date, Environment: report.Host()}
	r.Environment.Target, r.Environment.Compiler, r.Environment.BLAS = o.Environment.Target, o.Environment.Compiler, o.Environment.BLAS
	r.Environment.Pins, r.Environment.Toolchain = o.Environment.Pins, o.Environment.Toolchain
	l := &lab{
		machine: thisMachine(),
		stock:   program.Build{Name: "stock", Bin: o.Stock},
		tuned:   program.Build{Name: "tuned", Bin: o.Tuned},
		tests:   program.Build{Name: "tests", Bin: o.Tests},
		model:   o.Model,
		floats:  o.Floats,
		limit:   limit,
	}
	for _, b := range []program.Build{l.stock, l.tuned} {
		if err := b.Check(programs...); err != nil {
			return r, err
		}
	}
	if err := errors.Join(l.tuned.Check(preloaded), l.tests.Check(preloadTests)); err != nil {
		return r, err
	}
	var err error
	r.Outcomes, err = l.all(ctx, log, slices.Concat(pageScenarios, memoryScenarios, shareScenarios, killScenarios, corruptScenarios, fileScenarios, diskScenarios, preloadScenarios))
	if err == nil {
		err = r.failure()
	}
	return r, err
}

// all runs scenarios in a folder of its own.
func (l *lab) all(ctx context.Context, log *progress.Log, scenarios []scenario) (outcomes []Outcome, err error) {
	dir, err := os.MkdirTemp("", "zt-fault-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l.models, l.work, l.answers = filepath.Join(dir, "models"), filepath.Join(dir, "work"), map[string]string{}
	if err := errors.Join(os.Mkdir(l.models, 0o755), os.Mkdir(l.work, 0o755)); err != nil {
		return nil, err
	}
	return outcomes, log.Step(ctx, "faults", func(ctx context.Context, s *progress.Step) error {
		count := map[report.Verdict]int{}
		for i, sc := range scenarios {
			s.Count(i, len(scenarios), sc.name)
			start := time.Now()
			got, err := l.one(ctx, sc)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			o := Outcome{Scenario: sc.name, Expected: sc.expected, Got: got, Verdict: report.Pass, Seconds: time.Since(start).Seconds()}
			if reason := skipped(""); errors.As(err, &reason) {
				o.Verdict, o.Got = Skip, err.Error()
			} else if err != nil {
				o.Verdict, o.Got = report.Fail, err.Error()
			}
			count[o.Verdict]++
			outcomes = append(outcomes, o)
		}
		s.Did("%d scenarios: %d pass, %d fail, %d skipped", len(scenarios), count[report.Pass], count[report.Fail], count[Skip])
		return nil
	})
}

// one runs a scenario and sees to it that nothing of it stays.
func (l *lab) one(ctx context.Context, sc scenario) (string, error) {
	before, err := l.pool.read()
	if err != nil {
		return "", err
	}
	got, err := sc.run(ctx, l)
	var left []string
	for _, p := range l.running {
		if !p.ended() && err == nil {
			left = append(left, fmt.Sprintf("still running: %s", p.call))
		}
	}
	l.stopAll()
	entries, readErr := os.ReadDir(l.work)
	for _, e := range entries {
		left = append(left, "left a file behind: "+e.Name())
		readErr = errors.Join(readErr, os.RemoveAll(filepath.Join(l.work, e.Name())))
	}
	altered, _ := os.ReadDir(l.models)
	for _, e := range altered {
		readErr = errors.Join(readErr, os.Remove(filepath.Join(l.models, e.Name())))
	}
	if err == nil && left != nil {
		err = errors.New(strings.Join(left, "; "))
	}
	if err == nil {
		err = l.settled(ctx, before)
	}
	if err == nil {
		err = readErr
	}
	return got, err
}

const (
	prompt       = "Once upon a time"
	answerTokens = 16
)

// threads that programs compute with. Packing has its own, one for each CPU; more of ggml's would only spin on a busy machine.
const threads = "1"

// completion is the call that answers the prompt from a model.
func (l *lab) completion(model string) call {
	return call{build: l.tuned, name: "llama-completion", args: []string{
		"-m", model, "-t", threads, "-c", "512", "-p", prompt, "-n", fmt.Sprint(answerTokens), "--temp", "0", "--ignore-eos", "-no-cnv",
	}}
}

// greedy is the call that prints greedy tokens as JSON lines, in a program that starts no thread of its own but those of ggml.
func (l *lab) greedy(model string) call {
	return call{build: l.tuned, name: "zt-probe", args: []string{"greedy", "-m", model, "-t", "1", "-n", fmt.Sprint(answerTokens)}}
}

// load is the call that loads a model, decodes a token and says what memory that took.
func (l *lab) load(model string) call {
	return call{build: l.tuned, name: "zt-probe", args: []string{"load", "-m", model, "-t", threads}}
}

// service is the call of a server for a model.
func (l *lab) service(model string) call {
	return call{build: l.tuned, name: "llama-server", args: []string{"-m", model, "-t", threads, "-c", "4096", "-np", "1"}}
}

// answer returns what c prints when nothing is wrong.
func (l *lab) answer(ctx context.Context, c call) (string, error) {
	key := c.String()
	if a, ok := l.answers[key]; ok {
		return a, nil
	}
	e, err := l.run(ctx, c)
	if err == nil {
		err = e.failed()
	}
	if err == nil && len(strings.Fields(e.stdout)) < answerTokens/2 {
		err = fmt.Errorf("no answer but %q: %s", e.stdout, c)
	}
	if err != nil {
		return "", err
	}
	l.answers[key] = e.stdout
	return e.stdout, nil
}

// answered is nil if e ended well and printed what healthy does.
func (l *lab) answered(ctx context.Context, e end, healthy call) error {
	if err := e.failed(); err != nil {
		return err
	}
	want, err := l.answer(ctx, healthy)
	if err != nil {
		return err
	}
	return same(e.call, e.stdout, want)
}

func same(c call, got, want string) error {
	if got != want {
		return fmt.Errorf("wrong answer %q, not %q: %s", got, want, c)
	}
	return nil
}

// serverAnswer is what a server answers when nothing is wrong.
func (l *lab) serverAnswer(ctx context.Context, c call) (answer string, err error) {
	key := c.String()
	if a, ok := l.answers[key]; ok {
		return a, nil
	}
	s, err := l.serve(ctx, c, 0)
	if err != nil {
		return "", err
	}
	if answer, err = s.answer(ctx); err != nil {
		return "", err
	}
	e, err := s.stop(ctx)
	if err == nil {
		err = e.failed()
	}
	l.answers[key] = answer
	return answer, err
}
