package model

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// Mix says which type each matrix of a model has.
type Mix struct {
	Name     string // of a type where all are of it; else what llama-quantize calls the mix, in lower case
	fileType uint32 // llama.cpp's number (enum llama_ftype)

	// from, where converted, is the type that the weights were published in: all tensors are rounded to it before they are stored.
	converted bool
	from      gguf.Type

	most   gguf.Type            // matrices that nothing below names
	output gguf.Type            // output.weight, or the token_embd.weight that serves as that
	parts  map[string]gguf.Type // matrices of a layer by name
	more   map[string]gguf.Type // the same, in those layers that get more bits
}

// fileTypes holds llama.cpp's number for a file whose matrices are all of a type. Where several mixes have the name of the type, it
// is the one with least else in it.
var fileTypes = map[gguf.Type]uint32{
	gguf.F32: 0, gguf.F16: 1, gguf.BF16: 32,
	gguf.Q4_0: 2, gguf.Q4_1: 3, gguf.Q5_0: 8, gguf.Q5_1: 9, gguf.Q8_0: 7,
	gguf.Q2_K: 21, gguf.Q3_K: 11, gguf.Q4_K: 14, gguf.Q5_K: 16, gguf.Q6_K: 18,
	gguf.IQ1_S: 24, gguf.IQ1_M: 31, gguf.IQ2_XXS: 19, gguf.IQ2_XS: 20, gguf.IQ2_S: 28, gguf.IQ3_XXS: 23, gguf.IQ3_S: 26,
	gguf.IQ4_NL: 25, gguf.IQ4_XS: 30,
	gguf.TQ1_0: 36, gguf.TQ2_0: 37, gguf.MXFP4: 38, gguf.NVFP4: 39,
}

// mixes follow llama_tensor_get_type_impl in src/llama-quant.cpp, without its exceptions for some models: models of 8 experts keep
// attn_k and attn_v in Q8_0 there, and Q3_K_M has attn_v of the first two layers in Q5_K.
var mixes = []Mix{
	{
		Name: "q3_k_m", fileType: 12, most: gguf.Q3_K, output: gguf.Q6_K,
		parts: map[string]gguf.Type{"attn_v": gguf.Q4_K, "attn_output": gguf.Q4_K, "ffn_down": gguf.Q4_K, "ffn_down_exps": gguf.Q4_K},
	},
	{
		Name: "q3_k_l", fileType: 13, most: gguf.Q3_K, output: gguf.Q6_K,
		parts: map[string]gguf.Type{"attn_v": gguf.Q5_K, "attn_output": gguf.Q5_K, "ffn_down": gguf.Q5_K, "ffn_down_exps": gguf.Q5_K},
	},
	{
		Name: "q4_k_m", fileType: 15, most: gguf.Q4_K, output: gguf.Q6_K,
		more: map[string]gguf.Type{"attn_v": gguf.Q6_K, "ffn_down": gguf.Q6_K, "ffn_down_exps": gguf.Q6_K},
	},
	{
		Name: "q5_k_m", fileType: 17, most: gguf.Q5_K, output: gguf.Q6_K,
		more: map[string]gguf.Type{"attn_v": gguf.Q6_K, "ffn_down": gguf.Q6_K, "ffn_down_exps": gguf.Q6_K},
	},
	{
		Name: "mxfp4_moe", fileType: 38, most: gguf.Q8_0, output: gguf.Q8_0,
		parts: map[string]gguf.Type{"ffn_gate_exps": gguf.MXFP4, "ffn_up_exps": gguf.MXFP4, "ffn_down_exps": gguf.MXFP4},
	},
}

// origins are the types that models of a wider one are converted from: f16-of-bf16, f32-of-bf16, f32-of-f16.
var origins = map[gguf.Type][]gguf.Type{gguf.F16: {gguf.BF16}, gguf.F32: {gguf.BF16, gguf.F16}}

// ParseMix returns the mix called name, or the one of a single type; upper and lower case are alike. Types are F32, F16, BF16 and
// those of avo/weight. F16 and F32 also come from one of their origins.
func ParseMix(name string) (Mix, error) {
	var names []string
	for _, m := range mixes {
		if strings.EqualFold(m.Name, name) {
			return m, nil
		}
		names = append(names, m.Name)
	}
	if t, err := gguf.ParseType(name); err == nil {
		if fileType, ok := fileTypes[t]; ok {
			return Mix{Name: t.String(), fileType: fileType, most: t, output: t}, nil
		}
	}
	types := []string{"f32", "f16", "bf16"}
	for _, t := range []gguf.Type{gguf.F32, gguf.F16} {
		for _, from := range origins[t] {
			m := Mix{Name: fmt.Sprintf("%s-of-%s", t, from), fileType: fileTypes[t], converted: true, from: from, most: t, output: t}
			if strings.EqualFold(m.Name, name) {
				return m, nil
			}
			types = append(types, m.Name)
		}
	}
	for _, s := range weight.Specs() {
		types = append(types, strings.ToLower(s.Name))
	}
	return Mix{}, fmt.Errorf("no weights of type %q; there are %s and the mixes %s", name, strings.Join(types, " "), strings.Join(names, " "))
}

func (m Mix) String() string { return m.Name }

// Bits is what a weight of most matrices takes, with its share of the scales.
func (m Mix) Bits() float64 {
	elements, bytes := m.most.Block()
	return 8 * float64(bytes) / float64(elements)
}

// kept are the matrices that llama-quantize leaves in F32.
var kept = []string{"ffn_gate_inp", "position_embd", "token_types"}

// typeOf returns the type of a tensor in a model of a shape.
func (m Mix) typeOf(t tensor, s Shape) gguf.Type {
	layer, part, inLayer := t.part()
	switch {
	case t.dims == 1 || slices.Contains(kept, part):
		return gguf.F32
	case inLayer:
		if typ, ok := m.more[part]; ok && moreBits(layer, s.Layers) {
			return typ
		}
		if typ, ok := m.parts[part]; ok {
			return typ
		}
	case part == "output" || part == "token_embd" && s.Tied:
		return m.output
	}
	return m.most
}

// moreBits says whether a layer gets more bits (use_more_bits in src/llama-quant.cpp): the first and the last eighth, and every third
// between them.
func moreBits(layer, layers int) bool {
	eighth := layers / 8
	return layer < eighth || layer >= 7*layers/8 || (layer-eighth)%3 == 2
}

// sources returns the tensors of a model of a shape in the types of m, and a hash of the first row of each that is of random blocks, 0 if
// none is.
func (m Mix) sources(tensors []tensor, s Shape, seed uint64) (list []gguf.Source, codes uint64, err error) {
	made := map[gguf.Type]*blocks{}
	h := fnv.New64a()
	for _, t := range tensors {
		typ := m.typeOf(t, s)
		if elements, _ := typ.Block(); t.cols%elements != 0 {
			return nil, 0, fmt.Errorf("the rows of %s have %d weights, no multiple of the %d in a block of %s; choose a wider shape or another type",
				t.name, t.cols, elements, typ)
		}
		if gguf.CanEncode(typ) {
			t.converted, t.from = m.converted, m.from
			list = append(list, t.source(seed, typ, nil))
			continue
		}
		b := made[typ]
		if b == nil {
			b = newBlocks(typ)
			made[typ] = b
		}
		var factor tensor
		if _, _, inLayer := t.part(); inLayer && typ == gguf.NVFP4 {
			t, factor = t.withFactor(b)
		}
		list = append(list, t.source(seed, typ, b))
		first := make([]byte, typ.RowBytes(t.cols))
		if err := list[len(list)-1].Rows(first, 0); err != nil {
			return nil, 0, err
		}
		h.Write(first)
		if factor.name != "" {
			list = append(list, factor.source(seed, gguf.F32, nil))
		}
	}
	if len(made) > 0 {
		codes = h.Sum64()
	}
	return list, codes, nil
}

// factored is d in NVFP4 matrices that have a factor. Outliers must not exceed its largest d, 224, nor the rest come near the smallest,
// 1/1024, which is too large for some matrices without one.
const factored = 8

// withFactor returns an NVFP4 matrix with weights for d to be factored, and the tensor of the factor which llama.cpp multiplies products
// with (of the factors which it does, where there are experts), as converted NVFP4 models have it.
func (t tensor) withFactor(b *blocks) (matrix, factor tensor) {
	f := t.std / float32(factored*b.spread)
	t.std /= f
	factor = tensor{name: strings.TrimSuffix(t.name, ".weight") + ".scale", cols: max(1, t.experts), rows: 1, dims: 1}
	for range factor.cols {
		factor.values = append(factor.values, f)
	}
	return t, factor
}
