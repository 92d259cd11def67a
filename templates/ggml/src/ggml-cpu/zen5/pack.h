#pragma once

#include "types.h"

#include <cstddef>
#include <cstdint>

// The packed layout of weights and the ways into and out of it. A panel holds tile_cols weight rows; along k it is a sequence of
// blocks, and each of these is a permutation of the bits of the rows' GGUF blocks, laid out by the type's planes.

namespace ggml::cpu::zen5 {

// Bytes of a packed matrix of rows x cols weights; the last panel is padded to a full one.
size_t packed_size(const weight_type & type, int64_t rows, int64_t cols);

// Packs rows first .. first+n-1 of a matrix of rows x cols weights from src, which holds just those rows as they are in a GGUF. Rows that
// the last panel lacks become copies of the matrix's last row when that is packed. No two threads may pack rows of one panel at a time.
void pack_rows(const weight_type & type, void * packed, const void * src, int64_t rows, int64_t cols, int64_t first, int64_t n);

// The inverse: rows first .. first+n-1 as they are in a GGUF.
void unpack_rows(const weight_type & type, const void * packed, void * dst, int64_t cols, int64_t first, int64_t n);

// One row as floats, as ggml's to_float gives them.
void dequantize_row(const weight_type & type, const void * packed, float * dst, int64_t cols, int64_t row);

}  // namespace ggml::cpu::zen5
