#include "coded.h"

#include "dots.h"

#include "ggml-cpu.h"
#include "ggml-host/switches.h"

#include <algorithm>
#include <cstring>

namespace ggml::cpu::zen5 {

static bool is_wide(const ggml_tensor * weights) {
    return weights->type != GGML_TYPE_BF16;
}

// Panels of this code need no expansion.
static code plain(bool wide) {
    return wide ? code::S32 : code::B16;
}

static int64_t blocks_of(const ggml_tensor * weights) {
    return (weights->ne[0] + code_cols - 1) / code_cols;
}

// Bytes of a plain panel.
static size_t plain_bytes(const ggml_tensor * weights) {
    return blocks_of(weights) * code_rows * code_cols * (is_wide(weights) ? sizeof(float) : sizeof(ggml_bf16_t));
}

// Whether stock sums the products of an operation in the order of its tiles, which several rows of activations share, else in that of
// its dot product of one row.
static bool in_tiles(const ggml_tensor * op) {
    const ggml_tensor * weights     = op->src[0];
    const ggml_tensor * activations = op->src[1];
    return op->op == GGML_OP_MUL_MAT && activations->ne[1] > 1 && weights->ne[1] % code_rows == 0 &&
           (weights->type != GGML_TYPE_F32 || ggml_is_contiguous(activations));
}

static activation format_of(ggml_type type) {
    return type == GGML_TYPE_BF16 ? activation::BF16 : type == GGML_TYPE_F16 ? activation::F16 : activation::F32;
}

const uint8_t * coded_panel_start(const ggml_tensor * weights, int64_t panel) {
    return panel_of(weights->data, panel).blocks;
}

coded_multiplier::coded_multiplier(ggml_tensor * op) :
    multiplier(op, format_of(op->src[0]->type), in_tiles(op) ? tile_rows : 1, code_rows, plain_bytes(op->src[0])),
    coded((const uint8_t *) op->src[0]->data),
    wide(is_wide(op->src[0])),
    blocks(blocks_of(op->src[0])) {}

// How many expanded panels fit into half of L2.
int64_t coded_multiplier::expanded_panels() const {
    return std::max<int64_t>(1, l2_bytes / 2 / plain_bytes(dst->src[0]));
}

size_t coded_multiplier::scratch_size() const {
    return expanded_panels() * plain_bytes(dst->src[0]);
}

coded_panel coded_multiplier::panel_at(const product & p, int64_t panel) const {
    return panel_of(coded, p.matrix * panels + panel);
}

// A few groups decode weights in registers, each of them anew. Many share what is expanded: as many panels as stay in L2 while all groups
// pass.
void coded_multiplier::multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const {
    constexpr int64_t cheap = 3;  // groups: decoding so often costs less than storing what is decoded

    if (g1 - g0 == 1 || (g1 - g0 <= cheap && tall > 1)) {
        for (int64_t panel = first; panel < last; panel++) {
            const coded_panel c = panel_at(p, panel);
            for (int64_t g = g0; g < g1; g++) {
                compute(p, g, panel, c.c, c.head, c.blocks);
            }
        }
        return;
    }
    const size_t  size = plain_bytes(dst->src[0]);
    const int64_t some = expanded_panels();
    for (int64_t from = first; from < last && g0 < g1; from += some) {
        const int64_t n = std::min(some, last - from);
        for (int64_t i = 0; i < n; i++) {
            const coded_panel c = panel_at(p, from + i);
            if (c.c != plain(wide)) {
                kernels_of(wide, (int) c.c)->expand(expanded + i * size, c.head, c.blocks, blocks);
            }
        }
        for (int64_t g = g0; g < g1; g++) {
            for (int64_t i = 0; i < n; i++) {
                const coded_panel c = panel_at(p, from + i);
                compute(p, g, from + i, plain(wide), nullptr, c.c == plain(wide) ? c.blocks : expanded + i * size);
            }
        }
    }
}

// Computes a group's columns of a panel that lies at head and `at`.
void coded_multiplier::compute(const product & p, int64_t g, int64_t panel, code c, const uint8_t * head, const uint8_t * at) const {
    constexpr int64_t soon = 4 << 10;

    const float_kernels & k      = *kernels_of(wide, (int) c);
    const int64_t         row    = p.groups.start(g);
    const uint8_t *       a      = p.activations + row * blocks * block_bytes(format);
    const int64_t         col    = panel * code_rows;
    const int64_t         ahead  = host::get_switches().ahead ? soon : 0;
    float *               out    = row_of(p, row) + col;
    if (tall > 1) {
        k.tile[p.groups.height(g) - 1](out, dst->nb[1], a, head, at, blocks, ahead);
        return;
    }
    float sums[code_rows];
    k.dot(sums, a, head, at, blocks, ahead);
    memcpy(out, sums, sizeof(float) * std::min<int64_t>(cols - col, code_rows));
}

size_t row_scratch_size(const ggml_tensor * weights) {
    return plain_bytes(weights);
}

// A panel of coded weights without its code, in scratch if it has one.
static const uint8_t * plain_panel(const ggml_tensor * weights, int64_t panel, uint8_t * scratch) {
    const bool        wide = is_wide(weights);
    const coded_panel c    = panel_of(weights->data, panel);
    if (c.c == plain(wide)) {
        return c.blocks;
    }
    kernels_of(wide, (int) c.c)->expand(scratch, c.head, c.blocks, blocks_of(weights));
    return scratch;
}

// Row r of a plain panel.
static void read_plain(const ggml_tensor * weights, const uint8_t * panel, int64_t r, float * out) {
    constexpr int64_t half = code_cols / 2;

    for (int64_t k = 0; k < weights->ne[0]; k += half) {
        // steps of 64 weights: those of the rows one after the other
        const int64_t step = k / half * code_rows + r;
        if (is_wide(weights)) {
            memcpy(out + k, (const float *) panel + step * half, sizeof(float) * half);
        } else {
            ggml_cpu_bf16_to_fp32((const ggml_bf16_t *) panel + step * half, out + k, half);
        }
    }
}

void read_row(const ggml_tensor * weights, int64_t row, float * out, uint8_t * scratch) {
    read_plain(weights, plain_panel(weights, row / code_rows, scratch), row % code_rows, out);
}

void read_rows(const ggml_tensor * weights, int64_t first, int64_t n, float * out, uint8_t * scratch) {
    for (int64_t from = 0; from < n; from += code_rows) {
        const uint8_t * panel = plain_panel(weights, (first + from) / code_rows, scratch);
        for (int64_t r = 0; r < std::min<int64_t>(code_rows, n - from); r++) {
            read_plain(weights, panel, r, out + (from + r) * weights->ne[0]);
        }
    }
}

}  // namespace ggml::cpu::zen5
