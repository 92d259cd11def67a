// Package progress tells the person at the terminal what a long run is doing: one line per step with what it did and how long
// it took, and a bar while a step counts. Without a terminal the bar becomes a plain line now and then.
package progress

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Log prints steps. Its methods may be called from several goroutines.
type Log struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	width    int
	last     time.Time // when the last bar or plain progress line was printed
	barShown bool
}

// plainEvery spaces progress lines where there is no terminal to redraw.
const plainEvery = 15 * time.Second

// New returns a Log on f, drawing bars if f is a terminal.
func New(f *os.File) *Log {
	l := &Log{out: f, terminal: term.IsTerminal(int(f.Fd()))}
	if l.terminal {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			l.width = w
		}
	}
	return l
}

// To returns a Log that writes plain lines to w.
func To(w io.Writer) *Log { return &Log{out: w} }

// Step is one running step.
type Step struct {
	log   *Log
	name  string
	start time.Time
	did   string
}

// Step runs f as a step called name and prints one line when it ends: what f said it did with Did, and the time it took.
// f's error comes back with the step's name in front.
func (l *Log) Step(ctx context.Context, name string, f func(context.Context, *Step) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s := &Step{log: l, name: name, start: time.Now()}
	l.mu.Lock()
	l.last = s.start
	l.mu.Unlock()
	err := f(ctx, s)
	took := time.Since(s.start).Round(100 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	if err != nil {
		fmt.Fprintf(l.out, "%-11s failed after %v\n", name, took)
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(l.out, "%-11s %s (%v)\n", name, s.did, took)
	return nil
}

// Did records what the step did, for its closing line.
func (s *Step) Did(format string, args ...any) { s.did = fmt.Sprintf(format, args...) }

// Say prints a line of its own at once: an announcement the person should see before the step ends.
func (s *Step) Say(format string, args ...any) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.clear()
	fmt.Fprintf(s.log.out, "%-11s %s\n", s.name, fmt.Sprintf(format, args...))
}

// Count shows that done of total are finished and what is being worked on.
func (s *Step) Count(done, total int, doing string) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.terminal {
		if now.Sub(l.last) < 100*time.Millisecond && done < total {
			return
		}
		l.last = now
		l.barShown = true
		const cells = 24
		full := 0
		if total > 0 {
			full = cells * done / total
		}
		line := fmt.Sprintf("%-11s [%s%s] %d/%d %s", s.name, strings.Repeat("#", full), strings.Repeat(".", cells-full), done, total, doing)
		if l.width > 1 && len(line) > l.width-1 {
			line = line[:l.width-1]
		}
		fmt.Fprintf(l.out, "\r\033[K%s", line)
		return
	}
	if now.Sub(l.last) < plainEvery {
		return
	}
	l.last = now
	fmt.Fprintf(l.out, "%-11s %d/%d %s\n", s.name, done, total, doing)
}

// clear removes a bar from the terminal. The caller holds l.mu.
func (l *Log) clear() {
	if l.barShown {
		fmt.Fprint(l.out, "\r\033[K")
		l.barShown = false
	}
}
