package soak

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process holds, in bytes and in numbers.
type Memory struct {
	Resident  int64 `json:"resident"`   // bytes in memory, huge page pool apart
	Anonymous int64 `json:"anonymous"`  // of them not of files
	AnonHuge  int64 `json:"anon_huge"`  // of them in transparent huge pages
	HugeTLB   int64 `json:"hugetlb"`    // bytes in pages of the huge page pool
	Swapped   int64 `json:"swapped"`    // bytes in swap
	Files     int   `json:"open_files"` // descriptors
	Threads   int   `json:"threads"`
}

// Held is all bytes that the process keeps from others.
func (m Memory) Held() int64 { return m.Resident + m.HugeTLB + m.Swapped }

// Huge is what is in pages of 2 MiB.
func (m Memory) Huge() int64 { return m.AnonHuge + m.HugeTLB }

// measure reads a process's entries in /proc.
func measure(pid int) (m Memory, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var shared int64 // mapped by other processes too, or by none but open to them
	err = kilobytes(filepath.Join(dir, "smaps_rollup"), map[string]*int64{
		"Rss": &m.Resident, "Anonymous": &m.Anonymous, "AnonHugePages": &m.AnonHuge, "Swap": &m.Swapped,
		"Private_Hugetlb": &m.HugeTLB, "Shared_Hugetlb": &shared,
	})
	if err != nil {
		return m, err
	}
	m.HugeTLB += shared
	if m.Files, err = entries(filepath.Join(dir, "fd")); err != nil {
		return m, err
	}
	m.Threads, err = entries(filepath.Join(dir, "task"))
	return m, err
}

// held is Memory.Held by counters that are cheap to read and may lag by some pages.
func held(pid int) (int64, error) {
	var resident, pool, swap int64
	err := kilobytes(filepath.Join("/proc", strconv.Itoa(pid), "status"), map[string]*int64{
		"VmRSS": &resident, "HugetlbPages": &pool, "VmSwap": &swap,
	})
	return resident + pool + swap, err
}

// kilobytes reads lines such as "Rss:   123 kB" and stores their values in bytes.
func kilobytes(path string, fields map[string]*int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if p := fields[name]; p != nil {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %s is %q", path, name, value)
			}
			*p = n << 10
		}
	}
	return lines.Err()
}

func entries(dir string) (int, error) {
	list, err := os.ReadDir(dir)
	return len(list), err
}

// Pool is a pool of huge pages as the kernel counts them.
type Pool struct {
	KiB      int64 `json:"page_kib"`
	Pages    int   `json:"pages"`
	Free     int   `json:"free"`
	Reserved int   `json:"reserved"` // of the free ones, promised to mappings that have not touched them
}

// pools reads the pools of this machine that have pages, smallest pages first.
func pools() ([]Pool, error) {
	dirs, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return nil, err
	}
	var list []Pool
	for _, dir := range dirs {
		var p Pool
		if _, err := fmt.Sscanf(filepath.Base(dir), "hugepages-%dkB", &p.KiB); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for name, n := range map[string]*int{"nr_hugepages": &p.Pages, "free_hugepages": &p.Free, "resv_hugepages": &p.Reserved} {
			path := filepath.Join(dir, name)
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if *n, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		if p.Pages > 0 {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Pool) int { return cmp.Compare(a.KiB, b.KiB) })
	return list, nil
}

// lostHugePages is how many pages of 2 MiB, or as many of larger ones, are taken from the pools without being any process's.
func lostHugePages() (int, error) {
	list, err := pools()
	if err != nil {
		return 0, err
	}
	var taken, owned int64
	for _, p := range list {
		taken += int64(p.Pages-p.Free) * p.KiB << 10
	}
	processes, err := filepath.Glob("/proc/[0-9]*/status")
	for _, status := range processes {
		var bytes int64
		if kilobytes(status, map[string]*int64{"HugetlbPages": &bytes}) == nil { // else it has ended
			owned += bytes
		}
	}
	return int((taken - owned) >> 21), err
}

// Sample is one measurement of a server in a quiet moment.
type Sample struct {
	Seconds  float64 `json:"seconds"`  // since the run began
	Life     int     `json:"life"`     // which process, from 1
	Reloads  int     `json:"reloads"`  // that it did before
	Requests int     `json:"requests"` // made before, in all lives
	Unloaded bool    `json:"unloaded"` // the idle server had dropped its model
	Memory
}

func (s *soaker) sample(srv *server, reloads int, unloaded bool) error {
	m, err := s.measure(srv.pid)
	if err != nil {
		if srv.ended() {
			return srv.end()
		}
		return err
	}
	s.samples = append(s.samples, Sample{
		Seconds: time.Since(s.start).Seconds(), Life: s.lives, Reloads: reloads, Requests: s.book.made(), Unloaded: unloaded, Memory: m,
	})
	s.say()
	return nil
}

// settle waits until the server gives no more memory back.
func (s *soaker) settle(ctx context.Context, srv *server) error {
	last := int64(-1)
	return srv.until(ctx, s.pace.patience, "the server still gives memory back", func(context.Context) (bool, error) {
		m, err := s.measure(srv.pid)
		steady := m.Held() == last
		last = m.Held()
		time.Sleep(s.pace.unload / 20)
		return err == nil && steady, err
	})
}

// runaway is the growth over what a loaded server held at first beyond which it is ended, in bytes: no verdict needs more, and
// others need the rest.
func runaway(base int64) int64 { return 1<<30 + base/4 }

// guard watches what the server holds until it ends, and ends it when that is out of any order or the machine has hardly any left.
func (s *soaker) guard(srv *server) {
	for !srv.ended() {
		now, err := held(srv.pid)
		var total, available int64
		if err == nil {
			err = kilobytes("/proc/meminfo", map[string]*int64{"MemTotal": &total, "MemAvailable": &available})
		}
		if err == nil && now > 0 && s.book.grown(now, available < total/20) {
			srv.kill()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
