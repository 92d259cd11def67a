#pragma once

#include "kernels.h"

#include "ggml.h"

#include <cstdint>
#include <vector>

// The weight types that are packed: what avo/weight of llama-zen-turbo specifies about each, and the kernels that multiply by it.

namespace ggml::cpu::zen5 {

// One digit of an element's number and how many bits of a block it steps over.
struct digit {
    int n, step;
};

// Some bits of every element of a field, the lowest at bit `base` of a block plus each digit times its step.
struct part {
    int                bits, base;
    std::vector<digit> digits;
};

// An array of unsigned integers in a GGUF block. Its parts spell the bits of an element, low ones first.
struct field {
    std::vector<part> parts;
};

// Some bits of a value: at `shift` in word `word`.
struct piece {
    int word, shift, bits;
};

// A part of a panel block: elements of fields, spelled in words of `width` bytes. Words lie [words][32 rows], those of quants
// [vectors][16 rows][4 of k].
struct plane {
    bool                            quants;
    int                             width;
    uint32_t                        invert;  // bits that are stored inverted
    int                             words;   // that a run of values shares
    std::vector<std::vector<piece>> values;
    std::vector<field>              fields;
};

// A layout of activations: quantized (avo/activation) in blocks of 32 what Q8_0 and Q8_1 hold, or in blocks of 256 what Q8_K does; floats
// (avo/code) rounded to BF16, rounded to F16 and held as F32, or as they are.
enum class activation { Q8_1, Q8_K, BF16, F16, F32 };

struct weight_type {
    ggml_type          type;
    int                block;  // weights in a block
    int                bytes;  // of a block in a GGUF; of a panel block tile_cols times that
    activation         format;
    bool               in_registers;  // float sums between two calls lie in dst alone, and k may be split
    size_t             work_bytes;    // of work space for a kernel
    gemm_kernel        gemm[tile_rows];      // by activation rows: element i computes i+1; nullptr: panels must be expanded
    ahead_kernel       ahead[tile_rows];     // the same, prefetching weights: for rows so few that memory is the limit
    expand_kernel      expand;               // makes a panel that the last kernels read of a packed one; nullptr: there are none
    size_t             expanded_bytes;       // of a block of that
    gemm_kernel        expanded[tile_rows];
    std::vector<plane> planes;

    size_t panel_bytes() const { return (size_t) tile_cols * bytes; }
};

// The entry of a type, or nullptr if it has none.
const weight_type * find_type(ggml_type type);

}  // namespace ggml::cpu::zen5
