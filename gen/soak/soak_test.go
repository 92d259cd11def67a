package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// options soaks a fake server of the given fault for some seconds: enough cycles in its first life, and a second life.
func options(t *testing.T, fault string) Options {
	t.Helper()
	dir := fakeBuild(t, fault)
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return Options{
		Build: program.Build{Name: "tuned", Bin: dir}, Name: "fake", Model: model, Exact: true, Duration: 4 * time.Second, Threads: 1, Seed: 7,
		pace: pace{burst: 60 * time.Millisecond, measured: 2, unload: 100 * time.Millisecond, life: 2500 * time.Millisecond, patience: 5 * time.Second},
		measure: func(int) (m Memory, err error) {
			text, err := os.ReadFile(filepath.Join(dir, memoryFile))
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			return m, err
		},
		lost: func() (int, error) { return 0, nil },
	}
}

func run(t *testing.T, o Options) (Report, error) {
	t.Helper()
	var log bytes.Buffer
	r, err := Run(t.Context(), t.TempDir(), progress.To(&log), o)
	return r, err
}

// failures are the failed checks by case and quantity.
func failures(r Report) []string {
	var names []string
	for _, x := range r.Failed() {
		names = append(names, x.Case+": "+x.Quantity)
	}
	return names
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	o := options(t, "")
	dir := t.TempDir()
	var log bytes.Buffer
	r, err := Run(t.Context(), dir, progress.To(&log), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if r.Answered == 0 || r.Cancelled == 0 || r.Processes < 2 || r.Reloads < enough || r.Interrupted || r.Tokens == 0 || len(r.Samples) < 3*enough {
		t.Errorf("ran too little: %+v", r)
	}
	gated := map[string]bool{}
	for _, x := range r.Results {
		gated[x.Quantity] = x.Gated() && x.Bound != nil && x.Bound.Why != "" || x.Quantity == drift.quantity && x.Ungated != ""
	}
	for _, b := range []bound{wrongAnswers, nearTie, failedRequests, deaths, hangs, logErrors, perRequest, perReload, hugePerReload,
		filesPerReload, threadsPerReload, poolPages, drift, {quantity: "growth at most"}} {
		if !gated[b.quantity] {
			t.Errorf("%s was not judged", b.quantity)
		}
	}
	follows(t, r)
	back, err := Read(dir)
	if err != nil || !reflect.DeepEqual(back.Results, r.Results) || !reflect.DeepEqual(back.Samples, r.Samples) {
		t.Errorf("read back something else (%v)", err)
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "nothing wears out") {
		t.Errorf("table (%v):\n%s", err, table.String())
	}
}

// TestFaults gives the soak servers with one fault each: that fault's own check must fail, and no other.
func TestFaults(t *testing.T) {
	faults := map[string]string{
		"forgets":           "answers: wrong answers",
		"mixes up slots":    "answers: wrong answers",
		"turns at ties":     "", // is none
		"turns anywhere":    "answers: lead where an answer leaves the transcript",
		"loses its head":    "answers: lead where an answer leaves the transcript",
		"refuses":           "requests: failed requests",
		"stops short":       "requests: failed requests",
		"crashes":           "server: ended processes",
		"ends badly":        "server: ended processes",
		"starts once":       "server: ended processes",
		"hangs":             "server: hangs",
		"keeps slots busy":  "server: hangs",
		"keeps its model":   "server: hangs",
		"does not end":      "server: hangs",
		"complains":         "server: errors in the log",
		"leaks per request": "memory: growth per request",
		"leaks per reload":  "memory: growth per reload",
		"leaks huge pages":  "memory: huge pages kept per reload",
		"leaks pool pages":  "memory: huge pages kept per reload",
		"leaks files":       "server: open files per reload",
		"leaks threads":     "server: threads per reload",
		"tires":             "latency: slower at the end",
	}
	type outcome struct {
		r   Report
		err error
	}
	outcomes := make(map[string]outcome)
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		turn = make(chan struct{}, 8) // they mostly wait
	)
	for fault := range faults {
		o := options(t, fault)
		if fault == "tires" {
			o.Duration *= 2 // its last third must be tired, in one process
			o.pace.life = o.Duration
			o.pace.burst /= 2
		}
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			r, err := run(t, o)
			mu.Lock()
			defer mu.Unlock()
			outcomes[fault] = outcome{r, err}
		})
	}
	all.Wait()
	for fault, want := range faults {
		t.Run(fault, func(t *testing.T) {
			r, err := outcomes[fault].r, outcomes[fault].err
			if r.Results == nil {
				t.Fatalf("no report: %v", err)
			}
			follows(t, r)
			got := failures(r)
			if want == "" {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			for _, name := range got {
				// what leaks with a request or a huge page is also there after an unloading, and a failed assertion is logged
				also := name == "memory: growth per reload" && strings.HasPrefix(fault, "leaks") || name == "server: errors in the log" && fault == "crashes"
				if name != want && !also {
					t.Errorf("%s failed too", name)
				}
			}
			if err == nil || !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("failed %q with %v, want %s", got, err, want)
			} else if _, quantity, _ := strings.Cut(want, ": "); !strings.Contains(err.Error(), quantity) {
				t.Errorf("the error does not name %s: %v", quantity, err)
			}
		})
	}
}

// TestInexact soaks a model whose operators promise nothing: answers are held to the transcript up to near ties.
func TestInexact(t *testing.T) {
	t.Parallel()
	o := options(t, "turns at ties")
	o.Exact = false
	r, err := run(t, o)
	if err != nil {
		t.Error(err)
	}
	for _, x := range r.Results {
		if x.Quantity == wrongAnswers.quantity {
			t.Errorf("answers had to be exact: %+v", x)
		}
		if x.Quantity == nearTie.quantity && (x.Value < 0.04 || x.Value > 0.06) {
			t.Errorf("the answer leaves the transcript at a lead of %v, want 0.05", x.Value)
		}
	}
}

func TestLostHugePages(t *testing.T) {
	t.Parallel()
	o := options(t, "")
	start := time.Now()
	o.lost = func() (int, error) { // 6 from the first end on; another program's 2 come and go before that
		switch since := time.Since(start); {
		case since < 100*time.Millisecond:
			return 2, nil
		case since < o.pace.life:
			return 0, nil
		}
		return 8, nil
	}
	o.pools = func() ([]Pool, error) {
		if time.Since(start) < o.pace.life {
			return []Pool{{KiB: 2048, Pages: 10, Free: 8}, {KiB: 1 << 20, Pages: 1}}, nil
		}
		return []Pool{{KiB: 2048, Pages: 10, Free: 2}}, nil
	}
	r, err := run(t, o)
	if got := failures(r); len(got) != 1 || got[0] != "memory: huge pages lost" {
		t.Errorf("failed %q with %v", got, err)
	}
	want := "8 of 10 pages of 2 MiB free before, 2 of 10 after; 0 of 1 pages of 1024 MiB free before"
	if !slices.ContainsFunc(r.Results, func(x report.Result) bool { return x.Quantity == poolPages.quantity && x.Note == want }) || len(r.Before) != 2 || len(r.After) != 1 {
		t.Errorf("pools are %+v, then %+v; results %+v", r.Before, r.After, r.Results)
	}
}

// TestInterrupted ends a run while requests are under way: there is a report of what ran, and no server any more.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	o := options(t, "")
	o.Duration = time.Minute
	var pid int
	measure := o.measure
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("Ctrl-C")
	samples := 0
	o.measure = func(p int) (Memory, error) {
		pid = p
		if samples++; samples == 8 {
			time.AfterFunc(20*time.Millisecond, func() { cancel(reason) })
		}
		return measure(p)
	}
	var log bytes.Buffer
	r, err := Run(ctx, t.TempDir(), progress.To(&log), o)
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), "no fault") {
		t.Errorf("%v, want one that says what interrupted it and that there was no fault", err)
	}
	if !r.Interrupted || r.Answered == 0 || len(r.Failed()) > 0 {
		t.Errorf("%+v, want a report of what ran", r)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the server still runs (%v)", err)
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "interrupted") {
		t.Errorf("table (%v):\n%s", err, table.String())
	}
}

// TestNoReport gives what keeps a soak from being one: an error, and an earlier report stays.
func TestNoReport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault, want string
		change      func(*Options)
	}{
		{"never starts", "failed to load model", func(*Options) {}},
		{"", "too short", func(o *Options) { o.Duration, o.pace = time.Second, pace{} }},
		{"", "went by for", func(o *Options) { o.Duration = 50 * time.Millisecond }},
		{"", "no llama-server", func(o *Options) { o.Build.Bin = o.Model }},
		{"", "model fake", func(o *Options) { o.Model += ".missing" }},
	} {
		o := options(t, c.fault)
		c.change(&o)
		dir := t.TempDir()
		var log bytes.Buffer
		if _, err := Run(t.Context(), dir, progress.To(&log), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: wrote %v (%v)", c.want, entries, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "mage soak") {
		t.Errorf("no report: %v, want the remedy", err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(`{"version":99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "layout version 99") {
		t.Errorf("another version: %v", err)
	}
}

// TestGrown: a server that takes more than its due is ended and at fault; one beside others who do is ended and is not.
func TestGrown(t *testing.T) {
	const start = 400 << 20
	for _, c := range []struct {
		now          int64
		scarce       bool
		end, atFault bool
	}{
		{start + 1<<30, false, false, false},
		{start + runaway(start) + 1, false, true, true},
		{start + 100<<20, true, true, false},
		{start + 600<<20, true, true, true},
	} {
		var b book
		b.grown(start, false)
		if end := b.grown(c.now, c.scarce); end != c.end || b.faults[grew] > 0 != c.atFault || b.short() == c.atFault && c.end {
			t.Errorf("%+v: ended %v, faults %v, short %v", c, end, b.faults, b.short())
		}
	}
}

// TestMeasure takes memory, a file and a thread and looks for them in /proc.
func TestMeasure(t *testing.T) {
	before, err := measure(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	block, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(block) }()
	for i := 0; i < size; i += 4096 {
		block[i] = 1
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	release := make(chan struct{})
	defer close(release)
	running := make(chan struct{})
	for range before.Threads + 1 {
		go func() { runtime.LockOSThread(); running <- struct{}{}; <-release }()
		<-running
	}
	after, err := measure(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.Held() - before.Held(); grown < size*9/10 {
		t.Errorf("held memory grew by %d bytes, want about %d", grown, size)
	}
	if after.Anonymous-before.Anonymous < size*9/10 || after.Files <= before.Files || after.Threads <= before.Threads {
		t.Errorf("%+v, then %+v", before, after)
	}
	if now, err := held(os.Getpid()); err != nil || now < after.Held()/2 {
		t.Errorf("held %d (%v), want about %d", now, err, after.Held())
	}
	if _, err := lostHugePages(); err != nil {
		t.Error(err)
	}
}

// TestSchedule: the same seed asks the same, and every way of asking comes up.
func TestSchedule(t *testing.T) {
	s := soaker{questions: questions(3)}
	if again := questions(3); !reflect.DeepEqual(again, s.questions) {
		t.Error("the same seed makes other questions")
	}
	type asked struct {
		q   *question
		how manner
	}
	list := func(seed uint64) (list []asked) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 300 {
			q, how := s.choose(rng)
			list = append(list, asked{q, how})
		}
		return list
	}
	first := list(1)
	if !reflect.DeepEqual(list(1), first) || reflect.DeepEqual(list(2), first) {
		t.Error("the schedule does not follow its seed")
	}
	seen := map[string]bool{}
	for _, a := range first {
		for name, is := range map[string]bool{
			"chat": a.q.chat, "sampled": a.q.seed != 0, "long": a.q.length == long, "streamed": a.how.stream, "cached": a.how.cache,
			"left while streamed": a.how.leave > 0, "left soon": a.how.leaveAfter > 0, "chat streamed": a.q.chat && a.how.stream,
		} {
			seen[name] = seen[name] || is
		}
		if a.q.length == long && (a.how.cache || a.how.stream && !a.how.leaves()) {
			t.Errorf("a long question asked %v", a.how)
		}
	}
	if len(seen) != 8 {
		t.Errorf("seen %v", seen)
	}
	for name, is := range seen {
		if !is {
			t.Errorf("nothing was %s", name)
		}
	}
	firsts := map[string]bool{}
	for _, q := range s.questions {
		word, _, _ := strings.Cut(q.text, " ")
		if firsts[word] {
			t.Errorf("two questions begin with %q", word)
		}
		firsts[word] = true
	}
}

// TestPlan: whatever the length of a run, there are cycles enough to judge by, and none is so long that a leak fills the machine.
func TestPlan(t *testing.T) {
	for _, length := range []time.Duration{Shortest, 90 * time.Second, 10 * time.Minute, 24 * time.Hour} {
		p := plan(length)
		if p.burst <= 0 || p.cycle() > time.Minute || p.life > 30*time.Minute || time.Duration(2*enough)*p.cycle() > length {
			t.Errorf("%v: %+v, cycles of %v", length, p, p.cycle())
		}
	}
}

// TestMargin: where an answer leaves the transcript decides whether that is a tie.
func TestMargin(t *testing.T) {
	tops := []top{{5, -1}, {6, -1.25}, {7, -4}}
	q := question{whole: answer{tokens: []int{4, 5, 9}, tops: [][]top{{{4, 0}}, tops, nil}}}
	for _, c := range []struct {
		tokens []int
		margin float64
		known  bool
	}{
		{[]int{4, 5, 9}, 0, true},
		{[]int{4, 6, 1}, 0.25, true}, // what follows does not count
		{[]int{4, 7, 9}, 3, true},    //
		{[]int{4, 1, 9}, 3, true},    // at least
		{[]int{1, 5, 9}, 0, false},   // only one was told: it may be close behind
		{[]int{4, 5, 1}, 0, false},   // nothing was told
		{[]int{4, 5}, 0, false},      // not of the length asked for
	} {
		if margin, known := q.margin(answer{tokens: c.tokens}); known != c.known || known && margin != c.margin {
			t.Errorf("%v: %v %v, want %v %v", c.tokens, margin, known, c.margin, c.known)
		}
	}
}

func TestFailureNamesAll(t *testing.T) {
	r := Report{Faults: []string{"boom"}, Results: []report.Result{
		wrongAnswers.judge(Options{}, "answers", 2, nil), hangs.judge(Options{}, "server", 0, nil), deaths.judge(Options{}, "server", 1, nil),
	}}
	err := failure(r)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"2 checks", "wrong answers 2", "ended processes 1", "boom"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "hangs") {
		t.Errorf("%v names what holds", err)
	}
}
