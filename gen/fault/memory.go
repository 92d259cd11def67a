package fault

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	saysNoMemory = "no memory for"           // packed weights, with what to do about it
	saysScarce   = "MiB of memory available" // before a load that may not fit
	saysNoLock   = "failed to mlock"         // stock's warning
)

var memoryScenarios = []scenario{
	{"address space too small for the packed weights", "one line says so and names the remedy", spaceTooSmall},
	{"model larger than all memory", "one line says so and names the remedy", modelTooLarge},
	{"model larger than the free memory", "a warning before the kernel kills the program", modelTooLargeNow},
	{"no thread can be started while packing", "right answer", noThreads},
	{"mlock limit too small", "right answer; a warning, as stock", lockLimit},
	{"mlock", "packed weights are locked", locked},
}

// staged is an argument to a call of llama-completion or llama-server: weights are read into memory rather than mapped.
func staged(c call) call { return c.with("--load-mode", "none") }

// noRoom is nil if e ended for want of memory for packed weights and said so once, with the remedy.
func noRoom(e end) (string, error) {
	line, err := e.refused(saysNoMemory)
	if err == nil {
		_, err = e.said(saysNoMemory)
	}
	if err == nil && !strings.Contains(line, "--no-repack") {
		err = fmt.Errorf("no remedy in %q: %s", line, e.call)
	}
	return line, err
}

func spaceTooSmall(ctx context.Context, l *lab) (string, error) {
	model, err := l.sparse(3 * gib)
	if err != nil {
		return "", err
	}
	c := staged(l.completion(model))
	if c.under, err = prlimit(fmt.Sprintf("--as=%d", 2*gib)); err != nil {
		return "", err
	}
	e, err := l.run(ctx, c)
	if err != nil {
		return "", err
	}
	return noRoom(e)
}

// overcommit is the kernel's policy: 1 promises any amount of memory.
func overcommit() string {
	raw, _ := os.ReadFile("/proc/sys/vm/overcommit_memory")
	return strings.TrimSpace(string(raw))
}

// allMemory is RAM and swap in bytes, available or in all.
func allMemory(ram, swap string) (int64, error) {
	n, err := memory(ram)
	if err != nil {
		return 0, err
	}
	m, err := memory(swap)
	return n + m, err
}

func modelTooLarge(ctx context.Context, l *lab) (string, error) {
	if overcommit() == "1" {
		return "", skip("vm.overcommit_memory=1: the kernel promises any amount of memory")
	}
	size, err := allMemory("MemTotal", "SwapTotal")
	if err != nil {
		return "", err
	}
	model, err := l.sparse(size + gib)
	if err != nil {
		return "", err
	}
	p, err := l.start(ctx, staged(l.completion(model)))
	if err != nil {
		return "", err
	}
	if err := l.spare(ctx, p, func() bool { return false }); err != nil {
		return "", err
	}
	return noRoom(p.end)
}

func modelTooLargeNow(ctx context.Context, l *lab) (string, error) {
	size, err := allMemory("MemAvailable", "SwapFree")
	if err != nil {
		return "", err
	}
	model, err := l.sparse(size + 256*mib)
	if err != nil {
		return "", err
	}
	p, err := l.start(ctx, staged(l.completion(model)))
	if err != nil {
		return "", err
	}
	warned := func() bool { return strings.Contains(p.stderr.String(), saysScarce) }
	if err := l.spare(ctx, p, warned); err != nil {
		return "", err
	}
	if !warned() { // the kernel may know right away that this is too much
		return noRoom(p.end)
	}
	return p.end.said(saysScarce)
}

// spare waits until p has ended, and kills it as soon as it is to be or takes more memory than a program that gives up would: a build
// that fails here must not take the machine's memory with it.
func (l *lab) spare(ctx context.Context, p *process, enough func() bool) error {
	const most = 2 * gib
	for !p.ended() {
		if rss, err := p.status("VmRSS"); enough() {
			p.kill(unix.SIGKILL)
		} else if err == nil && rss > most {
			p.kill(unix.SIGKILL)
			<-p.done
			return fmt.Errorf("took %d MiB of memory, said nothing and went on: %s%s", rss/mib, p.call, p.end.last())
		}
		time.Sleep(5 * time.Millisecond)
	}
	_, err := p.wait(ctx)
	return err
}

// noThreads gives each thread's stack more room than the address space has. With one thread, nothing but packing starts any.
func noThreads(ctx context.Context, l *lab) (got string, err error) {
	c := l.greedy(l.model)
	if c.under, err = prlimit(fmt.Sprintf("--stack=%d", 64*gib), fmt.Sprintf("--as=%d", 32*gib)); err != nil {
		return "", err
	}
	e, err := l.run(ctx, c)
	if err == nil {
		err = l.answered(ctx, e, l.greedy(l.model))
	}
	return "right answer", err
}

func lockLimit(ctx context.Context, l *lab) (string, error) {
	under, err := l.unlocked(64 * kib)
	if err != nil {
		return "", err
	}
	for _, mode := range []string{"mlock", "mmap+mlock"} {
		c := l.completion(l.model).with("--load-mode", mode)
		c.under = under
		e, err := l.run(ctx, c)
		if err == nil {
			err = l.answered(ctx, e, l.completion(l.model))
		}
		if err == nil && !strings.Contains(e.stderr, saysNoLock) {
			err = fmt.Errorf("no warning that nothing is locked: %s", e.call)
		}
		if err != nil {
			return "", err
		}
	}
	return "right answers and warnings", nil
}

func locked(ctx context.Context, l *lab) (string, error) {
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err != nil {
		return "", err
	}
	size, err := os.Stat(l.model)
	if err != nil {
		return "", err
	}
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &most); err != nil {
		return "", err
	}
	if !l.root && most.Cur < uint64(2*size.Size()) {
		return "", skip("the limit on locked memory is %d KiB, and only root is not bound by it", most.Cur/kib)
	}
	m, err := readImage(l.model)
	if err != nil {
		return "", err
	}
	var got []string
	for _, mode := range []string{"mlock", "mmap+mlock"} {
		s, err := l.serve(ctx, l.service(l.model).with("--load-mode", mode).env("ZT_HUGEPAGES=thp"), 0)
		if err != nil {
			return "", err
		}
		locked, err := s.status("VmLck")
		if err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err == nil {
			err = same(s.call, answer, want)
		}
		if err != nil {
			return "", err
		}
		weights := size.Size() - m.data()
		if locked < weights {
			return "", fmt.Errorf("%d KiB are locked and the weights take %d: %s", locked/kib, weights/kib, s.call)
		}
		if e, err := s.stop(ctx); err != nil || e.failed() != nil {
			return "", fmt.Errorf("%w", firstError(err, e.failed()))
		}
		got = append(got, fmt.Sprintf("%s: %d KiB locked for %d of weights", mode, locked/kib, weights/kib))
	}
	return strings.Join(got, "; "), nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
