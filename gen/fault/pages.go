package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// Pages of packed weights. What the programs say about them:
const (
	saysPages = "of packed weights in" // with ZT_LOG=1, once for each buffer
	saysPool  = "from the huge page pool"
	saysMixed = "in pages of several kinds"      // where the pool had some
	saysShort = "the huge page pool has no room" // where ZT_HUGEPAGES=hugetlb asks for the pool
)

var pageScenarios = []scenario{
	{"huge page pool too small", "right answer; the fallback is said once", poolTooSmall},
	{"no huge page left in the middle of a load", "right answer; the fallback is said once", poolRunsDry},
	{"two programs race for the pool", "right answers; all pages given back", poolRace},
	{"pool shrunk under a running server", "the same answer; all pages given back", poolShrunk},
	{"killed with pages of the pool", "all pages given back", poolKilled},
}

// poolPages is how many pages of the pool the model takes when there are enough.
func (l *lab) poolPages(ctx context.Context) (n int, err error) {
	if l.need > 0 {
		return l.need, nil
	}
	restore, err := l.setPool(plenty)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	e, err := l.run(ctx, l.load(l.model).env("ZT_HUGEPAGES=hugetlb", weightsOnly))
	if err == nil {
		err = e.failed()
	}
	if err != nil {
		return 0, err
	}
	lines, err := program.Lines[struct{ HugeTLB int }]([]byte(e.stdout))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", e.call, err)
	}
	l.need = lines[len(lines)-1].HugeTLB / (hugeMiB * mib)
	if l.need < 2 {
		return 0, l.poolError("of %d free pages in the pool the program takes %d: %s", plenty, l.need, e.call)
	}
	return l.need, nil
}

// plenty is more pages than the model takes.
const plenty = 64

// weightsOnly keeps KV caches and compute buffers out of the pool, so that the pages a model takes are those of its weights in any program
// and context. 1 TiB, in MiB.
const weightsOnly = "ZT_HUGEPAGES_MIN=1048576"

// fallsBack runs c and holds it to the right answer from other pages than the pool's, for some of the weights at least, with one line about
// that.
func (l *lab) fallsBack(ctx context.Context, c call, mode string) error {
	phrase := saysShort // always said where the pool was asked for
	if mode == "auto" {
		phrase = saysPages
		c = c.env("ZT_LOG=1")
	}
	e, err := l.run(ctx, c.env("ZT_HUGEPAGES="+mode, weightsOnly))
	if err == nil {
		err = l.answered(ctx, e, l.completion(l.model))
	}
	if err != nil {
		return err
	}
	line, err := e.said(phrase)
	if err == nil && strings.Contains(line, saysPool) && !strings.Contains(line, saysMixed) {
		err = fmt.Errorf("the program says %q, but the pool has too little: %s", line, e.call)
	}
	return err
}

func poolTooSmall(ctx context.Context, l *lab) (got string, err error) {
	n, err := l.poolPages(ctx)
	if err != nil {
		return "", err
	}
	restore, err := l.setPool(n - 1)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	for _, mode := range []string{"auto", "hugetlb"} {
		if err := l.fallsBack(ctx, l.completion(l.model), mode); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("falls back with %d pages of %d", n-1, n), nil
}

// poolRunsDry lets mmap reserve all pages and half of them fail when they are touched: this is what a limit on a container's huge pages
// does.
func poolRunsDry(ctx context.Context, l *lab) (got string, err error) {
	n, err := l.poolPages(ctx)
	if err != nil {
		return "", err
	}
	restore, err := l.setPool(2 * n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	group, remove, err := l.hugeLimit(n / 2)
	if err != nil {
		return "", err
	}
	defer remove()
	c := l.completion(l.model)
	c.cgroup = group
	for _, mode := range []string{"auto", "hugetlb"} {
		if err := l.fallsBack(ctx, c, mode); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("falls back after %d pages of %d", n/2, n), nil
}

func poolRace(ctx context.Context, l *lab) (got string, err error) {
	const rounds = 4
	n, err := l.poolPages(ctx)
	if err != nil {
		return "", err
	}
	restore, err := l.setPool(n + n/2) // room for one
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	pool := 0
	for range rounds {
		var racers [2]*process
		for i := range racers {
			if racers[i], err = l.start(ctx, l.completion(l.model).env("ZT_LOG=1", weightsOnly)); err != nil {
				return "", err
			}
		}
		for _, p := range racers {
			e, err := p.wait(ctx)
			if err == nil {
				err = l.answered(ctx, e, l.completion(l.model))
			}
			if err != nil {
				return "", err
			}
			line, err := e.said(saysPages)
			if err != nil {
				return "", err
			}
			if strings.Contains(line, saysPool) {
				pool++
			}
		}
	}
	if pool == 0 {
		return "", l.poolError("in %d races for a pool with room for one, no program got it", rounds)
	}
	return fmt.Sprintf("%d races, %d programs got the pool", rounds, pool), nil
}

// pooled starts a server whose weights are in the pool and returns what makes the pool as it was.
func (l *lab) pooled(ctx context.Context) (s *server, n int, restore func() error, err error) {
	if n, err = l.poolPages(ctx); err != nil {
		return nil, 0, nil, err
	}
	if restore, err = l.setPool(n); err != nil {
		return nil, 0, nil, err
	}
	s, err = l.serve(ctx, l.service(l.model).env("ZT_HUGEPAGES=hugetlb", weightsOnly), 0)
	if err == nil {
		var taken pages
		if taken, err = l.pool.read(); err == nil && taken.free != 0 {
			err = l.poolError("the server's weights take %d pages of the pool, not %d: %s", n-taken.free, n, s.call)
		}
	}
	if err != nil {
		err = errors.Join(err, restore())
	}
	return s, n, restore, err
}

func poolShrunk(ctx context.Context, l *lab) (got string, err error) {
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err != nil {
		return "", err
	}
	s, n, restore, err := l.pooled(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	if err := l.pool.resize(0); err != nil {
		return "", err
	}
	answer, err := s.answer(ctx)
	if err == nil {
		err = same(s.call, answer, want)
	}
	if err != nil {
		return "", err
	}
	e, err := s.stop(ctx)
	if err == nil {
		err = e.failed()
	}
	if err == nil {
		err = l.settled(ctx, pages{})
	}
	return fmt.Sprintf("the same answer; %d pages given back", n), err
}

func poolKilled(ctx context.Context, l *lab) (got string, err error) {
	s, n, restore, err := l.pooled(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, restore()) }()
	s.kill(unix.SIGKILL)
	if _, err := s.wait(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d pages given back", n), l.settled(ctx, pages{total: n, free: n})
}
