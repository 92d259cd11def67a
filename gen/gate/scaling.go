package gate

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// ScalingOptions says what Scaling measures.
type ScalingOptions struct {
	Stock, Tuned string // folders of the programs of the two builds
	Models       []FeatureModel
	Threads      []int // numbers of threads, rising
	Rounds       int   // turns of each measurement; 0: MinTypeRounds

	Date        time.Time
	Environment report.Environment

	// For tests, as in Options.
	vendor    string
	unwatched bool
}

// ThreadCounts returns the numbers of threads that tell how a machine with n CPUs scales: 1, 2, powers of two and one and a half of them, and n.
func ThreadCounts(n int) []int {
	counts := []int{1}
	for i := 2; i < n; i *= 2 {
		counts = append(counts, i)
		if more := i * 3 / 2; i > 2 && more < n {
			counts = append(counts, more)
		}
	}
	if n > 1 {
		counts = append(counts, n)
	}
	return counts
}

// upstreamsWay has the tuned build meet at every barrier, and share work, as upstream's code does.
var upstreamsWay = []string{"ZT_GRAPH=0", "ZT_BARRIER=flat", "ZT_STEAL=0", "ZT_AHEAD=off"}

// Scaling measures stock and tuned with each number of threads in turn, and what the threads of the tuned one wait at barriers as they are and
// as upstream has them, writes the report to w.Report() as report.ScalingName and returns it. What fails and what is resumed is as with
// Features.
func Scaling(ctx context.Context, w workspace.Workspace, log *progress.Log, o ScalingOptions) (report.Report, error) {
	most := o.Threads[len(o.Threads)-1]
	v, err := newSurvey(w, "scaling", surveyOptions{
		stock: o.Stock, tuned: o.Tuned, threads: most, rounds: o.Rounds, date: o.Date, environment: o.Environment, vendor: o.vendor,
	})
	if err != nil {
		return report.Report{}, err
	}
	v.weights = append(v.weights, fmt.Sprintf("%v threads", o.Threads))
	if err := v.named(o.Models); err != nil {
		return report.Report{}, err
	}
	if err := v.resume(ctx, log, w.Journal("scaling")); err != nil {
		return report.Report{}, err
	}
	defer v.journal.Close()
	var found []pending
	var failed []string
	for _, m := range o.Models {
		for _, n := range o.Threads {
			err := log.Step(ctx, "scaling", func(ctx context.Context, s *progress.Step) error {
				test, err := v.scalingTest(ctx, m, n)
				if err != nil {
					return err
				}
				session := &throughput.Session{Name: fmt.Sprintf("%s, %s, ", m.Name, threadText(n)), Threads: n, Least: v.Rounds, Most: v.Rounds,
					Journal: v.journal, Unwatched: o.unwatched, Count: s.Count}
				all, err := session.Run(ctx, []throughput.Test{test})
				if err != nil {
					return err
				}
				v.said(Model{Name: fmt.Sprintf("%s, %s", m.Name, threadText(n))}, all[0])
				for _, x := range test.Subjects {
					if why := all[0].Missing(x.Name); why != "" {
						failed = append(failed, fmt.Sprintf("%s, %s, %s: %s", m.Name, threadText(n), x.Name, why))
					}
				}
				more := scalingFindings(m, n, all[0])
				found = append(found, more...)
				s.Did("%s, %s: %d measurements", m.Name, threadText(n), len(more))
				return nil
			})
			if err != nil {
				return report.Report{}, err
			}
		}
	}
	v.judgePooled(found)
	for _, f := range failed {
		v.note(unmeasured + f)
	}
	return v.finish(w, false, report.ScalingName, nil)
}

// threadText is "1 thread" or "2 threads".
func threadText(n int) string {
	if n == 1 {
		return "1 thread"
	}
	return fmt.Sprintf("%d threads", n)
}

// scalingTest has the builds generate and read a prompt with n threads of m.
func (v *verifier) scalingTest(ctx context.Context, m FeatureModel, n int) (throughput.Test, error) {
	setup := throughput.Setup{Stock: v.stock, Model: m.Path, Threads: n}
	pace, err := journal.Do(ctx, v.journal, fmt.Sprintf("%s, %s, pace", m.Name, threadText(n)), func(ctx context.Context) (float64, error) {
		return setup.MeasurePace(ctx)
	})
	if err != nil {
		return throughput.Test{}, err
	}
	setup.Pace = pace
	at := &verifier{Options: Options{Threads: n}}
	subject := func(name string, b program.Build, beside bool) throughput.Subject {
		speeds := setup.Alone(name, b)
		return throughput.Subject{Name: name, Peer: true, Measure: func(ctx context.Context) (map[string]float64, error) {
			found, err := speeds.Measure(ctx)
			if err != nil || !beside {
				return found, err
			}
			read, err := at.besideRead(name, b, m.Path).Measure(ctx)
			maps.Copy(found, read)
			return found, err
		}}
	}
	return throughput.Test{Name: "threads", Cases: throughput.AloneCases(), Fixed: true, Subjects: []throughput.Subject{
		subject(report.Stock, v.stock, true), subject(report.Tuned, v.tuned, true), subject(report.Before, v.tuned.With(upstreamsWay...), false),
	}}, nil
}

// scalingFindings are what the series of n threads found.
func scalingFindings(m FeatureModel, n int, series throughput.Series) []pending {
	var found []pending
	add := func(g Gate, what string, x Measurement) {
		if len(x.Samples) >= MinTypeRounds {
			found = append(found, pending{Gate: g, model: m.Name, what: what + ", " + threadText(n), Measurement: x})
		}
	}
	for _, c := range throughput.AloneCases() {
		for _, build := range []string{report.Stock, report.Tuned, report.Before} {
			add(tokensPerSecond, c.Name, Measurement{Samples: series.Values(build, c.Name), Build: build})
		}
		if own, err := series.Compare(report.Stock, report.Tuned, c.Name); err == nil {
			add(Gate{Quantity: report.SpeedOverStock, Unit: "x"}, c.Name, Measurement{Samples: own.Ratios, Same: own.Same})
		}
	}
	for _, build := range []string{report.Stock, report.Tuned, report.Before} {
		add(tgOfRead.only(), alone, Measurement{Samples: series.Values(build, readPercent), Build: build})
		add(waits, alone, Measurement{Samples: series.Values(build, throughput.Waits), Build: build})
		add(barriers, alone, Measurement{Samples: series.Values(build, throughput.Barriers), Build: build})
	}
	return found
}
