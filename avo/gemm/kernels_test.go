package gemm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/catalog"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// conventions returns the kernels of this package in both calling conventions.
func conventions(tb testing.TB) map[string]map[string]checker.Func {
	tb.Helper()
	goFuncs := map[string]checker.Func{}
	for name, address := range gemm.Entries() {
		goFuncs[name] = checker.ABI0(name, address, 0)
	}
	file, err := kernel.Compile(program.Programs())
	if err != nil {
		tb.Fatal(err)
	}
	var source bytes.Buffer
	if err := gas.Print(&source, file, "test"); err != nil {
		tb.Fatal(err)
	}
	return map[string]map[string]checker.Func{"go": goFuncs, "sysv": checker.Assemble(tb, source.String())}
}

// ofOp calls f for each kernel of an op in each convention, as a subtest.
func ofOp(t *testing.T, op kernel.Op, f func(t *testing.T, k kernel.Info, fn checker.Func)) {
	found := 0
	for convention, funcs := range conventions(t) {
		for _, k := range catalog.All() {
			if fn, here := funcs[k.Name]; here && k.Op == op {
				found++
				t.Run(convention+"/"+k.Name, func(t *testing.T) { f(t, k, fn) })
			}
		}
	}
	if found == 0 {
		t.Fatalf("no kernel for %s", op)
	}
}

// checkGEMM calls a kernel on one problem and compares every float with the oracle, bit for bit. Columns that the mask leaves
// out, and the gap between rows, must keep what they held.
func checkGEMM(t testing.TB, k kernel.Info, fn checker.Func, r *rand.Rand, blocks, cols, gap int, accumulate bool) {
	weights := gemm.RandomBlocks(r, cols, blocks)
	activations := gemm.RandomBlocks(r, k.Rows, blocks)
	a := checker.AtEnd[byte](t, "a", blocks*gemm.GroupBlockBytes(k.Rows), 1)
	copy(a, gemm.GroupQ80(activations))
	w := checker.AtEnd[byte](t, "w", blocks*gemm.PanelBlockBytes(k.Cols), 64)
	copy(w, gemm.PackQ80(weights, k.Cols))

	stride := cols + gap
	dst := checker.AtEnd[float32](t, "dst", (k.Rows-1)*stride+cols, 4)
	for i := range dst {
		dst[i] = float32(r.NormFloat64())
	}
	before := append([]float32(nil), dst...)
	mask := uint64(1)<<cols - 1
	from := 0
	if accumulate {
		from = 1
	}
	fn.Call(t, dst, 4*stride, a, w, blocks, mask, from)
	for row := range k.Rows {
		for c := range stride {
			i := row*stride + c
			if i >= len(dst) {
				break
			}
			want := before[i]
			if c < cols {
				start := float32(0)
				if accumulate {
					start = before[i]
				}
				want = gemm.DotQ80(weights[c], activations[row], start)
			}
			if math.Float32bits(dst[i]) != math.Float32bits(want) && !(dst[i] != dst[i] && want != want) {
				t.Fatalf("row %d column %d of %d x %d, %d blocks, accumulate %v: %v, want %v", row, c, k.Rows, cols, blocks, accumulate, dst[i], want)
			}
		}
	}
}

func TestGEMM(t *testing.T) {
	ofOp(t, kernel.GEMM, func(t *testing.T, k kernel.Info, fn checker.Func) {
		for _, blocks := range []int{1, 2, 7, 64} {
			for _, cols := range []int{1, 15, 16, 17, 31, 32} {
				for _, accumulate := range []bool{false, true} {
					t.Run(fmt.Sprintf("%dx%d/%v", cols, blocks, accumulate), func(t *testing.T) {
						checkGEMM(t, k, fn, checker.Rand(t), blocks, cols, blocks%3, accumulate)
					})
				}
			}
		}
	})
}

// TestGEMMExtremes drives the integer sums to their limits: all products of the same sign and largest size.
func TestGEMMExtremes(t *testing.T) {
	ofOp(t, kernel.GEMM, func(t *testing.T, k kernel.Info, fn checker.Func) {
		for _, w := range []int8{-128, 127} {
			for _, a := range []int8{-128, 127} {
				weights, activations := make([][]gemm.BlockQ80, k.Cols), make([][]gemm.BlockQ80, k.Rows)
				for i := range weights {
					weights[i] = []gemm.BlockQ80{filled(w)}
				}
				for i := range activations {
					activations[i] = []gemm.BlockQ80{filled(a)}
				}
				panel := checker.AtEnd[byte](t, "w", gemm.PanelBlockBytes(k.Cols), 64)
				copy(panel, gemm.PackQ80(weights, k.Cols))
				group := checker.AtEnd[byte](t, "a", gemm.GroupBlockBytes(k.Rows), 1)
				copy(group, gemm.GroupQ80(activations))
				dst := checker.AtEnd[float32](t, "dst", k.Rows*k.Cols, 4)
				fn.Call(t, dst, 4*k.Cols, group, panel, 1, uint64(1)<<k.Cols-1, 0)
				for i, got := range dst {
					if want := float32(w) * float32(a) * 32; got != want {
						t.Fatalf("%d * %d: element %d is %v, want %v", w, a, i, got, want)
					}
				}
			}
		}
	})
}

func filled(q int8) gemm.BlockQ80 {
	b := gemm.BlockQ80{Scale: 0x3c00} // 1.0
	for k := range b.Quants {
		b.Quants[k] = q
	}
	return b
}

// checkQuantize quantizes every row of a group and compares the whole group with the reference, byte for byte.
func checkQuantize(t testing.TB, fn checker.Func, rows [][]float32) {
	n, blocks := len(rows), len(rows[0])/gemm.BlockSize
	group := checker.AtEnd[byte](t, "group", blocks*gemm.GroupBlockBytes(n), 1)
	var quantized [][]gemm.BlockQ80
	for r, row := range rows {
		x := checker.AtEnd[float32](t, "x", len(row), 4)
		copy(x, row)
		fn.Call(t, x, group[gemm.QuantOffset(r):], group[gemm.DeltaOffset(n, r):], group[gemm.CorrOffset(n, r):], blocks, gemm.GroupBlockBytes(n))
		quantized = append(quantized, gemm.QuantizeQ80(row))
	}
	want := gemm.GroupQ80(quantized)
	for i := range want {
		if group[i] != want[i] {
			t.Fatalf("%d rows of %d blocks: byte %d of block %d is %#x, want %#x",
				n, blocks, i%gemm.GroupBlockBytes(n), i/gemm.GroupBlockBytes(n), group[i], want[i])
		}
	}
}

func TestQuantize(t *testing.T) {
	ofOp(t, kernel.Quantize, func(t *testing.T, _ kernel.Info, fn checker.Func) {
		for _, blocks := range []int{1, 2, 65} {
			for n := 1; n <= 6; n++ {
				t.Run(fmt.Sprintf("%dx%d", n, blocks), func(t *testing.T) {
					r := checker.Rand(t)
					rows := make([][]float32, n)
					for i := range rows {
						rows[i] = make([]float32, blocks*gemm.BlockSize)
						for k := range rows[i] {
							rows[i][k] = float32(r.NormFloat64() * math.Exp(r.NormFloat64()*4))
						}
					}
					checkQuantize(t, fn, rows)
				})
			}
		}
		ties := make([]float32, 8*gemm.BlockSize)
		for k := range ties {
			switch k / gemm.BlockSize {
			case 1: // halves, which round to even: the block's maximum makes the scale exactly 1
				ties[k] = float32(k%gemm.BlockSize) - 15.5
				ties[gemm.BlockSize] = 127
			case 2: // one value alone
				ties[2*gemm.BlockSize+7] = -3e-3
			case 3: // denormal floats, whose scale is zero as FP16
				ties[k] = 1e-40
			case 4: // scales that overflow FP16
				ties[k] = 1e38 * float32(1-k%2*2)
			case 5: // the FP16 denormals
				ties[k] = 1e-5 * float32(k%7)
			case 6: // negative zero
				ties[k] = float32(math.Copysign(0, -1))
			}
		}
		checkQuantize(t, fn, [][]float32{ties})
	})
}

func FuzzGEMM(f *testing.F) {
	f.Add(uint64(1), uint16(3), uint8(31), uint8(0), true)
	funcs := conventions(f)
	f.Fuzz(func(t *testing.T, seed uint64, blocks uint16, cols, gap uint8, accumulate bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, k := range catalog.All() {
			if k.Op != kernel.GEMM {
				continue
			}
			for _, convention := range []string{"go", "sysv"} {
				checkGEMM(t, k, funcs[convention][k.Name], r, 1+int(blocks)%96, 1+int(cols)%k.Cols, int(gap), accumulate)
			}
		}
	})
}

func FuzzQuantize(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint32(nil, math.Float32bits(1.5)))
	var odd []byte // infinities and NaNs of every lane
	for k := range 4096 {
		v := uint32(0x3f800000 + k)
		switch {
		case k%41 == 0:
			v = 0x7f800000 | uint32(k&1)<<31
		case k%37 == 0:
			v = 0x7fc00000 | uint32(k)
		case k%67 == 0:
			v = 0xff800001 + uint32(k)
		}
		odd = binary.LittleEndian.AppendUint32(odd, v)
	}
	f.Add(odd)
	funcs := conventions(f)
	k := catalog.One(kernel.Quantize, "Q8_0")
	f.Fuzz(func(t *testing.T, raw []byte) {
		row := make([]float32, gemm.BlockSize*(1+min(len(raw), 16384)/4/gemm.BlockSize))
		for i := range row {
			if len(raw) < 4 {
				break
			}
			row[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw))
			raw = raw[4:]
		}
		for _, convention := range []string{"go", "sysv"} {
			checkQuantize(t, funcs[convention][k.Name], [][]float32{row})
		}
	})
}

// BenchmarkGEMM runs each tile on a panel that stays in L2, and reports int8 operations.
func BenchmarkGEMM(b *testing.B) {
	const blocks = 64
	for _, k := range catalog.All() {
		if k.Op != kernel.GEMM {
			continue
		}
		b.Run(k.Name, func(b *testing.B) {
			// Scales of random bits would be denormal at times, which costs more than all else.
			r := checker.Rand(b)
			a := checker.AtEnd[byte](b, "a", blocks*gemm.GroupBlockBytes(k.Rows), 64)
			copy(a, gemm.GroupQ80(gemm.RandomBlocks(r, k.Rows, blocks)))
			w := checker.AtEnd[byte](b, "w", blocks*gemm.PanelBlockBytes(k.Cols), 64)
			copy(w, gemm.PackQ80(gemm.RandomBlocks(r, k.Cols, blocks), k.Cols))
			dst := checker.AtEnd[float32](b, "dst", k.Rows*k.Cols, 64)
			checker.ABI0(k.Name, gemm.Entries()[k.Name], 0).Bench(b, int64(len(w)), dst, 4*k.Cols, a, w, blocks, uint64(1)<<k.Cols-1, 0)
			ops := 2 * float64(k.Rows*k.Cols*gemm.BlockSize*blocks)
			b.ReportMetric(ops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
		})
	}
}
