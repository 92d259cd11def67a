package roofline

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages is the size of page that a buffer is asked to lie in.
type pages int

const (
	small pages = unix.MADV_NOHUGEPAGE
	large pages = unix.MADV_HUGEPAGE
)

const (
	smallPage = 4 << 10
	largePage = 2 << 20
)

// buffer is mapped memory that starts on a large page.
type buffer struct {
	mapping []byte
	bytes   []byte
}

// mapBuffer maps size bytes, whole large pages, untouched. Memory that may not be touched lies around them, so that the kernel
// keeps them apart from its other mappings and counts them alone.
func mapBuffer(size int64, kind pages) (*buffer, error) {
	mapping, err := unix.Mmap(-1, 0, int(size)+2*largePage, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB to read: %w", size>>20, err)
	}
	b := &buffer{mapping: mapping}
	at := largePage - int(uintptr(unsafe.Pointer(&mapping[0]))%largePage)
	b.bytes = mapping[at : at+int(size)]
	if err = unix.Mprotect(b.bytes, unix.PROT_READ|unix.PROT_WRITE); err == nil {
		err = unix.Madvise(b.bytes, int(kind))
	}
	if err == unix.EINVAL { // a kernel without transparent huge pages has small ones only
		err = nil
	}
	if err != nil {
		b.unmap()
		return nil, fmt.Errorf("map %d MiB to read: %w", size>>20, err)
	}
	return b, nil
}

func (b *buffer) unmap() error { return unix.Munmap(b.mapping) }

// huge returns the bytes of b that lie in large pages.
func (b *buffer) huge() (int64, error) {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	start, inside := fmt.Sprintf("%x-", unsafe.Pointer(&b.bytes[0])), false
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if kb, ok := strings.CutPrefix(lines.Text(), "AnonHugePages:"); ok && inside {
			return kilobytes(kb)
		} else if !ok {
			inside = inside || strings.HasPrefix(lines.Text(), start)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%s does not list the memory at %s", file.Name(), start)
}

// available returns the bytes of memory that can be had without swapping.
func available() (int64, error) {
	const name = "/proc/meminfo"
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			return kilobytes(kb)
		}
	}
	return 0, fmt.Errorf("%s has no MemAvailable", name)
}

// kilobytes reads what /proc writes as "   1234 kB", in bytes.
func kilobytes(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
	return n << 10, err
}
