#pragma once

#include "kernels.h"

#include <cstdint>

// The kernels that multiply by coded float weights (avo/code/DESIGN.md), by domain and code.

namespace ggml::cpu::zen5 {

// out: 4 sums in the order of vec_dot, one row of activations, head, blocks, their number, bytes to prefetch ahead
using dot_kernel = void (*)(float *, const void *, const void *, const void *, int64_t, int64_t);

// out: rows of 4 sums in the order of tinyBLAS, bytes from one to the next, activations, head, blocks, their number, bytes to prefetch ahead
using tile_kernel = void (*)(float *, int64_t, const void *, const void *, const void *, int64_t, int64_t);

// blocks of the domain's plain code, head, blocks, their number
using panel_expand_kernel = void (*)(void *, const void *, const void *, int64_t);

struct float_kernels {
    dot_kernel          dot;
    tile_kernel         tile[6];  // of 1 .. 6 rows of activations
    panel_expand_kernel expand;   // nullptr where the code is what others are expanded to
};

// The kernels of a domain, F32 or else BF16, and a code by its number; nullptr where there are none.
const float_kernels * kernels_of(bool f32_domain, int code);

}  // namespace ggml::cpu::zen5
