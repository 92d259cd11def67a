// Package soak keeps llama-server busy for a long time and says what wears out: answers that change, memory and huge pages that
// do not come back, requests that slow down, processes that die.
//
// A run is a sequence of lives of the server, each a process of its own. The first one answers every question of the transcript
// alone, which sets what the others are held to. A life then repeats a cycle: bursts of mixed requests from more clients
// than there are slots, each burst followed by a quiet moment in which the process is measured; and an idle spell after which
// the server unloads its model, where it is measured again, until the next cycle's first request makes it load the model anew.
package soak

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Shortest is the shortest run that has enough quiet moments to tell growth from noise.
const Shortest = 45 * time.Second

// Options says what to soak, and how long.
type Options struct {
	Build    program.Build // whose llama-server
	Name     string        // of the model, as in the report
	Model    string        // the GGUF
	Exact    bool          // the model's operators promise the same bits in any batch, so that its answers must not change at all
	Duration time.Duration // of the whole run, the transcript's making included
	Threads  int           // of the server in every second life; 0: one for each CPU. See threads
	Seed     uint64        // of the schedule

	Date        time.Time          // of the report
	Environment report.Environment // for the report, taken before the load

	// For tests.
	pace    pace                      // zero: planned from Duration
	measure func(int) (Memory, error) // of a process; nil: of /proc
	lost    func() (int, error)       // huge pages taken by nobody; nil: of this machine
	pools   func() ([]Pool, error)    // nil: of this machine
}

const (
	slots       = 4    // answered at once
	clients     = 6    // who ask; more than slots, so that some wait
	slotContext = 1024 // tokens
)

// pace is how a run spends its time.
type pace struct {
	burst    time.Duration // of each burst; a cycle has one that warms up and measured of them that count
	measured int
	unload   time.Duration // what it takes until an idle server has dropped its model, about
	life     time.Duration // of a process, if that is enough for the cycles it needs
	patience time.Duration // with anything that the server should do: more is a hang
}

// plan divides a run into cycles: about 24 of them, of a minute at most, in lives of half a run or half an hour.
func plan(run time.Duration) pace {
	const measured = 3
	const unload = 2 * time.Second // it must be idle for a second, and looks once a second
	return pace{
		burst:    max(400*time.Millisecond, (min(run/24, time.Minute)-unload)/(measured+1)),
		measured: measured,
		unload:   unload,
		life:     min(run/2, 30*time.Minute),
		patience: 45 * time.Second,
	}
}

// cycle is what a cycle should take.
func (p pace) cycle() time.Duration { return time.Duration(p.measured+1)*p.burst + p.unload }

// enough is how often a first life must unload its model: growth shows from the second time on, and two growths may be chance.
// A second life shows that one can follow.
const enough, another = 4, 1

// overtime is how much longer than asked for a run may take: what is under way at the end is given the patience due to it.
const overtime = 55 * time.Second

// soaker is one run.
type soaker struct {
	Options
	pace      pace
	step      *progress.Step
	start     time.Time
	end       time.Time // of the asking
	schedules []*rand.Rand
	book      *book
	questions []*question
	vitals
}

// vitals is what was measured of the server.
type vitals struct {
	lives, reloads int
	took           time.Duration // by the last cycle that was not brief
	samples        []Sample
	latency        []float64 // median ms per token of each full cycle of the lives with half of the threads
	missing        int       // huge pages lost after a life, at most
	before, after  []Pool    // before the first life and after the last
	errors         int       // lines of the server's log that report one
}

// Run soaks, writes the report into dir and returns it. The error names every check that failed; the report is written all the
// same. When ctx ends early the report is of what ran and says so, and the error does too. Any other error (no server, one that
// never starts) leaves an earlier report as it was.
func Run(ctx context.Context, dir string, log *progress.Log, o Options) (Report, error) {
	if err := o.Build.Check("llama-server"); err != nil {
		return Report{}, err
	}
	if _, err := os.Stat(o.Model); err != nil {
		return Report{}, fmt.Errorf("model %s: %w", o.Name, err)
	}
	if o.pace == (pace{}) {
		if o.Duration < Shortest {
			return Report{}, fmt.Errorf("a soak of %v is too short to tell a leak from noise; give it %v or more", o.Duration, Shortest)
		}
		o.pace = plan(o.Duration)
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.measure == nil {
		o.measure = measure
	}
	if o.lost == nil {
		o.lost = lostHugePages
	}
	if o.pools == nil {
		o.pools = pools
	}
	sum, err := fileSum(filepath.Join(o.Build.Bin, "llama-server"))
	if err != nil {
		return Report{}, err
	}
	s := &soaker{Options: o, pace: o.pace, start: time.Now(), questions: questions(o.Seed), book: &book{}}
	s.end, s.took = s.start.Add(o.Duration), o.pace.cycle()
	for i := range clients {
		s.schedules = append(s.schedules, rand.New(rand.NewPCG(o.Seed, uint64(i))))
	}
	hard, cancel := context.WithDeadline(ctx, s.end.Add(overtime))
	defer cancel()
	err = log.Step(hard, "soak", func(ctx context.Context, step *progress.Step) error {
		s.step = step
		if err := s.run(ctx); err != nil {
			return err
		}
		step.Did("%s: %s", o.Name, s.summary())
		return nil
	})
	interrupted := ctx.Err() != nil
	if hard.Err() != nil && !interrupted {
		s.book.fault(hung, "%v after the end of the run the server still was not done", overtime)
	} else if err != nil && !interrupted {
		return Report{}, err
	}
	if interrupted && len(s.samples) == 0 {
		return Report{}, context.Cause(ctx) // nothing to report yet
	}
	r := s.report(sum, interrupted)
	if err := r.Write(dir); err != nil {
		return r, err
	}
	if err := failure(r); err != nil {
		return r, err
	}
	if interrupted {
		return r, fmt.Errorf("soak: %w after %v; what ran shows no fault", context.Cause(ctx), time.Since(s.start).Round(time.Second))
	}
	return r, nil
}

// errOver ends a run whose server is beyond asking more of. The book says why.
var errOver = errors.New("the server failed")

// run lives the lives. An error is of what keeps a soak from being one; what it finds is in s.
func (s *soaker) run(ctx context.Context) error {
	lost, err := s.lost()
	if err != nil {
		return err
	}
	if s.before, err = s.Options.pools(); err != nil {
		return err
	}
	defer func() { s.after, _ = s.Options.pools() }() // it could be read before
	for first := true; ; first = false {
		err := s.live(ctx, first)
		s.returned(ctx, lost)
		switch {
		case errors.Is(err, errOver) && s.book.short():
			return errors.New("the machine has less than a twentieth of its memory left, which llama-server did not take; free some")
		case errors.Is(err, errOver):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		if left := time.Until(s.end); left <= 0 || s.lives > 1 && left < s.took {
			return nil
		}
	}
}

// threads is how many a life's server computes with. Half of the CPUs leave some for the clients and for neighbours, which matters
// since ggml's threads wait for each other without giving way; all of them must give the same answers.
func (s *soaker) threads(life int) int {
	if life%2 == 1 {
		return max(1, s.Threads/2)
	}
	return s.Threads
}

// live is the life of one process.
func (s *soaker) live(ctx context.Context, first bool) error {
	srv, err := s.launch(ctx, s.threads(s.lives+1))
	if err != nil {
		if first || ctx.Err() != nil {
			return err
		}
		s.book.fault(ended, "it did not start again: %v", err)
		return errOver
	}
	defer func() {
		srv.kill()
		n, first := srv.log.errors()
		s.errors += n
		for _, line := range first {
			s.book.remark("the server's log: " + line)
		}
	}()
	s.lives++
	go s.guard(srv)
	if first {
		if err := s.transcribe(ctx, srv); err != nil {
			return s.booked(ctx, srv, err)
		}
	}
	end := time.Now().Add(s.pace.life)
	if first {
		end = s.start.Add(s.pace.life)
	}
	must := map[int]int{1: enough, 2: another}[s.lives]
	for n := 0; ; n++ {
		left := time.Until(s.end)
		if left <= 0 || n >= must && (left < s.took || time.Now().After(end)) {
			break
		}
		// A slow machine may not have the time for all that a cycle should have; what must be shown comes first.
		brief := n < must && left < s.took+time.Duration(must-1-n)*2*s.pace.unload
		began := time.Now()
		if err := s.cycle(ctx, srv, n, brief); err != nil {
			return s.booked(ctx, srv, err)
		}
		if !brief {
			s.took = max(s.pace.cycle(), time.Since(began))
		}
	}
	return s.booked(ctx, srv, srv.stop(ctx, s.pace.patience))
}

// booked books why a life ended with err, if that is the server's doing, and returns what ends the run.
func (s *soaker) booked(ctx context.Context, srv *server, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var d death
	var h hang
	switch {
	case s.book.hopeless():
	case errors.As(err, &d):
		s.book.fault(ended, "%v", d)
	case errors.As(err, &h):
		s.book.fault(hung, "%v", h)
	case srv.died():
		s.book.fault(ended, "%v", srv.end())
	default:
		return err
	}
	return errOver
}

// cycle loads the server, measures it, and has it unload its model, as it did n times before in this life. The bursts of a brief
// cycle are single requests.
func (s *soaker) cycle(ctx context.Context, srv *server, n int, brief bool) error {
	length := s.pace.burst
	if brief {
		length = 0
	}
	s.book.takeLatency()
	for burst := range s.pace.measured + 1 {
		if err := s.load(ctx, srv, length); err != nil {
			return err
		}
		if err := srv.quiet(ctx, s.pace.patience); err != nil {
			return err
		}
		if burst == 0 {
			s.book.takeLatency() // the first requests waited for the model, and touched memory for the first time
			continue
		}
		if err := s.sample(srv, n, false); err != nil {
			return err
		}
	}
	if ms := s.book.takeLatency(); len(ms) > 0 && !brief && s.lives%2 == 1 {
		s.latency = append(s.latency, statistics.Median(ms))
	}
	if err := srv.sleep(ctx, s.pace.patience); err != nil {
		return err
	}
	if err := s.settle(ctx, srv); err != nil {
		return err
	}
	s.reloads++
	return s.sample(srv, n, true)
}

// returned waits until the pool has the pages again that a life took from it, and keeps how many are lost if they do not come.
func (s *soaker) returned(ctx context.Context, before int) {
	more := 0
	for range 20 {
		now, err := s.lost()
		if more = now - before; err != nil || more <= 0 || ctx.Err() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.missing = max(s.missing, more)
}

// say shows how far the run is.
func (s *soaker) say() {
	s.step.Count(int(time.Since(s.start).Seconds()), int(s.Duration.Seconds()), "s, "+s.summary())
}

func (s *soaker) summary() string {
	return fmt.Sprintf("%v, %d reloads, %d processes", s.book, s.reloads, s.lives)
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
