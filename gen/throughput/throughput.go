// Package throughput takes speeds of several builds in turn, so that what the machine does meanwhile meets all of them alike.
//
// How a comparison is made, and why:
//
//   - A turn measures every build once, back to back. Two turns make a block, the second in reverse: A B, B A. A machine that slows
//     down steadily then favours each build as often as the other, and the runs in the middle of a block are of one build
//     (counterbalancing; Cox, Planning of Experiments, 1958). Blocks of all tests alternate, so that the turns of a
//     test are spread over the whole session.
//   - The unit is the ratio of two builds within a turn. Of a machine whose memory has a fast and a slow mood for hours, ratios are
//     free of it.
//   - The two runs of one build in a block are the A/A runs: their ratio would be 1 without noise, and how far it is from 1 is
//     the noise of the test on this machine. It costs no run of its own.
//   - No measurement is dropped or replaced because of its value. A turn during which other programs or the hypervisor took more than
//     disturbance of the CPUs is taken again, before anybody has looked at its speeds: maxRepeats times for a turn and
//     sessionRepeats times in a session, and the last one counts whatever happened in it. Repeats are reported.
//   - The number of turns depends on the time they take and never on what they find: a session that stops when it likes the result
//     would find what it likes.
//
// What becomes of the ratios is the business of statistics.Ratio.
package throughput

import (
	"context"
	"fmt"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
)

// Subject is one of those that take turns: a build of llama.cpp running one of its programs.
type Subject struct {
	Name string
	// Measure runs it once and returns what it found, by name.
	Measure func(context.Context) (map[string]float64, error)
	// Peer marks a build that is not ours to repair: what it cannot run is reported and does not end the session.
	Peer bool
}

// Test is what its subjects do in turn.
type Test struct {
	Name     string
	Cases    []Case    // what it finds the speeds of
	Subjects []Subject // the first is what the others are compared with
	// Prepare makes what the turns need, such as a file; nil if nothing. It is called once before the first turn that is not
	// taken over from an earlier run.
	Prepare func(context.Context) error
	Fixed   bool // no more turns than Session.Least, whatever the Budget
}

// Limits of the repetition of turns.
const (
	disturbance    = 0.03 // CPU time taken by others, as a share of what the threads of the programs could use
	maxRepeats     = 2    // of one turn
	sessionRepeats = 8    // of all turns of a Session; more of them and the machine is simply busy
)

// A peer has peerGrace plus peerPatience times as long as the slowest of our own builds took in the same test.
const (
	peerPatience = 10
	peerGrace    = time.Minute
)

// Session is how tests are run.
type Session struct {
	Name        string           // in front of the names in the journal
	Threads     int              // of every program
	Least, Most int              // turns of each test: Least in any case, up to Most while Budget lasts
	Budget      time.Duration    // for all turns together; 0: no limit
	Journal     *journal.Journal // of finished turns; may be nil
	Count       func(done, total int, doing string)
	Unwatched   bool // nobody looks at what else the machine does: for subjects that only pretend to run

	repeats int // of turns, by all Runs

	// For tests; nil and 0: this machine and peerGrace.
	machine func() (load, error)
	grace   time.Duration
}

// turn is one finished turn, as the journal keeps it.
type turn struct {
	Found     map[string]map[string]float64 `json:"found"`             // by subject, then as Measure returns it
	Missing   map[string]string             `json:"missing,omitempty"` // subjects that could not run: why
	Seconds   map[string]float64            `json:"seconds"`           // that each subject took
	Disturbed float64                       `json:"disturbed"`         // share of CPU time taken by others
	Repeats   int                           `json:"repeats,omitempty"` // how often it was taken again
	Spent     float64                       `json:"spent"`             // seconds, with all repeats
}

// Run takes all tests' turns and returns what they found, in the order of tests.
func (s *Session) Run(ctx context.Context, tests []Test) ([]Series, error) {
	if s.machine == nil {
		s.machine = machine
	}
	if s.Unwatched {
		s.machine = func() (load, error) { return load{}, nil }
	}
	if s.grace == 0 {
		s.grace = peerGrace
	}
	r := run{Session: s, tests: tests, series: make([]Series, len(tests)), prepared: make([]bool, len(tests))}
	for i, t := range tests {
		r.series[i].Test = t.Name
		r.total += s.Least
	}
	for from := 0; from < s.Least; from += 2 {
		for i := range tests {
			if err := r.block(ctx, i, from, min(from+2, s.Least)); err != nil {
				return nil, err
			}
		}
	}
	for from := s.Least; from < s.Most; from += 2 {
		to := min(from+2, s.Most)
		for i, t := range tests {
			if t.Fixed || len(r.series[i].turns) < from || !r.affords(i, to-from) {
				continue
			}
			r.total += to - from
			if err := r.block(ctx, i, from, to); err != nil {
				return nil, err
			}
		}
	}
	return r.series, nil
}

// run is the state of one Run.
type run struct {
	*Session
	tests       []Test
	series      []Series
	prepared    []bool
	done, total int
	spent       float64 // seconds
}

// affords says whether the budget has room for n more turns of test i, going by the mean of its turns so far.
func (r *run) affords(i, n int) bool {
	if r.Budget == 0 {
		return true
	}
	turns := r.series[i].turns
	spent := 0.0
	for _, t := range turns {
		spent += t.Spent
	}
	return r.spent+float64(n)*spent/float64(len(turns)) <= r.Budget.Seconds()
}

// block takes turns from..to-1 of test i, every other one in reverse.
func (r *run) block(ctx context.Context, i, from, to int) error {
	for n := from; n < to; n++ {
		name := fmt.Sprintf("%s%s, turn %d", r.Name, r.tests[i].Name, n+1)
		if r.Count != nil {
			r.Count(r.done, r.total, fmt.Sprintf("%s, turn %d", r.tests[i].Name, n+1))
		}
		t, err := journal.Do(ctx, r.Journal, name, func(ctx context.Context) (turn, error) { return r.take(ctx, i, n) })
		if err != nil {
			return err
		}
		r.done++
		r.repeats += t.Repeats
		r.spent += t.Spent
		r.series[i].turns = append(r.series[i].turns, t)
	}
	return nil
}

// take takes turn n of test i, again if the machine was disturbed.
func (r *run) take(ctx context.Context, i, n int) (turn, error) {
	if prepare := r.tests[i].Prepare; prepare != nil && !r.prepared[i] {
		if err := prepare(ctx); err != nil {
			return turn{}, err
		}
		r.prepared[i] = true
	}
	start := time.Now()
	for repeats := 0; ; repeats++ {
		t, err := r.once(ctx, i, n)
		if err != nil {
			return turn{}, err
		}
		t.Repeats, t.Spent = repeats, time.Since(start).Seconds()
		if t.Disturbed <= disturbance || repeats == maxRepeats || r.repeats+repeats >= sessionRepeats {
			return t, nil
		}
	}
}

// once measures every subject of test i.
func (r *run) once(ctx context.Context, i, n int) (turn, error) {
	t := turn{Found: map[string]map[string]float64{}, Missing: map[string]string{}, Seconds: map[string]float64{}}
	before, err := r.machine()
	if err != nil {
		return turn{}, err
	}
	subjects := r.tests[i].Subjects
	for k := range subjects {
		subject := subjects[k]
		if n%2 == 1 {
			subject = subjects[len(subjects)-1-k]
		}
		if why := r.series[i].Missing(subject.Name); why != "" {
			t.Missing[subject.Name] = why // it will not do better now
			continue
		}
		start := time.Now()
		found, err := r.measure(ctx, i, subject, t)
		t.Seconds[subject.Name] = time.Since(start).Seconds()
		if err == nil {
			for what, value := range found {
				if !(value > 0) {
					err = fmt.Errorf("%s of %s found %v as %s", r.tests[i].Name, subject.Name, value, what)
				}
			}
		}
		switch {
		case err == nil:
			t.Found[subject.Name] = found
		case ctx.Err() != nil:
			return turn{}, context.Cause(ctx)
		case subject.Peer:
			t.Missing[subject.Name] = err.Error()
		default:
			return turn{}, err
		}
	}
	after, err := r.machine()
	if err != nil {
		return turn{}, err
	}
	t.Disturbed = after.since(before, r.Threads)
	return t, nil
}

// measure runs a subject, a peer not for ever. Our own builds come first in a test's first turn, so that their times are known.
func (r *run) measure(ctx context.Context, i int, subject Subject, now turn) (map[string]float64, error) {
	if !subject.Peer {
		return subject.Measure(ctx)
	}
	own := 0.0
	for _, t := range append(r.series[i].turns, now) {
		for _, other := range r.tests[i].Subjects {
			if !other.Peer {
				own = max(own, t.Seconds[other.Name])
			}
		}
	}
	limit := r.grace + time.Duration(peerPatience*own*float64(time.Second))
	late := fmt.Errorf("it did not end within %v", limit.Round(time.Second))
	bounded, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	found, err := subject.Measure(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return nil, late
	}
	return found, err
}

// Series is what the turns of one test found.
type Series struct {
	Test  string
	turns []turn
}

// Missing says why a subject could not run; "" if it could.
func (s Series) Missing(subject string) string {
	for _, t := range s.turns {
		if why := t.Missing[subject]; why != "" {
			return why
		}
	}
	return ""
}

// Values returns what a subject found in each turn that it could run.
func (s Series) Values(subject, what string) []float64 {
	var values []float64
	for _, t := range s.turns {
		if v, ok := t.Found[subject][what]; ok {
			values = append(values, v)
		}
	}
	return values
}

// Comparison is two subjects held against each other.
type Comparison struct {
	Base, Other []float64 // what the two found, one value a turn
	Ratios      []float64 // Other over Base within each turn
	Same        []float64 // ratios of the two values of one subject in a block, the later over the earlier
}

// Compare holds other against base in the turns that both could run. It is an error if there are fewer than two: a single pair does
// not say how far it can be trusted.
func (s Series) Compare(base, other, what string) (Comparison, error) {
	var c Comparison
	first := map[string]float64{} // value in the first turn of the block
	for n, t := range s.turns {
		b, ok := t.Found[base][what]
		o, also := t.Found[other][what]
		if n%2 == 0 {
			clear(first)
		}
		if !ok || !also {
			continue
		}
		c.Base, c.Other, c.Ratios = append(c.Base, b), append(c.Other, o), append(c.Ratios, o/b)
		if n%2 == 1 && len(first) > 0 {
			c.Same = append(c.Same, b/first[base], o/first[other])
		}
		first[base], first[other] = b, o
	}
	if len(c.Ratios) < 2 {
		return c, fmt.Errorf("%s: %d turns have %s of both %s and %s, and a ratio needs two", s.Test, len(c.Ratios), what, base, other)
	}
	return c, nil
}

// Note says what a reader must know of how the turns were taken; "" if they all were as planned.
func (s Series) Note() string {
	repeated, repeats, disturbed, worst := 0, 0, 0, 0.0
	for _, t := range s.turns {
		if t.Repeats > 0 {
			repeated++
			repeats += t.Repeats
		}
		if t.Disturbed > disturbance {
			disturbed++
			worst = max(worst, t.Disturbed)
		}
	}
	note := ""
	if repeated > 0 {
		note = fmt.Sprintf("%d of %d turns taken again, %d times in all, because others used the CPUs", repeated, len(s.turns), repeats)
	}
	if disturbed > 0 {
		if note != "" {
			note += "; "
		}
		note += fmt.Sprintf("others used up to %.0f %% of the CPUs during %d of %d turns that count", 100*worst, disturbed, len(s.turns))
	}
	return note
}
