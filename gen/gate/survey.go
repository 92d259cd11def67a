package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// surveyOptions are what Types, Features and Scaling have in common.
type surveyOptions struct {
	stock, tuned    string
	threads, rounds int
	date            time.Time
	environment     report.Environment
	vendor          string
}

// newSurvey is a verifier that measures speeds of the two builds in many cases.
func newSurvey(w workspace.Workspace, part string, o surveyOptions) (*verifier, error) {
	if o.threads == 0 {
		o.threads = runtime.NumCPU()
	}
	if o.rounds == 0 {
		o.rounds = MinTypeRounds
	}
	if o.vendor == "" {
		o.vendor = target.Host().Vendor
	}
	v := &verifier{
		Options: Options{SpeedOnly: true, Threads: o.threads, Rounds: o.rounds, Date: o.date, Environment: environment(o.environment), vendor: o.vendor},
		stock:   program.Build{Name: "stock", Bin: o.stock}, tuned: program.Build{Name: "tuned", Bin: o.tuned}, part: part,
	}
	v.Environment.Programs = map[string]map[string]string{}
	for _, b := range []program.Build{v.stock, v.tuned} {
		if err := b.Check(programs...); err != nil {
			return nil, err
		}
		var err error
		if v.Environment.Programs[b.Name], err = sums(b.Bin, programs); err != nil {
			return nil, err
		}
	}
	return v, os.MkdirAll(w.Report(), 0o755)
}

// unmeasured begins a note of a measurement that failed.
const unmeasured = "not measured: "

// finish writes what a survey found as name, with what an earlier run found of other things where only some were asked for; of tells things apart.
func (v *verifier) finish(w workspace.Workspace, some bool, name string, of func(report.Result) string) (report.Report, error) {
	err := finite(v.results)
	if err != nil {
		return report.Report{}, err
	}
	r := report.Report{Version: report.Version, Date: v.Date, Environment: v.Environment, Threads: v.Threads, Rounds: v.Rounds, Results: v.results}
	if some {
		old, err := report.ReadSurvey(w.Report(), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		if err == nil {
			r = kept(old, r, of)
		}
	}
	if err := r.WriteSurvey(w.Report(), name); err != nil {
		return r, err
	}
	if err := v.journal.Remove(); err != nil {
		return r, err
	}
	var missing []string
	for _, note := range v.Environment.Notes {
		if what, ok := strings.CutPrefix(note, unmeasured); ok {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		err = fmt.Errorf("%d measurements failed: %s", len(missing), strings.Join(missing, "; "))
	}
	return r, errors.Join(err, failure(r))
}
