#include "matmul.h"

#include "activations.h"
#include "pack.h"
#include "shared.h"
#include "switches.h"

#include "ggml-impl.h"

#include <algorithm>
#include <cstring>

namespace ggml::cpu::zen5 {

constexpr size_t line = 64;  // bytes of a cache line

static size_t aligned(size_t bytes) {
    return (bytes + line - 1) / line * line;
}

// One matrix and the activation rows that it meets.
struct product {
    const uint8_t * panels;
    const uint8_t * activations;  // quantized, group after group
    row_groups      groups;
    const int32_t * rows;         // which row of the result each of them gives, or nullptr: they follow each other
};

// Multiplies matrices of one shape by quantized activations, panel by panel.
class multiplier {
    const weight_type & type;
    ggml_tensor *       dst;

    int64_t cols;    // weight rows, columns of the result
    int64_t panels;
    int64_t blocks;  // along k

    // this thread's
    uint8_t * work;
    float *   tile;
    uint8_t * expanded;  // panels

  public:
    multiplier(const weight_type & type, ggml_tensor * op, uint8_t * scratch) :
        type(type),
        dst(op),
        cols(op->src[0]->ne[1]),
        panels((cols + tile_cols - 1) / tile_cols),
        blocks(blocks_of(type, op)),
        work(scratch),
        tile((float *) (scratch + aligned(type.work_bytes))),
        expanded((uint8_t *) tile + aligned(tile_bytes)) {}

    // Bytes of a thread's scratch memory.
    static size_t scratch_size(const weight_type & type, const ggml_tensor * op) {
        const size_t panels = type.expand == nullptr ? 0 : expanded_panels(type, blocks_of(type, op)) * blocks_of(type, op);
        return aligned(type.work_bytes) + aligned(tile_bytes) + aligned(panels * type.expanded_bytes);
    }

    // Rows so few that memory is the limit and not arithmetic.
    static bool few(int64_t n) { return n <= 2 * tile_rows; }

    // This thread's share of count products, none of which has fewer than one row. Unless all have few, the threadpool's chunk counter
    // is at nth.
    void run(const ggml_compute_params * params, const product * products, int64_t count) const {
        if (std::all_of(products, products + count, [](const product & p) { return few(p.groups.n); })) {
            // one contiguous stream per thread
            const int64_t total = count * panels;
            const int64_t last  = total * (params->ith + 1) / params->nth;
            for (int64_t at = total * params->ith / params->nth; at < last;) {
                const int64_t i    = at / panels;
                const int64_t take = std::min(last, (i + 1) * panels) - at;
                multiply(products[i], at - i * panels, at - i * panels + take, 0, products[i].groups.count());
                at += take;
            }
            return;
        }
        // chunks small enough to share out evenly, and to stay in half of L2 while all rows pass
        const int64_t shared = count * panels / (params->nth * 8);
        const int64_t cached = l2_bytes / 2 / (blocks * type.panel_bytes());
        const int64_t chunk  = std::max<int64_t>(1, std::min({ shared, cached, panels }));
        const int64_t each   = (panels + chunk - 1) / chunk;
        // where there are too few of them the groups are shared out as well
        const int64_t parts = (params->nth * 4 + count * each - 1) / (count * each);
        for (int64_t u = params->ith; u < count * each * parts; u = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            const int64_t   part = u % parts;
            const int64_t   c    = u / parts;
            const product & p    = products[c / each];
            multiply(p, c % each * chunk, std::min(panels, (c % each + 1) * chunk), p.groups.count() * part / parts,
                     p.groups.count() * (part + 1) / parts);
        }
    }

  private:
    static constexpr size_t tile_bytes = sizeof(float) * tile_rows * tile_cols;

    static int64_t blocks_of(const weight_type & type, const ggml_tensor * op) { return op->src[0]->ne[0] / type.block; }

    // How many expanded panels fit into half of L2.
    static int64_t expanded_panels(const weight_type & type, int64_t blocks) {
        return std::max<int64_t>(1, l2_bytes / 2 / (blocks * type.expanded_bytes));
    }

    // Computes the result's columns of panels first..last-1 for groups g0..g1-1 of a product.
    void multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const {
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
    void stream(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1, int64_t part) const {
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
    void expand_blocks(const product & p, int64_t first, int64_t last, int64_t g) const {
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
    void expand_panels(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const {
        const int64_t some = expanded_panels(type, blocks);
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

    const uint8_t * packed(const product & p, int64_t panel, int64_t block) const {
        return p.panels + (panel * blocks + block) * type.panel_bytes();
    }

    // Adds the products of n blocks from block b on, which are at w, to a group's columns of a panel. Prefetches from `next` on with kernels of
    // their own, unless that is nullptr.
    void compute(const product & p, int64_t g, int64_t panel, const uint8_t * w, int64_t b, int64_t n,
                 const gemm_kernel * kernels, const uint8_t * next = nullptr, int64_t step = 0) const {
        const int64_t   per_block = type.block / block_size(type.format) * block_bytes(type.format);
        const int64_t   row       = p.groups.start(g);
        const int       height    = p.groups.height(g);
        const uint8_t * a         = p.activations + (row * blocks + b * height) * per_block;
        const int64_t   col       = panel * tile_cols;
        const int64_t   width     = std::min<int64_t>(cols - col, tile_cols);
        const uint64_t  mask      = ~0ULL >> (64 - width);

        const bool    apart  = p.rows != nullptr;
        float *       out    = apart ? tile : (float *) ((char *) dst->data + row * dst->nb[1]) + col;
        const int64_t stride = apart ? sizeof(float) * tile_cols : dst->nb[1];
        if (next != nullptr && get_switches().ahead) {
            type.ahead[height - 1](out, stride, a, w, n, mask, b > 0, work, next, step);
        } else {
            kernels[height - 1](out, stride, a, w, n, mask, b > 0, work);
        }
        for (int r = 0; apart && b + n == blocks && r < height; r++) {
            memcpy((float *) ((char *) dst->data + p.rows[row + r] * dst->nb[1]) + col, tile + r * tile_cols, sizeof(float) * width);
        }
    }
};

// Bytes of a quantized row.
static size_t quantized_bytes(const weight_type & type, int64_t k) {
    return k / block_size(type.format) * block_bytes(type.format);
}

static const float * row_of(const ggml_tensor * t, int64_t row) {
    const int64_t i1 = row % t->ne[1];
    const int64_t i2 = row / t->ne[1] % t->ne[2];
    const int64_t i3 = row / (t->ne[1] * t->ne[2]);
    return (const float *) ((const char *) t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3]);
}

// This thread's share of the quantization of src, group by group: whole rows if there are enough of them, else parts of rows.
static void quantize(const weight_type & type, const ggml_compute_params * params, const ggml_tensor * src, const row_groups & groups, uint8_t * to) {
    const int64_t bytes  = block_bytes(type.format);
    const int64_t blocks = src->ne[0] / block_size(type.format);
    const int64_t parts  = groups.n >= params->nth ? 1 : std::min<int64_t>(params->nth, blocks);
    for (int64_t unit = params->ith; unit < groups.n * parts; unit += params->nth) {
        const int64_t row    = unit / parts;
        const int64_t part   = unit % parts;
        const int64_t first  = blocks * part / parts;
        const int64_t last   = blocks * (part + 1) / parts;
        const int64_t g      = groups.of(row);
        const int     height = groups.height(g);
        quantize_blocks(type.format, row_of(src, row) + first * block_size(type.format),
                        to + (groups.start(g) * blocks + first * height) * bytes,
                        height, (int) (row - groups.start(g)), last - first);
    }
}

// Where the parts of the work memory of MUL_MAT_ID lie. Tokens choose `used` experts each: pairs of both.
struct id_layout {
    int64_t used, tokens, experts;
    size_t  products;   // one for each expert that has rows, and their number behind
    size_t  starts;     // [experts+1] where each expert's pairs start
    size_t  pairs;      // [used*tokens] in order of experts: row of the result
    size_t  grouped;    // rows of src1 in order of pairs
    size_t  end;

    id_layout(const weight_type & type, const ggml_tensor * op) {
        const ggml_tensor * ids = op->src[2];
        const size_t        row = quantized_bytes(type, op->src[1]->ne[0]);

        used      = ids->ne[0];
        tokens    = ids->ne[1];
        experts   = op->src[0]->ne[2];
        products  = 0;
        starts    = products + aligned(sizeof(product) * std::max(experts, used) + sizeof(int64_t));
        pairs     = starts + aligned(sizeof(int32_t) * (experts + 1));
        grouped   = pairs + aligned(sizeof(int32_t) * used * tokens);
        end       = grouped + (tokens > 1 ? aligned(row * used * tokens) : 0);
    }
};

size_t work_size(const weight_type & type, const ggml_tensor * op, int n_threads) {
    if (op->op != GGML_OP_MUL_MAT && op->op != GGML_OP_MUL_MAT_ID) {
        return 0;
    }
    const bool with_ids = op->op == GGML_OP_MUL_MAT_ID;
    shared_activations::reserve(type.format, with_ids, quantized_bytes(type, op->src[1]->ne[0]) * ggml_nrows(op->src[1]));
    return line + (with_ids ? id_layout(type, op).end : 0) + n_threads * multiplier::scratch_size(type, op);
}

static uint8_t * work_memory(const ggml_compute_params * params) {
    return (uint8_t *) aligned((size_t) params->wdata);
}

void mul_mat(const weight_type & type, ggml_compute_params * params, ggml_tensor * op) {
    const ggml_tensor * src0 = op->src[0];
    const ggml_tensor * src1 = op->src[1];
    const row_groups    groups(ggml_nrows(src1));
    if (groups.n == 0) {
        return;
    }
    bool      ready;
    uint8_t * activations = shared_activations::of(params->threadpool).find(params, src1, type.format, false, ready);
    if (!ready) {
        quantize(type, params, src1, groups, activations);
    }
    const bool chunks = !multiplier::few(groups.n);
    if (chunks && params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    if (chunks || !ready) {
        ggml_barrier(params->threadpool);
    }
    const product whole = { (const uint8_t *) src0->data, activations, groups, nullptr };
    multiplier(type, op, work_memory(params) + params->ith * multiplier::scratch_size(type, op)).run(params, &whole, 1);
}

static int32_t expert_of(const ggml_tensor * ids, int64_t slot, int64_t token, int64_t experts) {
    const int32_t expert = *(const int32_t *) ((const char *) ids->data + slot * ids->nb[0] + token * ids->nb[1]);
    GGML_ASSERT(expert >= 0 && expert < experts);
    return expert;
}

void mul_mat_id(const weight_type & type, ggml_compute_params * params, ggml_tensor * op) {
    const ggml_tensor * src0 = op->src[0];
    const ggml_tensor * src1 = op->src[1];
    const ggml_tensor * ids  = op->src[2];
    const id_layout     at(type, op);
    if (at.used * at.tokens == 0) {
        return;
    }
    const int64_t   k           = src1->ne[0];
    const int64_t   per_token   = src1->ne[1];  // rows of src1: one for all experts, or one for each
    const size_t    row_bytes   = quantized_bytes(type, k);
    const size_t    matrix      = packed_size(type, src0->ne[1], src0->ne[0]);
    uint8_t *       work        = work_memory(params);
    product *       products    = (product *) (work + at.products);
    int64_t &       count       = *(int64_t *) (products + std::max(at.experts, at.used));
    int32_t *       starts      = (int32_t *) (work + at.starts);
    int32_t *       pairs       = (int32_t *) (work + at.pairs);
    const uint8_t * weights     = (const uint8_t *) src0->data;

    bool      ready;
    uint8_t * quantized = shared_activations::of(params->threadpool).find(params, src1, type.format, true, ready);

    // the row of src1 that a pair meets
    auto source = [&](int32_t pair) { return pair / at.used * per_token + pair % at.used % per_token; };

    if (params->ith == 0) {
        if (at.tokens == 1) {
            // every pair by itself: nothing to sort, and rows are quantized as they are needed
            for (int64_t i = 0; i < at.used; i++) {
                pairs[i]          = (int32_t) i;
                const int32_t e   = expert_of(ids, i, 0, at.experts);
                products[i]       = { weights + e * matrix, quantized + source((int32_t) i) * row_bytes, row_groups(1), pairs + i };
            }
            count = at.used;
        } else {
            std::fill(starts, starts + at.experts + 1, 0);
            for (int64_t token = 0; token < at.tokens; token++) {
                for (int64_t slot = 0; slot < at.used; slot++) {
                    starts[expert_of(ids, slot, token, at.experts) + 1]++;
                }
            }
            count = 0;
            for (int64_t e = 0; e < at.experts; e++) {
                const int32_t n = starts[e + 1];
                starts[e + 1] += starts[e];
                if (n > 0) {
                    products[count++] = { weights + e * matrix, work + at.grouped + starts[e] * row_bytes, row_groups(n), pairs + starts[e] };
                }
            }
            for (int64_t token = 0; token < at.tokens; token++) {
                for (int64_t slot = 0; slot < at.used; slot++) {
                    pairs[starts[expert_of(ids, slot, token, at.experts)]++] = (int32_t) (token * at.used + slot);
                }
            }
            for (int64_t p = 0; p < count; p++) {
                if (products[p].groups.n == 1) {
                    products[p].activations = quantized + source(products[p].rows[0]) * row_bytes;
                }
            }
        }
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    if (!ready) {
        quantize(type, params, src1, row_groups(ggml_nrows(src1), 1), quantized);
    }
    ggml_barrier(params->threadpool);

    // Rows of products that have several lie together. Single ones stay where they are.
    const bool gathers = std::any_of(products, products + count, [](const product & p) { return p.groups.n > 1; });
    if (gathers) {
        const int64_t blocks = k / block_size(type.format);
        for (int64_t p = 0; p < count; p++) {
            const row_groups & groups = products[p].groups;
            if (groups.n == 1) {
                continue;
            }
            for (int64_t i = params->ith; i < groups.n; i += params->nth) {
                const int64_t g = groups.of(i);
                copy_blocks(type.format, quantized + source(products[p].rows[i]) * row_bytes,
                            (uint8_t *) products[p].activations + groups.start(g) * row_bytes, groups.height(g),
                            (int) (i - groups.start(g)), blocks);
            }
        }
        ggml_barrier(params->threadpool);
    }
    multiplier(type, op, work + at.end + params->ith * multiplier::scratch_size(type, op)).run(params, products, count);
}

void get_rows(const weight_type & type, const ggml_compute_params * params, ggml_tensor * op) {
    const ggml_tensor * src  = op->src[0];
    const ggml_tensor * rows = op->src[1];

    const int64_t n = ggml_nelements(rows);
    for (int64_t i = params->ith; i < n; i += params->nth) {
        const int64_t i0  = i % rows->ne[0];
        const int64_t i1  = i / rows->ne[0] % rows->ne[1];
        const int64_t i2  = i / (rows->ne[0] * rows->ne[1]);
        const int32_t row = *(const int32_t *) ((const char *) rows->data + i0 * rows->nb[0] + i1 * rows->nb[1] + i2 * rows->nb[2]);
        GGML_ASSERT(row >= 0 && row < src->ne[1]);
        float * out = (float *) ((char *) op->data + i0 * op->nb[1] + i1 * op->nb[2] + i2 * op->nb[3]);
        dequantize_row(type, src->data, out, src->ne[0], row);
    }
}

}  // namespace ggml::cpu::zen5
