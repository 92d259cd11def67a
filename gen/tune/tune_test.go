package tune

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	roofline "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// rowsOf bounds the kernels of the types that the tests below multiply.
var rowsOf = sync.OnceValues(func() ([]ports.Row, error) {
	return ports.Rows(slices.DeleteFunc(append(program.Programs(), roofline.Programs()...), func(p kernel.Program) bool {
		return p.Type != "Q8_0" && p.Type != "Q4_K" && p.Type != "TQ1_0" && p.Name != together
	}))
})

// testMemory maps memory for products of shape, and skips the test where kernels do not run.
func testMemory(t *testing.T, shape Shape) (*memory, []ports.Row) {
	t.Helper()
	if bringup, err := target.Find("bringup"); err != nil {
		t.Fatal(err)
	} else if err := bringup.Accepts(target.Host()); err != nil {
		t.Skip(err)
	}
	rows, err := rowsOf()
	if err != nil {
		t.Fatal(err)
	}
	size := shape.Cols*shape.K*2 + 1<<20
	m, err := newMemory(size, shape.N*shape.K*2+1<<20, 4*shape.Cols*shape.N+1<<20, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.unmap(); err != nil {
			t.Error(err)
		}
	})
	return m, rows
}

// TestMatrix compares products with the oracle of their type, bit for bit: whatever the tile and the cache, what is measured must be the
// whole product.
func TestMatrix(t *testing.T) {
	shape := Shape{"test", 512, 96, 13}
	m, rows := testMemory(t, shape)
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"Q8_0", "Q4_K"} {
		x, err := newMatrix(m, name, shape, rows)
		if err != nil {
			t.Fatal(err)
		}
		weights := make([][]byte, shape.Cols)
		for i := range weights {
			weights[i] = make([]byte, x.Spec.Row(shape.K))
			for k := range weights[i] {
				weights[i][k] = 0x2c + byte(r.IntN(16))
			}
		}
		for p := 0; p < shape.Cols; p += weight.PanelRows {
			copy(m.weights[p*x.Spec.Row(shape.K):], x.Pack(weights[p:][:weight.PanelRows]))
		}
		activations := make([]activation.Row, shape.N)
		for i := range activations {
			row := make([]float32, shape.K)
			for k := range row {
				row[k] = float32(r.NormFloat64())
			}
			activations[i] = activation.Quantize(x.Act, row)
		}
		got := unsafe.Slice((*float32)(unsafe.Pointer(&m.result[0])), shape.Cols*shape.N)
		for _, tile := range rowChoices {
			at, start := 0, 0
			for _, height := range heights(shape.N, tile) {
				at += copy(m.activations[at:], activation.Lay(activations[start:][:height]))
				start += height
			}
			for _, cache := range []int{0, 3 * x.PanelBytes(), shape.K / x.Block * x.PanelBytes(), 1 << 20} {
				for i := range got {
					got[i] = float32(math.NaN())
				}
				x.run(tile, cache)
				for i, g := range got {
					row, col := i/shape.Cols, i%shape.Cols
					if want := x.Dot(weights[col], activations[row]); g != want {
						t.Fatalf("%s, tiles of %d rows, %d bytes of cache: row %d column %d is %v, want %v", name, tile, cache, row, col, g, want)
					}
				}
			}
		}
	}
}

func TestHeights(t *testing.T) {
	for _, c := range []struct {
		n, tile int
		want    []int
	}{
		{1, 6, []int{1}}, {6, 6, []int{6}}, {7, 6, []int{4, 3}}, {8, 6, []int{4, 4}}, {11, 6, []int{6, 5}}, {12, 6, []int{6, 6}},
		{13, 6, []int{6, 4, 3}}, {8, 2, []int{2, 2, 2, 2}}, {8, 5, []int{4, 4}}, {9, 4, []int{4, 3, 2}},
	} {
		if got := heights(c.n, c.tile); !slices.Equal(got, c.want) {
			t.Errorf("%d rows by %d: %v, want %v", c.n, c.tile, got, c.want)
		}
	}
}

// TestPeak checks that what everything is measured against does its work.
func TestPeak(t *testing.T) {
	m, _ := testMemory(t, Shape{"", 0, 0, 0})
	const rounds = 5
	a, b := m.operands[:64], m.operands[64:128]
	want := int32(0)
	for i := range 4 {
		want += int32(a[i]) * int32(b[i])
	}
	newPeak(m).run(rounds)
	if got := *(*int32)(unsafe.Pointer(&m.operands[128])); got != want*rounds*roofline.PeakChains {
		t.Errorf("the sum is %d, want %d", got, want*rounds*roofline.PeakChains)
	}
}

// TestKernels measures a few kernels once: all of them must have worked on whole blocks, in no less time than none at all.
func TestKernels(t *testing.T) {
	m, rows := testMemory(t, Shape{"kernels", along, 2048, 6})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bringup, err := target.Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	r := Result{Target: bringup}
	if err := r.kernels(t.Context(), newBench(ports.CPUs[0], m), m, rows, func(int, int, string) {}); err != nil {
		t.Fatal(err)
	}
	expanded := 0
	for _, k := range r.Kernels {
		if len(k.Cycles) != kernelRounds || slices.Min(k.Cycles) <= 0 {
			t.Errorf("%s took %v", k.Name, k.Cycles)
		}
		if k.Op == kernel.Expand {
			expanded++
		}
	}
	if len(r.Kernels) != len(rows) || expanded != 1 {
		t.Errorf("%d kernels of %d were measured, %d of them expand", len(r.Kernels), len(rows), expanded)
	}

	stop := fmt.Errorf("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := r.kernels(ctx, newBench(ports.CPUs[0], m), m, rows, func(int, int, string) {}); err != stop {
		t.Errorf("%v, want %v", err, stop)
	}
}

func TestFunctionOf(t *testing.T) {
	known := program.Programs()[0].Info
	strange, long, missing := known, known, known
	strange.Args = []kernel.Arg{{Name: "bias"}}
	long.Args = slices.Concat(known.Args, known.Args)
	missing.Name = "zt_missing"
	for want, k := range map[string]kernel.Info{
		`argument "bias"`: strange, "more than the 10": long, "zt_missing is not among": missing,
	} {
		if _, err := functionOf(k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	cpu := func(vendor string, family, model int, lacks ...cpuid.FeatureID) target.CPU {
		return target.CPU{Vendor: vendor, Name: "test CPU", Family: family, Model: model, Has: func(id cpuid.FeatureID) bool { return !slices.Contains(lacks, id) }}
	}
	for _, c := range []struct {
		target string
		cpu    target.CPU
		want   string // of the error, or the model
	}{
		{"zen5", cpu("AuthenticAMD", 0x1a, 0x44), "zen5"},
		{"bringup", cpu("AuthenticAMD", 0x1a, 0x44), "zen5"},
		{"bringup", cpu("AuthenticAMD", 0x19, 0x61), "zen4"},
		{"bringup", cpu("GenuineIntel", 6, 0x8f), "intel"},
		{"zen5", cpu("GenuineIntel", 6, 0x8f), "cannot tune zen5: test CPU (GenuineIntel family 6h model 8Fh) is not AMD Zen 5"},
		{"bringup", cpu("AuthenticAMD", 0x17, 0x31, cpuid.AVX512VNNI), "has no AVX512_VNNI"},
		{"bringup", cpu("AuthenticAMD", 0x1a, 0x50), "no ports for test CPU (AuthenticAMD family 1Ah model 50h)"}, // Zen 6
	} {
		tune, err := target.Find(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(tune, c.cpu); err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s on %v: %v, want %q", c.target, c.cpu, err, c.want)
			}
		} else if i, err := model(c.cpu); err != nil || ports.CPUs[i].Name != c.want {
			t.Errorf("%s on %v: ports of %s, %v; want %q", c.target, c.cpu, ports.CPUs[i].Name, err, c.want)
		}
	}
}

func TestPage(t *testing.T) {
	rows, err := rowsOf()
	if err != nil {
		t.Fatal(err)
	}
	bringup, err := target.Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	r := Result{Target: bringup, Host: target.CPU{Name: "test CPU", Vendor: "Test", Family: 1, Model: 2}, CPU: 1, Load: 0.25}
	for _, row := range rows {
		r.Kernels = append(r.Kernels, Kernel{row, Samples{2 * row.Bounds[1].Cycles, 2 * row.Bounds[1].Cycles, 2 * row.Bounds[1].Cycles}})
	}
	for _, tile := range rowChoices {
		r.Rows = append(r.Rows, Choice{prompt, "Q8_0", tile, usual, Samples{0.5, 0.51, 0.52}})
	}
	for _, l2 := range l2Choices {
		r.L2 = append(r.L2, Choice{long, "Q4_K", 6, l2, Samples{0.61, 0.62, 0.63}})
	}
	var page, table strings.Builder
	if err := r.Write(&page); err != nil {
		t.Fatal(err)
	}
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"on test CPU (Test family 1h model 2h), load average 0.2 before",
		"| without prefetching | 1 rows | 2 rows | 3 rows | 4 rows | 5 rows | 6 rows |\n", "\n| Q8_0 | 14.5; 29.0 (29.0 .. 29.0); 50 % |",
		"| prefetching | 1 rows |", "| expanding | bound; measured; share |", "\n| TQ1_0 | ", "\n| 24 VPDPBUSD and as many VPMULLD | bound", "\n| " + together + " | 16.0; 32.0 (32.0 .. 32.0); 50 % |",
		"prompt: 2048 x 2048 weights by 512 rows\n\n| type | 2 rows | 3 rows | 4 rows | 5 rows | 6 rows |\n", "\n| Q8_0 | 51.0 % (50.0 .. 52.0) | 51.0 %",
		"prompt, long rows: 2048 x 8192 weights by 512 rows\n\n| type | 0.125 | 0.25 | 0.5 | 0.75 | 1 |\n", "\n| Q4_K | 62.0 % (61.0 .. 63.0) |",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	for _, want := range []string{"1, prefetching", "expanded", together, "29.0 .. 29.0", "50 %"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}
