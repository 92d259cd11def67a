package model

import (
	"encoding/binary"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// spread is what is to be said of the weights of a matrix.
type spread struct {
	scatter
	kurtosis float64 // of weights over the scales of their row and column
}

// measure returns the spread of a matrix with rows of cols weights.
func measure(w []float32, cols int) spread {
	n := len(w) / cols
	rows, columns := make([]float64, n), make([]float64, cols)
	for i, x := range w {
		square := float64(x) * float64(x)
		rows[i/cols] += square / float64(cols)
		columns[i%cols] += square / float64(n)
	}
	var second, fourth float64
	for i, x := range w {
		z := float64(x) * float64(x) / (rows[i/cols] * columns[i%cols])
		second += z / float64(len(w))
		fourth += z * z / float64(len(w))
	}
	return spread{scatter{logDeviation(rows), logDeviation(columns)}, fourth / second / second}
}

// logDeviation is the standard deviation of the logarithm of the roots of squares.
func logDeviation(squares []float64) float64 {
	var mean, square float64
	for _, x := range squares {
		l := math.Log(x) / 2
		mean += l / float64(len(squares))
		square += l * l / float64(len(squares))
	}
	return math.Sqrt(square - mean*mean)
}

// escapes is the share of weights whose high byte as BF16 is none of the most common so many of its four rows.
func escapes(w []float32, cols, palette int) float64 {
	escaped := 0
	for panel := range slices.Chunk(w, 4*cols) {
		var count [256]int
		for _, x := range panel {
			count[math.Float32bits(x)>>24]++
		}
		slices.Sort(count[:])
		for _, n := range count[:256-palette] {
			escaped += n
		}
	}
	return float64(escaped) / float64(len(w))
}

// TestTrained measures the trained model, holds scatters to it, and what is generated to both: the scales, the tails and, as that is what
// such models are for, the bits of codes with a palette of 7 or 15 high bytes.
func TestTrained(t *testing.T) {
	w := workspace.Workspace{Out: t.TempDir()}
	path, err := reference.Make(t.Context(), progress.To(io.Discard), w)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type kind struct {
		spread
		matrices float64
	}
	kinds := map[string]*kind{}
	var trained7, trained15 float64
	matrices := 0.0
	for _, s := range f.Tensors {
		if len(s.Shape) < 2 {
			continue
		}
		raw, err := io.ReadAll(f.Data(s))
		if err != nil {
			t.Fatal(err)
		}
		x, cols := make([]float32, len(raw)/2), int(s.Shape[0])
		for i := range x {
			x[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
		_, part, _ := tensor{name: s.Name}.part()
		k := kinds[part]
		if k == nil {
			k = &kind{}
			kinds[part] = k
		}
		m := measure(x, cols)
		k.rows, k.columns, k.matrices = k.rows+m.rows, k.columns+m.columns, k.matrices+1
		if m.kurtosis < 2.75 || m.kurtosis > 3.2 {
			t.Errorf("%s: kurtosis %.2f", s.Name, m.kurtosis)
		}
		matrices++
		trained7, trained15 = trained7+escapes(x, cols, 7), trained15+escapes(x, cols, 15)
	}
	if want, got := slices.Sorted(maps.Keys(scatters)), slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
		t.Errorf("the trained model has %v, scatters %v", got, want)
	}
	for name, k := range kinds {
		want := scatters[name]
		if rows, columns := k.rows/k.matrices, k.columns/k.matrices; math.Abs(rows-want.rows) > 0.006 || math.Abs(columns-want.columns) > 0.006 {
			t.Errorf("%s: rows scatter by %.3f and columns by %.3f, and scatters says %v", name, rows, columns, want)
		}
	}

	shape := Shape{Name: "trained", Embd: 256, Layers: 4, FF: 768, Heads: 4, KVHeads: 2, HeadDim: 64, Trained: true}
	var made7, made15, made float64
	for _, m := range shape.tensors(1024) {
		if m.dims != 2 {
			continue
		}
		m = m.trained(Seed)
		m.outlier = 0 // which scatters do not count
		x := make([]float32, m.rows*m.cols)
		for r := range m.rows {
			m.row(x[r*m.cols:][:m.cols], Seed, r)
		}
		_, part, _ := m.part()
		got, want := measure(x, int(m.cols)), scatters[part]
		if math.Abs(got.rows-want.rows) > 0.1*want.rows+0.03 || math.Abs(got.columns-want.columns) > 0.1*want.columns+0.03 || got.kurtosis < 2.75 || got.kurtosis > 3.2 {
			t.Errorf("%s: rows scatter by %.3f, columns by %.3f, kurtosis %.2f; want %v", m.name, got.rows, got.columns, got.kurtosis, want)
		}
		var squares float64
		for _, v := range x {
			squares += float64(v) * float64(v)
		}
		if size := math.Sqrt(squares/float64(len(x))) / float64(m.std); math.Abs(size-1) > 0.05 {
			t.Errorf("%s: %.3f times the size it should have", m.name, size)
		}
		made++
		made7, made15 = made7+escapes(x, int(m.cols), 7), made15+escapes(x, int(m.cols), 15)
	}
	for _, c := range []struct {
		palette            int
		got, want, allowed float64
	}{{7, made7 / made, trained7 / matrices, 0.01}, {15, made15 / made, trained15 / matrices, 1e-4}} {
		t.Logf("palette of %d: %.4f of generated weights escape, %.4f of trained ones", c.palette, c.got, c.want)
		if math.Abs(c.got-c.want) > c.allowed {
			t.Errorf("palette of %d: %.4f of generated weights escape, %.4f of trained ones", c.palette, c.got, c.want)
		}
	}
}

// TestTrainedShape writes a shape with and without trained statistics: norms and routers are the same, matrices are not.
func TestTrainedShape(t *testing.T) {
	words, dir := vocabulary(t, 45), t.TempDir()
	files := map[bool]*gguf.File{}
	for _, trained := range []bool{false, true} {
		shape := mixture
		shape.Trained = trained
		path := filepath.Join(dir, map[bool]string{false: "plain", true: "trained"}[trained])
		if _, err := makeModel(t, shape, words, 1, "bf16", path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[trained] = f
	}
	for i, a := range files[false].Tensors {
		b := files[true].Tensors[i]
		x, err := io.ReadAll(files[false].Data(a))
		if err != nil {
			t.Fatal(err)
		}
		y, err := io.ReadAll(files[true].Data(b))
		if err != nil {
			t.Fatal(err)
		}
		matrix := len(a.Shape) > 1 && !strings.Contains(a.Name, "ffn_gate_inp")
		if same := slices.Equal(x, y); same == matrix {
			t.Errorf("%s: the same weights with trained statistics: %v", a.Name, same)
		}
	}
	if s, err := Find("moe8-trained"); err != nil || !s.Trained || s.Name != "moe8-trained" {
		t.Errorf("moe8-trained is %+v, %v", s, err)
	}
	for _, name := range []string{"tiny-bert-trained", "-trained", "1b-trained-trained"} {
		if _, err := Find(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConverted reads models back whose weights came from a narrower type: all of them are exactly numbers of it, as far as the wider type
// holds them, and not all of a yet narrower one.
func TestConverted(t *testing.T) {
	words := vocabulary(t, 45)
	isBF16 := func(x float32) bool { return math.Float32bits(x)&0xffff == 0 }
	isF16 := func(x float32) bool { return ieee.Float16(ieee.ToFloat16(x)) == x }
	for _, c := range []struct {
		weights  string
		typ      gguf.Type
		fileType uint32
		is, not  func(float32) bool // of weights
	}{
		{"f32", gguf.F32, 0, func(float32) bool { return true }, isF16},
		{"f16", gguf.F16, 1, isF16, isBF16},
		{"F16-of-BF16", gguf.F16, 1, isBF16, nil},
		{"f32-of-bf16", gguf.F32, 0, isBF16, isF16},
		{"f32-of-f16", gguf.F32, 0, isF16, isBF16},
	} {
		path := filepath.Join(t.TempDir(), c.weights)
		if _, err := makeModel(t, mixture, words, 1, c.weights, path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := f.Value("general.file_type"); got != c.fileType {
			t.Errorf("%s: file type %v, want %d", c.weights, got, c.fileType)
		}
		different := 0
		for _, s := range f.Tensors {
			raw, err := io.ReadAll(f.Data(s))
			if err != nil {
				t.Fatal(err)
			}
			if matrix := len(s.Shape) > 1 && !strings.Contains(s.Name, "ffn_gate_inp"); matrix && s.Type != c.typ {
				t.Errorf("%s: %s is %s", c.weights, s.Name, s.Type)
			}
			for len(raw) > 0 {
				var x float32
				if s.Type == gguf.F16 {
					x, raw = ieee.Float16(binary.LittleEndian.Uint16(raw)), raw[2:]
				} else {
					x, raw = math.Float32frombits(binary.LittleEndian.Uint32(raw)), raw[4:]
				}
				if s.Type == c.typ && !c.is(x) {
					t.Fatalf("%s: %s has %v", c.weights, s.Name, x)
				}
				if c.not != nil && !c.not(x) {
					different++
				}
			}
		}
		if c.not != nil && different == 0 {
			t.Errorf("%s: no weight needs the type it is said to come from", c.weights)
		}
	}
	if _, err := ParseMix("bf16-of-f32"); err == nil || !strings.Contains(err.Error(), "f32-of-bf16") {
		t.Errorf("a type of a wider one: %v", err)
	}
}
