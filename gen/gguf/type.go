package gguf

import (
	"fmt"
	"math/bits"
	"strings"
)

// Type is the element type of a tensor, by ggml's number (enum ggml_type).
type Type uint32

// Element types. The gaps are types that ggml has removed.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// types holds each type's name, the elements in a block and the bytes that a block takes. The sums follow the members of
// ggml's block structs (ggml/src/ggml-common.h): scales first, then the quants.
var types = [...]struct {
	name            string
	elements, bytes int64
}{
	F32:     {"f32", 1, 4},
	F16:     {"f16", 1, 2},
	Q4_0:    {"q4_0", 32, 2 + 16},
	Q4_1:    {"q4_1", 32, 2 + 2 + 16},
	Q5_0:    {"q5_0", 32, 2 + 4 + 16},
	Q5_1:    {"q5_1", 32, 2 + 2 + 4 + 16},
	Q8_0:    {"q8_0", 32, 2 + 32},
	Q8_1:    {"q8_1", 32, 2 + 2 + 32},
	Q2_K:    {"q2_K", 256, 16 + 64 + 2 + 2},
	Q3_K:    {"q3_K", 256, 32 + 64 + 12 + 2},
	Q4_K:    {"q4_K", 256, 2 + 2 + 12 + 128},
	Q5_K:    {"q5_K", 256, 2 + 2 + 12 + 32 + 128},
	Q6_K:    {"q6_K", 256, 128 + 64 + 16 + 2},
	Q8_K:    {"q8_K", 256, 4 + 256 + 32},
	IQ2_XXS: {"iq2_xxs", 256, 2 + 64},
	IQ2_XS:  {"iq2_xs", 256, 2 + 64 + 8},
	IQ3_XXS: {"iq3_xxs", 256, 2 + 96},
	IQ1_S:   {"iq1_s", 256, 2 + 32 + 16},
	IQ4_NL:  {"iq4_nl", 32, 2 + 16},
	IQ3_S:   {"iq3_s", 256, 2 + 64 + 8 + 32 + 4},
	IQ2_S:   {"iq2_s", 256, 2 + 64 + 8 + 8},
	IQ4_XS:  {"iq4_xs", 256, 2 + 2 + 4 + 128},
	I8:      {"i8", 1, 1},
	I16:     {"i16", 1, 2},
	I32:     {"i32", 1, 4},
	I64:     {"i64", 1, 8},
	F64:     {"f64", 1, 8},
	IQ1_M:   {"iq1_m", 256, 32 + 16 + 8},
	BF16:    {"bf16", 1, 2},
	TQ1_0:   {"tq1_0", 256, 48 + 4 + 2},
	TQ2_0:   {"tq2_0", 256, 64 + 2},
	MXFP4:   {"mxfp4", 32, 1 + 16},
	NVFP4:   {"nvfp4", 64, 4 + 32},
	Q1_0:    {"q1_0", 128, 2 + 16},
	Q2_0:    {"q2_0", 64, 2 + 16},
}

// ParseType returns the type that ggml calls name; upper and lower case are alike.
func ParseType(name string) (Type, error) {
	var names []string
	for i, t := range types {
		if t.name == "" {
			continue
		}
		if strings.EqualFold(t.name, name) {
			return Type(i), nil
		}
		names = append(names, t.name)
	}
	return 0, fmt.Errorf("no tensor type %q; there are %s", name, strings.Join(names, " "))
}

func (t Type) known() bool { return int(t) < len(types) && types[t].name != "" }

func (t Type) String() string {
	if !t.known() {
		return fmt.Sprintf("type %d", uint32(t))
	}
	return types[t].name
}

// Block returns how many elements of a row share a block and the bytes a block takes, both 0 for an unknown type.
func (t Type) Block() (elements, bytes int64) {
	if !t.known() {
		return 0, 0
	}
	return types[t].elements, types[t].bytes
}

// RowBytes returns the bytes of a row of n elements. n is a multiple of the type's block.
func (t Type) RowBytes(n int64) int64 {
	elements, bytes := t.Block()
	return n / elements * bytes
}

// size returns the bytes of a tensor of this type and shape, row length first.
func (t Type) size(shape []int64) (int64, error) {
	if !t.known() {
		return 0, fmt.Errorf("unknown tensor type %d", uint32(t))
	}
	if len(shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions; at most %d are allowed", len(shape), maxDims)
	}
	// An element takes at most 8 bytes, so a count below 2^60 cannot overflow the bytes.
	const limit = 1 << 60
	n := uint64(1)
	row := int64(1)
	for i, d := range shape {
		if i == 0 {
			row = d
		}
		if d < 0 {
			return 0, fmt.Errorf("dimension %d of shape %v is negative", i, shape)
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo >= limit {
			return 0, fmt.Errorf("shape %v has 2^60 elements or more", shape)
		}
		n = lo
	}
	elements, bytes := t.Block()
	if row%elements != 0 {
		return 0, fmt.Errorf("rows of %d elements are not a multiple of the %d in a %s block", row, elements, t)
	}
	return int64(n) / elements * bytes, nil
}
