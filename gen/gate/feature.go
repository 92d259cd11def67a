package gate

import (
	"fmt"
	"slices"
)

// AllFeatures are those that the environment turns off, in the order of the report; the last is all of them that are on by default. preload is
// the path of the preload library.
func AllFeatures(preload string) []Feature {
	list := []Feature{
		{Name: "pages", Text: "transparent 2 MiB pages for weights, caches and buffers", Default: true,
			Off: set("ZT_HUGEPAGES=off"), On: set("ZT_HUGEPAGES=thp")},
		{Name: "pool", Text: "2 MiB pages from the pool instead", Default: true,
			Off: set("ZT_HUGEPAGES=thp"), On: set("ZT_HUGEPAGES=hugetlb"), Lacks: needsPool},
		{Name: "prefetch", Text: "software prefetch in the kernels", Off: set("ZT_PREFETCH=0"), On: set("ZT_PREFETCH=1"), Default: true},
	}
	var defaults []string
	for _, f := range list {
		if f.Default && f.Lacks == nil && !f.Stock {
			defaults = append(defaults, f.Off...)
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
		return fmt.Sprintf("the pool of 1 GiB pages has %d free; hugepagesz=1G hugepages=4 on the kernel's command line", m.Giant>>30)
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

var _ = slices.Contains[[]string]
