package roofline

import (
	"bytes"
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// TestKernels calls the micro-kernels in both conventions. The read kernel must touch its buffer to the last byte and no further:
// the guard page behind it would fault. The others must do all of their multiplications.
func TestKernels(t *testing.T) {
	file, err := kernel.Compile(program.Programs())
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	if err := gas.Print(&source, file, "test"); err != nil {
		t.Fatal(err)
	}
	sysv := checker.Assemble(t, source.String())
	for name, address := range Entries() {
		t.Run(name, func(t *testing.T) {
			for _, fn := range []checker.Func{checker.ABI0(name, address, 0), sysv[name]} {
				for _, rounds := range []int{1, 1000} {
					switch name {
					case "zt_read_512":
						fn.Call(t, checker.AtEnd[byte](t, "p", 3*program.ReadChunk, 64), 3)
					case "zt_peak_vpdpbusd_512", "zt_peak_vpdpbusd_vpmulld_512":
						vnni(t, fn, rounds)
					case "zt_peak_vfmadd_512":
						fma(t, fn, rounds)
					case "zt_peak_vdpbf16ps_512":
						bf16(t, fn, rounds)
					default:
						t.Fatalf("no test for %s", name)
					}
				}
			}
		})
	}
}

func vnni(t *testing.T, fn checker.Func, rounds int) {
	if !cpuid.CPU.Has(cpuid.AVX512VNNI) {
		t.Skip("this CPU has no AVX512_VNNI")
	}
	a, b := checker.AtEnd[uint8](t, "a", 64, 1), checker.AtEnd[int8](t, "b", 64, 1)
	sum := checker.AtEnd[int32](t, "sum", 16, 1)
	fn.Call(t, rounds, a, b, sum)
	for i, got := range sum {
		var want int32 // wraps as the instruction does
		for j := range 4 {
			want += int32(a[4*i+j]) * int32(b[4*i+j])
		}
		if want *= int32(rounds * program.PeakChains); got != want {
			t.Fatalf("sum %d is %d, want %d", i, got, want)
		}
	}
}

// digits are whole numbers whose products and sums float32 holds.
func digits(t *testing.T, x []float32) {
	for i := range x {
		x[i] = float32(checker.Rand(t).IntN(17) - 8)
	}
}

func fma(t *testing.T, fn checker.Func, rounds int) {
	a, b := checker.AtEnd[float32](t, "a", 16, 1), checker.AtEnd[float32](t, "b", 16, 1)
	sum := checker.AtEnd[float32](t, "sum", 16, 1)
	digits(t, a)
	digits(t, b)
	fn.Call(t, rounds, a, b, sum)
	for i, got := range sum {
		if want := float32(rounds*program.PeakChains) * a[i] * b[i]; got != want {
			t.Fatalf("sum %d is %v, want %v", i, got, want)
		}
	}
}

func bf16(t *testing.T, fn checker.Func, rounds int) {
	if !cpuid.CPU.Has(cpuid.AVX512BF16) {
		t.Skip("this CPU has no AVX512_BF16")
	}
	a, b := checker.AtEnd[uint16](t, "a", 32, 1), checker.AtEnd[uint16](t, "b", 32, 1)
	sum := checker.AtEnd[float32](t, "sum", 16, 1)
	var x, y [32]float32
	digits(t, x[:])
	digits(t, y[:])
	for i := range x {
		a[i], b[i] = uint16(math.Float32bits(x[i])>>16), uint16(math.Float32bits(y[i])>>16)
	}
	fn.Call(t, rounds, a, b, sum)
	for i, got := range sum {
		if want := float32(rounds*program.PeakChains) * (x[2*i]*y[2*i] + x[2*i+1]*y[2*i+1]); got != want {
			t.Fatalf("sum %d is %v, want %v", i, got, want)
		}
	}
}

// BenchmarkPeak reports how many of each instruction, or pair of instructions, the CPU issues.
func BenchmarkPeak(b *testing.B) {
	for name, address := range Entries() {
		if !strings.HasPrefix(name, "zt_peak_") {
			continue
		}
		b.Run(name, func(b *testing.B) {
			const rounds = 10000
			x, sum := checker.AtEnd[byte](b, "x", 64, 64), checker.AtEnd[byte](b, "sum", 64, 64)
			for i := range x {
				x[i] = "\x55\x6b\x35\x5b"[i%4]
			}
			checker.ABI0(name, address, 0).Bench(b, 0, rounds, x, x, sum)
			b.ReportMetric(float64(rounds*program.PeakChains*b.N)/b.Elapsed().Seconds()/1e9, "G/s")
		})
	}
}

// TestTeam checks units and bookkeeping, not speed: a result below or above what any CPU can do is a wrong formula.
func TestTeam(t *testing.T) {
	if !cpuid.CPU.Has(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512")
	}
	on := team{0}
	between := func(what string, r Rate, low, high float64) {
		t.Helper()
		if len(r) < minSamples || len(r) > maxSamples || slices.Min(r) < low || slices.Max(r) > high {
			t.Errorf("%s: %g a second, want %d to %d samples of %g to %g", what, r, minSamples, maxSamples, low, high)
		}
	}
	vnni, fma, bf16, err := on.peaks()
	if err != nil {
		t.Fatal(err)
	}
	between("float32", fma, 1e9, 1e12)
	if cpuid.CPU.Has(cpuid.AVX512VNNI) {
		between("VNNI", vnni, 4e9, 5e12)
	} else if vnni != nil {
		t.Errorf("VNNI measured without it: %g", vnni)
	}
	if cpuid.CPU.Has(cpuid.AVX512BF16) {
		between("bfloat16", bf16, 2e9, 2e12)
	} else if bf16 != nil {
		t.Errorf("BF16 measured without it: %g", bf16)
	}
	for _, kind := range []pages{small, large} {
		r, huge, err := on.read(64<<20, kind)
		if err != nil {
			t.Fatal(err)
		}
		between("read", r, 1e8, 2e12)
		if kind == small && huge != 0 {
			t.Errorf("%d bytes of small pages lie in large ones", huge)
		}
		t.Logf("%d MiB in large pages", huge>>20)
	}
	if _, _, err := make(team, 3000).read(largePage, small); err == nil || !strings.Contains(err.Error(), "too small for 3000 threads") {
		t.Errorf("error is %v", err)
	}
	if _, err := (team{1023}).run(func(int) {}); err == nil || !strings.Contains(err.Error(), "CPU 1023") {
		t.Errorf("error is %v, want one that names the CPU that does not exist", err)
	}
}

// TestHuge compares with what the kernel says of pages before and after they are touched.
func TestHuge(t *testing.T) {
	b, err := mapBuffer(4*largePage, large)
	if err != nil {
		t.Fatal(err)
	}
	defer b.unmap()
	if at := uintptr(unsafe.Pointer(&b.bytes[0])); at%largePage != 0 {
		t.Errorf("the buffer starts at %#x", at)
	}
	if huge, err := b.huge(); huge != 0 || err != nil {
		t.Errorf("%d bytes in large pages of memory that was never touched, %v", huge, err)
	}
	b.bytes[0], b.bytes[3*largePage] = 1, 1
	huge, err := b.huge()
	if err != nil {
		t.Fatal(err)
	}
	if huge == 0 {
		t.Skip("the kernel gives no large pages here")
	}
	if huge != 2*largePage {
		t.Errorf("%d bytes in large pages, want those of the two touched", huge)
	}
}

func TestMeasure(t *testing.T) {
	if !cpuid.CPU.Has(cpuid.AVX512F) {
		t.Skip("this CPU has no AVX-512")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var seen []string
	_, err := Measure(ctx, 1, func(done, total int, doing string) {
		seen = append(seen, doing)
		cancel()
	})
	if err != context.Canceled || !slices.Equal(seen, []string{"reading 4 KiB pages, threads: 1"}) {
		t.Errorf("%v after %q, want an end before the first step", err, seen)
	}
	if _, err := Measure(context.Background(), 0, nil); err == nil {
		t.Error("measured with no threads")
	}
}

func TestSized(t *testing.T) {
	for _, c := range []struct{ l3, available, want, notes int64 }{
		{32 << 20, 64 << 30, 1 << 30, 0},
		{480 << 20, 64 << 30, 1920 << 20, 0},
		{480 << 20, 4 << 30, 1 << 30, 1},
		{32 << 20, 1<<30 + 5<<20, 256 << 20, 0},
		{0, 64 << 30, 1 << 30, 0},
	} {
		l, err := sized(c.l3, c.available)
		if err != nil || l.Buffer != c.want || len(l.Notes) != int(c.notes) {
			t.Errorf("L3 %d MiB, available %d MiB: %d MiB, %q, %v; want %d", c.l3>>20, c.available>>20, l.Buffer>>20, l.Notes, err, c.want>>20)
		}
	}
	if _, err := sized(0, 7<<20); err == nil || !strings.Contains(err.Error(), "7 MiB of memory are available") {
		t.Errorf("error is %v", err)
	}
}

// TestSpread has two L3 caches of two cores of two threads, numbered as Linux does on a desktop Ryzen.
func TestSpread(t *testing.T) {
	files := fstest.MapFS{}
	for cpu, l3 := range map[string]string{"0": "0-1,4-5", "1": "0-1,4-5", "2": "2-3,6-7", "3": "2-3,6-7", "4": "0-1,4-5", "5": "0-1,4-5", "6": "2-3,6-7", "7": "2-3,6-7"} {
		files["cpu"+cpu+"/cache/index3/shared_cpu_list"] = &fstest.MapFile{Data: []byte(l3 + "\n")}
		files["cpu"+cpu+"/cache/index3/size"] = &fstest.MapFile{Data: []byte("32768K\n")}
		core := string("01230123"[cpu[0]-'0'])
		files["cpu"+cpu+"/topology/thread_siblings_list"] = &fstest.MapFile{Data: []byte(core + "," + string(core[0]+4) + "\n")}
	}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, c := range []struct {
		fs         fstest.MapFS
		cpus, want []int
		l3         int64
	}{
		{files, all, []int{0, 2, 1, 3, 4, 6, 5, 7}, 64 << 20},
		{files, []int{7, 3, 1}, []int{1, 3, 7}, 64 << 20},
		{files, []int{0, 1, 4}, []int{0, 1, 4}, 32 << 20},
		{fstest.MapFS{}, []int{3, 5, 4}, []int{3, 4, 5}, 0},
	} {
		s := system{c.fs}
		if got := s.spread(c.cpus); !slices.Equal(got, c.want) {
			t.Errorf("%v spread to %v, want %v", c.cpus, got, c.want)
		}
		if got := s.l3(c.cpus); got != c.l3 {
			t.Errorf("L3 of %v is %d, want %d", c.cpus, got, c.l3)
		}
	}
}

func TestLimits(t *testing.T) {
	two := Point{Threads: 2, Small: Rate{3, 5, 4}, Huge: Rate{6, 7}}
	l := Limits{Points: []Point{{Threads: 1, Small: Rate{8}}, two}}
	if got := l.At(2); !reflect.DeepEqual(got, two) || got.Read() != 7 || got.Small.Best() != 5 || got.VNNI.Best() != 0 {
		t.Errorf("at 2 threads: %+v, reading %v", got, got.Read())
	}
	if got := l.At(1).Read(); got != 8 {
		t.Errorf("read limit %v of one thread, want 8", got)
	}
	if got := l.At(3); got.Read() != 0 || got.Threads != 3 {
		t.Errorf("limits of a number that was not measured: %+v", got)
	}
}

func TestTable(t *testing.T) {
	l := Limits{Buffer: 1 << 30, Notes: []string{"a note"}, Points: []Point{
		{Threads: 1, Small: Rate{10.04e9, 12e9, 11e9}, Huge: Rate{13e9}, VNNI: Rate{400e9, 456e9, 300e9}, FMA: Rate{114.4e9}, BF16: Rate{228e9}},
		{Threads: 16, Small: Rate{20e9}, VNNI: Rate{7000e9}, FMA: Rate{1800e9}},
	}}
	var b strings.Builder
	if err := l.Table(&b); err != nil {
		t.Fatal(err)
	}
	want := `
   threads   read, 4 KiB pages   read, 2 MiB pages              int8              float32           bfloat16
                          GB/s                GB/s   VPDPBUSD, GOP/s   VFMADD231PS, GOP/s   VDPBF16PS, GOP/s
         1         12.0 (11.0)         13.0 (13.0)         456 (400)            114 (114)          228 (228)
        16         20.0 (20.0)                none       7000 (7000)          1800 (1800)               none

The best of up to 15 measurements, their median in brackets. A sweep reads 1024 MiB; a multiplication and an addition are two operations.
a note
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
