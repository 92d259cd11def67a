package dot

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
)

var ahead = flag.Int64("ahead", 8192, "bytes that kernels prefetch ahead in benchmarks")

type (
	dotKernel    = func(out *float32, act, head, blocks *byte, n, ahead int64)
	tileKernel   = func(out *float32, stride int64, act, head, blocks *byte, n, ahead int64)
	expandKernel = func(to, head, blocks *byte, n int64)
)

// measured are the kernels of a domain and code: those of one row of activations, and those of 2, 4 and 6.
type measured struct {
	domain code.Domain
	code   code.Code
	dot    dotKernel
	tile   map[int]tileKernel
	expand expandKernel
}

var kernels = []measured{
	{code.BF16, code.B11, zt_dot_bf16_b11, map[int]tileKernel{1: zt_tile_bf16_b11_1, 2: zt_tile_bf16_b11_2, 4: zt_tile_bf16_b11_4, 6: zt_tile_bf16_b11_6}, zt_expand_bf16_b11},
	{code.BF16, code.B12, zt_dot_bf16_b12, map[int]tileKernel{1: zt_tile_bf16_b12_1, 2: zt_tile_bf16_b12_2, 4: zt_tile_bf16_b12_4, 6: zt_tile_bf16_b12_6}, zt_expand_bf16_b12},
	{code.BF16, code.B16, zt_dot_bf16_b16, map[int]tileKernel{1: zt_tile_bf16_b16_1, 2: zt_tile_bf16_b16_2, 4: zt_tile_bf16_b16_4, 6: zt_tile_bf16_b16_6}, nil},
	{code.F32, code.B11, zt_dot_f32_b11, map[int]tileKernel{1: zt_tile_f32_b11_1, 2: zt_tile_f32_b11_2, 4: zt_tile_f32_b11_4, 6: zt_tile_f32_b11_6}, zt_expand_f32_b11},
	{code.F32, code.B12, zt_dot_f32_b12, map[int]tileKernel{1: zt_tile_f32_b12_1, 2: zt_tile_f32_b12_2, 4: zt_tile_f32_b12_4, 6: zt_tile_f32_b12_6}, zt_expand_f32_b12},
	{code.F32, code.B16, zt_dot_f32_b16, map[int]tileKernel{1: zt_tile_f32_b16_1, 2: zt_tile_f32_b16_2, 4: zt_tile_f32_b16_4, 6: zt_tile_f32_b16_6}, zt_expand_f32_b16},
	{code.F32, code.H14, zt_dot_f32_h14, map[int]tileKernel{1: zt_tile_f32_h14_1, 2: zt_tile_f32_h14_2, 4: zt_tile_f32_h14_4, 6: zt_tile_f32_h14_6}, zt_expand_f32_h14},
	{code.F32, code.H16, zt_dot_f32_h16, map[int]tileKernel{1: zt_tile_f32_h16_1, 2: zt_tile_f32_h16_2, 4: zt_tile_f32_h16_4, 6: zt_tile_f32_h16_6}, zt_expand_f32_h16},
	{code.F32, code.S32, zt_dot_f32_s32, map[int]tileKernel{1: zt_tile_f32_s32_1, 2: zt_tile_f32_s32_2, 4: zt_tile_f32_s32_4, 6: zt_tile_f32_s32_6}, nil},
}

const benchK = 2048

// laid are panels of Gaussian weights, one behind the other as in a coded tensor.
type laid struct {
	panel code.Panel
	all   []byte
}

func (l laid) bytes() int  { return len(l.panel.Head) + len(l.panel.Blocks) }
func (l laid) panels() int { return len(l.all) / l.bytes() }

// lay fills about so many bytes of large pages with panels.
func lay(b *testing.B, m measured, size int) laid {
	b.Helper()
	for _, f := range []cpuid.FeatureID{cpuid.AVX512VBMI, cpuid.AVX512VBMI2, cpuid.AVX512BF16} {
		if !cpuid.CPU.Has(f) {
			b.Skipf("this CPU has no %v", f)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	var w code.Words
	var one []byte
	var l laid
	for several := 0; several == 0 || several < 64 && len(one) < size; several++ { // that branch prediction may not learn where escapes are
		for row := range w {
			w[row] = make([]uint32, benchK)
			for k := range w[row] {
				bits := math.Float32bits(float32(r.NormFloat64() * 0.02))
				switch m.code {
				case code.H14, code.H16:
					bits, _ = code.FromF32.As(code.H16, bits)
				case code.S32:
				default:
					bits >>= 16
				}
				w[row][k] = bits
			}
		}
		p := code.Encode(m.code, m.domain, w)
		if l.panel.Blocks == nil {
			l.panel = p
			if !m.code.Plain() {
				l.panel.Head = append(p.Head, make([]byte, 128)...) // room for the others' escapes
			}
		}
		one = append(append(one, slices.Concat(p.Head, make([]byte, len(l.panel.Head)-len(p.Head)))...), p.Blocks...)
	}
	size = max(1, size/len(one)) * len(one)
	var err error
	if l.all, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Munmap(l.all); err != nil {
			b.Error(err)
		}
	})
	_ = unix.Madvise(l.all, unix.MADV_HUGEPAGE) // as good as they come
	for at := 0; at < size; at += len(one) {
		copy(l.all[at:], one)
	}
	return l
}

// aligned returns n bytes that start on a line.
func aligned(n int) []byte {
	b := make([]byte, n+code.Line)
	for i := range b[:n] {
		b[i] = byte(0x30 + i%16) // no denormals
	}
	skip := 0
	for uintptr(unsafe.Pointer(&b[skip]))%code.Line != 0 {
		skip++
	}
	return b[skip:][:n]
}

// share runs f on each of some threads with its part of n panels, and returns how long that took.
func share(threads, n int, f func(first, last int)) time.Duration {
	var done sync.WaitGroup
	start := make(chan struct{})
	for i := range threads {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			<-start
			f(n*i/threads, n*(i+1)/threads)
		})
	}
	began := time.Now()
	close(start)
	done.Wait()
	return time.Since(began)
}

// compare reports how fast f goes through the panels, beside a plain read loop that takes turns with it.
func (l laid) compare(b *testing.B, threads int, f func(head, blocks *byte)) {
	b.Helper()
	size := l.bytes()
	rounds := max(1, 8<<20/len(l.all)) // so that a turn takes a while
	var ours, reads []float64
	for b.Loop() {
		reads = append(reads, share(threads, l.panels(), func(first, last int) {
			for range rounds {
				roofline.Read(l.all[first*size : last*size])
			}
		}).Seconds())
		ours = append(ours, share(threads, l.panels(), func(first, last int) {
			for range rounds {
				for at := first * size; at < last*size; at += size {
					f(&l.all[at], &l.all[at+len(l.panel.Head)])
				}
			}
		}).Seconds())
	}
	best := func(x []float64) float64 { return float64(rounds*len(l.all)) / slices.Min(x) / 1e9 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best(ours), "GB/s")
	b.ReportMetric(best(reads), "read-GB/s")
	b.ReportMetric(100*best(ours)/best(reads), "%read")
	b.ReportMetric(best(ours)/float64(size)*code.Rows*benchK, "Gweights/s")
}

// places are where panels lie: in one of the caches, where there is a single one in the first, or in memory.
var places = []struct {
	name    string
	size    int
	threads []int
}{{"L1", 1, []int{1}}, {"L2", 512 << 10, []int{1}}, {"memory", 768 << 20, []int{1, 2}}}

// BenchmarkDot multiplies one row of activations.
func BenchmarkDot(b *testing.B) {
	for _, m := range kernels {
		for _, place := range places {
			for _, threads := range place.threads {
				b.Run(fmt.Sprintf("%v/%v/%s/%d", m.domain, m.code, place.name, threads), func(b *testing.B) {
					l := lay(b, m, place.size)
					act := aligned(benchK * m.domain.Bytes())
					l.compare(b, threads, func(head, blocks *byte) {
						var out [code.Rows]float32
						m.dot(&out[0], &act[0], head, blocks, int64(l.panel.Len()), *ahead)
					})
				})
			}
		}
	}
}

// BenchmarkTile multiplies several rows, of panels in the second level cache and, few of them, in memory.
func BenchmarkTile(b *testing.B) {
	for _, m := range kernels {
		for _, place := range places {
			for _, rows := range []int{1, 2, 4, 6} {
				b.Run(fmt.Sprintf("%v/%v/%s/%d", m.domain, m.code, place.name, rows), func(b *testing.B) {
					l := lay(b, m, place.size)
					act := aligned(rows * benchK * m.domain.Bytes())
					l.compare(b, 1, func(head, blocks *byte) {
						var out [6 * code.Rows]float32
						m.tile[rows](&out[0], 4*code.Rows, &act[0], head, blocks, int64(l.panel.Len()), *ahead)
					})
				})
			}
		}
	}
}

// BenchmarkExpand expands panels from the second level cache to another part of it.
func BenchmarkExpand(b *testing.B) {
	for _, m := range kernels {
		if m.expand == nil {
			continue
		}
		b.Run(fmt.Sprintf("%v/%v", m.domain, m.code), func(b *testing.B) {
			l := lay(b, m, places[1].size)
			to := aligned(l.panel.Len() * m.domain.Plain().BlockBytes())
			l.compare(b, 1, func(head, blocks *byte) { m.expand(&to[0], head, blocks, int64(l.panel.Len())) })
		})
	}
}

// BenchmarkPrefill multiplies groups of 6 rows of activations by panels of a plain code, both in the second level cache, group by group
// for each of some k, and reports operations. BenchmarkPeak of avo/roofline says how many there can be.
func BenchmarkPrefill(b *testing.B) {
	byFMA := measured{domain: code.BF16, code: code.B16, tile: map[int]tileKernel{6: zt_tile_bf16_b16_6_fma}}
	for i, m := range append(slices.Clone(kernels), byFMA) {
		if m.code != m.domain.Plain() {
			continue
		}
		by := ""
		if i == len(kernels) {
			by = " by FMA"
		}
		for _, parts := range []int64{1, 2, 4} {
			b.Run(fmt.Sprintf("%v%s/%d", m.domain, by, benchK/parts), func(b *testing.B) {
				l := lay(b, m, places[1].size)
				n := int64(l.panel.Len()) / parts
				act := aligned(6 * benchK * m.domain.Bytes())
				var out [6 * code.Rows]float32
				best := time.Hour
				for b.Loop() {
					began := time.Now()
					for at := 0; at < len(l.all); at += l.bytes() / int(parts) {
						m.tile[6](&out[0], 4*code.Rows, &act[0], &l.all[at], &l.all[at], n, 0)
					}
					best = min(best, time.Since(began))
				}
				b.ReportMetric(2*6*code.Rows*benchK*float64(l.panels())/best.Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
