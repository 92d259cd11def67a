package gate

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// writeFloats writes a model of a float type: some matrices can be coded, others have rows or columns that cannot.
func writeFloats(t *testing.T, typ gguf.Type) string {
	t.Helper()
	return writeTensors(t, typ, map[string][]int64{
		"token_embd.weight": {512, 100}, "output_norm.weight": {512}, "output.weight": {512, 100},
		"blk.0.attn_q.weight": {448, 64}, "blk.1.attn_q.weight": {512, 16}, "blk.0.ffn_up_exps.weight": {1024, 64, 8},
		"blk.0.attn_k.weight": {512, 15}, "blk.0.attn_v.weight": {480, 64}, "blk.1.attn_v.weight": {64, 64},
	})
}

func TestFloatGates(t *testing.T) {
	path := writeFloats(t, gguf.BF16)
	for _, c := range []struct {
		tuned string
		want  string // in the error; "" if all gates hold
	}{
		{"", ""},
		{"codes nothing", "model ZT_CODE=auto matrices that are not coded is 4"},
		{"leaves one", "model ZT_CODE=11 matrices that are not coded is 1"},
		{"codes though off", "model ZT_CODE=off coded matrices is 4"},
		{"bits off at 100", "model greedy 200, ZT_CODE=11 tokens made from other logits is 1,"},
		{"token off at 100", "model greedy 200, ZT_CODE=12 tokens made from other logits is 100,"},
		{"bits off with 11 bits", "1 gates fail: model greedy 200, ZT_CODE=11 tokens made from other logits is 200,"},
		{"one ulp", "model prefill 1, ZT_CODE=off differing logits is 1,"},
		{"ulp with 11 bits", "model prefill 512, ZT_CODE=11 differing logits is 1,"},
		{"old probe", "build its zt-probe again"},
		{"crash in greedy", "out of cheese"},
		{"crash in load", "out of cheese"},
		{"not a number", "NaN"},
	} {
		r, dir, err := verify(t, "", c.tuned, Model{Name: "model", Path: path, Floats: 200}, Options{AccuracyOnly: true, Threads: 2})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.tuned, err, c.want)
		}
		if c.tuned == "codes nothing" && strings.Contains(err.Error(), "differing") {
			t.Errorf("stock's code has other bits than stock: %v", err)
		}
		if c.tuned != "" {
			continue
		}
		var kinds []string
		for _, x := range r.Results {
			if x.Part == report.FloatsPart && x.Quantity == report.Bits {
				kinds = append(kinds, x.Case)
				if math.Abs(x.Value-12.06) > 1e-9 || !strings.Contains(x.Note, "B12") || x.Gated() {
					t.Errorf("bits of %s: %+v", x.Case, x)
				}
				if x.Case == "attn_q" && x.Note != "2 tensors: B12 40 panels, B16 10 panels" {
					t.Errorf("attn_q: %s", x.Note)
				}
			}
		}
		slices.Sort(kinds)
		if want := []string{"attn_q", "ffn_up_exps", "output"}; !slices.Equal(kinds, want) {
			t.Errorf("kinds %v, want %v", kinds, want)
		}
		if leftovers, _ := filepath.Glob(filepath.Join(dir, "scratch*")); leftovers != nil {
			t.Errorf("left %v", leftovers)
		}
	}
}

func TestReadCoded(t *testing.T) {
	list, err := readCoded([]byte("llama_load: 3 tensors\n" +
		"zen5: blk.0.ffn_up.weight: coded BF16 2048 x 8192: 12.06 bits a weight (B12 2048 panels), expected gain 1.33x\n" +
		"zen5: blk.0.ffn_up_exps.weight: coded F32 64 x 32 x 8: 12.5 bits a weight (B12 60 panels, S32 4 panels), expected gain 2.56x\n" +
		"zen5: token_embd.weight: packed\n"))
	want := []codedTensor{
		{"blk.0.ffn_up.weight", 2048 * 8192, 12.06, "B12 2048 panels", 1.33},
		{"blk.0.ffn_up_exps.weight", 64 * 32 * 8, 12.5, "B12 60 panels, S32 4 panels", 2.56},
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := readCoded([]byte("zen5: a: coded F16 2 x 2: 1.2.3 bits a weight (H14 1 panels), expected gain 1x\n")); err == nil || !strings.Contains(err.Error(), "1.2.3") {
		t.Errorf("a number that is none: %v", err)
	}
	near(t, "mean bits", meanBits([]codedTensor{{Weights: 3, Bits: 12}, {Weights: 1, Bits: 16}}), 13)
	near(t, "mean bits of nothing", meanBits(nil), 0)

	kinds := codedKinds([]codedTensor{
		{"blk.0.attn_q.weight", 300, 12, "B12 2 panels", 1.3}, {"output.weight", 8, 14, "H14 3 panels", 1.1}, {"blk.1.attn_q.weight", 100, 16, "B16 1 panels, B12 4 panels", 1},
	})
	if len(kinds) != 2 || kinds[0].Name != "attn_q" || kinds[0].Tensors != 2 || kinds[0].Codes != "B12 6 panels, B16 1 panels" || kinds[1].Codes != "H14 3 panels" {
		t.Fatalf("%+v", kinds)
	}
	near(t, "bits of attn_q", kinds[0].Bits, 13)
	near(t, "gain of attn_q", kinds[0].Gain, 1.225)
}

// TestToCode takes F32 only where every weight is a BF16.
func TestToCode(t *testing.T) {
	all := []string{"blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight", "blk.1.attn_q.weight", "output.weight"}
	for typ, want := range map[gguf.Type][]string{
		gguf.BF16: all, gguf.F16: all[1:], gguf.I8: nil,
		gguf.F32: {all[0], all[1], all[2], "blk.1.attn_v.weight", all[3]}, // 24 bits and more for a row of 64
	} {
		got, err := toCode(writeFloats(t, typ))
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	var sources []gguf.Source
	for name, last := range map[string]float32{"bf16": 1.5, "f16": 1 + 1./1024} {
		sources = append(sources, gguf.Source{Name: name, Type: gguf.F32, Shape: []int64{128, 16}, Rows: func(dst []byte, first int64) error {
			clear(dst)
			if first+int64(len(dst)/512) == 16 { // holds the last row
				binary.LittleEndian.PutUint32(dst[len(dst)-4:], math.Float32bits(last))
			}
			return nil
		}})
	}
	if err := gguf.Write(t.Context(), path, nil, sources, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if got, err := toCode(path); err != nil || !slices.Equal(got, []string{"bf16"}) {
		t.Errorf("%v, %v", got, err)
	}
}
