#include "activations.h"

#include <cstring>

namespace ggml::cpu::zen5 {

// What a block of a group holds, part after part, each for all rows of the group: bytes of one row.
struct q8_1_parts {
    static constexpr int quants = 32, delta = 4, corr = 4, sum = 4;
};

struct q8_K_parts {
    static constexpr int quants = 256, delta = 4, corr = 64, sums32 = 16, sums16 = 32;
};

void quantize_blocks(activation f, const float * x, uint8_t * group, int height, int r, int64_t n) {
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
    if (f == activation::Q8_K) {
        using p = q8_K_parts;
        copy_parts<p::quants, p::delta, p::corr, p::sums32, p::sums16>(row, group, height, r, n);
    } else {
        using p = q8_1_parts;
        copy_parts<p::quants, p::delta, p::corr, p::sum>(row, group, height, r, n);
    }
}

}  // namespace ggml::cpu::zen5
