// Package roofline measures the two limits that every speed of this project is set against: how fast the machine reads memory
// and how many int8 multiply-adds it does.
package roofline

import (
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
)

// opsPerVPDPBUSD counts a multiplication and an addition for each of the 64 bytes.
const opsPerVPDPBUSD = 2 * 64

// onThreads runs f on n locked OS threads at once and returns the time from the start of the first to the end of the last.
func onThreads(n int, f func(thread int)) time.Duration {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	done.Wait()
	return time.Since(began)
}

// VNNIPeak returns the int8 operations per second that threads reach together with 512-bit VPDPBUSD, the best of a few runs.
// The CPU must have AVX512_VNNI.
func VNNIPeak(threads int) float64 {
	const rounds = 4 << 20
	best := 0.0
	for range 5 {
		took := onThreads(threads, func(int) { zt_peak_vpdpbusd_512(rounds) })
		best = max(best, float64(threads)*rounds*program.PeakChains*opsPerVPDPBUSD/took.Seconds())
	}
	return best
}

// ReadBandwidth returns the bytes per second at which threads read a buffer of size bytes together, each its own contiguous
// part, the best of a few sweeps. huge asks for 2 MiB pages.
func ReadBandwidth(threads int, size int64, huge bool) (float64, error) {
	part := size / int64(threads) / program.ReadChunk
	mem, err := unix.Mmap(-1, 0, int(part)*threads*program.ReadChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	advice := unix.MADV_NOHUGEPAGE
	if huge {
		advice = unix.MADV_HUGEPAGE
	}
	if err := unix.Madvise(mem, advice); err != nil {
		return 0, err
	}
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	best := 0.0
	for range 5 {
		took := onThreads(threads, func(thread int) {
			zt_read_512((*byte)(unsafe.Pointer(&mem[int64(thread)*part*program.ReadChunk])), part)
		})
		best = max(best, float64(len(mem))/took.Seconds())
	}
	return best, nil
}
