package gate

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
)

// MinRounds is the smallest number of turns that a speed can be judged by: where memory changes its mood from run to run, two turns pass
// one in twenty builds that are 1 % slower than stock, three pass one in seventy (TestSlowdownInNoise).
const MinRounds = 3

// Turns of each speed measurement where Options.Rounds does not say. Four make two blocks and an interval of 1.6 standard
// deviations of one ratio, six make one of 1.05; the expensive workloads of a slow machine get the former, the others the latter.
const (
	leastTurns  = 4
	mostTurns   = 6
	speedBudget = 10 * time.Minute
	benchRounds = 12
)

// timed records what g says of a time or speed taken on this host.
func (v *verifier) timed(g Gate, model, what string, m Measurement) {
	m.Ungated = g.ungated(v.vendor)
	v.judge(g, model, what, m)
}

// session is how the tests of m take turns.
func (v *verifier) session(s *progress.Step, m Model) *throughput.Session {
	session := &throughput.Session{Name: m.Name + ", ", Threads: v.Threads, Least: leastTurns, Most: mostTurns, Budget: speedBudget, Journal: v.journal, Unwatched: v.unwatched,
		Count: func(done, total int, doing string) { s.Count(done, total, m.Name+" "+doing) }}
	if v.Rounds > 0 {
		session.Least, session.Most, session.Budget = v.Rounds, v.Rounds, 0
	}
	return session
}

// said notes what a reader must know of how a series came about.
func (v *verifier) said(m Model, series throughput.Series) {
	if note := series.Note(); note != "" {
		v.note(fmt.Sprintf("%s, %s: %s", m.Name, series.Test, note))
	}
}

// What zt-probe load is asked for.
const (
	loadMS    = "ms"
	loadBytes = "bytes"
)

// load compares how long the model takes to load and the memory it holds after a first token, in the mode that llama.cpp
// chooses and without mmap, both against stock without mmap: with it, stock has read nothing yet when it says it is loaded. A second process
// that shares packed weights is timed beside them.
func (v *verifier) load(ctx context.Context, s *progress.Step, m Model) error {
	stock := v.loads("stock", v.stock, m.Path, "none")
	modes := []string{"auto", "none"}
	test := throughput.Test{Name: "load", Fixed: true, Subjects: []throughput.Subject{stock}, Prepare: func(ctx context.Context) error {
		_, err := stock.Measure(ctx) // brings the file into the page cache
		return err
	}}
	for _, mode := range modes {
		test.Subjects = append(test.Subjects, v.loads("tuned "+mode, v.tuned, m.Path, mode))
	}
	sharing := v.tuned.With("ZT_SHARE=1")
	test.Subjects = append(test.Subjects, v.second(v.loads("tuned second", sharing, m.Path, "none"), sharing, m.Path, "none"))
	all, err := v.session(s, m).Run(ctx, []throughput.Test{test})
	if err != nil {
		return err
	}
	series := all[0]
	v.said(m, series)
	second, err := series.Compare("stock", "tuned second", loadMS)
	if err != nil {
		return err
	}
	v.timed(secondLoad, m.Name, "a second process, ZT_SHARE=1", Measurement{Samples: second.Ratios, Same: second.Same})
	for i, mode := range modes {
		what := "load mode " + mode
		times, err := series.Compare("stock", "tuned "+mode, loadMS)
		if err != nil {
			return err
		}
		memory, err := series.Compare("stock", "tuned "+mode, loadBytes)
		if err != nil {
			return err
		}
		if i == 0 {
			v.timed(loadMillis, m.Name, "load mode none", Measurement{Samples: times.Base, Build: "stock"})
			v.judge(residentMiB, m.Name, "load mode none", Measurement{Samples: mebibytes(memory.Base), Build: "stock"})
		}
		v.timed(loadMillis, m.Name, what, Measurement{Samples: times.Other, Build: "tuned"})
		v.timed(loadTime, m.Name, what, Measurement{Samples: times.Ratios, Same: times.Same})
		v.judge(residentMiB, m.Name, what, Measurement{Samples: mebibytes(memory.Other), Build: "tuned"})
		v.judge(resident, m.Name, what, Measurement{Samples: memory.Ratios, Same: memory.Same})
		s.Say("%s, load mode %s: %.0f ms, stock %.0f ms", m.Name, mode, statistics.Median(times.Other), statistics.Median(times.Base))
	}
	s.Did("%s: loaded %d times by stock, in %d modes by tuned", m.Name, len(series.Values("stock", loadMS)), len(modes))
	return nil
}

// loads is a load of a model by one build in one mode.
func (v *verifier) loads(name string, b program.Build, model, mode string) throughput.Subject {
	return throughput.Subject{Name: name, Measure: func(ctx context.Context) (map[string]float64, error) {
		lines, err := program.Run[loadLine](ctx, b, "zt-probe", "load", "-m", model, "-t", strconv.Itoa(v.Threads), "-lm", mode)
		if err != nil {
			return nil, err
		}
		found := map[string]float64{}
		for _, l := range lines {
			switch l.When {
			case "load":
				found[loadMS] = l.MS
			case "decode":
				found[loadBytes] = l.RSS + l.HugeTLB
			}
		}
		return found, nil
	}}
}

func mebibytes(bytes []float64) []float64 {
	m := make([]float64, len(bytes))
	for i, b := range bytes {
		m[i] = b / (1 << 20)
	}
	return m
}

// What zt-probe speed is asked for.
const (
	readPercent  = "percent of the read loop"
	readBytes    = "bytes a second of the read loop"
	weightBytes  = "weight bytes"          // of a token, as they are in the GGUF
	codedBytes   = "bytes read of weights" // of a token, as they are coded
	besideTokens = 32
)

// besideReads is decode with a plain read loop between the tokens: what it reaches of the memory's speed of that very moment.
// hugeStock is what stock's users can have of it without a patch.
func (v *verifier) besideReads(m Model) throughput.Test {
	return throughput.Test{Name: "decode beside the read loop", Fixed: true, Subjects: []throughput.Subject{
		v.besideRead("stock", v.stock, m.Path),
		v.besideRead("tuned", v.tuned, m.Path),
		v.besideRead(hugeStock, v.stock.With("GLIBC_TUNABLES=glibc.malloc.hugetlb=1"), m.Path, "-lm", "none"),
	}}
}

// besideRead is that of one build.
func (v *verifier) besideRead(name string, b program.Build, model string, more ...string) throughput.Subject {
	return throughput.Subject{Name: name, Measure: func(ctx context.Context) (map[string]float64, error) {
		args := append([]string{"speed", "-m", model, "-t", strconv.Itoa(v.Threads), "-n", strconv.Itoa(besideTokens)}, more...)
		stdout, said, err := b.With("ZT_LOG=1").Output(ctx, "zt-probe", args...)
		if err != nil {
			return nil, err
		}
		lines, err := program.Lines[speedLine](stdout)
		if err != nil {
			return nil, fmt.Errorf("%s zt-probe speed: %w", b.Name, err)
		}
		sum, err := summarize(lines)
		if err != nil {
			return nil, err
		}
		coded, err := readCoded(said)
		if err != nil {
			return nil, err
		}
		saved, err := savedBytes(model, coded)
		if err != nil {
			return nil, err
		}
		plain := lines[0].WeightBytes
		return map[string]float64{
			readPercent: sum.percent * (plain - saved) / plain, readBytes: sum.read, weightBytes: plain, codedBytes: plain - saved,
		}, nil
	}}
}

const hugeStock = "stock with huge pages"

// speed has all builds do the workloads of gen/throughput in turn.
func (v *verifier) speed(ctx context.Context, s *progress.Step, m Model) error {
	shape, err := ReadShape(m.Path)
	if err != nil {
		return err
	}
	setup := throughput.Setup{Stock: v.stock, Tuned: v.tuned, Peers: v.Peers, Model: m.Path, Threads: v.Threads, Scratch: v.scratch}
	if setup.Pace, err = journal.Do(ctx, v.journal, m.Name+", pace", setup.MeasurePace); err != nil {
		return err
	}
	tests := append(setup.Tests(ctx), v.besideReads(m))
	all, err := v.session(s, m).Run(ctx, tests)
	if err != nil {
		return err
	}
	beside := all[len(all)-1]
	work := work{shape: shape, weights: beside.Values("tuned", weightBytes)[0], coded: beside.Values("tuned", codedBytes)[0]}
	for _, series := range all {
		v.said(m, series)
		if bytes := series.Values("tuned", throughput.ContextBytes); len(bytes) > 0 {
			work.context = bytes[0]
		}
	}
	least, most := math.MaxInt, 0
	for i, test := range tests {
		for _, c := range test.Cases {
			turns, err := v.workload(s, m, work, all[i], c)
			if err != nil {
				return err
			}
			least, most = min(least, turns), max(most, turns)
		}
	}

	for _, name := range []string{"stock", "tuned"} {
		v.timed(readRate, m.Name, "decode", Measurement{Samples: scaled(beside.Values(name, readBytes), 1e-9), Build: name})
	}
	stock, tuned := beside.Values("stock", readPercent), beside.Values("tuned", readPercent)
	v.timed(tgOfRead.only(), m.Name, "decode", Measurement{Samples: stock, Build: "stock"})
	v.timed(tgOfRead.only(), m.Name, "decode", Measurement{Samples: beside.Values(hugeStock, readPercent), Build: "stock",
		Note: "with -lm none and glibc.malloc.hugetlb=1"})
	v.timed(tgOfRead, m.Name, "decode", Measurement{Samples: tuned, Build: "tuned"})
	s.Say("%s decode: %.1f %% of the read loop, stock %.1f %%", m.Name, statistics.Median(tuned), statistics.Median(stock))
	s.Did("%s: %d to %d turns of %d workloads", m.Name, least, most, len(tests))
	return nil
}

func scaled(values []float64, by float64) []float64 {
	list := make([]float64, len(values))
	for i, x := range values {
		list[i] = by * x
	}
	return list
}

// workload records what all builds reached in c, and returns how many turns that took.
func (v *verifier) workload(s *progress.Step, m Model, w work, series throughput.Series, c throughput.Case) (turns int, err error) {
	own, err := series.Compare("stock", "tuned", c.Name)
	if err != nil {
		return 0, err
	}
	goal, agreed := speedGoals[c.Name]
	if !agreed {
		goal = Gate{Quantity: report.SpeedOverStock, Unit: "x"}
	}
	ratio := Measurement{Samples: own.Ratios, Same: own.Same}
	goal, ratio.Note = v.speedGate(goal)
	v.rate(m, w, c, "stock", own.Base)
	v.rate(m, w, c, "tuned", own.Other)
	v.judge(goal, m.Name, c.Name, ratio)
	if len(own.Same) > 0 {
		v.judge(noise, m.Name, c.Name, Measurement{Value: statistics.Noise(own.Same), Note: fmt.Sprintf("of %d ratios of one build to itself", len(own.Same))})
	}
	if x := w.intensity(c); x > 0 {
		v.judge(intensity, m.Name, c.Name, Measurement{Value: x})
	}
	s.Say("%s %s: %.2f times stock", m.Name, c.Name, statistics.Median(own.Ratios))

	for _, peer := range v.Peers {
		if why := series.Missing(peer.Name); why != "" {
			v.note(fmt.Sprintf("%s, %s: %s did not run: %s", m.Name, c.Name, peer.Name, why))
		}
		over, err := series.Compare("stock", peer.Name, c.Name)
		if err != nil {
			continue // it is missing, or was before it had run twice
		}
		ours, err := series.Compare(peer.Name, "tuned", c.Name)
		if err != nil {
			return 0, err
		}
		v.rate(m, w, c, peer.Name, over.Other)
		v.judge(Gate{Quantity: report.SpeedOverStock, Unit: "x"}, m.Name, c.Name, Measurement{Samples: over.Ratios, Same: over.Same, Build: peer.Name})
		v.judge(Gate{Quantity: "speed over " + peer.Name, Unit: "x"}, m.Name, c.Name, Measurement{Samples: ours.Ratios, Same: ours.Same})
		s.Say("%s %s: %.2f times %s", m.Name, c.Name, statistics.Median(ours.Ratios), peer.Name)
	}
	return len(own.Ratios), nil
}

// speedGate is what counts on this host in place of a goal for a speed over stock's: the goal, or not being slower with a note of the goal.
func (v *verifier) speedGate(goal Gate) (g Gate, note string) {
	if goal.ungated(v.vendor) == "" {
		return goal, ""
	}
	if goal.Limit > notSlower.Limit {
		note = fmt.Sprintf("%s %s on AMD", goal.Side, report.Number(goal.Limit))
	}
	return notSlower, note
}

// rate records the speed of a build and its share of what the machine can do.
func (v *verifier) rate(m Model, w work, c throughput.Case, build string, rates []float64) {
	if build == v.tuned.Name {
		w.weights = w.coded
	}
	v.timed(tokensPerSecond, m.Name, c.Name, Measurement{Samples: rates, Build: build})
	seconds := float64(c.Tokens()) / statistics.Median(rates)
	if w.intensity(c) > 0 {
		v.timed(opsPerSecond, m.Name, c.Name, Measurement{Value: w.operations(c) / seconds / 1e9, Build: build})
	}
	limits := v.limits.At(v.Threads)
	if vnni, read := limits.VNNI.Best(), limits.Read(); vnni > 0 && read > 0 {
		g, least, note := w.least(c, vnni, read)
		v.timed(g, m.Name, c.Name, Measurement{Value: 100 * least / seconds, Build: build, Note: note})
	}
}

// work is what a model costs a machine.
type work struct {
	shape   Shape
	weights float64 // bytes that a generated token reads of them
	coded   float64 // and where the tuned build has coded them
	context float64 // bytes of a deep context, which it reads too
}

// ubatch is the number of tokens of a prompt that llama.cpp computes in one sweep of the weights.
const ubatch = 512

// operations is the weight arithmetic of c. Of the prompts of a conversation all tokens count that take part in every matrix.
func (w work) operations(c throughput.Case) float64 {
	ops := float64(c.Steps*c.Sequences) * w.shape.Ops(1)
	if c.Prompt > 0 {
		ops += w.shape.Ops(c.Prompt)
	}
	return ops
}

// intensity is the operations of c for each byte of weights read; 0 where c is several things one after the other.
func (w work) intensity(c throughput.Case) float64 {
	switch {
	case c.Prompt > 0 && c.Steps > 0:
		return 0
	case c.Prompt > 0:
		return w.operations(c) / (w.weights * math.Ceil(float64(c.Prompt)/ubatch))
	default:
		return w.operations(c) / (w.weights * float64(c.Steps))
	}
}

// least is the seconds that c takes a machine which does nothing but its int8 arithmetic at vnni operations a second and read weights and
// context at read bytes a second, both at once. The gate is the share of the one that takes longer.
func (w work) least(c throughput.Case, vnni, read float64) (g Gate, seconds float64, note string) {
	prompts, steps := 0.0, 0.0
	ofPeak, ofRead := fmt.Sprintf("of %.0f GOP/s measured", vnni/1e9), fmt.Sprintf("of %.1f GB/s measured", read/1e9)
	if c.Prompt > 0 {
		arithmetic, reading := w.shape.Ops(c.Prompt)/vnni, w.weights*math.Ceil(float64(c.Prompt)/ubatch)/read
		prompts = max(arithmetic, reading)
		if g, note = ofVNNIPeak, ofPeak; reading > arithmetic {
			g, note = ofReadBandwidth, ofRead
		}
	}
	if c.Steps > 0 {
		bytes := w.weights
		if c.Depth > 0 {
			bytes += w.context
		}
		arithmetic, reading := float64(c.Sequences)*w.shape.Ops(1)/vnni, bytes/read
		steps = float64(c.Steps) * max(arithmetic, reading)
		if g, note = ofReadBandwidth, ofRead; arithmetic > reading {
			g, note = ofVNNIPeak, ofPeak
		}
	}
	if c.Prompt > 0 && c.Steps > 0 {
		g, note = ofBoth, ofPeak+" and "+ofRead
	}
	return g, prompts + steps, note
}
