package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// call is one start of a program.
type call struct {
	build  program.Build
	name   string
	args   []string
	under  []string // a command that starts the program with less than it would have, such as prlimit with its options
	cgroup *os.File // the cgroup to start in; nil for the harness's own
	stdout *os.File // where stdout goes; nil to keep it
	stderr *os.File // where stderr goes; nil to keep it
}

// with is c with more arguments.
func (c call) with(args ...string) call {
	c.args = slices.Concat(c.args, args)
	return c
}

// env is c with more environment variables, each NAME=value.
func (c call) env(variables ...string) call {
	c.build = c.build.With(variables...)
	return c
}

func (c call) words() []string {
	words := []string{filepath.Join(c.build.Bin, c.name)}
	if len(c.under) > 0 {
		words = slices.Concat(c.under, []string{"--"}, words)
	}
	return slices.Concat(words, c.args)
}

// String is the line that a person types to see the same.
func (c call) String() string {
	return strings.Join(slices.Concat(c.build.Env, c.words()), " ")
}

// process is a running call.
type process struct {
	call           call
	pid            int
	stdout, stderr child.Output
	done           chan struct{} // closed when end holds
	end            end
}

// end is how a process ended and what it printed.
type end struct {
	call           call
	code           int            // exit status, -1 after a signal
	signal         syscall.Signal // that ended it, 0 for none
	hung           time.Duration  // how long it was waited for in vain, 0 where it ended by itself
	left           bool           // processes that it started outlived it; they are killed by now
	stdout, stderr string
}

// errHung ends a process that did not end in time.
var errHung = errors.New("time limit")

// start starts c in a process group of its own, in the work folder, without the harness's own ZT_* switches. It is killed with
// all that it started when the lab's time limit is over or ctx ends.
func (l *lab) start(ctx context.Context, c call) (*process, error) {
	limited, cancel := context.WithTimeoutCause(ctx, l.limit, errHung)
	words := c.words()
	cmd := child.Command(limited, words[0], words[1:]...)
	cmd.Dir = l.work
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ZT_") && !strings.HasPrefix(v, "LLAMA_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = slices.Concat(cmd.Env, []string{"TMPDIR=" + l.work}, c.build.Env)
	if c.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(c.cgroup.Fd())
	}
	p := &process{call: c, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	if c.stderr != nil {
		cmd.Stderr = c.stderr
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	p.pid = cmd.Process.Pid
	l.running = append(l.running, p)
	go func() {
		defer close(p.done)
		defer cancel()
		_ = cmd.Wait() // what it says is in ProcessState
		p.end = end{call: c, code: cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String(), left: killGroup(p.pid)}
		if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
			p.end.signal = s.Signal()
		}
		if context.Cause(limited) == errHung {
			p.end.hung = l.limit
		}
	}()
	return p, nil
}

// killGroup reports whether a process of the group is still there once its first one has ended, and kills it. One that is just
// ending gets a moment.
func killGroup(group int) bool {
	for range 50 {
		if errors.Is(unix.Kill(-group, 0), unix.ESRCH) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = unix.Kill(-group, unix.SIGKILL)
	return true
}

// wait returns how p ended. The error is for a run that was cancelled.
func (p *process) wait(ctx context.Context) (end, error) {
	<-p.done
	return p.end, context.Cause(ctx)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill sends p a signal.
func (p *process) kill(s syscall.Signal) { _ = unix.Kill(p.pid, s) }

// status returns the bytes that /proc says p has in a field of its status, such as VmRSS or VmLck.
func (p *process) status(field string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0, err
	}
	return kilobytes(raw, field)
}

// run is start and wait.
func (l *lab) run(ctx context.Context, c call) (end, error) {
	p, err := l.start(ctx, c)
	if err != nil {
		return end{}, err
	}
	return p.wait(ctx)
}

// stopAll kills what a scenario left running.
func (l *lab) stopAll() {
	for _, p := range l.running {
		if !p.ended() {
			_ = unix.Kill(-p.pid, unix.SIGKILL)
		}
		<-p.done
	}
	l.running = nil
}

// crashed is the error of a program that hung, was ended by a signal or left processes behind.
func (e end) crashed() error {
	switch {
	case e.hung > 0:
		return fmt.Errorf("hung: it was still running after %v: %s", e.hung, e.call)
	case e.signal != 0:
		return fmt.Errorf("died by %s: %s%s", unix.SignalName(e.signal), e.call, e.last())
	case e.left:
		return fmt.Errorf("left processes behind: %s", e.call)
	}
	return nil
}

// failed is the error of a program that crashed or did not exit with status 0.
func (e end) failed() error {
	if err := e.crashed(); err != nil {
		return err
	}
	if e.code != 0 {
		return fmt.Errorf("exit status %d: %s%s", e.code, e.call, e.last())
	}
	return nil
}

// refused is nil if the program ended by itself with an exit status other than 0 and one line said why: it holds one of the given
// phrases. It returns that line.
func (e end) refused(phrases ...string) (string, error) {
	if err := e.crashed(); err != nil {
		return "", err
	}
	if e.code == 0 {
		return "", fmt.Errorf("went on as if nothing were wrong: %s", e.call)
	}
	for line := range strings.Lines(e.stderr) {
		if slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(line, p) }) {
			return strings.TrimSpace(line), nil
		}
	}
	return "", fmt.Errorf("exit status %d, but no line says %q: %s%s", e.code, phrases, e.call, e.last())
}

// said is nil if exactly one line of stderr holds phrase. It returns that line.
func (e end) said(phrase string) (string, error) {
	var found []string
	for line := range strings.Lines(e.stderr) {
		if strings.Contains(line, phrase) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d lines say %q, not one: %s%s", len(found), phrase, e.call, e.last())
	}
	return found[0], nil
}

// last is the last line on stderr, for messages.
func (e end) last() string {
	lines := strings.Split(strings.TrimSpace(e.stderr), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return ": " + last
	}
	return ""
}
