package fault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var killScenarios = []scenario{
	{"SIGKILL in the middle of a load", "the next start gives the same answer", killedLoading},
	{"SIGTERM in the middle of a load", "ends at once", terminatedLoading},
	{"SIGKILL in the middle of an answer", "the next start on the same port gives the same answer", killedAnswering},
	{"SIGTERM in the middle of an answer", "ends by itself, with exit status 0, when the client has gone", terminatedAnswering},
}

// standstill is a program that stands still in the middle of its load.
type standstill struct {
	*process
	log *os.File
}

// standStill starts c with ZT_LOG=1 and a pipe for its log that has room for a few lines only. When the pipe is full the program waits
// in write(2), with some tensors packed and others not.
func (l *lab) standStill(ctx context.Context, c call) (*standstill, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	fail := func(err error) (*standstill, error) {
		r.Close()
		return nil, fmt.Errorf("a full pipe: %w", err)
	}
	size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil {
		return fail(err)
	}
	// two lines come before the first tensor's
	const room, line = 600, 120
	if _, err := w.Write(bytes.Repeat([]byte{'\n'}, size-room)); err != nil {
		return fail(err)
	}
	c.stderr = w
	p, err := l.start(ctx, c.env("ZT_LOG=1"))
	if err != nil {
		return fail(err)
	}
	for last, since := 0, time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if p.ended() {
			return fail(fmt.Errorf("%s ended before it was full: %w", c, firstError(p.end.failed(), io.ErrUnexpectedEOF)))
		}
		n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil {
			return fail(err)
		}
		if n != last {
			last, since = n, time.Now()
		}
		if n > size-line && time.Since(since) > 100*time.Millisecond {
			return &standstill{p, r}, nil
		}
	}
}

// goOn lets the program write its log and returns how it ended.
func (s *standstill) goOn(ctx context.Context) (end, error) {
	log, err := io.ReadAll(s.log)
	s.log.Close()
	e, waitErr := s.wait(ctx)
	e.stderr = string(log)
	return e, firstError(waitErr, err)
}

// finish sends the program a signal where it stands and returns how it ended.
func (s *standstill) finish(ctx context.Context, with syscall.Signal) (end, error) {
	defer s.log.Close()
	s.kill(with)
	return s.wait(ctx)
}

// endedBy is nil if e was ended by the signal it was sent and by nothing else.
func endedBy(e end, want syscall.Signal) error {
	if e.hung > 0 || e.signal != want {
		return fmt.Errorf("not ended by %s: %w", unix.SignalName(want), firstError(e.failed(), fmt.Errorf("exit status 0: %s", e.call)))
	}
	return nil
}

func killedLoading(ctx context.Context, l *lab) (string, error) {
	for range 3 {
		s, err := l.standStill(ctx, l.greedy(l.model))
		if err != nil {
			return "", err
		}
		e, err := s.finish(ctx, unix.SIGKILL)
		if err == nil {
			err = endedBy(e, unix.SIGKILL)
		}
		if err != nil {
			return "", err
		}
		if e, err = l.run(ctx, l.greedy(l.model)); err == nil {
			err = l.answered(ctx, e, l.greedy(l.model))
		}
		if err != nil {
			return "", err
		}
	}
	return "killed three times, the same answer each time after", nil
}

func terminatedLoading(ctx context.Context, l *lab) (string, error) {
	s, err := l.standStill(ctx, l.service(l.model).with("--host", "127.0.0.1", "--port", "0"))
	if err != nil {
		return "", err
	}
	start := time.Now()
	e, err := s.finish(ctx, unix.SIGTERM)
	if err == nil && e.code != 0 {
		err = endedBy(e, unix.SIGTERM)
	}
	return fmt.Sprintf("ended after %d ms", time.Since(start).Milliseconds()), err
}

// longAnswer is more tokens than are made before a signal arrives.
const longAnswer = 3000

// answering starts a server and has it begin a long answer.
func (l *lab) answering(ctx context.Context) (s *server, stop func(), err error) {
	if s, err = l.serve(ctx, l.service(l.model), 0); err != nil {
		return nil, nil, err
	}
	stop, err = s.generate(ctx, longAnswer)
	return s, stop, err
}

func killedAnswering(ctx context.Context, l *lab) (string, error) {
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err != nil {
		return "", err
	}
	s, stop, err := l.answering(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	s.kill(unix.SIGKILL)
	e, err := s.wait(ctx)
	if err == nil {
		err = endedBy(e, unix.SIGKILL)
	}
	if err != nil {
		return "", err
	}
	if s, err = l.serve(ctx, l.service(l.model), s.port); err != nil {
		return "", err
	}
	answer, err := s.answer(ctx)
	if err == nil {
		err = same(s.call, answer, want)
	}
	if err == nil {
		e, err = s.stop(ctx)
	}
	return "the same answer on the same port", firstError(err, e.failed())
}

// terminatedAnswering has the client go too: stock waits 30 s for one that stays.
func terminatedAnswering(ctx context.Context, l *lab) (string, error) {
	s, stop, err := l.answering(ctx)
	if err != nil {
		return "", err
	}
	start := time.Now()
	s.kill(unix.SIGTERM)
	stop()
	e, err := s.wait(ctx)
	return fmt.Sprintf("ended after %d ms", time.Since(start).Milliseconds()), firstError(err, e.failed())
}
