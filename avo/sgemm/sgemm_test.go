package sgemm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/sgemm/program"
)

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32()*2 - 1
	}
	return x
}

// TestAddProduct holds products to FMA chains in k order, bit for bit, for every orientation of A and B and views inside larger
// matrices, with k short of, at, and past a block.
func TestAddProduct(t *testing.T) {
	skipWithoutAVX512(t)
	r := rand.New(rand.NewPCG(1, 2))
	var p Panel
	for _, k := range []int{1, 7, block, block + 3, 2*block + 1} {
		for _, turned := range []struct{ a, b bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			m, n := 3*RowStep, 2*ColStep
			view := func(rows, cols int, turned bool) Matrix {
				if turned {
					return Dense(random(r, (cols+2)*(rows+3)), cols+2, rows+3).Part(1, 2, cols, rows).T()
				}
				return Dense(random(r, (rows+2)*(cols+3)), rows+2, cols+3).Part(1, 2, rows, cols)
			}
			a, b, c := view(m, k, turned.a), view(k, n, turned.b), view(m, n, false)
			want := append([]float32(nil), c.Data...)
			for i := range m {
				for j := range n {
					sum := &want[i*c.Row+j]
					for l := range k {
						*sum = ieee.FMA(a.Data[i*a.Row+l*a.Col], b.Data[l*b.Row+j*b.Col], *sum)
					}
				}
			}
			p.AddProduct(c, a, b)
			for i, x := range c.Data {
				if x != want[i] {
					t.Fatalf("k %d, turned %v: element %d is %v, want %v", k, turned, i, x, want[i])
				}
			}
		}
	}
}

// TestKernel calls the kernel as a strange caller would, with its operands against guard pages: it must read no byte of a panel or row
// too many and keep what lies between the rows of the tile.
func TestKernel(t *testing.T) {
	fn := checker.ABI0(program.Name, Entries()[program.Name], 0)
	for _, k := range []int{1, 2, 17} {
		for _, gap := range []int{0, 5} {
			r := checker.Rand(t)
			row, next := k+gap, ColStep+gap
			a := checker.AtEnd[float32](t, "a", (RowStep-1)*row+k, 4)
			b := checker.AtEnd[float32](t, "b", k*ColStep, 64)
			c := checker.AtEnd[float32](t, "c", (RowStep-1)*next+ColStep, 4)
			for _, x := range [][]float32{a, b, c} {
				copy(x, random(r, len(x)))
			}
			want := slices.Clone(c)
			for i := range RowStep {
				for j := range ColStep {
					for l := range k {
						want[i*next+j] = ieee.FMA(a[i*row+l], b[l*ColStep+j], want[i*next+j])
					}
				}
			}
			fn.Call(t, a, 4*row, 4, b, k, c, 4*next)
			if !slices.Equal(c, want) {
				t.Errorf("k %d, gap %d: %v, want %v", k, gap, c, want)
			}
		}
	}
}

// TestBadShapes gives shapes that the kernel would read or write outside of.
func TestBadShapes(t *testing.T) {
	x := make([]float32, 64*64)
	full := Dense(x, 64, 64)
	for name, f := range map[string]func(*Panel){
		"rows of C":           func(p *Panel) { p.AddProduct(Dense(x, 7, 64), Dense(x, 7, 64), full) },
		"columns of C":        func(p *Panel) { p.AddProduct(Dense(x, 64, 33), full, Dense(x, 64, 33)) },
		"turned C":            func(p *Panel) { p.AddProduct(full.T(), full, full) },
		"inner size":          func(p *Panel) { p.AddProduct(full, Dense(x, 64, 32), full) },
		"short A":             func(p *Panel) { p.AddProduct(full, Dense(x[1:], 64, 64), full) },
		"short B":             func(p *Panel) { p.AddProduct(full, full, Dense(x[1:], 64, 64)) },
		"nothing to multiply": func(p *Panel) { p.AddProduct(full, Dense(x, 64, 0), Dense(x, 0, 64)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(new(Panel))
		})
	}
}

func BenchmarkAddProduct(b *testing.B) {
	skipWithoutAVX512(b)
	const m, n, k = 1024, 768, 256
	r := rand.New(rand.NewPCG(1, 2))
	x, y, c := Dense(random(r, m*k), m, k), Dense(random(r, n*k), n, k).T(), Dense(make([]float32, m*n), m, n)
	var p Panel
	for b.Loop() {
		p.AddProduct(c, x, y)
	}
	b.ReportMetric(2*m*n*k*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func skipWithoutAVX512(tb testing.TB) {
	if !cpuid.CPU.Supports(cpuid.AVX512F) {
		tb.Skip("this CPU has no AVX-512F")
	}
}
