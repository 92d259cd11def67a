#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

// The form of a stored model (llama-zen-pack). Numbers are little endian. The sections lie one behind the other, each padded with zeros
// to a multiple of 64 bytes:
//
//     preface
//     before     the GGUF's bytes before the data of its first tensor, as they are
//     gaps       its bytes between the data of one tensor and the next, and behind the last one, as they are
//     table      stored_tensor for each tensor, in the GGUF's order
//     tensors    each as in the GGUF, or coded (avo/code/DESIGN.md of llama-zen-turbo)
//
// Every byte of the file but padding counts in one checksum: the preface's own, those of three sections in the preface, those of the
// tensors in the table. Sizes and checksums are without padding.

namespace ggml::cpu::zen5 {

constexpr size_t   stored_align   = 64;
constexpr uint32_t stored_version = 1;

constexpr char stored_magic[4] = { 'Z', 'T', 'P', 'K' };

struct stored_preface {
    char     magic[4];
    char     text[196];  // what people see who look into the file
    uint32_t version;
    uint32_t tensors;
    uint64_t size;        // of this file
    uint64_t original;    // size of the GGUF
    uint64_t before;      // sizes of sections
    uint64_t gaps;
    uint32_t before_sum;  // checksums of sections
    uint32_t gaps_sum;
    uint32_t table_sum;
    uint32_t crc;         // crc32c of the preface before this
};

static_assert(sizeof(stored_preface) == 256, "the preface has no padding");

struct stored_tensor {
    uint64_t offset;    // in the file; the first one is where the table ends, and each of the others where the one before it ends
    uint64_t size;
    uint32_t sum;
    uint32_t original;  // checksum of the tensor in the GGUF
    uint32_t coded;     // 1, or 0: as it is in the GGUF
    uint32_t zero;
};

static_assert(sizeof(stored_tensor) == 32, "a table's entry has no padding");

constexpr size_t stored_padded(size_t n) {
    return (n + stored_align - 1) / stored_align * stored_align;
}

struct span {
    const void * data;
    size_t       size;
};

// The checksum of each span: the CRC-32C of its pieces' CRC-32Cs, pieces of 1 MiB (the last one may be shorter), so that all CPUs can
// share the work on a span. Like a CRC it finds every error of up to 32 neighbouring bits in a piece.
std::vector<uint32_t> checksums(const std::vector<span> & spans);

}  // namespace ggml::cpu::zen5
