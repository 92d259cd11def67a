package code

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSizes holds block sizes to what DESIGN.md says.
func TestSizes(t *testing.T) {
	for c, want := range map[Code]int{B11: 704, B12: 768, B16: 1024, H14: 896, H16: 1024, S32: 2048} {
		if got := c.BlockBytes(); got != want {
			t.Errorf("a block of %v takes %d bytes, want %d", c, got, want)
		}
	}
}

// TestOrder proves that steps' bytes and indices have a place each, and that unpacking gives weights in the order that a domain wants them in.
func TestOrder(t *testing.T) {
	for _, d := range []Domain{BF16, F32} {
		for _, c := range d.Codes() {
			if c.Plain() {
				continue
			}
			// The words of VPUNPCKLBW and VPUNPCKHBW: bytes 0..7 of each lane of 16, and bytes 8..15.
			var words [2][32]int
			for p := range Step {
				words[p/8%2][p/16*8+p%8] = c.weightOf(d, p)
			}
			var got []int
			for _, half := range words {
				if d == F32 && c != H14 { // low words of dwords, then high ones
					for b := range 2 {
						for i := b; i < 32; i += 2 {
							got = append(got, half[i])
						}
					}
				} else {
					got = append(got, half[:]...)
				}
			}
			for i, w := range got {
				if w != i {
					t.Errorf("%v in %v: weight %d comes where %d should", c, d, w, i)
				}
			}
		}
	}
	for _, c := range []Code{B11, B12, H14} {
		used := make([]byte, c.Vectors())
		for s := range Steps {
			bits := 0
			for _, i := range c.pieces(s) {
				field := byte(1<<i.bits-1) << i.shift
				if used[i.vector]&field != 0 {
					t.Errorf("%v: step %d shares bits of vector %d", c, s, i.vector)
				}
				used[i.vector] |= field
				bits |= (1<<i.bits - 1) << i.at
			}
			if bits != c.Entries()-1 {
				t.Errorf("%v: the index of step %d has bits %b", c, s, bits)
			}
		}
		if !bytes.Equal(used, bytes.Repeat([]byte{0xff}, c.Vectors())) {
			t.Errorf("%v: bits %x of the index vectors are used", c, used)
		}
	}
}

// fill makes a panel of k weights a row.
func fill(k int, word func(row, i int) uint32) (w Words) {
	for row := range w {
		for i := range k {
			w[row] = append(w[row], word(row, i))
		}
	}
	return w
}

// samples are panels of words of 16 or 32 bits that are hard to code.
func samples(r *rand.Rand, bits, k int) map[string]Words {
	mask := uint32(1<<bits - 1)
	cut := func(x uint32) uint32 { return x >> (32 - bits) & mask }
	one := r.Uint32()
	return map[string]Words{
		"any":          fill(k, func(int, int) uint32 { return cut(r.Uint32()) }),
		"all equal":    fill(k, func(int, int) uint32 { return cut(one) }),
		"zeros":        fill(k, func(int, int) uint32 { return cut(r.Uint32() & 0x80000000) }),
		"all high":     fill(k, func(row, i int) uint32 { return cut(uint32(row*k+i) << 24) }),
		"Gaussian":     fill(k, func(int, int) uint32 { return cut(math.Float32bits(float32(r.NormFloat64()))) }),
		"NaN and Inf":  fill(k, func(int, int) uint32 { return cut(0x7f800000 | r.Uint32()&0x80030000) }),
		"denormals":    fill(k, func(int, int) uint32 { return cut(r.Uint32() & 0x807fffff) }),
		"8 bytes":      fill(k, func(row, i int) uint32 { return cut(uint32(i%8) << 24) }),
		"16 bytes":     fill(k, func(row, i int) uint32 { return cut(uint32(i%16) << 24) }),
		"64 bytes":     fill(k, func(row, i int) uint32 { return cut(uint32(i%64) << 24) }),
		"one stranger": fill(k, func(row, i int) uint32 { return cut(0x3c000000 | uint32(row&i/63)<<30) }),
	}
}

// checkRoundTrip codes words and wants them back, zeros where the panel was padded.
func checkRoundTrip(t *testing.T, c Code, d Domain, w Words) Panel {
	t.Helper()
	p := Encode(c, d, w)
	if p.Len() != w.blocks() || len(p.Head)%Line != 0 || c.Plain() != (p.Head == nil) {
		t.Fatalf("%d blocks and a head of %d bytes for %d blocks of %v", p.Len(), len(p.Head), w.blocks(), c)
	}
	got, err := p.Decode()
	if err != nil {
		t.Fatal(err)
	}
	marked, lacking := make([]int, p.Len()), make([]bool, p.Len()) // of each block
	for row := range got {
		for k, word := range got[row] {
			if word != w.at(row, k) {
				t.Fatalf("%v in %v: weight %d of row %d is %#x, want %#x", c, d, k, row, word, w.at(row, k))
			}
			if c.Plain() {
				continue
			}
			if palette := p.Palette(); !bytes.Contains(palette.Bytes[:c.Entries()-1], []byte{palette.High(word)}) {
				marked[k/Cols]++
				lacking[k/Cols] = lacking[k/Cols] || palette.High(word) != palette.Bytes[c.Entries()-1]
			}
		}
	}
	if c.Plain() {
		return p
	}
	palette, most := c.Palette(w)
	escapes, all := 0, 0
	for b, n := range marked {
		all += n
		if lacking[b] {
			escapes += n
		}
		if flag := p.Head[c.PaletteBytes()+b]; flag == 1 != lacking[b] || flag > 1 {
			t.Errorf("block %d has the flag %d, and bytes that the palette lacks: %v", b, flag, lacking[b])
		}
	}
	if most != all {
		t.Errorf("%d escapes at most counted, and there are %d", most, all)
	}
	if got := p.Palette(); got.Base != palette.Base || !bytes.Equal(got.Bytes, palette.Bytes) {
		t.Errorf("the head has palette %v, not %v", got, palette)
	}
	for i, b := range palette.Bytes {
		if bytes.IndexByte(palette.Bytes, b) != i {
			t.Errorf("the palette %x has %#x twice", palette.Bytes, b)
		}
	}
	if c == B11 && (palette.Base%32 != 0 || palette.Base > 255 || !bytes.Equal(p.Head[10:16], make([]byte, 6))) {
		t.Errorf("the base is %d, and behind it is %x", palette.Base, p.Head[10:16])
	}
	if size := c.PaletteBytes() + p.Len() + escapes; len(p.Head) < size || len(p.Head) >= size+Line {
		t.Errorf("a head of %d bytes for %d blocks with %d escapes", len(p.Head), p.Len(), escapes)
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	for _, d := range []Domain{BF16, F32} {
		for _, c := range d.Codes() {
			for _, k := range []int{64, 128, 192, 2048} {
				for name, w := range samples(rand.New(rand.NewPCG(1, uint64(k))), 8*c.WordBytes(), k) {
					t.Run(fmt.Sprintf("%v/%v/%d/%s", d, c, k, name), func(t *testing.T) { checkRoundTrip(t, c, d, w) })
				}
			}
		}
	}
}

// TestEscapesEverywhere has a panel whose every weight is an escape: it is coded by a palette of other bytes.
func TestEscapesEverywhere(t *testing.T) {
	const k = 256
	w := fill(k, func(row, i int) uint32 { return uint32(row<<12|i) & 0x7fff })
	for _, d := range []Domain{BF16, F32} {
		for _, c := range d.Codes() {
			if c.Plain() {
				continue
			}
			palette := Palette{Bytes: make([]byte, c.Entries())}
			for i := range palette.Bytes {
				palette.Bytes[i] = byte(0x80 + i)
			}
			p := EncodeBy(palette, c, d, w)
			if size := c.PaletteBytes() + p.Len() + Rows*k; len(p.Head) != (size+Line-1)/Line*Line {
				t.Errorf("%v in %v: a head of %d bytes has not all %d escapes", c, d, len(p.Head), Rows*k)
			}
			got, err := p.Decode()
			if err != nil {
				t.Fatal(err)
			}
			for row := range got {
				if !slices.Equal(got[row], w[row]) {
					t.Errorf("%v in %v: row %d is %x", c, d, row, got[row])
				}
			}
			p.Head = p.Head[:c.PaletteBytes()+p.Len()+Rows*k-1]
			if _, err := p.Decode(); err == nil {
				t.Errorf("%v in %v: a missing escape goes unnoticed", c, d)
			}
		}
	}
}

// TestBase has BF16 weights of which no high byte with base 0 holds a pair of binades that a palette serves well.
func TestBase(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for position := range 8 {
		scale := math.Exp2(-6 + float64(position)/4)
		w := fill(2048, func(int, int) uint32 { return math.Float32bits(float32(scale*r.NormFloat64())) >> 16 })
		p := checkRoundTrip(t, B11, BF16, w)
		palette, escapes := B11.Palette(w)
		if share := float64(escapes) / (Rows * 2048); share > 0.03 {
			t.Errorf("scale 2^%g: %.4f of the weights escape", math.Log2(scale), share)
		}
		for _, base := range B11.bases() {
			if _, marked, _ := B11.palette(w, base); marked < escapes || marked == escapes && base < palette.Base {
				t.Errorf("scale 2^%g: base %d has %d escapes, and %d has %d", math.Log2(scale), palette.Base, escapes, base, marked)
			}
		}
		if head := binary.LittleEndian.Uint16(p.Head[8:]); head != palette.Base {
			t.Errorf("the head has base %d, not %d", head, palette.Base)
		}
	}
	// Eight bytes need no escapes as they are, although base 128 makes one of the first two, and few of the others become others.
	w := fill(2048, func(row, i int) uint32 {
		switch {
		case i%8 < 2:
			return [...]uint32{0x10f0, 0x1110}[i%8]
		case i%101 == 0:
			return 0x2000 | uint32(i%8)<<10 | 0x90
		}
		return 0x2000 | uint32(i%8)<<10
	})
	if _, marked, rare := B11.palette(w, 128); marked == 0 || marked > 100 || rare == 0 {
		t.Errorf("with base 128 %d weights have the index of the mark, and %d a byte that the palette lacks", marked, rare)
	}
	if palette, _ := B11.Palette(w); palette.Base != 0 {
		t.Errorf("eight bytes have base %d", palette.Base)
	}
	// Any base will do, since words wrap around.
	palette, _ := B11.Palette(w)
	for _, base := range []uint16{1, 0xff, 0x100, 0x8000, 0xffff} {
		palette.Base = base
		p := EncodeBy(palette, B11, F32, w)
		got, err := p.Decode()
		if err != nil {
			t.Fatal(err)
		}
		for row := range got {
			if !slices.Equal(got[row], w[row]) {
				t.Errorf("base %#x: row %d differs", base, row)
			}
		}
	}
}

// TestBroken has panels that contradict themselves.
func TestBroken(t *testing.T) {
	w := fill(128, func(row, i int) uint32 { return uint32(row*128+i) << 8 & 0xffff })
	p := Encode(B12, BF16, w)
	p.Head = p.Head[:B12.PaletteBytes()]
	if _, err := p.Decode(); err == nil {
		t.Error("missing flags go unnoticed")
	}
}

// TestExact says of single weights which codes they have.
func TestExact(t *testing.T) {
	for _, c := range []struct {
		source  Source
		weight  uint32
		b, h, s bool
	}{
		{FromBF16, 0x3f80, true, false, false},
		{FromBF16, 0x7f81, true, false, false}, // whatever it is
		{FromF16, 0x3c00, true, true, false},
		{FromF16, 0x3c01, false, true, false}, // too many bits for BF16
		{FromF16, 0x3c08, true, true, false},
		{FromF16, 0x0001, true, true, false}, // a denormal, and a power of two
		{FromF16, 0x0101, false, true, false},
		{FromF16, 0x8000, true, true, false},
		{FromF16, 0xfc00, true, true, false},
		{FromF16, 0x7e00, true, true, false},  // a quiet NaN
		{FromF16, 0x7d00, false, true, false}, // a signalling one
		{FromF32, 0x3f800000, true, true, true},
		{FromF32, 0x3f802000, false, true, true},
		{FromF32, 0x3f801000, false, false, true},
		{FromF32, 0x7f000000, true, false, true}, // too large for FP16
		{FromF32, 0x33800000, true, true, true},  // its smallest denormal
		{FromF32, 0x33000000, true, false, true}, // half of it
		{FromF32, 0x00010000, true, false, true}, // a denormal of BF16
		{FromF32, 0x00000001, false, false, true},
		{FromF32, 0x80000000, true, true, true},
		{FromF32, 0xff800000, true, true, true},
		{FromF32, 0x7fc00000, true, true, true},
		{FromF32, 0x7fa00000, true, false, true}, // FP16 would have it quiet
	} {
		for code, want := range map[Code]bool{B11: c.b, B12: c.b, B16: c.b, H14: c.h, H16: c.h, S32: c.s} {
			if !slices.Contains(c.source.Codes(), code) {
				continue
			}
			if _, ok := c.source.As(code, c.weight); ok != want {
				t.Errorf("%v %#x as %v: %v, want %v", c.source, c.weight, code, ok, want)
			}
		}
	}
}

// TestChoose says which code panels get.
func TestChoose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	gauss := func(bits uint32) Words {
		return fill(2048, func(int, int) uint32 { return math.Float32bits(float32(r.NormFloat64()*0.02)) & bits })
	}
	short := func(w Words) Words {
		for _, row := range w {
			for i := range row {
				row[i] >>= 16
			}
		}
		return w
	}
	halves := gauss(0xffffffff)
	for _, row := range halves {
		for i := range row {
			row[i], _ = FromF32.As(H16, row[i])
		}
	}
	for _, c := range []struct {
		name   string
		source Source
		w      Words
		want   Code
	}{
		{"BF16", FromBF16, short(gauss(0xffffffff)), B11},
		{"noise", FromBF16, short(fill(2048, func(int, int) uint32 { return r.Uint32() })), B16},
		{"F32 from BF16", FromF32, gauss(0xffff0000), B11},
		{"F32", FromF32, gauss(0xffffffff), S32},
		{"F16", FromF16, halves, H14},
		{"F16 noise", FromF16, fill(2048, func(int, int) uint32 { return r.Uint32() >> 16 }), H16},
	} {
		p := c.source.Choose(c.w)
		if p.Code != c.want {
			t.Errorf("%s: %v with %.2f bits, want %v", c.name, p.Code, float64(p.Bits())/(4*2048), c.want)
		}
		if most := 32 * 4 * 2048; p.Bits() > most {
			t.Errorf("%s: %d bits, more than plain F32", c.name, p.Bits())
		}
	}
}

// TestProducts has sums whose order shows: a 1 that a sum of 2^25 drops.
func TestProducts(t *testing.T) {
	const big = 0x1p25
	for _, c := range []struct {
		name     string
		products map[int]float32
		want     map[Domain][2]float32 // by order
	}{
		// 128 weights are two vectors of sums of each of two steps in BF16, and four in F32.
		{"one lane", map[int]float32{0: big, 64: 1, 66: -big}, map[Domain][2]float32{BF16: {0, 0}, F32: {0, 0}}},
		{"cancelled before", map[int]float32{0: big, 64: -big, 66: 1}, map[Domain][2]float32{BF16: {1, 1}, F32: {1, 1}}},
		{"upper of a pair first", map[int]float32{0: -big, 1: big, 64: 1}, map[Domain][2]float32{BF16: {1, 1}, F32: {0, 0}}},
		{"lanes 0 and 8, then 4", map[int]float32{0: big, 4: 1, 8: -big}, map[Domain][2]float32{BF16: {1, 1}, F32: {1, 1}}},
		{"two sums, or one", map[int]float32{0: big, 32: 1, 64: -big}, map[Domain][2]float32{BF16: {1, 0}, F32: {1, 0}}},
		{"four sums, or one", map[int]float32{0: big, 16: 1, 64: -big}, map[Domain][2]float32{F32: {1, 0}}},
		{"sums 0 and 2, then 1", map[int]float32{0: big, 16: 1, 32: -big}, map[Domain][2]float32{F32: {1, 0}}},
	} {
		for d, want := range c.want {
			w, a := make([]uint32, 128), make([]uint32, 128)
			for i, p := range c.products {
				w[i], a[i] = math.Float32bits(p), math.Float32bits(1)
				if d == BF16 {
					w[i], a[i] = w[i]>>16, a[i]>>16
				}
			}
			for o, want := range want {
				if got := d.Product(Order(o), w, a); got != want {
					t.Errorf("%s, %v, %v: %v, want %v", c.name, d, Order(o), got, want)
				}
			}
		}
	}
	minus := []uint32{0x8000}
	if got := BF16.Product(Tile, minus, []uint32{0x3f80}); got != 0 || math.Signbit(float64(got)) {
		t.Errorf("a product of -0 and zeros sum up to %v", got)
	}
}

// TestFlushed has products that BF16's instruction takes for zeros and FMA does not.
func TestFlushed(t *testing.T) {
	tiny, one := uint32(0x0040), uint32(0x3f80)
	if got := BF16.Product(Dot, []uint32{tiny}, []uint32{one}); got != 0 {
		t.Errorf("a denormal BF16 counts as %v", got)
	}
	if got := F32.Product(Dot, []uint32{tiny << 16}, []uint32{one << 16}); got != 0x1p-127 {
		t.Errorf("a denormal F32 counts as %v", got)
	}
	small := uint32(0x1f80) // 2^-64
	if got := BF16.Product(Tile, []uint32{small}, []uint32{small}); got != 0 {
		t.Errorf("a denormal product counts as %v", got)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(0), uint8(0), uint16(64), []byte("0123456789"))
	f.Add(uint8(1), uint8(1), uint16(300), bytes.Repeat([]byte{0x80, 0x7f}, 1000))
	f.Fuzz(func(t *testing.T, which, domain uint8, k uint16, raw []byte) {
		d := Domain(domain % 2)
		c := d.Codes()[int(which)%len(d.Codes())]
		w := fill(1+int(k)%1024, func(row, i int) uint32 {
			at := (row*int(k) + i) * c.WordBytes()
			if at+4 > len(raw) {
				return 0
			}
			return binary.LittleEndian.Uint32(raw[at:]) >> (32 - 8*c.WordBytes())
		})
		p := checkRoundTrip(t, c, d, w)
		wide, err := p.Expand()
		if err != nil {
			t.Fatal(err)
		}
		if wide.Len() != p.Len() || wide.Code != d.Plain() {
			t.Errorf("%d blocks of %v expand to %d of %v", p.Len(), p.Code, wide.Len(), wide.Code)
		}
	})
}

// FuzzSource wants every panel that claims to hold weights exactly to give them back.
func FuzzSource(f *testing.F) {
	f.Add(uint8(0), uint32(0x3c003c00))
	f.Add(uint8(1), uint32(0x7c01))
	f.Add(uint8(2), uint32(0x7f810000))
	f.Fuzz(func(t *testing.T, which uint8, bits uint32) {
		s := Source(which % 3)
		own := [...]Code{B16, H16, S32}[s]
		if own.WordBytes() == 2 {
			bits &= 0xffff
		}
		for _, c := range s.Codes() {
			word, ok := s.As(c, bits)
			if !ok {
				continue
			}
			wide := c.Widen(word)
			var back uint32
			switch {
			case own == B16 || own == S32 || c == H14 || c == H16:
				back = bits
				if c != H14 && c != H16 || own != H16 {
					if wide != own.Widen(bits) {
						t.Errorf("%v %#x as %v is %#x", s, bits, c, wide)
					}
				}
			default:
				word, _ := FromF32.As(H16, wide)
				back = word
			}
			if back != bits {
				t.Errorf("%v %#x as %v comes back as %#x", s, bits, c, back)
			}
		}
	})
}
