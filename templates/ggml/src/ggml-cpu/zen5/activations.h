#pragma once

#include "types.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

// Quantized activations as the kernels read them: rows in groups of up to tile_rows, and the rows of a group side by side in each block.

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

// Activations that share a scale.
constexpr int block_size(activation f) {
    return f == activation::Q8_K ? 256 : 32;
}

// Bytes of a quantized block of one row.
constexpr int block_bytes(activation f) {
    return f == activation::Q8_K ? 256 + 4 + 64 + 16 + 32 : 32 + 4 + 4 + 4;
}

// Quantizes n blocks of row r of a group of height rows. group points at the first of these blocks.
void quantize_blocks(activation f, const float * x, uint8_t * group, int height, int r, int64_t n);

// Copies n blocks of a row that is a group of its own to row r of a group of height rows.
void copy_blocks(activation f, const uint8_t * row, uint8_t * group, int height, int r, int64_t n);

}  // namespace ggml::cpu::zen5
