package roofline

import (
	"cmp"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// system is what sysfs says of the CPUs, below /sys/devices/system/cpu. A file that is missing, as under some hypervisors, makes
// CPUs look like cores of their own that share one L3 cache.
type system struct{ fs.FS }

const l3CPUs = "cache/index3/shared_cpu_list"

func (s system) read(cpu int, file string) string {
	text, err := fs.ReadFile(s, path.Join("cpu"+strconv.Itoa(cpu), file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// spread orders CPUs so that the first n of them have as much as possible to themselves: one of each L3 cache in turn, and second
// threads of a core after the first threads of all.
func (s system) spread(cpus []int) []int {
	type place struct {
		cpu    int
		thread int // of its core, counting from 0
		turn   int // among the CPUs of its L3 cache with the same thread
	}
	type cache struct {
		cpus   string
		thread int
	}
	threads, turns := map[string]int{}, map[cache]int{}
	var places []place
	for _, cpu := range slices.Sorted(slices.Values(cpus)) {
		p := place{cpu: cpu}
		if core := s.read(cpu, "topology/thread_siblings_list"); core != "" {
			p.thread = threads[core]
			threads[core]++
		}
		l3 := cache{s.read(cpu, l3CPUs), p.thread}
		p.turn = turns[l3]
		turns[l3]++
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.thread, b.thread), cmp.Compare(a.turn, b.turn), cmp.Compare(a.cpu, b.cpu))
	})
	order := make([]int, len(places))
	for i, p := range places {
		order[i] = p.cpu
	}
	return order
}

// l3 returns the bytes of all L3 caches that cpus have, 0 where sysfs does not say.
func (s system) l3(cpus []int) (bytes int64) {
	seen := map[string]bool{}
	for _, cpu := range cpus {
		shared := s.read(cpu, l3CPUs)
		if seen[shared] {
			continue
		}
		seen[shared] = true
		kib, err := strconv.ParseInt(strings.TrimSuffix(s.read(cpu, "cache/index3/size"), "K"), 10, 64)
		if err == nil {
			bytes += kib << 10
		}
	}
	return bytes
}
