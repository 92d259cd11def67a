#pragma once

#include "types.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

// Activations as the kernels read them, quantized or rounded: rows in groups of up to tile_rows, and the rows of a group side by side in each block.

namespace ggml::cpu::zen5 {

// Splits n activation rows into groups of at most `tall`: all but the last two are full, the last two as equal as they can be. A group is
// computed by one kernel call per panel.
struct row_groups {
    int64_t n;
    int64_t tall;
    int64_t full;  // leading groups of `tall`
    int64_t rest;  // rows after them, fewer than 2*tall

    explicit row_groups(int64_t n, int64_t tall = tile_rows) :
        n(n),
        tall(tall),
        full(n >= 2 * tall ? n / tall - 1 : 0),
        rest(n - full * tall) {}

    int64_t count() const { return full + (rest > tall ? 2 : 1); }

    int64_t start(int64_t g) const {
        return g <= full ? g * tall : full * tall + (rest + 1) / 2;
    }

    int height(int64_t g) const {
        if (g < full) {
            return (int) tall;
        }
        if (rest <= tall) {
            return (int) rest;
        }
        return (int) (g == full ? (rest + 1) / 2 : rest / 2);
    }

    // the group that row i is in
    int64_t of(int64_t i) const {
        if (i < full * tall) {
            return i / tall;
        }
        return full + (rest > tall && i >= start(full + 1) ? 1 : 0);
    }
};

// Activations that share a scale, or in float formats those that a kernel takes at a time.
constexpr int block_size(activation f) {
    return f == activation::Q8_K ? 256 : f == activation::Q8_1 ? 32 : 128;
}

// Bytes of a block of one row.
constexpr int block_bytes(activation f) {
    switch (f) {
        case activation::Q8_1: return 32 + 4 + 4 + 4;
        case activation::Q8_K: return 256 + 4 + 64 + 16 + 32;
        case activation::BF16: return 128 * 2;
        default:               return 128 * 4;
    }
}

// Blocks of k activations. In float formats the last one may be half of zeros.
constexpr int64_t block_count(activation f, int64_t k) {
    return (k + block_size(f) - 1) / block_size(f);
}

// Writes the blocks of k activations of row r of a group of height rows. group points at the first of these blocks.
void quantize_blocks(activation f, const float * x, int64_t k, uint8_t * group, int height, int r);

// Copies n blocks of a row that is a group of its own to row r of a group of height rows.
void copy_blocks(activation f, const uint8_t * row, uint8_t * group, int height, int r, int64_t n);

}  // namespace ggml::cpu::zen5
