#include "pack.h"

#include "kernels.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "simd-mappings.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include <sched.h>

namespace ggml::cpu::zen5 {

static int usable_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return std::max(1, CPU_COUNT(&set));
}

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)> & f) {
    const int64_t parts   = (n + grain - 1) / grain;
    const int     threads = (int) std::min<int64_t>(usable_cpus(), parts);

    std::atomic<int64_t> next{ 0 };
    auto                 work = [&]() {
        for (int64_t part = next++; part < parts; part = next++) {
            f(part * grain, std::min(n, (part + 1) * grain));
        }
    };

    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; i++) {
        try {
            helpers.emplace_back(work);
        } catch (const std::system_error &) {
            break;  // a limit on threads or memory: those that run do all the work
        }
    }
    work();
    for (auto & helper : helpers) {
        helper.join();
    }
}

size_t packed_size_q8_0(int64_t rows, int64_t cols) {
    const int64_t panels = (rows + tile_cols - 1) / tile_cols;
    return panels * (cols / block_size) * panel_block_bytes;
}

// Where block `block` of the panel that row is in starts.
static size_t panel_block(int64_t cols, int64_t row, int64_t block) {
    return (row / tile_cols * (cols / block_size) + block) * panel_block_bytes;
}

static constexpr size_t scales_offset = tile_cols * block_size;

void pack_q8_0(void * packed, const void * src, int64_t rows, int64_t cols, int64_t first, int64_t n) {
    const int64_t      blocks = cols / block_size;
    const block_q8_0 * in     = (const block_q8_0 *) src;

    // panel by panel and block by block, so that writes are one stream
    for (int64_t row0 = first; row0 < first + n;) {
        const int     c0   = row0 % tile_cols;
        const int64_t take = std::min<int64_t>(tile_cols - c0, first + n - row0);
        const bool    last = row0 + take == rows;
        for (int64_t b = 0; b < blocks; b++) {
            uint8_t * out = (uint8_t *) packed + panel_block(cols, row0, b);
            for (int c = c0; c < c0 + take; c++) {
                const block_q8_0 & w = in[(row0 - first + c - c0) * blocks + b];
                for (int j = 0; j < block_size / 4; j++) {
                    uint32_t four;
                    memcpy(&four, w.qs + 4 * j, sizeof(four));
                    four ^= 0x80808080;
                    memcpy(out + (j * tile_cols + c) * 4, &four, sizeof(four));
                }
                memcpy(out + scales_offset + 2 * c, &w.d, sizeof(w.d));
            }
            if (last) {
                // a scale of zero would be enough for finite activations; zero weights keep 0 * inf out of the padding too
                for (int c = c0 + take; c < tile_cols; c++) {
                    for (int j = 0; j < block_size / 4; j++) {
                        memset(out + (j * tile_cols + c) * 4, 0x80, 4);
                    }
                    memset(out + scales_offset + 2 * c, 0, 2);
                }
            }
        }
        row0 += take;
    }
}

static block_q8_0 unpack_block(const void * packed, int64_t cols, int64_t row, int64_t block) {
    const uint8_t * in = (const uint8_t *) packed + panel_block(cols, row, block);
    const int       c  = row % tile_cols;

    block_q8_0 w;
    for (int j = 0; j < block_size / 4; j++) {
        uint32_t four;
        memcpy(&four, in + (j * tile_cols + c) * 4, sizeof(four));
        four ^= 0x80808080;
        memcpy(w.qs + 4 * j, &four, sizeof(four));
    }
    memcpy(&w.d, in + scales_offset + 2 * c, sizeof(w.d));
    return w;
}

void unpack_q8_0(const void * packed, void * dst, int64_t cols, int64_t first, int64_t n) {
    const int64_t blocks = cols / block_size;
    block_q8_0 *  out    = (block_q8_0 *) dst;
    for (int64_t row = first; row < first + n; row++) {
        for (int64_t b = 0; b < blocks; b++) {
            *out++ = unpack_block(packed, cols, row, b);
        }
    }
}

void dequantize_q8_0(const void * packed, float * dst, int64_t cols, int64_t row) {
    for (int64_t b = 0; b < cols / block_size; b++) {
        const block_q8_0 w = unpack_block(packed, cols, row, b);
        const float      d = GGML_CPU_FP16_TO_FP32(w.d);
        for (int k = 0; k < block_size; k++) {
            *dst++ = w.qs[k] * d;
        }
    }
}

}  // namespace ggml::cpu::zen5
