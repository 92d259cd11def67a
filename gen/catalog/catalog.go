// Package catalog is the typed list of kernels that a build contains. The list itself is generated from the kernel programs.
package catalog

import (
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// All returns every kernel.
func All() []kernel.Info { return kernels }

// GEMM returns the GEMM kernels of a weight type with panels of cols rows, those that prefetch or those that do not, by
// activation rows: element i computes i+1.
func GEMM(weights string, cols int, prefetching bool) []kernel.Info {
	var out []kernel.Info
	for rows := 1; ; rows++ {
		found := false
		for _, k := range kernels {
			if k.Op == kernel.GEMM && k.Type == weights && k.Cols == cols && k.Rows == rows && (k.Ahead > 0) == prefetching {
				out, found = append(out, k), true
			}
		}
		if !found {
			return out
		}
	}
}

// One returns the only kernel of an op for a weight type.
func One(op kernel.Op, weights string) kernel.Info {
	for _, k := range kernels {
		if k.Op == op && k.Type == weights {
			return k
		}
	}
	panic("catalog: no " + string(op) + " kernel for " + weights)
}
