package tune

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
)

// call calls the ABI0 function at entry, which takes up to maxArguments of 8 bytes each. What they point to must not be on a Go stack.
//
//go:noescape
func call(entry uintptr, args *[maxArguments]uint64)

const maxArguments = 10

// arguments are those of kernels that read panels, in the order of argumentNames.
type arguments [maxArguments]uint64

const (
	argDst = iota
	argStride
	argA
	argW
	argBlocks
	argMask
	argAccumulate
	argWork
	argNext
	argStep
)

var argumentNames = []string{"dst", "stride", "a", "w", "blocks", "mask", "accumulate", "work", "next", "step"}

// function is a kernel that reads panels.
type function struct {
	entry uintptr
	order [maxArguments]int // of its arguments in arguments
	n     int
}

func functionOf(k kernel.Info) (function, error) {
	m := function{entry: gemm.Entries()[k.Name], n: len(k.Args)}
	if m.entry == 0 {
		return m, fmt.Errorf("%s is not among the kernels of package gemm: run mage generate", k.Name)
	}
	if m.n > len(m.order) {
		return m, fmt.Errorf("%s takes %d arguments, more than the %d that mage tune can pass", k.Name, m.n, len(m.order))
	}
	for i, arg := range k.Args {
		if m.order[i] = slices.Index(argumentNames, arg.Name); m.order[i] < 0 {
			return m, fmt.Errorf("%s takes an argument %q, which mage tune knows no value for", k.Name, arg.Name)
		}
	}
	return m, nil
}

// lay returns x in the kernel's own order.
func (m function) lay(x arguments) (args [maxArguments]uint64) {
	for i := range m.n {
		args[i] = x[m.order[i]]
	}
	return args
}

// memory is what kernels read and write. All of them use the same, so that none has luck with where it lies, in 2 MiB pages if they can
// be had, as the runtime's weights do.
type memory struct {
	mapping                            []byte
	weights, activations, result, work []byte
	operands                           []byte // of the peak kernel
}

// newMemory maps memory. What kernels read is harmless as whatever they take it for: floats of all formats are normal and of moderate size.
func newMemory(weights, activations, result, work int) (*memory, error) {
	const page = 2 << 20
	m := &memory{}
	parts := []struct {
		to   *[]byte
		size int
	}{{&m.weights, weights}, {&m.activations, activations}, {&m.result, result}, {&m.work, work}, {&m.operands, 3 * 64}}
	total := page
	for _, p := range parts {
		total += p.size + page
	}
	var err error
	if m.mapping, err = unix.Mmap(-1, 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return nil, fmt.Errorf("map %d MiB: %w", total>>20, err)
	}
	_ = unix.Madvise(m.mapping, unix.MADV_HUGEPAGE) // a kernel that has none goes on with small pages
	left := m.mapping
	for _, p := range parts {
		left = left[-address(left)%page:]
		*p.to, left = left[:p.size], left[p.size:]
	}
	state := uint32(1)
	for i := range m.mapping {
		state = state*1664525 + 1013904223
		m.mapping[i] = 0x2c + byte(state>>28)
	}
	return m, nil
}

func (m *memory) unmap() error { return unix.Munmap(m.mapping) }

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// peak runs VPDPBUSD as fast as the CPU takes it.
type peak struct {
	entry    uintptr
	operands uint64
}

func newPeak(m *memory) peak {
	return peak{roofline.Entries()["zt_peak_vpdpbusd_512"], address(m.operands)}
}

// run issues rounds times program.PeakChains instructions.
func (p peak) run(rounds int) {
	call(p.entry, &[maxArguments]uint64{uint64(rounds), p.operands, p.operands + 64, p.operands + 128})
}
