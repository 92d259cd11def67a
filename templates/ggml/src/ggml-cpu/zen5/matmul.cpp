#include "matmul.h"

#include "crew.h"

#include "ggml-backend-impl.h"
#include "ggml-host/switches.h"
#include "ggml-impl.h"

#include <algorithm>

namespace ggml::cpu::zen5 {

bool multiplies_or_reads(const ggml_tensor * op) {
    return op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID || op->op == GGML_OP_GET_ROWS;
}

const char * refusal(const ggml_tensor * op) {
    const ggml_tensor * src0 = op->src[0];
    const ggml_tensor * src1 = op->src[1];
    if (src1 == nullptr || (src1->buffer != nullptr && !ggml_backend_buft_is_host(src1->buffer->buft))) {
        return "activations in another device's memory";
    }
    const bool floats = src1->type == GGML_TYPE_F32 && src1->nb[0] == sizeof(float) && op->type == GGML_TYPE_F32;
    switch (op->op) {
        case GGML_OP_MUL_MAT:
            return !floats ? "activations are not F32" : src0->ne[2] != 1 ? "a batch of matrices" : nullptr;
        case GGML_OP_MUL_MAT_ID:
            return floats ? nullptr : "activations are not F32";
        case GGML_OP_GET_ROWS:
            return src1->type != GGML_TYPE_I32 || op->type != GGML_TYPE_F32 ? "rows are not wanted as F32" :
                   src0->ne[2] != 1                                          ? "a batch of matrices" :
                                                                               nullptr;
        default:
            return "no kernel for the operation";
    }
}

multiplier::multiplier(ggml_tensor * op, activation format, int tall, int width, size_t bytes) :
    format(format),
    tall(tall),
    dst(op),
    cols(op->src[0]->ne[1]),
    panels((cols + width - 1) / width),
    bytes(bytes) {}

// What makes it worth to take weights from another thread: some microseconds of reading.
constexpr size_t stolen_bytes = 64 << 10;

void multiplier::run(const ggml_compute_params * params, const product * products, int64_t count) const {
    if (std::all_of(products, products + count, [](const product & p) { return few(p.groups.n); })) {
        // one contiguous stream per thread, in pieces of which others may take the last ones
        const int64_t total = count * panels;
        auto          pass  = [&](int64_t at, int64_t last) {
            while (at < last) {
                const int64_t i    = at / panels;
                const int64_t take = std::min(last, (i + 1) * panels) - at;
                multiply(products[i], at - i * panels, at - i * panels + take, 0, products[i].groups.count());
                at += take;
            }
        };
        ggml_zen5_crew & crew = ggml_zen5_crew::of(params);
        if (!host::get_switches().steal || params->nth == 1 || total >= deal::most) {
            const units mine = share(total, params->ith, params->nth);
            pass(mine.begin, mine.end);
            return;
        }
        const int64_t grain = std::max<int64_t>(1, stolen_bytes / bytes);
        crew.cards.enter(params->ith, params->nth, total);
        for (units u; !(u = crew.cards.take(params->ith, params->nth, total, grain)).empty();) {
            pass(u.begin, u.end);
        }
        return;
    }
    // chunks small enough to share out evenly, and to stay in half of L2 while all rows pass
    const int64_t shared = count * panels / (params->nth * 8);
    const int64_t cached = l2_bytes / 2 / bytes;
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

// Bytes of a row of activations as kernels read it.
static size_t quantized_bytes(activation f, int64_t k) {
    return block_count(f, k) * block_bytes(f);
}

static const float * row_of(const ggml_tensor * t, int64_t row) {
    const int64_t i1 = row % t->ne[1];
    const int64_t i2 = row / t->ne[1] % t->ne[2];
    const int64_t i3 = row / (t->ne[1] * t->ne[2]);
    return (const float *) ((const char *) t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3]);
}

// This thread's share of the quantization of src, group by group: whole rows if there are enough of them, else parts of rows.
static void quantize(activation f, const ggml_zen5_crew & crew, const ggml_compute_params * params, const ggml_tensor * src,
                     const row_groups & groups, uint8_t * to) {
    const int     nth    = crew.quantizes_alone(params->ith) ? 1 : params->nth;
    const int64_t bytes  = block_bytes(f);
    const int64_t blocks = block_count(f, src->ne[0]);
    const int64_t parts  = groups.n >= nth ? 1 : std::min<int64_t>(nth, blocks);
    for (int64_t unit = params->ith; params->ith < nth && unit < groups.n * parts; unit += nth) {
        const int64_t row    = unit / parts;
        const int64_t part   = unit % parts;
        const int64_t first  = blocks * part / parts;
        const int64_t last   = blocks * (part + 1) / parts;
        const int64_t g      = groups.of(row);
        const int     height = groups.height(g);
        const int64_t k      = first * block_size(f);
        quantize_blocks(f, row_of(src, row) + k, std::min(src->ne[0], last * block_size(f)) - k,
                        to + (groups.start(g) * blocks + first * height) * bytes,
                        height, (int) (row - groups.start(g)));
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

    id_layout(activation f, const ggml_tensor * op) {
        const ggml_tensor * ids = op->src[2];
        const size_t        row = quantized_bytes(f, op->src[1]->ne[0]);

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

size_t work_size(const ggml_tensor * op, const multiplier & m, int n_threads) {
    const bool with_ids = op->op == GGML_OP_MUL_MAT_ID;
    shared_activations::reserve(m.format, with_ids || m.tall == 1, quantized_bytes(m.format, op->src[1]->ne[0]) * ggml_nrows(op->src[1]));
    return line + (with_ids ? id_layout(m.format, op).end : 0) + n_threads * m.scratch_size();
}

static uint8_t * work_memory(const ggml_compute_params * params) {
    return (uint8_t *) aligned((size_t) params->wdata);
}

void mul_mat(ggml_compute_params * params, ggml_tensor * op, multiplier & m) {
    const ggml_tensor * src1 = op->src[1];
    const row_groups    groups(ggml_nrows(src1), m.tall);
    if (groups.n == 0) {
        return;
    }
    ggml_zen5_crew & crew = ggml_zen5_crew::of(params);
    bool             ready;
    uint8_t *        activations = crew.activations.find(params, src1, m.format, m.tall == 1, ready);
    if (!ready) {
        quantize(m.format, crew, params, src1, groups, activations);
    }
    const bool chunks = !multiplier::few(groups.n);
    if (chunks && params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    if (chunks || !ready) {
        ggml_barrier(params->threadpool);
    }
    const product whole = { 0, activations, groups, nullptr };
    m.set_scratch(work_memory(params) + params->ith * std::max(m.scratch_size(), chunks ? 0 : crew.graph.scratch()));
    if (const uint8_t * nearer = crew.begin_product(params->ith)) {
        m.read_from(nearer);
    }
    m.run(params, &whole, 1);
}

static int32_t expert_of(const ggml_tensor * ids, int64_t slot, int64_t token, int64_t experts) {
    const int32_t expert = *(const int32_t *) ((const char *) ids->data + slot * ids->nb[0] + token * ids->nb[1]);
    GGML_ASSERT(expert >= 0 && expert < experts);
    return expert;
}

void mul_mat_id(ggml_compute_params * params, ggml_tensor * op, multiplier & m) {
    const ggml_tensor * src1 = op->src[1];
    const ggml_tensor * ids  = op->src[2];
    const id_layout     at(m.format, op);
    if (at.used * at.tokens == 0) {
        return;
    }
    const int64_t   k           = src1->ne[0];
    const int64_t   per_token   = src1->ne[1];  // rows of src1: one for all experts, or one for each
    const size_t    row_bytes   = quantized_bytes(m.format, k);
    uint8_t *       work        = work_memory(params);
    product *       products    = (product *) (work + at.products);
    int64_t &       count       = *(int64_t *) (products + std::max(at.experts, at.used));
    int32_t *       starts      = (int32_t *) (work + at.starts);
    int32_t *       pairs       = (int32_t *) (work + at.pairs);

    ggml_zen5_crew & crew = ggml_zen5_crew::of(params);
    bool             ready;
    uint8_t *        quantized = crew.activations.find(params, src1, m.format, true, ready);

    // the row of src1 that a pair meets
    auto source = [&](int32_t pair) { return pair / at.used * per_token + pair % at.used % per_token; };

    if (params->ith == 0) {
        if (at.tokens == 1) {
            // every pair by itself: nothing to sort, and rows are quantized as they are needed
            for (int64_t i = 0; i < at.used; i++) {
                pairs[i]          = (int32_t) i;
                const int32_t e   = expert_of(ids, i, 0, at.experts);
                products[i]       = { e, quantized + source((int32_t) i) * row_bytes, row_groups(1), pairs + i };
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
                    products[count++] = { e, work + at.grouped + starts[e] * row_bytes, row_groups(n, m.tall), pairs + starts[e] };
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
        quantize(m.format, crew, params, src1, row_groups(ggml_nrows(src1), 1), quantized);
    }
    ggml_barrier(params->threadpool);

    // Rows of products that have several lie together. Single ones stay where they are.
    const bool gathers = std::any_of(products, products + count, [](const product & p) { return p.groups.n > 1; });
    if (gathers) {
        const int64_t blocks = block_count(m.format, k);
        for (int64_t p = 0; p < count; p++) {
            const row_groups & groups = products[p].groups;
            if (groups.n == 1) {
                continue;
            }
            for (int64_t i = params->ith; i < groups.n; i += params->nth) {
                const int64_t g = groups.of(i);
                copy_blocks(m.format, quantized + source(products[p].rows[i]) * row_bytes,
                            (uint8_t *) products[p].activations + groups.start(g) * row_bytes, groups.height(g),
                            (int) (i - groups.start(g)), blocks);
            }
        }
        ggml_barrier(params->threadpool);
    }
    m.set_scratch(work + at.end + params->ith * m.scratch_size());
    crew.begin_product(params->ith);
    m.run(params, products, count);
}

void get_rows(const ggml_compute_params * params, ggml_tensor * op, const std::function<void(int64_t row, float * out)> & read) {
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
        read(row, out);
    }
}

}  // namespace ggml::cpu::zen5
