#include "packed.h"

#include "ggml-host/switches.h"

#include <algorithm>
#include <cstring>

namespace ggml::cpu::zen5 {

constexpr size_t tile_bytes = sizeof(float) * tile_rows * tile_cols;

const uint8_t * packed_panel(const ggml_tensor * weights, int64_t panel) {
    const weight_type & type = *find_type(weights->type);
    return (const uint8_t *) weights->data + panel * (weights->ne[0] / type.block) * type.panel_bytes();
}

packed_multiplier::packed_multiplier(const weight_type & type, ggml_tensor * op) :
    multiplier(op, type.format, tile_rows, tile_cols, op->src[0]->ne[0] / type.block * type.panel_bytes()),
    type(type),
    weights((const uint8_t *) op->src[0]->data),
    blocks(op->src[0]->ne[0] / type.block) {}

size_t packed_multiplier::scratch_size() const {
    const size_t n = type.expand == nullptr ? 0 : expanded_panels() * blocks;
    return aligned(type.work_bytes) + aligned(tile_bytes) + aligned(n * type.expanded_bytes);
}

void packed_multiplier::set_scratch(uint8_t * scratch) {
    work     = scratch;
    tile     = (float *) (work + aligned(type.work_bytes));
    expanded = (uint8_t *) tile + aligned(tile_bytes);
}

// How many expanded panels fit into half of L2.
int64_t packed_multiplier::expanded_panels() const {
    return std::max<int64_t>(1, l2_bytes / 2 / (blocks * type.expanded_bytes));
}

void packed_multiplier::multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const {
    // where packed panels can be read too, expanding them takes as long as it saves two to four groups
    const bool must = type.gemm[0] == nullptr;
    if (type.expand != nullptr && (must || !few(p.groups.n))) {
        if (g1 - g0 == 1) {
            expand_blocks(p, first, last, g0);
        } else if (g1 > g0) {
            expand_panels(p, first, last, g0, g1);
        }
        return;
    }
    // a panel too large for L2 is taken in parts along k where sums can wait in dst
    const bool    split = type.in_registers && p.rows == nullptr;
    const int64_t part  = split ? std::max<int64_t>(1, std::min<int64_t>(blocks, l2_bytes / 2 / type.panel_bytes())) : blocks;
    if (few(p.groups.n)) {
        stream(p, first, last, g0, g1, part);
        return;
    }
    for (int64_t b = 0; b < blocks; b += part) {
        for (int64_t g = g0; g < g1; g++) {
            for (int64_t panel = first; panel < last; panel++) {
                compute(p, g, panel, packed(p, panel, b), b, std::min(part, blocks - b), type.gemm);
            }
        }
    }
}

// Reads weights once, while all groups pass each part of a panel. A single group asks for what comes soon; several ask, a share each,
// for the part after this one, so that memory works all the time.
void packed_multiplier::stream(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1, int64_t part) const {
    constexpr int64_t soon  = 32 << 10;
    const int64_t     count = g1 - g0;
    for (int64_t panel = first; panel < last; panel++) {
        for (int64_t b = 0; b < blocks; b += part) {
            const int64_t   n    = std::min(part, blocks - b);
            const uint8_t * w    = packed(p, panel, b);
            const int64_t   size = n * type.panel_bytes();
            for (int64_t g = g0; g < g1; g++) {
                compute(p, g, panel, w, b, n, type.gemm, count == 1 ? w + soon : w + size + size * (g - g0) / count, line / count);
            }
        }
    }
}

// Each panel meets one group: its blocks stay in L1 between expansion and use.
void packed_multiplier::expand_blocks(const product & p, int64_t first, int64_t last, int64_t g) const {
    constexpr int64_t part = 2;
    for (int64_t panel = first; panel < last; panel++) {
        for (int64_t b = 0; b < blocks; b += part) {
            const int64_t n = std::min(part, blocks - b);
            type.expand(expanded, packed(p, panel, b), n);
            compute(p, g, panel, expanded, b, n, type.expanded);
        }
    }
}

// Each panel meets many groups: some wait in L2, and every group meets all of these while it is in L1.
void packed_multiplier::expand_panels(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const {
    const int64_t some = expanded_panels();
    const size_t  size = blocks * type.expanded_bytes;
    for (int64_t from = first; from < last; from += some) {
        const int64_t n = std::min(some, last - from);
        for (int64_t i = 0; i < n; i++) {
            type.expand(expanded + i * size, packed(p, from + i, 0), blocks);
        }
        for (int64_t g = g0; g < g1; g++) {
            for (int64_t i = 0; i < n; i++) {
                compute(p, g, from + i, expanded + i * size, 0, blocks, type.expanded);
            }
        }
    }
}

const uint8_t * packed_multiplier::packed(const product & p, int64_t panel, int64_t block) const {
    return weights + ((p.matrix * panels + panel) * blocks + block) * type.panel_bytes();
}

// Adds the products of n blocks from block b on, which are at w, to a group's columns of a panel. Prefetches from `next` on with kernels of
// their own, unless that is nullptr.
void packed_multiplier::compute(const product & p, int64_t g, int64_t panel, const uint8_t * w, int64_t b, int64_t n,
                                const gemm_kernel * kernels, const uint8_t * next, int64_t step) const {
    const int64_t   per_block = type.block / block_size(type.format) * block_bytes(type.format);
    const int64_t   row       = p.groups.start(g);
    const int       height    = p.groups.height(g);
    const uint8_t * a         = p.activations + (row * blocks + b * height) * per_block;
    const int64_t   col       = panel * tile_cols;
    const int64_t   width     = std::min<int64_t>(cols - col, tile_cols);
    const uint64_t  mask      = ~0ULL >> (64 - width);

    const bool    apart  = p.rows != nullptr;
    float *       out    = apart ? tile : row_of(p, row) + col;
    const int64_t stride = apart ? sizeof(float) * tile_cols : dst->nb[1];
    if (next != nullptr && host::get_switches().ahead) {
        type.ahead[height - 1](out, stride, a, w, n, mask, b > 0, work, next, step);
    } else {
        kernels[height - 1](out, stride, a, w, n, mask, b > 0, work);
    }
    for (int r = 0; apart && b + n == blocks && r < height; r++) {
        memcpy(row_of(p, row + r) + col, tile + r * tile_cols, sizeof(float) * width);
    }
}

}  // namespace ggml::cpu::zen5
