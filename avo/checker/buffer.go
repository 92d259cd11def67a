package checker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Element is what kernels read and write.
type Element interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// AtEnd returns n elements, aligned to align bytes, before a page that may not be touched. Where the byte size is a multiple
// of align, the first byte past the end faults; otherwise up to align-1 bytes of canary lie between. Canaries precede it:
// every Call checks them, and so does the end of the test. The contents are random bits, so floats include NaNs. The memory
// is mapped, never moves, and goes when tb ends, so a test of many shapes gives each a subtest. name is for messages.
func AtEnd[T Element](tb testing.TB, name string, n, align int) []T {
	tb.Helper()
	return view[T](newBuffer(tb, name, n*int(unsafe.Sizeof(*new(T))), align, false))
}

// AtStart returns n page-aligned elements right behind a page that may not be touched, so the first byte before the start
// faults; canaries follow it. Otherwise it is as AtEnd.
func AtStart[T Element](tb testing.TB, name string, n int) []T {
	tb.Helper()
	return view[T](newBuffer(tb, name, n*int(unsafe.Sizeof(*new(T))), 1, true))
}

func view[T Element](b *buffer) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b.data))), len(b.data)/int(unsafe.Sizeof(*new(T))))
}

// region is mapped memory between two pages that may not be touched.
type region struct {
	mapping []byte // with the guard pages
	bytes   []byte // without
}

// mapRegion maps a region of at least n bytes, rounded up to pages.
func mapRegion(n int) region {
	page := unix.Getpagesize()
	n += -n & (page - 1)
	m, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Mprotect(m[page:page+n], unix.PROT_READ|unix.PROT_WRITE)
	}
	if err != nil {
		panic(fmt.Sprintf("checker: map %d bytes: %v", n+2*page, err))
	}
	return region{mapping: m, bytes: m[page : page+n : page+n]}
}

func (r region) addr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.bytes))) }
func (r region) end() uintptr  { return r.addr() + uintptr(len(r.bytes)) }

// guards reports whether addr lies in a guard page of r.
func (r region) guards(addr uintptr) bool {
	page := uintptr(unix.Getpagesize())
	return r.addr()-page <= addr && addr < r.addr() || r.end() <= addr && addr < r.end()+page
}

type buffer struct {
	region
	name          string
	data          []byte // inside the region, between two canaries
	before, after canary
}

// canary is random bytes that nobody may write, and what they were.
type canary struct{ bytes, want []byte }

// minCanary is the least number of canary bytes on the side of a buffer that has no guard page.
const minCanary = 256

var (
	buffersMu sync.Mutex
	buffers   []*buffer // every live one
)

func newBuffer(tb testing.TB, name string, n, align int, atStart bool) *buffer {
	tb.Helper()
	page := unix.Getpagesize()
	if n < 0 || align < 1 || align&(align-1) != 0 || align > page {
		tb.Fatalf("buffer %q: %d bytes aligned to %d; alignment is a power of two up to %d", name, n, align, page)
	}
	s := streamOf(tb)
	b := &buffer{region: mapRegion(n + minCanary + align - 1), name: name}
	fillRandom(b.bytes, s.Rand)
	start := 0
	if !atStart {
		start = (len(b.bytes) - n) &^ (align - 1)
	}
	b.data = b.bytes[start : start+n : start+n]
	b.before = canary{b.bytes[:start], slices.Clone(b.bytes[:start])}
	b.after = canary{b.bytes[start+n:], slices.Clone(b.bytes[start+n:])}
	buffersMu.Lock()
	buffers = append(buffers, b)
	buffersMu.Unlock()
	tb.Cleanup(func() {
		buffersMu.Lock()
		defer buffersMu.Unlock()
		for _, m := range b.trespasses() {
			tb.Errorf("something %s (ZT_SEED=%d)", m, s.seed)
		}
		buffers = slices.DeleteFunc(buffers, func(o *buffer) bool { return o == b })
		if err := unix.Munmap(b.mapping); err != nil {
			tb.Errorf("unmap buffer %q: %v", name, err)
		}
	})
	return b
}

func fillRandom(p []byte, rng *rand.Rand) {
	for i := 0; i < len(p); i += 8 {
		w := rng.Uint64()
		for j := i; j < min(i+8, len(p)); j++ {
			p[j] = byte(w)
			w >>= 8
		}
	}
}

// firstDifference returns the index of the first byte of a that is not b's, or -1. b is at least as long as a.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b[:len(a)]) {
		return -1
	}
	i := 0
	for a[i] == b[i] {
		i++
	}
	return i
}

// lastDifference returns the index of the last byte of a that is not b's, or -1. b is at least as long as a.
func lastDifference(a, b []byte) int {
	if bytes.Equal(a, b[:len(a)]) {
		return -1
	}
	i := len(a) - 1
	for a[i] == b[i] {
		i--
	}
	return i
}

// trespasses says where b's canaries changed, nearest to the data, and restores them so that a change is reported once.
func (b *buffer) trespasses() (broken []string) {
	report := func(c canary, i int) {
		if i >= 0 {
			broken = append(broken, "wrote "+b.describe(uintptr(unsafe.Pointer(&c.bytes[i]))))
			copy(c.bytes, c.want)
		}
	}
	report(b.after, firstDifference(b.after.bytes, b.after.want))
	report(b.before, lastDifference(b.before.bytes, b.before.want))
	return broken
}

// describe says where addr lies relative to b.
func (b *buffer) describe(addr uintptr) string {
	start := b.addr() + uintptr(len(b.before.bytes))
	end := start + uintptr(len(b.data))
	switch {
	case addr < start:
		return fmt.Sprintf("byte %d before the start of buffer %q (%d bytes)", start-addr, b.name, len(b.data))
	case addr >= end:
		return fmt.Sprintf("byte %d past the end of buffer %q (%d bytes)", addr-end+1, b.name, len(b.data))
	}
	return fmt.Sprintf("byte %d inside buffer %q (%d bytes)", addr-start, b.name, len(b.data))
}

// bufferTrespasses checks the canaries of every live buffer.
func bufferTrespasses() (broken []string) {
	buffersMu.Lock()
	defer buffersMu.Unlock()
	for _, b := range buffers {
		broken = append(broken, b.trespasses()...)
	}
	return broken
}

// bufferNear returns the live buffer whose mapping, guard pages included, holds addr, or nil.
func bufferNear(addr uintptr) *buffer {
	buffersMu.Lock()
	defer buffersMu.Unlock()
	for _, b := range buffers {
		if b.guards(addr) || b.addr() <= addr && addr < b.end() {
			return b
		}
	}
	return nil
}
