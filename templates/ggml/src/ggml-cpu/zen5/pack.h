#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

// The packed layout of Q8_0 weights and the ways into and out of it. The layout is described in avo/gemm/layout.go of
// llama-zen-turbo: panels of tile_cols rows, and in each block of 32 along k the rows interleaved by 4 bytes as w+128, then
// their FP16 scales.

namespace ggml::cpu::zen5 {

// Runs f(begin, end) on parts of [0, n) on all CPUs this process may use, and waits. Parts start at multiples of grain.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)> & f);

// Bytes of a packed matrix of rows x cols elements; the last panel is padded to a full one.
size_t packed_size_q8_0(int64_t rows, int64_t cols);

// Packs rows first .. first+n-1 of a matrix with cols elements a row from src, which holds just those rows as block_q8_0.
// Rows of the last panel that the matrix lacks are zeroed when its last row is packed.
void pack_q8_0(void * packed, const void * src, int64_t rows, int64_t cols, int64_t first, int64_t n);

// The inverse: rows first .. first+n-1 as block_q8_0.
void unpack_q8_0(const void * packed, void * dst, int64_t cols, int64_t first, int64_t n);

// One row as floats, bit for bit what ggml's dequantize_row_q8_0 gives.
void dequantize_q8_0(const void * packed, float * dst, int64_t cols, int64_t row);

}  // namespace ggml::cpu::zen5
