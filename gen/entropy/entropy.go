// Package entropy measures how few bits the weights of a GGUF could be stored in without losing any, by the parts that their types are
// made of, and what the codes of avo/code take.
//
// An entropy is that of a model of the data: how often a symbol occurs, alone or after something a decoder knows by then. It is what an
// ideal coder takes that learns this model from the data, and so an upper bound of what is possible and, as models go, a good guess of it. Every
// part is measured with several such contexts; the best is what counts.
package entropy

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// Part is what the weights of a type have of one kind: exponents, scales, quants ...
type Part struct {
	Name   string
	Stored float64 // bits that a weight takes for it; a scale of 32 weights counts with a 32nd each
	Bits   float64 // that an ideal coder takes for it, per weight, if it knows nothing else
	// Best is the fewest bits per weight with any of the contexts that were tried, and Given names it. It is empty where no context helped.
	Best  float64
	Given string
	// Fixed is the bits per weight in the best fixed-width code, of quantized types.
	Fixed float64
}

// Type is what was found of all matrices of one type.
type Type struct {
	Type    gguf.Type
	Weights int64
	Parts   []Part
	Codes   []Use // of float types, avo/code's
}

// Stored returns the bits of a weight as it lies in the file.
func (t Type) Stored() (bits float64) {
	for _, p := range t.Parts {
		bits += p.Stored
	}
	return bits
}

// Bound returns the bits of a weight that an ideal coder takes, with the best context of each part.
func (t Type) Bound() (bits float64) {
	for _, p := range t.Parts {
		bits += p.Best
	}
	return bits
}

// Fixed returns the bits of a weight with every part in its best fixed-width code.
func (t Type) Fixed() (bits float64) {
	for _, p := range t.Parts {
		bits += p.Fixed
	}
	return bits
}

// measure is one for the matrices of a type.
type measure interface {
	// row takes the next row of a matrix. The first of each has reset set.
	row(b []byte, first bool)
	parts() []Part
	codes() []Use
}

// Measure reads all matrices of f, tensors of two dimensions and more, and returns what it found of each of their types, in the order of ggml's numbers.
// Types that avo/weight does not describe are left out. count takes the progress.
func Measure(ctx context.Context, f *gguf.File, count func(done, total int, doing string)) ([]Type, error) {
	var list []gguf.Tensor
	for _, t := range f.Tensors {
		if len(t.Shape) > 1 && t.Size > 0 {
			list = append(list, t)
		}
	}
	type found struct {
		Type
		measure
	}
	types := map[gguf.Type]*found{}
	for i, t := range list {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		count(i, len(list), t.Name)
		m := types[t.Type]
		if m == nil {
			m = &found{Type{Type: t.Type}, measureOf(t.Type)}
			types[t.Type] = m
		}
		if m.measure == nil {
			continue
		}
		cols := t.Shape[0]
		m.Weights += cols * t.Rows()
		data, row := f.Data(t), make([]byte, t.Type.RowBytes(cols))
		for r := range t.Rows() {
			if _, err := io.ReadFull(data, row); err != nil {
				return nil, fmt.Errorf("%s: tensor %s: %w", f.Name, t.Name, err)
			}
			m.row(row, r == 0)
		}
	}
	var all []Type
	for _, m := range types {
		if m.measure != nil {
			m.Parts, m.Codes = m.parts(), m.codes()
			all = append(all, m.Type)
		}
	}
	slices.SortFunc(all, func(a, b Type) int { return int(a.Type) - int(b.Type) })
	return all, nil
}

// measureOf returns a measure for a type, or nil where its layout is not known.
func measureOf(t gguf.Type) measure {
	switch t {
	case gguf.BF16, gguf.F16, gguf.F32:
		return newFloats(t)
	default:
	}
	for _, s := range weight.Specs() {
		if parsed, err := gguf.ParseType(s.Name); err == nil && parsed == t {
			return newQuants(s)
		}
	}
	return nil
}
