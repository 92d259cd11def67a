// Package catalog lists the kernels that a build contains, and which of them serve a weight type.
package catalog

import (
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	dot "github.com/llama-zen-turbo/llama-zen-turbo/avo/dot/program"
	gemm "github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	roofline "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// All returns every kernel.
func All() []kernel.Info {
	var all []kernel.Info
	for _, programs := range [][]kernel.Program{gemm.Programs(), dot.Programs(), roofline.Programs()} {
		for _, p := range programs {
			all = append(all, p.Info)
		}
	}
	return all
}

// Type is a weight type and the kernels that multiply by it.
type Type struct {
	*weight.Spec
	GEMM     []kernel.Info // by activation rows: element i computes i+1. None of types that are always expanded
	Ahead    []kernel.Info // the same, prefetching weights
	Expand   *kernel.Info  // makes expanded panels of packed ones, nil if there are none
	Expanded []kernel.Info // the kernels that read those
}

// Types returns every weight type that has kernels.
func Types() []Type {
	var types []Type
	all := All()
	for _, s := range weight.Specs() {
		t := Type{Spec: s}
		for _, k := range all {
			switch {
			case k.Op == kernel.Expand && k.Type == s.Name:
				t.Expand = &k
			case k.Op != kernel.GEMM:
			case s.Wide != nil && k.Type == s.Wide.Name:
				t.Expanded = append(t.Expanded, k)
			case k.Type != s.Name:
			case k.Ahead:
				t.Ahead = append(t.Ahead, k)
			default:
				t.GEMM = append(t.GEMM, k)
			}
		}
		if t.GEMM != nil || t.Expanded != nil {
			types = append(types, t)
		}
	}
	return types
}

// WorkBytes returns the size of the work space that each of the type's kernels can do with.
func (t Type) WorkBytes() int {
	n := 0
	for i := range t.GEMM {
		n = max(n, gemm.WorkBytes(t.Spec, i+1))
	}
	for i := range t.Expanded {
		n = max(n, gemm.WorkBytes(t.Wide, i+1))
	}
	return n
}

// InRegisters reports whether the kernels keep no float sums in work space, so that dst alone links the parts of a split k.
func (t Type) InRegisters() bool { return t.WorkBytes() == 0 }

// Enum returns the type's name in ggml's enum, without its prefix.
func (t Type) Enum() string { return strings.ToUpper(t.Name) }

// Group returns the layout of activations that the kernels read, by the fullest format that it holds.
func (t Type) Group() activation.Format {
	if t.Act == activation.Q8_K {
		return activation.Q8_K
	}
	return activation.Q8_1
}

// Coded is a code of float weights, and the kernels that multiply by it in a domain.
type Coded struct {
	Domain code.Domain
	Code   code.Code
	Dot    kernel.Info
	Tiles  []kernel.Info // by activation rows: element i computes i+1
	FMA    []kernel.Info // the same by FMA in place of the domain's instruction, if there are such
	Expand *kernel.Info  // makes panels of the domain's plain code, nil where these are
}

// Coding returns every code of every domain, in the order of their numbers.
func Coding() []Coded {
	var list []Coded
	all := All()
	for _, d := range []code.Domain{code.BF16, code.F32} {
		for _, c := range d.Codes() {
			entry := Coded{Domain: d, Code: c}
			for _, k := range all {
				if k.Type == dot.Type(d, c)+dot.FMA {
					entry.FMA = append(entry.FMA, k)
				}
				if k.Type != dot.Type(d, c) {
					continue
				}
				switch k.Op {
				case kernel.Dot:
					entry.Dot = k
				case kernel.Tile:
					entry.Tiles = append(entry.Tiles, k)
				case kernel.Expand:
					entry.Expand = &k
				}
			}
			list = append(list, entry)
		}
	}
	return list
}

// Runtime returns the kernels that llama.cpp calls: all but those that only measure.
func Runtime() []kernel.Info {
	return slices.DeleteFunc(All(), func(k kernel.Info) bool { return k.Op == kernel.Read || k.Op == kernel.Peak })
}
