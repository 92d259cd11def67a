#include "activations.h"

#include "ggml-cpu.h"

#include <cstring>

namespace ggml::cpu::zen5 {

// What a block of a group holds, part after part, each for all rows of the group: bytes of one row.
struct q8_1_parts {
    static constexpr int quants = 32, delta = 4, corr = 4, sum = 4;
};

struct q8_K_parts {
    static constexpr int quants = 256, delta = 4, corr = 64, sums32 = 16, sums16 = 32;
};

// Floats in blocks of two halves, each half of all rows of the group.
constexpr int half_block = 64;

// Rounds as stock does before it multiplies weights of that type. What kernels read as F32 is widened again.
static void round_halves(activation f, const float * x, int64_t k, uint8_t * group, int height, int r) {
    const size_t half  = block_bytes(f) / 2;
    const auto * bf16  = ggml_get_type_traits_cpu(GGML_TYPE_BF16);
    const auto * f16   = ggml_get_type_traits_cpu(GGML_TYPE_F16);
    for (int64_t h = 0; h < 2 * block_count(f, k); h++) {
        uint8_t * to = group + (h * height + r) * half;
        if (h * half_block >= k) {
            memset(to, 0, half);
        } else if (f == activation::BF16) {
            bf16->from_float(x + h * half_block, to, half_block);
        } else if (f == activation::F16) {
            ggml_fp16_t rounded[half_block];
            f16->from_float(x + h * half_block, rounded, half_block);
            ggml_cpu_fp16_to_fp32(rounded, (float *) to, half_block);
        } else {
            memcpy(to, x + h * half_block, half);
        }
    }
}

static bool floats(activation f) {
    return f != activation::Q8_1 && f != activation::Q8_K;
}

void quantize_blocks(activation f, const float * x, int64_t k, uint8_t * group, int height, int r) {
    if (floats(f)) {
        round_halves(f, x, k, group, height, r);
        return;
    }
    const int64_t n      = k / block_size(f);
    const int64_t stride = (int64_t) height * block_bytes(f);

    uint8_t * at   = group;
    auto      part = [&](int bytes) {
        uint8_t * p = at + r * bytes;
        at += height * bytes;
        return p;
    };
    if (f == activation::Q8_K) {
        using p = q8_K_parts;
        uint8_t * quants = part(p::quants);
        uint8_t * delta  = part(p::delta);
        uint8_t * corr   = part(p::corr);
        uint8_t * sums32 = part(p::sums32);
        uint8_t * sums16 = part(p::sums16);
        zt_quantize_q8_k_avx512vnni(x, quants, delta, corr, sums32, sums16, n, stride);
    } else {
        using p = q8_1_parts;
        uint8_t * quants = part(p::quants);
        uint8_t * delta  = part(p::delta);
        uint8_t * corr   = part(p::corr);
        uint8_t * sum    = part(p::sum);
        zt_quantize_q8_1_avx512vnni(x, quants, delta, corr, sum, n, stride);
    }
}

template <int... bytes> static void copy_parts(const uint8_t * row, uint8_t * group, int height, int r, int64_t n) {
    for (int64_t b = 0; b < n; b++) {
        ((memcpy(group + r * bytes, row, bytes), row += bytes, group += height * bytes), ...);
    }
}

void copy_blocks(activation f, const uint8_t * row, uint8_t * group, int height, int r, int64_t n) {
    if (floats(f)) {
        const size_t half = block_bytes(f) / 2;
        for (int64_t h = 0; h < 2 * n; h++) {
            memcpy(group + (h * height + r) * half, row + h * half, half);
        }
    } else if (f == activation::Q8_K) {
        using p = q8_K_parts;
        copy_parts<p::quants, p::delta, p::corr, p::sums32, p::sums16>(row, group, height, r, n);
    } else {
        using p = q8_1_parts;
        copy_parts<p::quants, p::delta, p::corr, p::sum>(row, group, height, r, n);
    }
}

}  // namespace ggml::cpu::zen5
