package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// kind is a sort of fault that is counted and, but for failed requests, ends a run.
type kind int

const (
	failed kind = iota // a request that was not answered as the interface promises
	ended              // a process that ended by itself, or badly
	hung               // something not done in time
	grew               // memory out of any order
	kinds
)

// book is what the clients and the guard write down. Its methods may be called from several goroutines.
type book struct {
	mu sync.Mutex

	requests, answered, cancelled, tokens int

	exact, wrong int     // answers with one right answer; of them others than that
	near, same   int     // other answers whose margin is known; of them the very transcript
	widest       float64 // margin of near
	faults       [kinds]int
	said         []string // of the first faults and wrong answers
	ms           []float64
	base, peak   int64 // bytes held at first, and most growth over it
	starved      bool
}

// hopeless are the counts from which on more of the same tells nothing new.
const (
	hopelessFailed = 20
	hopelessWrong  = 100
)

func (b *book) hopeless() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over()
}

func (b *book) over() bool {
	return b.faults[ended]+b.faults[hung]+b.faults[grew] > 0 || b.faults[failed] >= hopelessFailed || b.wrong >= hopelessWrong || b.starved
}

func (b *book) fault(k kind, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[k]++
	b.say(fmt.Sprintf(format, args...))
}

func (b *book) remark(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.say(text)
}

// short says whether the machine had no memory left for reasons of its own.
func (b *book) short() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.starved
}

func (b *book) say(text string) {
	if len(b.said) < 20 {
		b.said = append(b.said, text)
	}
}

// note has a question asked and books what came of it.
func (b *book) note(ctx context.Context, srv *server, q *question, how manner, ask func() (answer, error)) {
	b.mu.Lock()
	b.requests++
	b.mu.Unlock()
	start := time.Now()
	a, err := ask()
	took := time.Since(start)
	var h hang
	switch {
	case err == nil:
		b.mu.Lock()
		b.answered++
		b.tokens += q.predict
		if q.length != long && !how.leaves() {
			b.ms = append(b.ms, float64(took)/float64(time.Millisecond)/float64(q.predict))
		}
		b.mu.Unlock()
		want := q.whole
		if how.stream {
			want = q.stream
		}
		b.compared(q, how, a, a.equals(want))
	case errors.Is(err, errLeft):
		b.mu.Lock()
		b.cancelled++
		b.mu.Unlock()
		if q.exact && how.stream {
			b.compared(q, how, a, q.stream.begins(a))
		}
	case ctx.Err() != nil || errors.Is(err, errOver):
	case errors.As(err, &h):
		b.fault(hung, "%v", h)
	default:
		if !srv.died() { // its own fault, which the life books
			b.fault(failed, "%v", err)
		}
	}
}

// compared books whether an answer equals the transcript's.
func (b *book) compared(q *question, how manner, a answer, equal bool) {
	margin, known := 0.0, false
	if !q.exact && !how.stream && !how.leaves() {
		margin, known = q.margin(a)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case q.exact:
		b.exact++
		if !equal {
			b.wrong++
			want := q.whole
			if how.stream {
				want = q.stream
			}
			b.say(fmt.Sprintf("wrong answer to %s %q: %s", how, brief(q.text), want.against(a)))
		}
	case known:
		b.near++
		if equal {
			b.same++
		}
		if margin > b.widest {
			b.widest = margin
			if margin > nearTie.limit {
				b.say(fmt.Sprintf("the answer to %q leaves the transcript where it leads by %.2f: %s", brief(q.text), margin, q.whole.against(a)))
			}
		}
	}
}

// grown books what the server holds, and says whether it must be ended.
func (b *book) grown(now int64, scarce bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.base == 0 {
		b.base = now
	}
	b.peak = max(b.peak, now-b.base)
	switch {
	case b.over():
		return false
	case b.peak > runaway(b.base) || scarce && b.peak > runaway(b.base)/4:
		b.faults[grew]++
		b.say(fmt.Sprintf("ended after it grew by %d MiB", b.peak>>20))
		return true
	case scarce:
		b.starved = true
		return true
	}
	return false
}

// takeLatency returns the ms per token of the answers since the last call.
func (b *book) takeLatency() []float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	ms := b.ms
	b.ms = nil
	return ms
}

func (b *book) made() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := fmt.Sprintf("%d answers, %d wrong, %d cancelled", b.answered, b.wrong, b.cancelled)
	if n := b.faults[failed]; n > 0 {
		text += fmt.Sprintf(", %d requests failed", n)
	}
	return text
}

func (m manner) String() string {
	var how []string
	for _, x := range []struct {
		is   bool
		name string
	}{{m.stream, "streamed"}, {m.cache, "cached"}, {m.leaves(), "cancelled"}} {
		if x.is {
			how = append(how, x.name)
		}
	}
	if how == nil {
		return "plain"
	}
	return strings.Join(how, " ")
}
