package dot_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/dot"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/dot/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// source is all kernels as GNU assembler source.
var source = sync.OnceValues(func() (string, error) {
	var b bytes.Buffer
	file, err := kernel.Compile(program.Programs())
	if err == nil {
		err = gas.Print(&b, file, "test")
	}
	return b.String(), err
})

// conventions returns the kernels of this package in both calling conventions, and skips the test where the CPU cannot run them.
func conventions(tb testing.TB) map[string]map[string]checker.Func {
	tb.Helper()
	for _, f := range []cpuid.FeatureID{cpuid.AVX512VBMI, cpuid.AVX512VBMI2, cpuid.AVX512BF16} {
		if !cpuid.CPU.Has(f) {
			tb.Skipf("this CPU has no %v", f)
		}
	}
	goFuncs := map[string]checker.Func{}
	for name, address := range dot.Entries() {
		goFuncs[name] = checker.ABI0(name, address, 0)
	}
	s, err := source()
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]map[string]checker.Func{"go": goFuncs, "sysv": checker.Assemble(tb, s)}
}

// kernels returns those of a domain and code.
func kernels(d code.Domain, c code.Code) (found []kernel.Info) {
	for _, p := range program.Programs() {
		if name, _ := strings.CutSuffix(p.Type, program.FMA); name == program.Type(d, c) {
			found = append(found, p.Info)
		}
	}
	return found
}

// kinds of weights and activations.
type kind int

const (
	usual  kind = iota // like a model's: few high bytes, some escapes
	wild               // any bits: infinities, NaNs, denormals
	equal              // all weights the same
	even               // high bytes as evenly spread as they go, so that many are escapes
	exact              // as many different high bytes as the palette has, so that marks are no escapes
	escape             // none of the high bytes is in the palette
	zeros              // zeros of both signs, and activations of both
	tiny               // products around the smallest normal number
	based              // usual ones, and with any base in B11, so that words wrap around
	kinds
)

func (k kind) String() string {
	return [...]string{"usual", "wild", "equal", "even", "exact", "escape", "zeros", "tiny", "based"}[k]
}

// words draws k weights of each row of a panel, as words of a code.
func words(r *rand.Rand, c code.Code, kind kind, k int) (w code.Words) {
	first := r.Uint32()
	for row := range w {
		w[row] = make([]uint32, k)
		for i := range w[row] {
			bits := r.Uint32()
			switch kind {
			case usual, based:
				bits = math.Float32bits(float32(r.NormFloat64() * 0.02))
				if r.IntN(50) == 0 {
					bits = math.Float32bits(float32(r.NormFloat64() * math.Exp(8*r.NormFloat64())))
				}
			case equal:
				bits = first
			case even:
				bits = uint32(i+k*row)<<24 | bits&0x00ffffff
			case exact:
				bits = uint32(i%max(1, c.Entries()))<<24 | bits&0x00ffffff
			case zeros:
				bits &= 0x80000000
			case tiny:
				bits = nearly(r, -63)
			}
			switch {
			case c == code.S32:
			case (c == code.H14 || c == code.H16) && (kind == usual || kind == based || kind == zeros):
				bits = half(math.Float32frombits(bits))
			default:
				bits >>= 16
			}
			w[row][i] = bits
		}
	}
	return w
}

// nearly draws a float of either sign within some powers of two of 2^exponent.
func nearly(r *rand.Rand, exponent int) uint32 {
	return r.Uint32()&0x807fffff | uint32(127+exponent-6+r.IntN(9))<<23
}

// half makes FP16 of a float that is not too large.
func half(f float32) uint32 {
	word, _ := code.FromF32.As(code.H16, math.Float32bits(f))
	return word
}

// activations draws k elements of a domain.
func activations(r *rand.Rand, d code.Domain, kind kind, k int) []uint32 {
	a := make([]uint32, k)
	for i := range a {
		a[i] = math.Float32bits(float32(r.NormFloat64()))
		switch {
		case kind == wild && r.IntN(8) == 0:
			a[i] = r.Uint32()
		case kind == zeros && r.IntN(2) == 0:
			a[i] = r.Uint32() & 0x80000000
		case kind == tiny:
			a[i] = nearly(r, -63)
			if r.IntN(4) != 0 { // few products in a sum, or it grows
				a[i] = 0
			}
		}
		if d == code.BF16 {
			a[i] >>= 16
		}
	}
	return a
}

// problem is a panel and rows of activations.
type problem struct {
	code.Panel
	activations [program.Rows][]uint32
}

func random(r *rand.Rand, d code.Domain, c code.Code, kind kind, k int) problem {
	w := words(r, c, kind, k)
	p := problem{Panel: code.Encode(c, d, w)}
	if kind == escape && !c.Plain() {
		p.Panel = code.EncodeBy(strangers(c, w), c, d, w)
	}
	if kind == based && c == code.B11 {
		palette := p.Palette()
		palette.Base = uint16(r.Uint32()) | 1
		p.Panel = code.EncodeBy(palette, c, d, w)
	}
	for row := range p.activations {
		p.activations[row] = activations(r, d, kind, k)
	}
	return p
}

// strangers changes words so that none has a high byte of the palette that it returns.
func strangers(c code.Code, w code.Words) code.Palette {
	for row := range w {
		for i := range w[row] {
			w[row][i] &= 0xbfff
		}
	}
	palette := code.Palette{Bytes: make([]byte, c.Entries())}
	for i := range palette.Bytes {
		palette.Bytes[i] = byte(0x40 + i)
	}
	return palette
}

// memory returns head and blocks as they lie in a coded tensor, one behind the other, before a page that may not be touched.
func (p problem) memory(t testing.TB) (head, blocks []byte) {
	all := checker.AtEnd[byte](t, "panel", len(p.Head)+len(p.Blocks), 64)
	copy(all, p.Head)
	copy(all[len(p.Head):], p.Blocks)
	return all, all[len(p.Head):]
}

// same reports whether two floats have the same bits, or both are NaNs.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// check calls a kernel and compares all that it writes with the specification, bit for bit. Between rows of results are gap floats, which
// must keep what they held.
func (p problem) check(t testing.TB, k kernel.Info, fn checker.Func, gap, ahead int) {
	t.Helper()
	head, blocks := p.memory(t)
	if k.Op == kernel.Expand {
		want, err := p.Expand()
		if err != nil {
			t.Fatal(err)
		}
		to := checker.AtEnd[byte](t, "to", len(want.Blocks), 64)
		fn.Call(t, to, head, blocks, p.Len())
		for i := range to {
			if to[i] != want.Blocks[i] {
				t.Fatalf("%s: byte %d of %d is %#x, want %#x", k.Name, i, len(to), to[i], want.Blocks[i])
			}
		}
		return
	}
	group := p.Domain.Group(p.activations[:k.Rows])
	act := checker.AtEnd[byte](t, "act", len(group), 64)
	copy(act, group)
	order, stride := code.Tile, code.Rows+gap
	out := checker.AtEnd[float32](t, "out", (k.Rows-1)*stride+code.Rows, 4)
	before := append([]float32(nil), out...)
	if k.Op == kernel.Dot {
		order = code.Dot
		fn.Call(t, out, act, head, blocks, p.Len(), ahead)
	} else {
		fn.Call(t, out, 4*stride, act, head, blocks, p.Len(), ahead)
	}
	want := before
	for row := range k.Rows {
		products, err := p.Products(order, p.activations[row])
		if err != nil {
			t.Fatal(err)
		}
		copy(want[row*stride:], products[:])
	}
	for i := range out {
		if !same(out[i], want[i]) {
			t.Fatalf("%s: %d blocks: float %d of row %d is %v (%#08x), want %v (%#08x)", k.Name, p.Len(), i%stride, i/stride,
				out[i], math.Float32bits(out[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestKernels(t *testing.T) {
	funcs := conventions(t)
	for _, d := range []code.Domain{code.BF16, code.F32} {
		for _, c := range d.Codes() {
			want := 1 + program.Rows + 1
			if c == d.Plain() {
				want-- // nothing to expand it to
			}
			if c == code.B16 && d == code.BF16 {
				want += program.Rows // by FMA
			}
			all := kernels(d, c)
			if len(all) != want {
				t.Errorf("%d kernels of %v in %v, want %d", len(all), c, d, want)
			}
			for kind := range kinds {
				for i, n := range []int{64, 128, 192, 2048} {
					t.Run(fmt.Sprintf("%v/%v/%v/%d", d, c, kind, n), func(t *testing.T) {
						p := random(checker.Rand(t), d, c, kind, n)
						for _, k := range all {
							for convention, functions := range funcs {
								t.Run(convention+"/"+k.Name, func(t *testing.T) {
									p.check(t, k, functions[k.Name], i, 1024*i)
								})
							}
						}
					})
				}
			}
		}
	}
}

func FuzzKernels(f *testing.F) {
	for i := range 12 {
		f.Add(uint64(i), uint8(i), uint8(i), uint16(64*i), []byte(strings.Repeat("\x3c\x80", i)))
	}
	funcs := conventions(f)
	f.Fuzz(func(t *testing.T, seed uint64, which, kindOf uint8, k uint16, bits []byte) {
		r := rand.New(rand.NewPCG(seed, 0))
		d := code.Domain(which % 2)
		c := d.Codes()[int(which/2)%len(d.Codes())]
		p := random(r, d, c, kind(kindOf)%kinds, 64*(1+int(k)%32))
		// What the fuzzer wrote replaces words of the first block, or their low bytes.
		copy(p.Blocks[c.Vectors()*code.Line:c.BlockBytes()], bits)
		for _, k := range kernels(d, c) {
			for _, functions := range funcs {
				p.check(t, k, functions[k.Name], int(which%5), int(k.Rows)<<(which%12))
			}
		}
	})
}
