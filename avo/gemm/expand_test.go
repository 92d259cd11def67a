package gemm_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// expanded returns the types whose panels are expanded before a GEMM kernel reads them.
func expanded() (found []*weight.Spec) {
	for _, s := range weight.Specs() {
		if s.Wide != nil {
			found = append(found, s)
		}
	}
	return found
}

// expand calls the type's kernel and compares what it writes with the oracle, byte for byte.
func expand(t testing.TB, s *weight.Spec, functions map[string]checker.Func, packed []byte) []byte {
	t.Helper()
	blocks := len(packed) / s.PanelBytes()
	w := checker.AtEnd[byte](t, "w", len(packed), 1)
	copy(w, packed)
	wide := s.Wide
	dst := checker.AtEnd[byte](t, "dst", blocks*wide.PanelBytes(), 1)
	k := kernels(kernel.Expand, s.Name)[0]
	functions[k.Name].Call(t, dst, w, blocks)
	for i, want := range s.Expand(packed) {
		if dst[i] != want {
			t.Fatalf("%s: byte %d of block %d of %d is %#x, want %#x", k.Name, i%wide.PanelBytes(), i/wide.PanelBytes(), blocks, dst[i], want)
		}
	}
	return dst
}

// everyEntry packs blocks in which each half of a panel has all indices into the grid, or all quants, and all of signs, sub-scales and mins.
func everyEntry(s *weight.Spec) []byte {
	entries, index := 256, weight.Packed
	switch {
	case s.Grid != nil:
		entries, index = s.Grid.Len(), weight.Index
	case s.Readable():
		entries, index = 4, weight.Quants
	}
	low, _ := s.Field(index)
	perRow := low.Len()
	blocks := (entries + 16*perRow - 1) / (16 * perRow)
	rows := make([][]byte, weight.PanelRows)
	for i := range rows {
		for b := range blocks {
			block := make([]byte, s.Bytes)
			// Numbers for each row's fields, of which the entries are the first: others go on from row to row at a pace of their own.
			first := (16*b + i%16) * perRow
			for e := range perRow {
				set(low, block, e, uint32(first+e)&255)
				if high, ok := s.Field(weight.IndexHigh); ok {
					set(high, block, e, uint32(first+e)>>8)
				}
			}
			for _, role := range []weight.Role{weight.Signs, weight.Scales, weight.Mins, weight.Delta} {
				if f, ok := s.Field(role); ok {
					for e := range f.Len() {
						set(f, block, e, uint32(e+(16*b+i%16)*(f.Len()+1)))
					}
				}
			}
			for j, role := range []weight.Role{weight.D, weight.Min} {
				if f, ok := s.Field(role); ok {
					set(f, block, 0, uint32(0x3c00+64*j+i))
				}
			}
			rows[i] = append(rows[i], block...)
		}
	}
	return s.Pack(rows)
}

func TestExpand(t *testing.T) {
	for convention, functions := range conventions(t) {
		for _, s := range expanded() {
			t.Run(convention+"/"+s.Name, func(t *testing.T) {
				panels := map[string][]byte{
					"every entry": everyEntry(s),
					"zeros":       make([]byte, s.PanelBytes()),
					"ones":        bytes.Repeat([]byte{0xff}, s.PanelBytes()),
				}
				for _, blocks := range []int{1, 2, 5} {
					panels[fmt.Sprint(blocks)] = random(checker.Rand(t), s, blocks, true).panel
				}
				for name, packed := range panels {
					t.Run(name, func(t *testing.T) { expand(t, s, functions, packed) })
				}
			})
		}
	}
}

// TestExpandedGEMM packs, expands and multiplies, and wants what weight.Spec.Dot makes of the rows as they were.
func TestExpandedGEMM(t *testing.T) {
	for convention, functions := range conventions(t) {
		for _, s := range expanded() {
			t.Run(convention+"/"+s.Name, func(t *testing.T) {
				r := checker.Rand(t)
				problems := map[string]problem{"extremes": extreme(s, 0xff, -127)}
				for _, blocks := range []int{1, 3} {
					problems[fmt.Sprint(blocks)] = random(r, s, blocks, false)
				}
				for name, p := range problems {
					t.Run(name, func(t *testing.T) {
						p.panel = expand(t, s, functions, p.panel)
						p.Spec = s.Wide
						for i, k := range kernels(kernel.GEMM, p.Name) {
							p.check(t, k, functions[k.Name], r, weight.PanelRows-5*i, i%3, i%p.blocks)
						}
					})
				}
			})
		}
	}
}

func FuzzExpand(f *testing.F) {
	for i := range expanded() {
		f.Add(uint8(i), uint8(i), uint64(i))
	}
	funcs := conventions(f)
	f.Fuzz(func(t *testing.T, spec, blocks uint8, seed uint64) {
		s := expanded()[int(spec)%len(expanded())]
		p := random(rand.New(rand.NewPCG(seed, 0)), s, 1+int(blocks)%4, true)
		for _, functions := range funcs {
			expand(t, s, functions, p.panel)
		}
	})
}

// BenchmarkExpand expands a panel of 4096 weights, from L2 to L2 or, which is what a single row of activations takes, block by block from
// L2 to L1. The Go convention's tables are not aligned, so it is System V's that is measured.
func BenchmarkExpand(b *testing.B) {
	functions := conventions(b)["sysv"]
	for _, s := range expanded() {
		const blocks = 4096 / 256
		p := random(rand.New(rand.NewPCG(1, 1)), s, blocks, false)
		w := checker.AtEnd[byte](b, "w", len(p.panel), 64)
		copy(w, p.panel)
		for _, n := range []int{1, blocks} {
			b.Run(fmt.Sprintf("%s/%d", s.Name, n), func(b *testing.B) {
				dst := checker.AtEnd[byte](b, "dst", n*s.Wide.PanelBytes(), 64)
				functions[kernels(kernel.Expand, s.Name)[0].Name].Bench(b, int64(n*s.PanelBytes()), dst, w, n)
				vectors := float64(b.N) * float64(n*256*weight.PanelRows/64)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/vectors, "ns/64")
			})
		}
	}
}

// extreme has weights of equal bytes and activations of equal quants.
func extreme(s *weight.Spec, bits byte, q int8) problem {
	w := bytes.Repeat([]byte{bits}, 256/s.Block*s.Bytes)
	for at := 0; at < len(w); at += s.Bytes {
		tame(s, w[at:][:s.Bytes])
	}
	weights := make([][]byte, weight.PanelRows)
	for i := range weights {
		weights[i] = w
	}
	a := activation.Row{Format: s.Act, Quants: make([]int8, 256)}
	for k := range a.Quants {
		a.Quants[k] = q
	}
	for range 256 / s.Act.Block() {
		a.Delta, a.Sum = append(a.Delta, 0.5), append(a.Sum, 16*float32(q))
	}
	return solve(s, weights, []activation.Row{a, a, a, a, a, a})
}
