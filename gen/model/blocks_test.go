package model

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// TestBlocks dequantizes rows of every type: finite, of mean zero, of the standard deviation asked for, with scales that differ from
// block to block, and like no other row.
func TestBlocks(t *testing.T) {
	const rows, cols = 256, 4096
	for _, spec := range weight.Specs() {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			typ, err := gguf.ParseType(spec.Name)
			if err != nil {
				t.Fatal(err)
			}
			if elements, size := typ.Block(); elements != int64(spec.Block) || size != int64(spec.Bytes) {
				t.Fatalf("blocks of %d weights and %d bytes, the Spec has %d and %d", elements, size, spec.Block, spec.Bytes)
			}
			b := newBlocks(typ)
			// The sizes of the largest matrix elements of shape 1b and, but for NVFP4, which has factors for these, the smallest.
			for _, std := range []float64{0.066, 0.0012} {
				if typ == gguf.NVFP4 && std < 0.01 {
					std *= 1000
				}
				var mean, square float64
				seen, scales := map[string]bool{}, map[float32]bool{}
				row := make([]byte, spec.Row(cols))
				for r := range uint64(rows) {
					b.fill(row, mix(r), std)
					seen[string(row)] = true
					for at := 0; at < len(row); at += spec.Bytes {
						scales[spec.Code(row[at:][:spec.Bytes], 0).D] = true
					}
					for _, w := range spec.Dequantize(row) {
						if math.IsNaN(float64(w)) || math.IsInf(float64(w), 0) {
							t.Fatalf("weight %v", w)
						}
						mean += float64(w) / (rows * cols)
						square += float64(w) * float64(w) / (rows * cols)
					}
				}
				if got := math.Sqrt(square) / std; math.Abs(got-1) > 0.015 {
					t.Errorf("standard deviation %v of the one asked for, %v", got, std)
				}
				if got := mean / std; math.Abs(got) > 0.02 {
					t.Errorf("mean %v standard deviations", got)
				}
				if len(seen) != rows {
					t.Errorf("%d different rows of %d", len(seen), rows)
				}
				// A scale that is a byte has a power of two either side of its mean, or 3 bits between powers.
				if want := map[weight.Float]int{weight.FP16: 6, weight.E8M0: 2, weight.UE4M3: 3}[spec.Scale.Format]; len(scales) < want {
					t.Errorf("scales %v, want %d and more", scales, want)
				}
			}
		})
	}
}

// TestTrits finds no bytes that a quantizer would not write: TQ2_0 has no fourth value, and TQ1_0's fractions are rounded up.
func TestTrits(t *testing.T) {
	row := make([]byte, 66*256)
	b := newBlocks(gguf.TQ2_0)
	b.fill(row, 1, 1)
	values := map[int]int{}
	for at := 0; at < len(row); at += 66 {
		for k := range 256 {
			values[b.spec.Code(row[at:][:66], k).Q]++
		}
	}
	if len(values) != 3 || values[-1] == 0 || values[0] == 0 || values[1] == 0 {
		t.Errorf("TQ2_0 has values %v, want -1, 0 and 1", values)
	}

	row = make([]byte, 54*256)
	newBlocks(gguf.TQ1_0).fill(row, 1, 1)
	for at := 0; at < len(row); at += 54 {
		for i, x := range row[at:][:52] {
			digits := 5
			if i >= 48 {
				digits = 4
			}
			number, numbers := 0, 1
			for d := range digits {
				number = number*3 + weight.Trit(x, d)
				numbers *= 3
			}
			if want := byte(math.Ceil(float64(number) * 256 / float64(numbers))); x != want {
				t.Fatalf("byte %d of a block is %d, its %d digits are those of %d", i, x, digits, want)
			}
		}
	}
}

// wide has rows of whole blocks of every type.
var wide = Shape{
	Name: "wide", Embd: 256, Layers: 3, FF: 512, Heads: 4, KVHeads: 2, HeadDim: 64, Tied: true, Context: 64, RopeBase: 10000,
}

// TestTypes writes a model of each type: all its matrices and nothing else have it, whatever number of threads writes it.
func TestTypes(t *testing.T) {
	words, dir := vocabulary(t, 45), t.TempDir()
	for _, spec := range weight.Specs() {
		path := dir + "/" + spec.Name
		if _, err := makeModel(t, wide, words, 1, spec.Name, path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := gguf.ParseType(spec.Name)
		for _, tensor := range f.Tensors {
			if want := map[bool]gguf.Type{true: typ, false: gguf.F32}[len(tensor.Shape) > 1]; tensor.Type != want {
				t.Errorf("%s is %s, want %s", tensor.Name, tensor.Type, want)
			}
		}
		if _, err := f.Tensor("blk.2.ffn_down.scale"); (err == nil) != (typ == gguf.NVFP4) {
			t.Errorf("%s: a factor of ffn_down: %v", typ, err)
		}
		if description := f.Value("general.description").(string); strings.Contains(description, "speed") != (typ != gguf.Q8_0) {
			t.Errorf("%s: %s", typ, description)
		}
		f.Close()
	}
}

// TestFactor multiplies NVFP4 weights by their factor: sizes are those of the other types, outliers included.
func TestFactor(t *testing.T) {
	for _, w := range wide.tensors(45) {
		if _, _, inLayer := w.part(); !inLayer || w.dims == 1 {
			continue
		}
		b := newBlocks(gguf.NVFP4)
		scaled, factor := w.withFactor(b)
		if factor.name != strings.TrimSuffix(w.name, "weight")+"scale" || !slices.Equal(factor.shape(), []int64{1}) {
			t.Errorf("the factor of %s is %s %v", w.name, factor.name, factor.shape())
		}
		row := make([]byte, gguf.NVFP4.RowBytes(w.cols))
		var got, want float64
		for r := range w.rows {
			b.fill(row, scaled.key(1, r), float64(scaled.size(1, r)))
			for _, x := range b.spec.Dequantize(row) {
				got += math.Pow(float64(x)*float64(factor.values[0]), 2)
			}
			want += math.Pow(float64(w.size(1, r)), 2) * float64(w.cols)
		}
		if math.Abs(math.Sqrt(got/want)-1) > 0.05 {
			t.Errorf("%s has %v times its size", w.name, math.Sqrt(got/want))
		}
	}
}

// TestMixes gives each matrix of 16 layers the type that llama-quantize gives it.
func TestMixes(t *testing.T) {
	shape := wide
	shape.Layers, shape.Tied = 16, false
	tensors := shape.tensors(45)
	more := []int{0, 1, 4, 7, 10, 13, 14, 15}
	for name, want := range map[string]func(layer int, part string) gguf.Type{
		"Q4_K_M": func(layer int, part string) gguf.Type {
			if part == "output" || (part == "attn_v" || part == "ffn_down") && slices.Contains(more, layer) {
				return gguf.Q6_K
			}
			return gguf.Q4_K
		},
		"Q5_K_M": func(layer int, part string) gguf.Type {
			if part == "output" || (part == "attn_v" || part == "ffn_down") && slices.Contains(more, layer) {
				return gguf.Q6_K
			}
			return gguf.Q5_K
		},
		"q3_k_l": func(_ int, part string) gguf.Type {
			switch part {
			case "output":
				return gguf.Q6_K
			case "attn_v", "attn_output", "ffn_down":
				return gguf.Q5_K
			}
			return gguf.Q3_K
		},
		"q5_0": func(int, string) gguf.Type { return gguf.Q5_0 },
	} {
		m, err := ParseMix(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range tensors {
			layer, part, _ := w.part()
			expected := gguf.F32
			if w.dims > 1 {
				expected = want(layer, part)
			}
			if got := m.typeOf(w, shape); got != expected {
				t.Errorf("%s: %s is %s, want %s", name, w.name, got, expected)
			}
		}
	}
	m, err := ParseMix("q4_k_m")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.typeOf(wide.tensors(45)[0], wide); got != gguf.Q6_K {
		t.Errorf("an embedding that serves as output is %s", got)
	}
}

// TestCodesFingerprint pins the random blocks of a seed as TestFingerprint does Gaussians.
func TestCodesFingerprint(t *testing.T) {
	for name, want := range map[string]uint64{
		"q4_K": 0xd736908475290f68, "iq1_m": 0x8e8b140ea145fbd5, "nvfp4": 0xd826ee802af83a0d, "tq1_0": 0x07b693d0fed0f34e,
		"mxfp4": 0x283aa0df20ba117e, "q8_0": 0,
	} {
		m, err := ParseMix(name)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := m.sources(wide.tensors(45), wide, 1)
		if err != nil || got != want {
			t.Errorf("%s: the codes have fingerprint 0x%016x, want 0x%016x (%v)", name, got, want, err)
		}
		if _, other, _ := m.sources(wide.tensors(45), wide, 2); name != "q8_0" && other == got {
			t.Errorf("%s: two seeds have the same fingerprint", name)
		}
	}
}

func BenchmarkBlocks(b *testing.B) {
	for _, spec := range weight.Specs() {
		b.Run(spec.Name, func(b *testing.B) {
			typ, _ := gguf.ParseType(spec.Name)
			made := newBlocks(typ)
			row := make([]byte, spec.Row(4096))
			b.SetBytes(int64(len(row)))
			for i := uint64(0); b.Loop(); i++ {
				made.fill(row, i, 0.02)
			}
			if bytes.Count(row, []byte{0}) == len(row) {
				b.Fatal("nothing was written")
			}
		})
	}
}
