package gemm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// tall is the number of activation rows of the tallest kernel.
const tall = program.Rows

// source is all kernels as GNU assembler source.
var source = sync.OnceValues(func() (string, error) {
	var b bytes.Buffer
	file, err := kernel.Compile(program.Programs())
	if err == nil {
		err = gas.Print(&b, file, "test")
	}
	return b.String(), err
})

// conventions returns the kernels of this package in both calling conventions.
func conventions(tb testing.TB) map[string]map[string]checker.Func {
	tb.Helper()
	goFuncs := map[string]checker.Func{}
	for name, address := range gemm.Entries() {
		goFuncs[name] = checker.ABI0(name, address, 0)
	}
	s, err := source()
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]map[string]checker.Func{"go": goFuncs, "sysv": checker.Assemble(tb, s)}
}

// kernels returns those of an op for a type.
func kernels(op kernel.Op, name string) (found []kernel.Info) {
	for _, p := range program.Programs() {
		if p.Op == op && p.Type == name {
			found = append(found, p.Info)
		}
	}
	return found
}

// specs returns the types that have kernels.
func specs() (found []*weight.Spec) {
	for _, s := range append(weight.Specs(), weight.Wides()...) {
		if kernels(kernel.GEMM, s.Name) != nil {
			found = append(found, s)
		}
	}
	return found
}

// problem is a panel, rows of activations, and what their products are.
type problem struct {
	*weight.Spec
	blocks      int
	panel       []byte
	activations []activation.Row
	want        [tall][weight.PanelRows]float32
}

// solve computes the products.
func solve(s *weight.Spec, weights [][]byte, activations []activation.Row) problem {
	p := problem{Spec: s, blocks: len(weights[0]) / s.Bytes, panel: s.Pack(weights), activations: activations}
	for r, a := range activations {
		for c, w := range weights {
			p.want[r][c] = s.Dot(w, a)
		}
	}
	return p
}

// random draws a problem. Scales of weights are of usual size, or wild: infinities and NaNs too.
func random(r *rand.Rand, s *weight.Spec, blocks int, wild bool) problem {
	weights := make([][]byte, weight.PanelRows)
	for i := range weights {
		weights[i] = make([]byte, blocks*s.Bytes)
		for k := range weights[i] {
			weights[i][k] = byte(r.Uint32())
		}
		for at := 0; at < len(weights[i]) && !wild; at += s.Bytes {
			tame(s, weights[i][at:][:s.Bytes])
		}
	}
	activations := make([]activation.Row, tall)
	for i := range activations {
		x := make([]float32, blocks*s.Block)
		for k := range x {
			x[k] = float32(r.NormFloat64())
		}
		activations[i] = activation.Quantize(s.Act, x)
	}
	return solve(s, weights, activations)
}

// tame makes FP16 and float32 scales finite, between 2^-7 and 4, and those of E8M0 less than 2.
func tame(s *weight.Spec, block []byte) {
	for _, role := range []weight.Role{weight.D, weight.Min} {
		f, ok := s.Field(role)
		switch {
		case ok && s.Scale.Format == weight.FP16:
			set(f, block, 0, f.Get(block, 0)&^0x4000|0x2000)
		case ok && s.Scale.Format == weight.F32:
			set(f, block, 0, f.Get(block, 0)&^0x40000000|0x3c000000)
		case ok && s.Scale.Format == weight.E8M0:
			set(f, block, 0, 0x78|f.Get(block, 0)&7)
		}
	}
}

// set makes element e of a field v.
func set(f weight.Field, block []byte, e int, v uint32) {
	for b := range f.Bits() {
		at := f.At(e, b)
		block[at/8] = block[at/8]&^(1<<(at%8)) | byte(v>>b&1)<<(at%8)
	}
}

// check calls a kernel, or for first > 0 twice, for so many blocks and for the others, and compares every float with the oracle, bit for
// bit. Columns that the mask leaves out, and the gap between rows, must keep what they held.
func (p problem) check(t testing.TB, k kernel.Info, fn checker.Func, r *rand.Rand, cols, gap, first int) {
	t.Helper()
	group := activation.Lay(p.activations[:k.Rows])
	a := checker.AtEnd[byte](t, "a", len(group), 1)
	copy(a, group)
	w := checker.AtEnd[byte](t, "w", len(p.panel), 1)
	copy(w, p.panel)
	stride := cols + gap
	dst := checker.AtEnd[float32](t, "dst", (k.Rows-1)*stride+cols, 4)
	for i := range dst {
		dst[i] = float32(r.NormFloat64())
	}
	before := append([]float32(nil), dst...)

	work := checker.AtEnd[byte](t, "work", program.WorkBytes(p.Spec, k.Rows), 64)
	call := func(from, to, accumulate int) {
		args := []any{dst, 4 * stride, a[from*len(a)/p.blocks:], w[from*p.PanelBytes():], to - from, uint64(1)<<cols - 1, accumulate, work}
		fn.Call(t, append(args, prefetched(k, w)...)...)
	}
	if first > 0 {
		call(0, first, 0)
	}
	call(first, p.blocks, min(first, 1))

	for i, got := range dst {
		row, c := i/stride, i%stride
		want := before[i]
		if c < cols {
			want = p.want[row][c]
		}
		if math.Float32bits(got) != math.Float32bits(want) && !(got != got && want != want) {
			t.Fatalf("%s: row %d column %d of %d x %d, %d blocks, the first call %d: %v, want %v", k.Name, row, c, k.Rows, cols, p.blocks, first, got, want)
		}
	}
}

// prefetched returns the arguments by which a kernel is told to prefetch the weights that it reads, if it prefetches.
func prefetched(k kernel.Info, w []byte) []any {
	if !k.Ahead {
		return nil
	}
	return []any{w, 64}
}

func TestGEMM(t *testing.T) {
	funcs := conventions(t)
	for _, s := range specs() {
		t.Run(s.Name, func(t *testing.T) {
			want := 2 * tall
			if slices.Contains(weight.Wides(), s) { // read from a cache, so none prefetches
				want = tall
			}
			if n := len(kernels(kernel.GEMM, s.Name)); n != want {
				t.Fatalf("%d kernels, want %d", n, want)
			}
			for _, blocks := range []int{1, 2, 5} {
				p := random(checker.Rand(t), s, blocks, blocks == 2)
				for _, k := range kernels(kernel.GEMM, s.Name) {
					for convention, functions := range funcs {
						for i, cols := range []int{32, 17, 16, 1} {
							name := strings.Join([]string{convention, k.Name, fmt.Sprintf("%dx%d", cols, blocks)}, "/")
							t.Run(name, func(t *testing.T) {
								p.check(t, k, functions[k.Name], checker.Rand(t), cols, i%3, i*blocks/4)
							})
						}
					}
				}
			}
		})
	}
}

// TestExtremes drives the integer sums to their limits: weights of all ones or all zeros, as far as fields of them go, by activations of
// the largest size.
func TestExtremes(t *testing.T) {
	funcs := conventions(t)
	for _, s := range specs() {
		for _, bit := range []byte{0, 0xff} {
			for _, q := range []int8{-127, 127} {
				p := extreme(s, bit, q)
				for _, k := range kernels(kernel.GEMM, s.Name) {
					for convention, functions := range funcs {
						t.Run(fmt.Sprintf("%s/%s/%#x*%d", convention, k.Name, bit, q), func(t *testing.T) {
							p.check(t, k, functions[k.Name], checker.Rand(t), weight.PanelRows, 0, 0)
						})
					}
				}
			}
		}
	}
}

// TestByteScales goes through all scales of a byte in both vectors of a panel, one to a weight row, so that a large one cannot hide what
// becomes of a small one.
func TestByteScales(t *testing.T) {
	funcs := conventions(t)
	for _, s := range specs() {
		d, _ := s.Field(weight.D)
		if d.Bits() != 8 {
			continue
		}
		for low := 0; low < 256; low += weight.PanelRows / 2 {
			t.Run(fmt.Sprintf("%s/%d", s.Name, low), func(t *testing.T) {
				r := checker.Rand(t)
				weights := make([][]byte, weight.PanelRows)
				for i := range weights {
					weights[i] = make([]byte, s.Bytes)
					for k := range weights[i] {
						weights[i][k] = byte(r.Uint32())
					}
					for e := range d.Len() {
						weights[i][d.At(e, 0)/8] = byte(low + i)
					}
				}
				x := make([]float32, s.Block)
				for k := range x {
					x[k] = float32(r.NormFloat64())
				}
				a := activation.Quantize(s.Act, x)
				p := solve(s, weights, []activation.Row{a, a, a, a, a, a})
				for _, k := range kernels(kernel.GEMM, s.Name) {
					for _, functions := range funcs {
						p.check(t, k, functions[k.Name], r, weight.PanelRows, 0, 0)
					}
				}
			})
		}
	}
}

func FuzzGEMM(f *testing.F) {
	for i := range specs() {
		f.Add(uint64(i), uint8(i), uint8(2), uint8(30), uint8(i), uint8(1), i%2 == 0)
	}
	funcs := conventions(f)
	f.Fuzz(func(t *testing.T, seed uint64, spec, blocks, cols, gap, first uint8, wild bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		all := specs()
		s := all[int(spec)%len(all)]
		p := random(r, s, 1+int(blocks)%(1024/s.Block), wild)
		for _, k := range kernels(kernel.GEMM, s.Name) {
			for _, functions := range funcs {
				p.check(t, k, functions[k.Name], r, 1+int(cols)%weight.PanelRows, int(gap)%8, int(first)%p.blocks)
			}
		}
	})
}

// checkQuantize quantizes every row of a group and compares the whole group with the reference, byte for byte.
func checkQuantize(t testing.TB, f activation.Format, fn checker.Func, rows [][]float32) {
	t.Helper()
	g := activation.Group{Format: f, Rows: len(rows)}
	blocks := len(rows[0]) / f.Block()
	group := checker.AtEnd[byte](t, "group", blocks*g.BlockBytes(), 1)
	var quantized []activation.Row
	for r, row := range rows {
		x := checker.AtEnd[float32](t, "x", len(row), 4)
		copy(x, row)
		if f == activation.Q8_K {
			fn.Call(t, x, group[g.Quants(r):], group[g.Delta(r):], group[g.Corr(r):], group[g.Sums32(r):], group[g.Sums16(r):], blocks, g.BlockBytes())
		} else {
			fn.Call(t, x, group[g.Quants(r):], group[g.Delta(r):], group[g.Corr(r):], group[g.Sum(r):], blocks, g.BlockBytes())
		}
		quantized = append(quantized, activation.Quantize(f, row))
	}
	for i, want := range activation.Lay(quantized) {
		if group[i] != want {
			t.Fatalf("%v, %d rows of %d blocks: byte %d of block %d is %#x, want %#x",
				f, g.Rows, blocks, i%g.BlockBytes(), i/g.BlockBytes(), group[i], want)
		}
	}
}

// formats are those that have a kernel here.
var formats = []activation.Format{activation.Q8_1, activation.Q8_K}

func quantizer(f activation.Format) string { return kernels(kernel.Quantize, f.String())[0].Name }

func TestQuantize(t *testing.T) {
	for convention, funcs := range conventions(t) {
		for _, f := range formats {
			for _, blocks := range []int{1, 3} {
				for n := 1; n <= tall; n++ {
					t.Run(fmt.Sprintf("%s/%v/%dx%d", convention, f, n, blocks), func(t *testing.T) {
						r := checker.Rand(t)
						rows := make([][]float32, n)
						for i := range rows {
							rows[i] = make([]float32, blocks*f.Block())
							for k := range rows[i] {
								rows[i][k] = float32(r.NormFloat64() * math.Exp(r.NormFloat64()*4))
								if i%2 == 1 { // several elements of the largest magnitude, of either sign
									rows[i][k] = float32(r.IntN(7) - 3)
								}
							}
						}
						checkQuantize(t, f, funcs[quantizer(f)], rows)
					})
				}
			}
		}
	}
}

func FuzzQuantize(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint32(nil, math.Float32bits(1.5)))
	var odd []byte // infinities, NaNs and denormals, each kind in blocks of its own and together
	for k := range 4096 {
		v := uint32(0x3f800000 + k)
		switch block := k / 256; {
		case block&1 != 0 && k%41 == 0:
			v = 0x7f800000 | uint32(k&1)<<31
		case block&2 != 0 && k%37 == 0:
			v = 0x7fc00000 | uint32(k)
		case block&2 != 0 && k%67 == 0:
			v = 0xff800001 + uint32(k)
		case block&12 == 4:
			v &= 0x7fffff
		case block&12 == 8:
			v = uint32(k&1) << 31
		}
		odd = binary.LittleEndian.AppendUint32(odd, v)
	}
	f.Add(odd)
	funcs := conventions(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		row := make([]float32, 256*(1+min(len(raw), 16384)/4/256))
		for i := range row {
			if len(raw) < 4 {
				break
			}
			row[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw))
			raw = raw[4:]
		}
		for _, functions := range funcs {
			for _, format := range formats {
				checkQuantize(t, format, functions[quantizer(format)], [][]float32{row})
			}
		}
	})
}

// BenchmarkGEMM runs each kernel on a panel that stays in L2, and reports int8 operations.
func BenchmarkGEMM(b *testing.B) {
	for _, s := range specs() {
		p := random(rand.New(rand.NewPCG(1, 1)), s, 2048/s.Block, false)
		for _, k := range kernels(kernel.GEMM, s.Name) {
			b.Run(k.Name, func(b *testing.B) {
				a := checker.AtEnd[byte](b, "a", len(activation.Lay(p.activations[:k.Rows])), 64)
				copy(a, activation.Lay(p.activations[:k.Rows]))
				w := checker.AtEnd[byte](b, "w", len(p.panel), 64)
				copy(w, p.panel)
				dst := checker.AtEnd[float32](b, "dst", k.Rows*k.Cols, 64)
				work := checker.AtEnd[byte](b, "work", program.WorkBytes(s, k.Rows), 64)
				args := append([]any{dst, 4 * k.Cols, a, w, p.blocks, uint64(1)<<k.Cols - 1, 0, work}, prefetched(k, w)...)
				checker.ABI0(k.Name, gemm.Entries()[k.Name], 0).Bench(b, int64(len(w)), args...)
				ops := 2 * float64(k.Rows*k.Cols*p.blocks*s.Block)
				b.ReportMetric(ops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
			})
		}
	}
}

// BenchmarkQuantize quantizes a row of 4096 activations.
func BenchmarkQuantize(b *testing.B) {
	const n = 4096
	for _, f := range formats {
		b.Run(f.String(), func(b *testing.B) {
			r, g := checker.Rand(b), activation.Group{Format: f, Rows: 1}
			x, group := checker.AtEnd[float32](b, "x", n, 64), checker.AtEnd[byte](b, "group", n/f.Block()*g.BlockBytes(), 64)
			for k := range x {
				x[k] = float32(r.NormFloat64())
			}
			args := []any{x, group[g.Quants(0):], group[g.Delta(0):], group[g.Corr(0):]}
			if f == activation.Q8_K {
				args = append(args, group[g.Sums32(0):], group[g.Sums16(0):])
			} else {
				args = append(args, group[g.Sum(0):])
			}
			name := quantizer(f)
			checker.ABI0(name, gemm.Entries()[name], 0).Bench(b, 4*n, append(args, n/f.Block(), g.BlockBytes())...)
		})
	}
}
