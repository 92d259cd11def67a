package topology

import "slices"

const mib = 1 << 10 // KiB

// The machines, from the data sheets of their processors: cores, CCDs, and L3 of a CCD. EPYC 9755 is Turin with 128 Zen 5 cores.
var (
	Ryzen9950X   = Machine{L3: []int{32 * mib, 32 * mib}, Cores: 8, SMT: true, Memory: 64}
	Ryzen9950X3D = Machine{L3: []int{96 * mib, 32 * mib}, Cores: 8, SMT: true, Memory: 64}
	EPYC9755     = Machine{L3: slices.Repeat([]int{32 * mib}, 16), Cores: 8, SMT: true, Memory: 768}

	// The same with NPS4, and two of them.
	EPYC9755NPS4     = Machine{Nodes: 4, L3: EPYC9755.L3, Cores: 8, SMT: true, Memory: 192}
	DualEPYC9755     = Machine{Sockets: 2, L3: EPYC9755.L3, Cores: 8, SMT: true, Memory: 768}
	DualEPYC9755NPS4 = Machine{Sockets: 2, Nodes: 4, L3: EPYC9755.L3, Cores: 8, SMT: true, Memory: 192}

	// VM is a small virtual machine. Bare is one whose hypervisor hides the caches and whose kernel has no NUMA.
	VM   = Machine{L3: []int{480 * mib}, Cores: 2, Memory: 24}
	Bare = Machine{L3: []int{0}, Cores: 4, NoCaches: true}
)

// Span returns the numbers from first to last.
func Span(first, last int) []int {
	var ids []int
	for id := first; id <= last; id++ {
		ids = append(ids, id)
	}
	return ids
}
