package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Feature is one thing that the runtime does and that the environment turns off. It is measured by runs of one build that differ in nothing
// but that.
type Feature struct {
	Name    string // in ZT_FEATURES and the report
	Text    string // what it does, in a few words
	Off, On []string
	Default bool // it is on where the environment says nothing

	Halves   []string // begin the names of models on which it must halve what threads wait
	Stock    bool     // on stock's programs instead of the tuned ones
	Defaults bool     // with llama.cpp's own choice of threads, which is what the feature changes
	Args     []string // of zt-probe
	Second   bool     // another process with the same switches holds the model meanwhile
	Models   []string // that it is measured on; nil: all that are not Special

	// Lacks says what the machine lacks to show it, "" for nothing; nil: any machine does.
	Lacks func(Machine) string
}

// Machine is what features ask of a machine.
type Machine struct {
	Nodes  int   // of memory
	Caches int   // L3 caches, each of which some CPUs share
	SMT    bool  // cores have several CPUs
	Pool   int64 // free bytes in the pool of 2 MiB pages
	Giant  int64 // and in that of 1 GiB pages
}

// ReadMachine reads it from a tree like /sys. What is not there counts as one node, one cache and no pool.
func ReadMachine(sysfs string) Machine {
	m := Machine{Nodes: 1, Caches: 1, Pool: freePages(sysfs, 2048), Giant: freePages(sysfs, 1<<20)}
	if nodes, _ := filepath.Glob(filepath.Join(sysfs, "devices/system/node/node[0-9]*")); len(nodes) > 1 {
		m.Nodes = len(nodes)
	}
	shared, _ := filepath.Glob(filepath.Join(sysfs, "devices/system/cpu/cpu[0-9]*/cache/index3/shared_cpu_list"))
	sets := map[string]bool{}
	for _, path := range shared {
		if text, err := os.ReadFile(path); err == nil {
			sets[strings.TrimSpace(string(text))] = true
		}
	}
	m.Caches = max(1, len(sets))
	siblings, _ := filepath.Glob(filepath.Join(sysfs, "devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list"))
	for _, path := range siblings {
		text, err := os.ReadFile(path)
		m.SMT = m.SMT || err == nil && strings.ContainsAny(strings.TrimSpace(string(text)), ",-")
	}
	return m
}

// freePages returns the free bytes of a pool of pages of so many KiB.
func freePages(sysfs string, kib int64) int64 {
	text, err := os.ReadFile(filepath.Join(sysfs, fmt.Sprintf("kernel/mm/hugepages/hugepages-%dkB/free_hugepages", kib)))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n * kib << 10
}

// FeatureModel is a model that features are measured on.
type FeatureModel struct {
	Name    string
	Path    string
	Special bool // only for features that name it
}

// FeaturesOptions says what Features measures.
type FeaturesOptions struct {
	Stock, Tuned string // folders of the programs of the two builds
	Features     []Feature
	Some         bool // Features are not all there are, as in TypesOptions
	Models       []FeatureModel
	Machine      Machine
	Threads      int // of every program; 0: one for each CPU
	Rounds       int // turns of each measurement; 0: MinTypeRounds

	Date        time.Time
	Environment report.Environment

	// For tests, as in Options.
	vendor    string
	unwatched bool
}

// What a feature is measured by is called off and on in place of a build's name.
const (
	off = report.Off
	on  = report.On
)

// Features measures speed and waiting with each feature off and on in turn, all else as it is by default, writes the report to w.Report()
// as report.FeaturesName and returns it. A program that fails leaves its feature out on that model, with a note, and an error when the rest
// is done. A run that is interrupted is resumed by the next one with the same builds and options. The caller holds the workspace's lock.
func Features(ctx context.Context, w workspace.Workspace, log *progress.Log, o FeaturesOptions) (report.Report, error) {
	v, err := newSurvey(w, "features", surveyOptions{
		stock: o.Stock, tuned: o.Tuned, threads: o.Threads, rounds: o.Rounds, date: o.Date, environment: o.Environment, vendor: o.vendor,
	})
	if err != nil {
		return report.Report{}, err
	}
	for _, f := range o.Features {
		v.weights = append(v.weights, fmt.Sprintf("%s %v %v", f.Name, f.Off, f.On))
	}
	if err := v.named(o.Models); err != nil {
		return report.Report{}, err
	}
	name := "features"
	if o.Some {
		name = "features-some"
	}
	if err := v.resume(ctx, log, w.Journal(name)); err != nil {
		return report.Report{}, err
	}
	defer v.journal.Close()

	type measured struct {
		feature Feature
		model   FeatureModel
	}
	var plan []measured
	var tests []throughput.Test
	var shown []Feature
	for _, f := range o.Features {
		if f.Lacks != nil {
			if why := f.Lacks(o.Machine); why != "" {
				v.part = f.Name
				v.judge(Gate{Quantity: report.NotShown}, "", f.Text, Measurement{Note: why})
				continue
			}
		}
		shown = append(shown, f)
	}
	err = log.Step(ctx, "features", func(ctx context.Context, s *progress.Step) error {
		var pace float64
		for _, m := range o.Models {
			for _, f := range shown {
				if !f.on(m) {
					continue
				}
				if pace == 0 {
					pace, err = journal.Do(ctx, v.journal, "pace", func(ctx context.Context) (float64, error) {
						return v.pacedBy(ctx, m)
					})
					if err != nil {
						return err
					}
				}
				plan = append(plan, measured{f, m})
				tests = append(tests, v.featureTest(f, m, pace))
			}
		}
		session := &throughput.Session{Threads: v.Threads, Least: v.Rounds, Most: v.Rounds, Journal: v.journal, Unwatched: o.unwatched, Count: s.Count}
		all, err := session.Run(ctx, tests)
		if err != nil {
			return err
		}
		var found []pending
		var failed []string
		for i, x := range plan {
			if note := all[i].Note(); note != "" {
				v.note(all[i].Test + ": " + note)
			}
			for _, state := range []string{off, on} {
				if why := all[i].Missing(state); why != "" {
					failed = append(failed, fmt.Sprintf("%s %s on %s: %s", x.feature.Name, state, x.model.Name, why))
				}
			}
			found = append(found, v.featureFindings(x.feature, x.model, all[i])...)
		}
		for _, f := range shown {
			v.part = f.Name
			m := Measurement{Note: fmt.Sprintf("off: %s; on: %s", environmentText(f.Off), environmentText(f.On))}
			if f.Default {
				m.Value = 1
			}
			v.judge(Gate{Quantity: report.OnByDefault}, "", f.Text, m)
		}
		v.judgePooled(found)
		for _, f := range failed {
			v.note(unmeasured + f)
		}
		s.Did("%d features on %d models, %d of %d measurements", len(shown), len(o.Models), len(plan)-len(failed), len(plan))
		return nil
	})
	if err != nil {
		return report.Report{}, err
	}
	return v.finish(w, o.Some, report.FeaturesName, func(x report.Result) string { return x.Part })
}

// on says whether f is measured on m.
func (f Feature) on(m FeatureModel) bool {
	if f.Models == nil {
		return !m.Special
	}
	return slices.Contains(f.Models, m.Name)
}

// environmentText is what a reader sets.
func environmentText(env []string) string {
	if len(env) == 0 {
		return "nothing set"
	}
	var said []string
	for _, x := range env {
		if name, value, _ := strings.Cut(x, "="); filepath.IsAbs(value) { // where a build lies is nobody's business
			x = name + "=" + filepath.Base(value)
		}
		said = append(said, x)
	}
	return strings.Join(said, " ")
}

// named has what is measured depend on the files of models too.
func (v *verifier) named(models []FeatureModel) error {
	for _, m := range models {
		st, err := os.Stat(m.Path)
		if err != nil {
			return fmt.Errorf("model %s: %w", m.Name, err)
		}
		v.weights = append(v.weights, fmt.Sprintf("%s, %d bytes of %v", m.Path, st.Size(), st.ModTime().UTC()))
	}
	return nil
}

// pacedBy is the speed of prompts of the tuned build on m, roughly.
func (v *verifier) pacedBy(ctx context.Context, m FeatureModel) (float64, error) {
	setup := throughput.Setup{Stock: v.tuned, Model: m.Path, Threads: v.Threads}
	return setup.MeasurePace(ctx)
}

// featureTest has a feature off and on in turn. That a run fails must not end the others, so both count as peers.
func (v *verifier) featureTest(f Feature, m FeatureModel, pace float64) throughput.Test {
	setup := throughput.Setup{Model: m.Path, Threads: v.Threads, Pace: pace}
	build := v.tuned
	if f.Stock {
		build = v.stock
	}
	subject := func(name string, env []string) throughput.Subject {
		b := build.With(env...)
		var s throughput.Subject
		if f.Defaults {
			s = setup.Defaults(name, b)
		} else {
			s = setup.Alone(name, b, f.Args...)
		}
		if f.Second {
			s = v.second(s, b, m.Path, "auto")
		}
		s.Peer = true
		return s
	}
	return throughput.Test{
		Name: f.Name + " on " + m.Name, Cases: throughput.AloneCases(), Fixed: true,
		Subjects: []throughput.Subject{subject(off, f.Off), subject(on, f.On)},
	}
}

// second is s as measured while another process of b holds the model, loaded in a mode.
func (v *verifier) second(s throughput.Subject, b program.Build, model, mode string) throughput.Subject {
	return throughput.Subject{Name: s.Name, Measure: func(ctx context.Context) (found map[string]float64, err error) {
		release, err := b.Hold(ctx, `"decode"`, "zt-probe", "load", "-m", model, "-t", strconv.Itoa(v.Threads), "-lm", mode, "--hold")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
		return s.Measure(ctx)
	}}
}

// featureFindings are what a series found of a feature, to be judged with the others'.
func (v *verifier) featureFindings(f Feature, m FeatureModel, series throughput.Series) []pending {
	var found []pending
	add := func(g Gate, what string, x Measurement) {
		if len(x.Samples) >= MinTypeRounds {
			found = append(found, pending{Gate: g, part: f.Name, model: m.Name, what: what, Measurement: x})
		}
	}
	for _, c := range throughput.AloneCases() {
		own, err := series.Compare(off, on, c.Name)
		if err != nil {
			continue // Missing has said why
		}
		add(tokensPerSecond, c.Name, Measurement{Samples: own.Base, Build: off})
		add(tokensPerSecond, c.Name, Measurement{Samples: own.Other, Build: on})
		add(overOff, c.Name, Measurement{Samples: own.Ratios, Same: own.Same})
	}
	if own, err := series.Compare(off, on, throughput.LoadMS); err == nil {
		add(loadMillis, "load", Measurement{Samples: own.Base, Build: off})
		add(loadMillis, "load", Measurement{Samples: own.Other, Build: on})
		add(Gate{Quantity: report.LoadOverOff, Unit: "x"}, "load", Measurement{Samples: own.Ratios, Same: own.Same})
	}
	if own, err := series.Compare(off, on, throughput.Waits); err == nil && len(f.Halves) > 0 && slices.ContainsFunc(f.Halves, func(prefix string) bool { return strings.HasPrefix(m.Name, prefix) }) {
		add(halved, alone, Measurement{Samples: own.Ratios, Same: own.Same, Ungated: halved.ungated(v.vendor)})
	}
	for _, state := range []string{off, on} {
		add(waits, alone, Measurement{Samples: series.Values(state, throughput.Waits), Build: state})
		add(barriers, alone, Measurement{Samples: series.Values(state, throughput.Barriers), Build: state})
	}
	return found
}

// alone is the case that waits are counted in.
var alone = throughput.AloneCases()[0].Name

var (
	overOff  = Gate{Quantity: report.SpeedOverOff, Unit: "x"}
	waits    = Gate{Quantity: report.Waits, Unit: "%"}
	barriers = Gate{Quantity: report.Barriers}
	halved   = Gate{report.WaitsOverOff, "x", report.AtMost, 0.5,
		"most meetings of upstream's threads keep nothing apart, and of narrow layers they are what a token waits for"}
)
