package gemm

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

func randRow(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func TestQuick(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := 512
	nb := k / 32
	var ws [][]BlockQ80
	for range 45 {
		ws = append(ws, QuantizeQ80(randRow(r, k)))
	}
	w := PackQ80(ws, 32)
	var as [][]BlockQ80
	var xs [][]float32
	for range 6 {
		x := randRow(r, k)
		xs = append(xs, x)
		as = append(as, QuantizeQ80(x))
	}
	g := GroupQ80(as)
	g2 := make([]byte, len(g))
	for i := range xs {
		zt_quantize_q8_0_avx512vnni(&xs[i][0], &g2[QuantOffset(i)], &g2[DeltaOffset(6, i)], &g2[CorrOffset(6, i)], int64(nb), int64(GroupBlockBytes(6)))
	}
	for i := range g {
		if g[i] != g2[i] {
			t.Fatalf("group byte %d: %d %d", i, g[i], g2[i])
		}
	}
	dst := make([]float32, 6*64)
	zt_gemm_q8_0_6x32_avx512vnni(&dst[0], 256, &g[0], &w[0], int64(nb), 0xffffffff, 0)
	zt_gemm_q8_0_6x32_avx512vnni(&dst[32], 256, &g[0], (*byte)(unsafe.Pointer(&w[nb*1088])), int64(nb), 1<<13-1, 0)
	for i := range 6 {
		for j := range 45 {
			if want := DotQ80(ws[j], as[i], 0); math.Float32bits(want) != math.Float32bits(dst[i*64+j]) {
				t.Fatal(i, j, want, dst[i*64+j])
			}
		}
	}
}

func BenchmarkGemm(b *testing.B) {
	nb := 64
	w := make([]byte, 1088*nb*4)
	g := make([]byte, 240*nb)
	dst := make([]float32, 6*64)
	for b.Loop() {
		zt_gemm_q8_0_6x32_avx512vnni(&dst[0], 256, &g[0], &w[0], int64(nb), 0xffffffff, 0)
	}
	b.ReportMetric(float64(b.N)*6*32*32*2*float64(nb)/b.Elapsed().Seconds()/1e9, "GOP/s")
}
