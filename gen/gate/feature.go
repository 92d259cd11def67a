package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AllFeatures are those that the environment turns off, in the order of the report; the last is all of them that are on by default. preload is
// the path of the preload library, and m is the machine that they are measured on.
func AllFeatures(preload string, m Machine) []Feature {
	list := []Feature{
		{Name: "pages", Text: "transparent 2 MiB pages for weights, caches and buffers", Default: true,
			Off: set("ZT_HUGEPAGES=off"), On: set("ZT_HUGEPAGES=thp")},
		{Name: "kv-pages", Text: "huge pages for caches and compute buffers too", Default: true,
			Off: set("ZT_HUGEPAGES_MIN=1048576"), On: set("ZT_HUGEPAGES_MIN=8")},
		{Name: "pool", Text: "2 MiB pages from the pool instead of transparent ones", Default: true,
			Off: set("ZT_HUGEPAGES=thp"), On: set("ZT_HUGEPAGES=hugetlb"), Lacks: needsPool},
		{Name: "giant", Text: "1 GiB pages for weights instead of transparent ones", Default: true,
			Off: set("ZT_HUGEPAGES=thp"), On: set("ZT_HUGEPAGES=1g"), Lacks: needsGiant},
		{Name: "prefetch", Text: "software prefetch in the kernels", Off: set("ZT_PREFETCH=0"), On: set("ZT_PREFETCH=1"), Default: true},

		{Name: "plan", Text: "threads meet only where a graph needs it, and one does small operations alone", Default: true,
			Off: set("ZT_GRAPH=0"), On: set("ZT_GRAPH=1")},
		{Name: "tree", Text: "threads of an L3 cache meet first, then the caches", Default: true,
			Off: set("ZT_BARRIER=flat"), On: set("ZT_BARRIER=tree"), Lacks: needsCaches},
		{Name: "steal", Text: "threads that are done take of others' parts", Default: true, Off: set("ZT_STEAL=0"), On: set("ZT_STEAL=1")},
		{Name: "ahead", Text: "threads that wait fetch the start of their next weights", Default: true,
			Off: set("ZT_AHEAD=off"), On: set("ZT_AHEAD=wait")},
		{Name: "meeting", Text: "plan, steal, ahead and, of several L3 caches, tree together", Default: true, Off: upstreamsWay, Halves: []string{"0.5b-"}},
		{Name: "layer", Text: "a thread more that fetches what comes next", Off: set("ZT_AHEAD=wait"), On: set("ZT_AHEAD=layer")},
		{Name: "copy", Text: "a thread more that copies what comes next into a buffer", Off: set("ZT_AHEAD=wait"), On: set("ZT_AHEAD=copy")},

		{Name: "threads", Text: "a thread for each core, not for each CPU of it", Default: true, Defaults: true,
			Off: set("ZT_THREADS=stock"), On: set("ZT_THREADS=auto"), Lacks: needsSMT},
		{Name: "governor", Text: "as many threads generate as memory keeps busy; on by default from 5 threads on", Defaults: true,
			Off: set("ZT_GOVERNOR=0"), On: set("ZT_GOVERNOR=1")},
		{Name: "ccd", Text: "threads kept within an L3 cache", Default: true,
			Off: set("ZT_PIN=0"), On: set("ZT_PIN=auto"), Lacks: needsCaches},
		{Name: "pin", Text: "each thread on a CPU of its own", Off: set("ZT_PIN=0"), On: set("ZT_PIN=1")},

		{Name: "share", Text: "packed weights in memory once, of a process that loads what another has loaded", Second: true,
			Off: set("ZT_SHARE=0"), On: set("ZT_SHARE=1")},
		{Name: "blas", Text: "BLAS for slices of float weights", Models: []string{"1b-f16"},
			Off: set("ZT_BLAS=0"), On: set("ZT_BLAS=slices")},
		{Name: "preload", Text: "the preload library under stock's programs, loading without mmap", Stock: true, Args: []string{"-lm", "none"},
			On: set("LD_PRELOAD=" + preload), Lacks: needsFile(preload)},
	}
	var defaults []string
	for _, f := range list {
		if !f.Default || f.Stock || f.Lacks != nil && f.Lacks(m) != "" {
			continue
		}
		for _, env := range f.Off {
			name, _, _ := strings.Cut(env, "=")
			if !slices.ContainsFunc(defaults, func(other string) bool { return strings.HasPrefix(other, name+"=") }) { // the first turns all of it off
				defaults = append(defaults, env)
			}
		}
	}
	return append(list, Feature{Name: "all", Text: "everything that is on by default", Default: true, Off: defaults})
}

// set are variables of the environment.
func set(env ...string) []string { return env }

// largest is more bytes than any model of features keeps in huge pages.
const largest = 1500 << 20

func needsPool(m Machine) string {
	if m.Pool < largest {
		return fmt.Sprintf("the pool of 2 MiB pages has %d MiB free; sysctl vm.nr_hugepages=%d", m.Pool>>20, largest>>21)
	}
	return ""
}

func needsGiant(m Machine) string {
	if m.Giant < 2<<30 {
		return fmt.Sprintf("the pool of 1 GiB pages has %d free, and a model takes 2; hugepagesz=1G hugepages=2 on the kernel's command line", m.Giant>>30)
	}
	return ""
}

func needsNodes(m Machine) string {
	if m.Nodes < 2 {
		return "all memory is of one node"
	}
	return ""
}

func needsCaches(m Machine) string {
	if m.Caches < 2 {
		return "all CPUs share one L3 cache"
	}
	return ""
}

func needsSMT(m Machine) string {
	if !m.SMT {
		return "each CPU is a core of its own, so both take as many threads"
	}
	return ""
}

func needsFile(path string) func(Machine) string {
	return func(Machine) string {
		if _, err := os.Stat(path); err != nil {
			return fmt.Sprintf("there is no %s beside the programs", filepath.Base(path))
		}
		return ""
	}
}
