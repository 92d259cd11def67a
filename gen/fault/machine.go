package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kib     = 1 << 10
	mib     = 1 << 20
	gib     = 1 << 30
	hugeMiB = 2 // MiB in a page of the pool
)

// skipped is the reason why a scenario cannot be had on this machine.
type skipped string

func (s skipped) Error() string { return string(s) }

// skip returns a skipped.
func skip(format string, args ...any) error { return skipped(fmt.Sprintf(format, args...)) }

// machine is what a scenario may change of this one, and what it reads of it.
type machine struct {
	root   bool
	pool   pool
	groups string // the cgroup v2 mount, "" where there is none
}

func thisMachine() machine {
	m := machine{root: os.Geteuid() == 0, pool: pool{dir: "/sys/kernel/mm/hugepages/hugepages-2048kB"}}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			m.groups = f[1]
		}
	}
	return m
}

// pool is the kernel's pool of 2 MiB pages: a folder with a file for each number.
type pool struct{ dir string }

// pages are the pool's counters.
type pages struct{ total, free, reserved, surplus int }

func (p pages) String() string {
	return fmt.Sprintf("%d pages, %d free, %d reserved, %d surplus", p.total, p.free, p.reserved, p.surplus)
}

// used says whether any program has pages or a promise of them.
func (p pages) used() bool { return p.free < p.total || p.reserved > 0 || p.surplus > 0 }

// read returns the counters. A kernel without huge pages has none of them.
func (p pool) read() (pages, error) {
	var n pages
	for _, f := range []struct {
		name string
		to   *int
	}{{"nr_hugepages", &n.total}, {"free_hugepages", &n.free}, {"resv_hugepages", &n.reserved}, {"surplus_hugepages", &n.surplus}} {
		raw, err := os.ReadFile(filepath.Join(p.dir, f.name))
		if errors.Is(err, os.ErrNotExist) {
			return pages{}, nil
		}
		if err == nil {
			*f.to, err = strconv.Atoi(strings.TrimSpace(string(raw)))
		}
		if err != nil {
			return pages{}, err
		}
	}
	return n, nil
}

// within says whether the pool is as large as it was before and no more of it is taken. Other programs may have given pages back.
func (p pages) within(before pages) bool {
	return p.total-p.surplus == before.total-before.surplus && p.total-p.free <= before.total-before.free && p.reserved <= before.reserved
}

// settled waits until the pool is within want: the kernel gives a killed program's pages back a moment after its end.
func (l *lab) settled(ctx context.Context, want pages) error {
	var have pages
	for range 100 {
		var err error
		if have, err = l.pool.read(); err != nil || have.within(want) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return l.poolError("the huge page pool has %s; before it had %s", have, want)
}

// poolError is an error about the pool's pages, or a skipped where a program that is none of the lab's may be the cause.
func (l *lab) poolError(format string, args ...any) error {
	if others := l.othersWithPages(); others != "" {
		return skip("%s has taken pages of the huge page pool meanwhile", others)
	}
	return fmt.Errorf(format, args...)
}

// othersWithPages names a running program that has pages of the pool and was not started from the lab, whose programs
// know the work folder.
func (l *lab) othersWithPages() string {
	statuses, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, status := range statuses {
		raw, _ := os.ReadFile(status)
		if n, err := kilobytes(raw, "HugetlbPages"); err != nil || n == 0 {
			continue
		}
		dir := filepath.Dir(status)
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && !bytes.Contains(environ, []byte("TMPDIR="+l.work+"\x00")) {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf("process %s (%s)", filepath.Base(dir), bytes.TrimSpace(name))
		}
	}
	return ""
}

func (p pool) resize(total int) error {
	return os.WriteFile(filepath.Join(p.dir, "nr_hugepages"), []byte(strconv.Itoa(total)), 0)
}

// setPool makes the pool hold n pages, all of them free, and returns what makes it as large as before. It leaves a pool alone that
// some program uses.
func (m machine) setPool(n int) (restore func() error, err error) {
	before, err := m.pool.read()
	switch {
	case err != nil:
		return nil, err
	case !m.root:
		return nil, skip("changing the huge page pool needs root")
	case before.used():
		return nil, skip("another program uses the huge page pool: it has %s", before)
	}
	restore = func() error { return m.pool.resize(before.total) }
	if err := m.pool.resize(n); err != nil {
		return nil, skip("the huge page pool cannot be changed here: %v", err)
	}
	if after, err := m.pool.read(); err != nil || after.total != n {
		return nil, errors.Join(skip("the kernel found %d huge pages of %d", after.total, n), err, restore())
	}
	return restore, nil
}

// hugeLimit returns a cgroup whose programs fault with a bus error when they touch more than n pages of the pool, though the pool
// promised them more; a container with a limit on huge pages is such a group. remove undoes it.
func (m machine) hugeLimit(n int) (group *os.File, remove func(), err error) {
	if !m.root || m.groups == "" {
		return nil, nil, skip("limiting huge pages needs root and cgroup v2")
	}
	read := func(name string) []string {
		raw, _ := os.ReadFile(filepath.Join(m.groups, name))
		return strings.Fields(string(raw))
	}
	if !slices.Contains(read("cgroup.controllers"), "hugetlb") {
		return nil, nil, skip("cgroup v2 has no hugetlb controller here")
	}
	control := filepath.Join(m.groups, "cgroup.subtree_control")
	var undo []func()
	remove = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	if !slices.Contains(read("cgroup.subtree_control"), "hugetlb") {
		if err := os.WriteFile(control, []byte("+hugetlb"), 0); err != nil {
			return nil, nil, skip("cgroups cannot be changed here: %v", err)
		}
		undo = append(undo, func() { _ = os.WriteFile(control, []byte("-hugetlb"), 0) })
	}
	dir := filepath.Join(m.groups, fmt.Sprintf("zt-fault-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		remove()
		return nil, nil, skip("cgroups cannot be made here: %v", err)
	}
	undo = append(undo, func() {
		// A group is busy for a moment after its last process ended.
		for range 50 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	limit := []byte(strconv.Itoa(n * hugeMiB * mib))
	if err = os.WriteFile(filepath.Join(dir, "hugetlb.2MB.max"), limit, 0); err == nil {
		group, err = os.Open(dir)
	}
	if err != nil {
		remove()
		return nil, nil, skip("huge pages cannot be limited here: %v", err)
	}
	undo = append(undo, func() { group.Close() })
	return group, remove, nil
}

// prlimit returns the command that starts a program with limits such as "--as=1000" (bytes).
func prlimit(limits ...string) ([]string, error) {
	path, err := exec.LookPath("prlimit")
	if err != nil {
		return nil, skip("prlimit of util-linux is not installed")
	}
	return append([]string{path}, limits...), nil
}

// unlocked returns the command that starts a program with a limit on locked memory, in bytes. Root is not bound by the limit while
// it has the capability to lock.
func (m machine) unlocked(limit int) ([]string, error) {
	under, err := prlimit(fmt.Sprintf("--memlock=%d", limit))
	if err != nil || !m.root {
		return under, err
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return nil, skip("setpriv of util-linux is not installed")
	}
	return slices.Concat(under, []string{"--", setpriv, "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"}), nil
}

// memory returns a field of /proc/meminfo in bytes.
func memory(field string) (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return kilobytes(raw, field)
}

// kilobytes returns a field of a file in /proc whose lines are "Field:   123 kB", in bytes.
func kilobytes(raw []byte, field string) (int64, error) {
	for line := range bytes.Lines(raw) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == field+":" {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			return n * kib, err
		}
	}
	return 0, fmt.Errorf("no %s among %d bytes of /proc", field, len(raw))
}

// tmpfs mounts a file system of so many bytes on dir.
func (m machine) tmpfs(dir string, size int) (unmount func(), err error) {
	if !m.root {
		return nil, skip("mounting a small file system needs root")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, skip("no file system can be mounted here: %v", err)
	}
	return func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }, nil
}
