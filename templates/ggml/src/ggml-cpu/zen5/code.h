#pragma once

#include "ggml-host/switches.h"
#include "ggml.h"

#include <cstddef>
#include <cstdint>

// Coded float weights: BF16, F16 and F32 tensors in fewer bits, from which every bit of the original comes back. Codes and their
// layout are laid down in avo/code/DESIGN.md. Rows are counted through the matrices (experts) of a tensor; a panel holds code_rows
// of them, the last one of a matrix padded with weights that nobody reads.

namespace ggml::cpu::zen5 {

// The directory's numbers; the kernels' names end in the same ones.
enum class code : uint8_t { B11, B12, B16, H14, H16, S32 };
constexpr int codes = 6;

constexpr int code_rows = 4;    // of a panel
constexpr int code_cols = 128;  // weights along k in a block

// What a kernel takes. Plain codes (B16, H16, S32) have no head: it is where the blocks are.
struct coded_panel {
    code            c;
    const uint8_t * head;    // palette, flags, escapes
    const uint8_t * blocks;  // of code_rows x code_cols weights
};

// Whether tensors of this type and shape can be coded: BF16, F16 and F32 of whole 64 weights a row and 16 rows or more.
bool codable(ggml_type type, int64_t rows, int64_t cols);

// The most bytes encode() can need for `matrices` matrices of rows x cols weights.
size_t coded_bound(ggml_type type, int64_t rows, int64_t cols, int64_t matrices);

// Codes a whole tensor, with the codes that ZT_CODE allows, on all CPUs this process may use. `to` is aligned to 64 bytes; every byte
// of what it returns, the coded size, is written, and none behind it. The same weights give the same bytes on any number of threads.
size_t encode(void * to, ggml_type type, const void * src, int64_t rows, int64_t cols, int64_t matrices);

// The same with a policy other than ZT_CODE's. Off is automatic here: it is about where tensors go.
size_t encode(void * to, ggml_type type, const void * src, int64_t rows, int64_t cols, int64_t matrices, host::code_policy policy);

// Bytes of a coded tensor, as its header says.
size_t coded_size(const void * coded);

// Panel number `panel`: of matrix m of a tensor of `rows` rows, panels m * ceil(rows / code_rows) and on.
coded_panel panel_of(const void * coded, int64_t panel);

// Why kernels must not be let near `size` bytes at `coded` as a tensor of this type and shape, or nullptr if they may: header and
// directory fit the tensor and each other, and nowhere do blocks need more escapes than their panel's head holds. Reads only the first
// `size` bytes, on all CPUs. It does not prove the weights are those that were coded: a checksum does.
const char * coded_fault(const void * coded, size_t size, ggml_type type, int64_t rows, int64_t cols, int64_t matrices);

// Rows first .. first+n-1 as they are in a GGUF, those of all matrices counted through. Many rows are decoded on all CPUs, few on the caller's.
void decode_rows(const void * coded, void * to, int64_t first, int64_t n);

// How many panels have each code, by its number.
struct code_use {
    int64_t panels[codes];
};
code_use coded_use(const void * coded);

}  // namespace ggml::cpu::zen5
