// Package roofline measures what every speed of this project is set against: how fast the machine reads memory, and how many
// multiplications and additions of 8-bit integers, float32 and bfloat16 it does.
package roofline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
)

// Everything is measured maxSamples times, or until patience has passed, but minSamples times at least.
const (
	minSamples, maxSamples = 3, 15
	patience               = time.Second
)

// Measure finds the limits of this machine with 1, 2, 4 ... threads, with one on each CPU that this process may use, and with
// the given number, which takes some seconds each. Threads are pinned, one to a CPU, spread over the L3 caches first and cores
// second, and each reads memory that it touched first. count takes the progress. A CPU without AVX-512 is an error.
func Measure(ctx context.Context, threads int, count func(done, total int, doing string)) (Limits, error) {
	if threads < 1 {
		return Limits{}, fmt.Errorf("cannot measure with %d threads", threads)
	}
	if !cpuid.CPU.Has(cpuid.AVX512F) {
		return Limits{}, errors.New("this CPU has no AVX-512, which the measuring kernels are written for")
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return Limits{}, fmt.Errorf("which CPUs may be used: %w", err)
	}
	var cpus []int
	for cpu := range 64 * len(allowed) {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	sys := system{os.DirFS("/sys/devices/system/cpu")}
	free, err := available()
	if err != nil {
		return Limits{}, err
	}
	l, err := sized(sys.l3(cpus), free)
	if err != nil {
		return Limits{}, err
	}
	numbers := []int{threads, len(cpus)}
	for n := 1; n < len(cpus); n *= 2 {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	// Under a CPU quota Go runs fewer threads at once than there are CPUs.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), slices.Max(numbers)+1)))

	spread := sys.spread(cpus)
	scarce := false
	for i, n := range numbers {
		on := make(team, n)
		for t := range on {
			on[t] = spread[t%len(spread)]
		}
		p := Point{Threads: n}
		for j, step := range []struct {
			doing string
			run   func() error
		}{
			{"reading 4 KiB pages", func() (err error) {
				p.Small, _, err = on.read(l.Buffer, small)
				return err
			}},
			{"reading 2 MiB pages", func() error {
				rate, huge, err := on.read(l.Buffer, large)
				if huge >= l.Buffer-l.Buffer/100 {
					p.Huge = rate
				} else if err == nil && !scarce {
					scarce = true
					l.Notes = append(l.Notes, fmt.Sprintf("2 MiB pages could not be had: the kernel gave %d of %d with %d threads; see /sys/kernel/mm/transparent_hugepage/enabled",
						huge/largePage, l.Buffer/largePage, n))
				}
				return err
			}},
			{"multiplying", func() (err error) {
				p.VNNI, p.FMA, p.BF16, err = on.peaks()
				return err
			}},
		} {
			count(3*i+j, 3*len(numbers), fmt.Sprintf("%s, threads: %d", step.doing, n))
			if err := ctx.Err(); err != nil {
				return Limits{}, err
			}
			if err := step.run(); err != nil {
				return Limits{}, err
			}
		}
		l.Points = append(l.Points, p)
	}
	return l, nil
}

// sized returns limits with the buffer to read, in whole large pages: four times the L3 caches, so that little of one sweep is
// left in them for the next, 1 GiB at least, and a quarter of the available memory at most.
func sized(l3, available int64) (Limits, error) {
	var l Limits
	l.Buffer = min(max(1<<30, 4*l3), available/4) &^ (largePage - 1)
	if l.Buffer == 0 {
		return l, fmt.Errorf("%d MiB of memory are available, too few to measure reading with", available>>20)
	}
	if l.Buffer < 4*l3&^(largePage-1) {
		l.Notes = append(l.Notes, fmt.Sprintf("read limits may be too high: a buffer of %d MiB, a quarter of the available memory, is less than four times the L3 caches of %d MiB", l.Buffer>>20, l3>>20))
	}
	return l, nil
}

// Read reads memory once, as Measure's read loop does: all whole ReadChunks of it.
func Read(b []byte) {
	if chunks := len(b) / program.ReadChunk; chunks > 0 {
		zt_read_512(&b[0], int64(chunks))
	}
}

// team is threads by the CPU that each is pinned to.
type team []int

// run has every thread run f at once and returns the time from the first start to the last end.
func (on team) run(f func(thread int)) (time.Duration, error) {
	var (
		done    sync.WaitGroup
		ready   atomic.Int32
		started = make([]time.Time, len(on))
		ended   = make([]time.Time, len(on))
		errs    = make([]error, len(on))
	)
	for i, cpu := range on {
		done.Go(func() {
			// Never unlocked: the thread ends with the goroutine, and its affinity with it.
			runtime.LockOSThread()
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				errs[i] = fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
			}
			ready.Add(1)
			for ready.Load() < int32(len(on)) { // waking up from sleep takes differently long
			}
			started[i] = time.Now()
			f(i)
			ended[i] = time.Now()
		})
	}
	done.Wait()
	first, last := slices.MinFunc(started, time.Time.Compare), slices.MaxFunc(ended, time.Time.Compare)
	return last.Sub(first), errors.Join(errs...)
}

// rate measures operations a second of f, which does work operations on each thread.
func (on team) rate(work float64, f func(thread int)) (Rate, error) {
	var r Rate
	for began := time.Now(); len(r) < minSamples || len(r) < maxSamples && time.Since(began) < patience; {
		took, err := on.run(f)
		if err != nil {
			return nil, err
		}
		r = append(r, work*float64(len(on))/took.Seconds())
	}
	return r, nil
}

// peaks measures the arithmetic that the CPU has instructions for.
func (on team) peaks() (vnni, fma, bf16 Rate, err error) {
	const rounds = 2 << 20 // some 5 to 25 ms
	measure := func(ops float64, kernel func(thread int)) (r Rate) {
		if err == nil {
			r, err = on.rate(rounds*program.PeakChains*ops, kernel)
		}
		return r
	}
	// Operands of many set bits, for what they cost in power and so in clock.
	bytes := [64]byte([]byte(strings.Repeat("\x55\x6b\x35\x5b", 16)))
	floats := [16]float32(slices.Repeat([]float32{0.7, 1.3}, 8))
	halves := [64]byte([]byte(strings.Repeat("\x35\x3f\x9b\x3f", 16)))
	if cpuid.CPU.Has(cpuid.AVX512VNNI) {
		vnni = measure(program.VNNIOps, func(int) {
			var sum [64]byte
			zt_peak_vpdpbusd_512(rounds, &bytes[0], &bytes[0], &sum[0])
		})
	}
	fma = measure(program.FMAOps, func(int) {
		var sum [16]float32
		zt_peak_vfmadd_512(rounds, &floats[0], &floats[0], &sum[0])
	})
	if cpuid.CPU.Has(cpuid.AVX512BF16) {
		bf16 = measure(program.BF16Ops, func(int) {
			var sum [16]float32
			zt_peak_vdpbf16ps_512(rounds, &halves[0], &halves[0], &sum[0])
		})
	}
	return vnni, fma, bf16, err
}

// read measures bytes a second that the threads read of a buffer together, each its own contiguous part, and returns how many
// bytes of the buffer lie in large pages.
func (on team) read(size int64, kind pages) (r Rate, huge int64, err error) {
	b, err := mapBuffer(size, kind)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, b.unmap()) }()
	chunks := size / program.ReadChunk / int64(len(on))
	part := chunks * program.ReadChunk
	if chunks == 0 {
		return nil, 0, fmt.Errorf("a buffer of %d bytes is too small for %d threads", size, len(on))
	}
	if _, err = on.run(func(thread int) {
		at, end := part*int64(thread), part*int64(thread+1)
		if thread == len(on)-1 {
			end = size
		}
		for ; at < end; at += smallPage {
			b.bytes[at] = 1
		}
	}); err != nil {
		return nil, 0, err
	}
	if huge, err = b.huge(); err != nil {
		return nil, 0, err
	}
	r, err = on.rate(float64(part), func(thread int) { zt_read_512(&b.bytes[part*int64(thread)], chunks) })
	return r, huge, err
}
