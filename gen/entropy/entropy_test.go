package entropy

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/host"
)

var update = flag.Bool("update", false, "write what no model is needed for into "+page)

const page = "../../avo/code/ENTROPY.md"

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s is %.5f, not %.5f", what, got, want)
	}
}

func TestCounts(t *testing.T) {
	near(t, "the entropy of nothing", make(counts, 4).entropy(), 0, 0)
	near(t, "that of one symbol", counts{0, 1 << 20, 0}.entropy(), 0, 1e-4)
	// Two symbols, once each: the coder takes one bit for the first, and for the other, of which it expects a quarter, two.
	near(t, "the information of two symbols", counts{1, 1}.information(), 3, 1e-12)
	near(t, "the same if they are expected", counts{1, 1}.known(), 2, 1e-12)
	near(t, "that of halves, quarters and eighths", counts{1 << 20, 1 << 19, 1 << 18, 1 << 18}.entropy(), 1.75, 1e-4)
	// Few samples of many symbols look more orderly than they are.
	r := rand.New(rand.NewPCG(1, 2))
	c := make(counts, 256)
	for range 8 * len(c) {
		c[r.IntN(len(c))]++
	}
	if got := c.entropy(); got < 8 || c.known() > 8*2048-100 {
		t.Errorf("random bytes have %g bits, of %g in all with known frequencies", got, c.known())
	}
}

func TestJoint(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	same, half, none, rare := newJoint(16, 16), newJoint(16, 16), newJoint(16, 16), newJoint(1<<16, 16)
	for range 1 << 16 {
		x, y := r.IntN(16), r.IntN(16)
		same.add(x, x)
		half.add(x, x&^3|y&3)
		none.add(x, y)
		rare.add(r.IntN(1<<16), y) // one or two samples for a context
	}
	near(t, "the entropy of what is known", same.entropy(), 0, 0.02)
	near(t, "that of what is half known", half.entropy(), 2, 0.02)
	near(t, "that of what another thing is known of", none.entropy(), 4, 0.005)
	near(t, "that of what everything else is known of", rare.entropy(), 4, 0.005)

	// In stretches of their own, symbols cost what they do in contexts of their own.
	stretches, contexts := newJoint(1, 16), newJoint(8, 16)
	for i := range 8 {
		for range 1000 {
			symbol := 2*i + r.IntN(2)
			stretches.add(0, symbol)
			contexts.add(i, symbol)
		}
		stretches.end()
	}
	near(t, "the entropy by stretches", stretches.entropy(), contexts.entropy(), 1e-12)
	near(t, "the same", stretches.entropy(), 1, 0.05)
}

func TestFixed(t *testing.T) {
	for _, c := range []struct {
		name   string
		counts map[int]int
		want   int
	}{
		{"nothing but zeros", map[int]int{0: 1000}, 0},
		{"two symbols, three with the mark", map[int]int{0x81: 500, 0xff: 500}, 2*1000 + 8<<2},
		{"four symbols that share low zeros and no high ones", map[int]int{0x10: 500, 0x20: 500, 0x30: 500, 0x40: 500}, 3 * 2000},
		{"three symbols and rare others", map[int]int{1: 1000, 2: 1000, 131: 1000, 64: 10, 70: 10}, 2*3020 + 8*20 + 8<<2},
		{"no symbol like another", func() map[int]int {
			m := map[int]int{}
			for i := range 256 {
				m[i] = 10
			}
			return m
		}(), 8 * 2560},
	} {
		f := newFixed(8)
		for symbol, n := range c.counts {
			f.counts[symbol] = n
		}
		if got := f.best(); got != c.want {
			t.Errorf("%s: %d bits, not %d", c.name, got, c.want)
		}
		f.end()
		if f.bits != c.want || f.total() != 0 {
			t.Errorf("%s: %d bits and %d symbols after the panel's end", c.name, f.bits, f.total())
		}
	}
}

// write makes a GGUF of one matrix.
func write(t *testing.T, typ gguf.Type, cols, rows int, data []byte) *gguf.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	source := gguf.Source{Name: "m", Type: typ, Shape: []int64{int64(cols), int64(rows)}, Rows: func(dst []byte, first int64) error {
		copy(dst, data[first*typ.RowBytes(int64(cols)):])
		return nil
	}}
	if err := gguf.Write(t.Context(), path, nil, []gguf.Source{source}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// measured returns what Measure finds of the one type of f.
func measured(t *testing.T, f *gguf.File) Type {
	t.Helper()
	types, err := Measure(t.Context(), f, func(int, int, string) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(types) != 1 {
		t.Fatalf("%d types, not 1", len(types))
	}
	return types[0]
}

// TestQuants holds every type to blocks of random bits, which nothing can be saved of, and to equal blocks, of which nothing is left.
func TestQuants(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range weight.Specs() {
		typ, err := gguf.ParseType(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		const rows = 64
		cols := 16 * 256
		random := make([]byte, rows*s.Row(cols))
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		stored := 8 * float64(s.Bytes) / float64(s.Block)
		x := measured(t, write(t, typ, cols, rows, random))
		if x.Weights != int64(rows*cols) {
			t.Errorf("%s: %d weights, not %d", s.Name, x.Weights, rows*cols)
		}
		near(t, s.Name+": what random blocks store", x.Stored(), stored, 1e-9)
		near(t, s.Name+": the bound of random blocks", x.Bound(), stored, 0.01*stored)
		near(t, s.Name+": random blocks in fixed width", x.Fixed(), stored, 1e-9)

		block := random[:s.Bytes]
		x = measured(t, write(t, typ, cols, rows, bytes.Repeat(block, len(random)/s.Bytes)))
		for _, p := range x.Parts {
			if strings.HasPrefix(p.Name, string(weight.D)) {
				near(t, s.Name+": "+p.Name+" of equal blocks", p.Best, 0, 0.1*p.Stored)
			}
		}
	}
}

// TestScales makes Q8_0 blocks of which the scale tells how large the quants are, and is in a few of its 16 bits.
func TestScales(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, cols = 128, 4096
	var data []byte
	for range rows * cols / 32 {
		scale := r.IntN(2)
		data = append(data, 0x40, byte(0x10+4*scale)) // 2^-11 or 2^-10
		for range 32 {
			q := r.IntN(64) - 32
			if scale == 1 {
				q /= 4
			}
			data = append(data, byte(q))
		}
	}
	x := measured(t, write(t, gguf.Q8_0, cols, rows, data))
	for _, p := range x.Parts {
		switch p.Name {
		case "quants":
			if p.Given != "the scale of its block" {
				t.Errorf("quants are best known after %q", p.Given)
			}
			// Half of the blocks have 64 equal values, the other half -8 .. 7 of which 0 has 7 of 64 and -8 has one.
			small := (7.0*math.Log2(64.0/7) + 14*4*math.Log2(16) + 1*math.Log2(64)) / 64
			near(t, "the entropy of quants", p.Best, (6+small)/2, 0.01)
			// 63 entries and a mark: one of the 64 values escapes.
			if p.Fixed < 6 || p.Fixed > 6.1 {
				t.Errorf("quants take %g bits in fixed width", p.Fixed)
			}
		case "d, high byte":
			near(t, "the high byte of scales", p.Best, 1.0/32, 0.003)
			near(t, "the same in fixed width", p.Fixed, 2.0/32+8.0*4/(32*cols), 1e-9) // 2 entries of 4 and the mark
		case "d, low byte":
			near(t, "the low byte of scales", p.Best, 0, 0.003)
			near(t, "the same in fixed width", p.Fixed, 1.0/32, 1e-9) // one bit is set
		default:
			t.Errorf("Q8_0 has a part %q", p.Name)
		}
	}
}

// TestFloats holds what is measured of Gaussian weights to what their law says, and the coded panels to the law's bits.
func TestFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, cols, scale = 64, 2048, 0.022
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(scale * r.NormFloat64())
	}
	for _, c := range []struct {
		typ   gguf.Type
		codes []code.Code
	}{
		{gguf.BF16, []code.Code{code.B11, code.B12, code.B16}}, {gguf.F16, []code.Code{code.H14, code.H16}}, {gguf.F32, []code.Code{code.S32}},
	} {
		data := make([]byte, c.typ.RowBytes(int64(len(x))))
		gguf.Encode(data, c.typ, x)
		got := measured(t, write(t, c.typ, cols, rows, data))
		f := formats[c.typ]
		near(t, c.typ.String()+": what is stored", got.Stored(), float64(1+f.exponent+f.mantissa), 1e-9)
		// A sign, an exponent of 2.54 bits, and a mantissa of which the first bit has 0.06 bits less than one.
		near(t, c.typ.String()+": the bound", got.Bound(), 1+2.54+float64(f.mantissa)-0.06, 0.05)
		if len(got.Codes) != len(c.codes) {
			t.Fatalf("%v: codes %+v, not %v", c.typ, got.Codes, c.codes)
		}
		chosen := 0.0
		for i, u := range got.Codes {
			if u.Code != c.codes[i] || u.Weights != int64(len(x)) {
				t.Errorf("%v: %+v, not %v of all %d weights", c.typ, u, c.codes[i], len(x))
			}
			chosen += u.Chosen
			escapes := 0.0
			if !u.Code.Plain() {
				escapes = Normal(u.Code, scale).Rates(u.Code).Escapes()
			}
			// The palette of a panel fits its own weights somewhat better than all there could be.
			if u.Escapes > 1.02*escapes || u.Escapes < 0.9*escapes-1e-4 {
				t.Errorf("%v: %.5f of the weights escape from %v, not %.5f", c.typ, u.Escapes, u.Code, escapes)
			}
			near(t, fmt.Sprintf("%v: bits of %v", c.typ, u.Code), u.Bits, Bits(u.Code, cols, u.Escapes), 0.01)
		}
		near(t, c.typ.String()+": shares of codes", chosen, 1, 1e-9)
	}
}

// TestConverted measures F32 that came from BF16: 16 bits of it are zeros, and the codes of BF16 hold it.
func TestConverted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, cols = 6, 4096 // one panel and a half
	var data []byte
	for range rows * cols {
		data = append(data, 0, 0, byte(r.Uint32()), byte(0x3c+r.IntN(2)))
	}
	x := measured(t, write(t, gguf.F32, cols, rows, data))
	near(t, "the bound", x.Bound(), 9, 0.4) // 128 values of the mantissa, 4 exponents
	for _, p := range x.Parts {
		if (p.Name == "mantissa, bits 0 to 7" || p.Name == "mantissa, bits 8 to 15") && p.Best > 0.1 {
			t.Errorf("%s has %g bits", p.Name, p.Best)
		}
	}
	if len(x.Codes) == 0 || x.Codes[0].Code != code.B11 || x.Codes[0].Chosen != 1 || x.Codes[0].Escapes != 0 {
		t.Errorf("codes %+v, not all B11 without escapes", x.Codes)
	}
	// The last two rows take a panel of four.
	near(t, "the bits of B11", x.Codes[0].Bits, 8*float64(2*(64+cols/code.Cols*code.B11.BlockBytes()+directory))/(rows*cols), 1e-9)
}

// TestTruncated cuts a file short after it was opened.
func TestTruncated(t *testing.T) {
	f := write(t, gguf.Q8_0, 32, 4, make([]byte, 4*34))
	if err := os.Truncate(f.Name, f.Tensors[0].Offset+100); err != nil {
		t.Fatal(err)
	}
	if _, err := Measure(t.Context(), f, func(int, int, string) {}); err == nil || !strings.Contains(err.Error(), "tensor m") {
		t.Errorf("a file cut short: %v", err)
	}
}

// TestLaw draws weights and holds the law of their words and its escapes to them.
func TestLaw(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []code.Code{code.B11, code.B12, code.H14} {
		typ := gguf.BF16
		if c == code.H14 {
			typ = gguf.F16
		}
		for _, deviations := range [][]float64{{0.02}, {0.031, 0.25}} {
			l := Normal(c, deviations...)
			sum := 0.0
			for _, p := range l {
				sum += p
			}
			near(t, "the sum of probabilities", sum, 1, 1e-9)

			var w code.Words
			x, b := make([]float32, 1<<18), make([]byte, 2<<18)
			for row := range w {
				for i := range x {
					x[i] = float32(deviations[row%len(deviations)] * r.NormFloat64())
				}
				gguf.Encode(b, typ, x)
				w[row] = wordsOf(b, 16)
			}
			palette, _ := c.Palette(w)
			want := l.Rates(c).Escapes()
			n := float64(code.Rows * len(x))
			near(t, fmt.Sprintf("%v: escapes of %v", c, deviations), float64(escapesIn(w, palette))/n, want, 5*math.Sqrt(want/n))

			some := code.Words{w[0][:1024], w[1][:1024], w[2][:1024], w[3][:1024]}
			palette, _ = c.Palette(some)
			if panel, few := code.Encode(c, code.F32, some), escapesIn(some, palette); size(c, panel.Len(), few) != panel.Bits()/8+directory {
				t.Errorf("%v: a panel takes %d bits, not %d bytes", c, panel.Bits(), size(c, panel.Len(), few))
			}
		}
	}
	// A head of 16 bytes of palette, 4 flags and 44 escapes is a line, with one more it is two.
	if got, want := Bits(code.B12, 512, 0), 12+8.0*(64+8)/2048; got != want {
		t.Errorf("B12 without escapes takes %g bits, not %g", got, want)
	}
	near(t, "the mean of a line or two", expected(2, 0.5, func(n int) float64 { return float64(n * n) }), 1.5, 1e-12)
}

// TestPage fails when the page has other tables of what needs no model than would be written now.
func TestPage(t *testing.T) {
	hosts, err := host.Table(predicted())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for s, body := range map[Section]string{Laws: LawTable(), Hosts: hosts} {
		if want, err = s.In(want, body); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not what `%s` writes", page, Laws.Writer)
	}
}

func TestSection(t *testing.T) {
	const text = "a\n<!-- laws: `go test ./gen/entropy -update` writes what follows -->\nold\n<!-- laws end -->\nz\n"
	got, err := Laws.In(text, "new\n")
	if want := strings.ReplaceAll(text, "old", "new"); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Hosts.In(text, ""); err == nil {
		t.Error("a section that is not there was written")
	}
}
