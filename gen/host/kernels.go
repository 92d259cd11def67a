package host

import (
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/dot/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
)

// Size is what weights of a code take.
type Size struct {
	Bits    float64 // of a weight, with heads, escapes and directory
	Flagged float64 // the share of blocks that have escapes
}

// Slack is how much longer than the bound of its ports a kernel is taken to run: bounds are of loops that never wait for a result, a cache or a
// branch. In the first-level cache of an Intel these kernels took 1.0 to 1.3 times theirs.
const Slack = 1.25

// dots are the bounds of the kernels for one row of activations, by CPU and by their type: cycles for a block without escapes, and with.
type dots map[string]map[string][2]float64

func boundDots() (dots, error) {
	rows, err := ports.CodedRows()
	if err != nil {
		return nil, err
	}
	d := dots{}
	for i, cpu := range ports.CPUs {
		bounds := map[string][2]float64{}
		for _, r := range rows {
			if r.Op != kernel.Dot {
				continue
			}
			cycles := r.Bounds[i].Cycles
			if b, ok := bounds[r.Type]; ok { // the second row of a type is that with escapes
				bounds[r.Type] = [2]float64{b[0], cycles}
			} else {
				bounds[r.Type] = [2]float64{cycles, cycles}
			}
		}
		d[cpu.Name] = bounds
	}
	return d, nil
}

// kernel returns the kernel of a domain and code on a CPU, for weights of a size, and whether there is one.
func (d dots) kernel(cpu string, domain code.Domain, c code.Code, s Size) (Kernel, bool) {
	both, ok := d[cpu][program.Type(domain, c)]
	perBlock := both[0] + s.Flagged*(both[1]-both[0])
	return Kernel{Name: c.String(), Bits: s.Bits, Cycles: Slack * perBlock * code.Step / (code.Rows * code.Cols)}, ok
}
