// Package tune measures the GEMM kernels beside what the throughput model of package ports says of them, and the choices that a target
// stores: how many rows a tile has, and how much of the L2 cache a part of a matrix may fill.
//
// The clock of a CPU changes with its load, and other guests of a shared machine take their part. So no time is measured: everything is
// measured in turns with the kernel that does nothing but VPDPBUSD, and its unit is the cycle in which that kernel does as many as the CPU
// can.
package tune

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	measuring "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	roofline "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// Result is what was measured on a machine.
type Result struct {
	Target  target.Target
	Host    target.CPU
	CPU     int     // of ports.CPUs
	Load    float64 // average of the machine before
	Kernels []Kernel
	Rows    []Choice // tiles of 2 rows and more, by type
	L2      []Choice // parts of the L2 cache, by type
}

// Kernel is a kernel's bound and the cycles that it took for a block of a panel in the L2 cache.
type Kernel struct {
	ports.Row
	Cycles Samples
}

// Choice is a way to multiply a matrix.
type Choice struct {
	Shape
	Type string
	Tile int     // rows
	L2   float64 // the part of the cache that the weights of a part of the matrix may fill
	// Share of the peak of VPDPBUSD that the products reached.
	Share Samples
}

// Samples are measurements of one thing.
type Samples []float64

// Median returns the middle one.
func (s Samples) Median() float64 { return statistics.Median(s) }

// Interval returns a 95 % interval of the median.
func (s Samples) Interval() statistics.Interval { return statistics.Bootstrap(s) }

// rounds are how often everything is measured.
const (
	kernelRounds = 31
	matrixRounds = 11
)

// sample is the least time of a measurement: long against reading the clock and short against what changes the clock of a CPU.
const sample = 300 * time.Microsecond

// model finds the CPU among those of the throughput model.
func model(cpu target.CPU) (int, error) {
	name := ""
	zen5, err := target.Find("zen5")
	switch {
	case err != nil:
		return 0, err
	case zen5.Accepts(cpu) == nil:
		name = "zen5"
	case cpu.Vendor == "AuthenticAMD" && cpu.Family == 0x19:
		name = "zen4"
	case cpu.Vendor == "GenuineIntel":
		name = "intel"
	}
	i := slices.IndexFunc(ports.CPUs, func(c ports.CPU) bool { return c.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("the throughput model has no ports for %s: gen/ports/cpus.go is where to add them", cpu)
	}
	return i, nil
}

// Check says why t cannot be tuned on a CPU, or nil if it can.
func Check(t target.Target, cpu target.CPU) error {
	if !cpu.Has(cpuid.AVX512VNNI) {
		return fmt.Errorf("%s has no AVX512_VNNI, which all kernels are written for: there is nothing to tune here", cpu)
	}
	if err := t.Accepts(cpu); err != nil {
		return fmt.Errorf("cannot tune %s: %w; tune it on such a machine, or ZT_TARGET=bringup here", t.Name, err)
	}
	_, err := model(cpu)
	return err
}

// Measure measures kernels, and products of matrices by them, with one thread. It takes a minute or two; count takes the progress.
// The CPU must be one that Check lets pass.
func Measure(ctx context.Context, t target.Target, cpu target.CPU, count func(done, total int, doing string)) (Result, error) {
	r := Result{Target: t, Host: cpu}
	var err error
	if r.CPU, err = model(cpu); err != nil {
		return r, err
	}
	rows, err := ports.Rows(program.Programs())
	if err != nil {
		return r, err
	}
	doubt, err := ports.Rows(slices.DeleteFunc(roofline.Programs(), func(p kernel.Program) bool { return p.Name != together }))
	if err != nil {
		return r, err
	}
	m, err := memoryFor(rows)
	if err != nil {
		return r, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := newBench(ports.CPUs[r.CPU], m)
	err = r.kernels(ctx, b, m, append(rows, doubt...), count)
	if err == nil {
		err = r.matrices(ctx, b, m, rows, count)
	}
	return r, errors.Join(err, m.unmap())
}

// bench measures in cycles.
type bench struct {
	peak   peak
	rounds int     // of the peak kernel, for one sample
	cycles float64 // that they take
}

func newBench(c ports.CPU, m *memory) *bench {
	b := &bench{peak: newPeak(m), rounds: 1 << 10}
	for {
		start := busy()
		b.peak.run(b.rounds)
		if busy()-start >= sample {
			break
		}
		b.rounds *= 2
	}
	b.cycles = float64(b.rounds*roofline.PeakChains) / c.Peak()
	return b
}

// busy returns the time that this thread, which the caller is locked to, has had of a CPU: other programs on the machine do not count.
func busy() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(t.Nano())
}

// turn measures each of fs once, in cycles. The peak kernel runs before and after each.
func (b *bench) turn(fs []func()) []float64 {
	took := make([]float64, len(fs))
	clock := func(f func()) float64 {
		start := busy()
		f()
		return float64(busy() - start)
	}
	unit := func() float64 { return clock(func() { b.peak.run(b.rounds) }) / b.cycles }
	before := unit()
	for i, f := range fs {
		took[i] = clock(f)
		after := unit()
		took[i] /= (before + after) / 2
		before = after
	}
	return took
}

// panels is the bytes of weights that kernels are measured on: more than an L1 cache and much less than an L2 cache has.
func panels(t target.Target) int { return t.L2 / 4 }

// along is the weights of a row of them.
const along = 4096

// expanded is the blocks that a call of a kernel expands: an L1 cache holds them.
const expanded = 2

// together is the kernel that has as many VPMULLD as VPDPBUSD: that they share only one of their pipes on a Zen has no source but the tables of
// compilers, and what types with integer sub-scales can reach depends on it.
const together = "zt_peak_vpdpbusd_vpmulld_512"

// kernels measures each kernel that reads panels, and together.
func (r *Result) kernels(ctx context.Context, b *bench, m *memory, rows []ports.Row, count func(done, total int, doing string)) error {
	var fs []func()
	var work []float64 // blocks of a call
	for _, row := range rows {
		if row.Name == together {
			p := newPeak(m)
			p.entry = measuring.Entries()[together]
			fs = append(fs, func() { p.run(b.rounds) })
			work = append(work, float64(b.rounds))
			r.Kernels = append(r.Kernels, Kernel{Row: row})
			continue
		}
		s := row.Spec()
		if s == nil {
			continue
		}
		f, err := functionOf(row.Info)
		if err != nil {
			return err
		}
		k, next := along/s.Block, 4*weight.PanelRows
		if row.Op == kernel.Expand {
			k, next = expanded, 0
		}
		panel := k * s.PanelBytes()
		n := max(1, panels(r.Target)/panel)
		var calls [][maxArguments]uint64
		for p := range n {
			calls = append(calls, f.lay(arguments{
				argDst: address(m.result) + uint64(p*next), argStride: uint64(n * next), argA: address(m.activations),
				argW: address(m.weights) + uint64(p*panel), argBlocks: uint64(k), argMask: 1<<weight.PanelRows - 1, argWork: address(m.work),
				argNext: address(m.weights) + uint64(p*panel), argStep: 64,
			}))
		}
		once := func() {
			for i := range calls {
				call(f.entry, &calls[i])
			}
		}
		once()
		start := busy()
		once()
		times := int(sample/max(1, busy()-start)) + 1
		fs = append(fs, func() {
			for range times {
				once()
			}
		})
		work = append(work, float64(times*n*k))
		r.Kernels = append(r.Kernels, Kernel{Row: row})
	}
	for round := range kernelRounds {
		count(round, kernelRounds, "kernels")
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		for i, cycles := range b.turn(fs) {
			r.Kernels[i].Cycles = append(r.Kernels[i].Cycles, cycles/work[i])
		}
	}
	if len(fs) == 0 {
		return errors.New("there is no kernel to tune")
	}
	return nil
}

// memoryFor maps what the products below and all kernels take.
func memoryFor(rows []ports.Row) (*memory, error) {
	var weights, activations, result, work int
	for _, r := range rows {
		s := r.Spec()
		if s == nil {
			continue
		}
		if r.Op == kernel.Expand {
			result = max(result, expanded*s.Wide.PanelBytes())
			continue
		}
		work = max(work, program.WorkBytes(s, r.Rows))
		for _, shape := range []Shape{prompt, batch, long, {"kernels", along, 2048, r.Rows}} {
			weights = max(weights, shape.Cols*shape.K/s.Block*s.Bytes)
			activations = max(activations, groupBytes(s, shape.N, shape.K))
			result = max(result, 4*shape.Cols*shape.N)
		}
	}
	return newMemory(weights, activations, result, work)
}
