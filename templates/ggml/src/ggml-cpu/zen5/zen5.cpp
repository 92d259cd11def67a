// The zen5 extra buffer type: weights packed at load into the panels that the generated kernels read, and the operations that
// work on them.

#include "zen5.h"

#include "kernels.h"
#include "pack.h"
#include "pages.h"
#include "switches.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "ggml-zen5.h"
#include "traits.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

extern "C" const char zt_guard_passed[];  // defined in guard.c; referring to it links the guard in

namespace ggml::cpu::zen5 {

// Splits n activation rows into groups of at most tile_rows: all but the last two are full, the last two as equal as they can
// be. A group is computed by one kernel call per panel.
struct row_groups {
    int64_t n;
    int64_t full;  // leading groups of tile_rows
    int64_t rest;  // rows after them, fewer than 2*tile_rows

    explicit row_groups(int64_t n) :
        n(n),
        full(n >= 2 * tile_rows ? n / tile_rows - 1 : 0),
        rest(n - full * tile_rows) {}

    int64_t count() const { return full + (rest > tile_rows ? 2 : 1); }

    int64_t start(int64_t g) const {
        return g <= full ? g * tile_rows : full * tile_rows + (rest + 1) / 2;
    }

    int height(int64_t g) const {
        if (g < full) {
            return tile_rows;
        }
        if (rest <= tile_rows) {
            return (int) rest;
        }
        return (int) (g == full ? (rest + 1) / 2 : rest / 2);
    }

    // the group that row i is in
    int64_t of(int64_t i) const {
        if (i < full * tile_rows) {
            return i / tile_rows;
        }
        return full + (rest > tile_rows && i >= start(full + 1) ? 1 : 0);
    }
};

// MUL_MAT of packed Q8_0 weights with F32 activations.
class matmul {
    ggml_compute_params * params;

    const ggml_tensor * src1;
    ggml_tensor *       dst;

    const uint8_t * weights;
    uint8_t *       activations;  // quantized, group after group

    int64_t    cols;    // weight rows, columns of the result
    int64_t    blocks;  // along k
    row_groups groups;

    const gemm_kernel * kernels;  // by activation rows

  public:
    matmul(ggml_compute_params * params, ggml_tensor * op) :
        params(params),
        src1(op->src[1]),
        dst(op),
        weights((const uint8_t *) op->src[0]->data),
        activations((uint8_t *) params->wdata),
        cols(op->src[0]->ne[1]),
        blocks(op->src[0]->ne[0] / block_size),
        groups(ggml_nrows(op->src[1])),
        kernels(get_switches().ahead && groups.n <= 2 * tile_rows ? gemm_q8_0_ahead : gemm_q8_0) {}

    static size_t work_size(const ggml_tensor * op) {
        return ggml_nrows(op->src[1]) * (op->src[1]->ne[0] / block_size) * row_block_bytes;
    }

    void run() {
        if (groups.n == 0) {
            return;
        }
        quantize();
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);

        const int64_t panels = (cols + tile_cols - 1) / tile_cols;
        if (groups.n == 1) {
            // bound by memory: one contiguous stream per thread
            const int64_t ith = params->ith;
            const int64_t nth = params->nth;
            multiply(panels * ith / nth, panels * (ith + 1) / nth);
            return;
        }
        // bound by arithmetic: chunks small enough to share out evenly, and to stay in half of L2 while all rows pass
        const int64_t shared  = panels / (params->nth * 8);
        const int64_t cached  = l2_bytes / 2 / (blocks * panel_block_bytes);
        const int64_t chunk   = std::max<int64_t>(1, std::min(shared, cached));
        const int64_t nchunks = (panels + chunk - 1) / chunk;
        for (int64_t c = params->ith; c < nchunks; c = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            multiply(c * chunk, std::min(panels, (c + 1) * chunk));
        }
    }

  private:
    // All threads quantize: whole rows if there are enough of them, else parts of rows.
    void quantize() const {
        const int64_t parts = groups.n >= params->nth ? 1 : std::min<int64_t>(params->nth, blocks);
        for (int64_t unit = params->ith; unit < groups.n * parts; unit += params->nth) {
            const int64_t row    = unit / parts;
            const int64_t part   = unit % parts;
            const int64_t first  = blocks * part / parts;
            const int64_t last   = blocks * (part + 1) / parts;
            const int64_t g      = groups.of(row);
            const int     height = groups.height(g);
            const int     r      = (int) (row - groups.start(g));
            const int64_t stride = height * row_block_bytes;
            uint8_t *     out    = activations + groups.start(g) * blocks * row_block_bytes + first * stride;
            quantize_q8_0(source_row(row) + first * block_size,
                          out + r * block_size,
                          out + height * block_size + r * 4,
                          out + height * (block_size + 4) + r * 4, last - first, stride);
        }
    }

    const float * source_row(int64_t row) const {
        const int64_t i1 = row % src1->ne[1];
        const int64_t i2 = row / src1->ne[1] % src1->ne[2];
        const int64_t i3 = row / (src1->ne[1] * src1->ne[2]);
        return (const float *) ((const char *) src1->data + i1 * src1->nb[1] + i2 * src1->nb[2] + i3 * src1->nb[3]);
    }

    // Computes the result's columns of panels first..last-1, for all rows.
    void multiply(int64_t first, int64_t last) const {
        const size_t  panel_bytes = blocks * panel_block_bytes;
        const int64_t stride      = dst->nb[1];

        // a panel too large for L2 is taken in parts along k: the sums wait in dst
        const int64_t part = std::max<int64_t>(1, std::min<int64_t>(blocks, l2_bytes / 2 / panel_block_bytes));
        for (int64_t b = 0; b < blocks; b += part) {
            const int64_t n = std::min(part, blocks - b);
            for (int64_t g = 0; g < groups.count(); g++) {
                const int64_t   row    = groups.start(g);
                const int       height = groups.height(g);
                const uint8_t * a      = activations + (row * blocks + b * height) * row_block_bytes;
                float *         out    = (float *) ((char *) dst->data + row * stride);
                for (int64_t p = first; p < last; p++) {
                    const int64_t  col  = p * tile_cols;
                    const uint64_t mask = cols - col >= tile_cols ? ~0ULL >> (64 - tile_cols) : (1ULL << (cols - col)) - 1;
                    kernels[height - 1](out + col, stride, a, weights + p * panel_bytes + b * panel_block_bytes, n, mask, b > 0);
                }
            }
        }
    }
};

static void get_rows(const ggml_compute_params * params, ggml_tensor * op) {
    const ggml_tensor * src  = op->src[0];
    const ggml_tensor * rows = op->src[1];

    const int64_t n = ggml_nelements(rows);
    for (int64_t i = params->ith; i < n; i += params->nth) {
        const int64_t i0  = i % rows->ne[0];
        const int64_t i1  = i / rows->ne[0] % rows->ne[1];
        const int64_t i2  = i / (rows->ne[0] * rows->ne[1]);
        const int32_t row = *(const int32_t *) ((const char *) rows->data + i0 * rows->nb[0] + i1 * rows->nb[1] + i2 * rows->nb[2]);
        GGML_ASSERT(row >= 0 && row < src->ne[1]);
        dequantize_q8_0(src->data, (float *) ((char *) op->data + i0 * op->nb[1] + i1 * op->nb[2] + i2 * op->nb[3]), src->ne[0], row);
    }
}

class traits : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        size = op->op == GGML_OP_MUL_MAT ? matmul::work_size(op) : 0;
        return true;

        GGML_UNUSED(n_threads);
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        switch (op->op) {
            case GGML_OP_MUL_MAT:
                matmul(params, op).run();
                return true;
            case GGML_OP_GET_ROWS:
                get_rows(params, op);
                return true;
            default:
                return false;
        }
    }
};

// Whether a tensor can be packed. A matrix of fewer rows than half a panel would be mostly padding.
static bool packable(const ggml_tensor * t) {
    return t->type == GGML_TYPE_Q8_0 && t->ne[2] == 1 && t->ne[3] == 1 && t->ne[1] >= tile_cols / 2 && t->view_src == nullptr;
}

static bool in_zen5_buffer(const ggml_tensor * t) {
    return t != nullptr && t->buffer != nullptr && t->buffer->buft == ggml_backend_cpu_zen5_buffer_type();
}

class buffer_type : public ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t dev, const ggml_tensor * op) override {
        GGML_UNUSED(dev);
        const ggml_tensor * src0 = op->src[0];
        const ggml_tensor * src1 = op->src[1];
        if (!in_zen5_buffer(src0) || !packable(src0) || src1 == nullptr ||
            (src1->buffer != nullptr && !ggml_backend_buft_is_host(src1->buffer->buft))) {
            return false;
        }
        switch (op->op) {
            case GGML_OP_MUL_MAT:
                return src1->type == GGML_TYPE_F32 && src1->nb[0] == sizeof(float) && op->type == GGML_TYPE_F32;
            case GGML_OP_GET_ROWS:
                return src1->type == GGML_TYPE_I32 && op->type == GGML_TYPE_F32;
            default:
                return false;
        }
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static traits q8_0;
        if ((op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_GET_ROWS) && in_zen5_buffer(op->src[0])) {
            return &q8_0;
        }
        return nullptr;
    }
};

static void free_buffer(ggml_backend_buffer_t buffer) {
    auto * block = (page_block *) buffer->context;
    pages_free(*block);
    delete block;
}

static void * get_base(ggml_backend_buffer_t buffer) {
    return ((page_block *) buffer->context)->base;
}

// Weights come and go in whole rows; the loader always sets a whole tensor.
static void check_rows(const ggml_tensor * tensor, size_t offset, size_t size) {
    if (!packable(tensor) || offset % tensor->nb[1] != 0 || size % tensor->nb[1] != 0) {
        GGML_ABORT("zen5: %s: only whole rows of packed weights can be read or written (offset %zu, size %zu, row %zu bytes)",
                   tensor->name, offset, size, tensor->nb[1]);
    }
}

static void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    check_rows(tensor, offset, size);
    const int64_t first = offset / tensor->nb[1];
    parallel_for(size / tensor->nb[1], tile_cols, [&](int64_t begin, int64_t end) {
        pack_q8_0(tensor->data, (const char *) data + begin * tensor->nb[1], tensor->ne[1], tensor->ne[0], first + begin, end - begin);
    });
    if (offset + size == ggml_nbytes(tensor)) {
        note("%s: packed %s %" PRId64 " x %" PRId64, tensor->name, ggml_type_name(tensor->type), tensor->ne[1], tensor->ne[0]);
    }

    GGML_UNUSED(buffer);
}

static void get_tensor(ggml_backend_buffer_t buffer, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    check_rows(tensor, offset, size);
    const int64_t first = offset / tensor->nb[1];
    parallel_for(size / tensor->nb[1], tile_cols, [&](int64_t begin, int64_t end) {
        unpack_q8_0(tensor->data, (char *) data + begin * tensor->nb[1], tensor->ne[0], first + begin, end - begin);
    });

    GGML_UNUSED(buffer);
}

static void clear(ggml_backend_buffer_t buffer, uint8_t value) {
    memset(get_base(buffer), value, buffer->size);
}

static const char * get_name(ggml_backend_buffer_type_t buft) {
    return "CPU_ZEN5";

    GGML_UNUSED(buft);
}

static ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t buft, size_t size) {
    static const ggml_backend_buffer_i iface = {
        /* .free_buffer   = */ free_buffer,
        /* .get_base      = */ get_base,
        /* .init_tensor   = */ nullptr,
        /* .memset_tensor = */ nullptr,
        /* .set_tensor    = */ set_tensor,
        /* .get_tensor    = */ get_tensor,
        /* .set_tensor_2d = */ nullptr,
        /* .get_tensor_2d = */ nullptr,
        /* .cpy_tensor    = */ nullptr,
        /* .clear         = */ clear,
        /* .reset         = */ nullptr,
    };

    page_block block;
    if (size > 0) {
        block = pages_alloc(size);
        if (block.base == nullptr) {
            GGML_LOG_ERROR("zen5: no memory for %zu MiB of packed weights: %s; --no-repack leaves them in the model's file\n", size >> 20,
                           strerror(errno));
            return nullptr;
        }
        note("%zu MiB of packed weights in %s", size >> 20, block.kind);
    }
    return ggml_backend_buffer_init(buft, iface, new page_block(block), size);
}

static size_t get_alignment(ggml_backend_buffer_type_t buft) {
    return 64;  // a cache line: no panel block straddles one more than it must

    GGML_UNUSED(buft);
}

static size_t get_alloc_size(ggml_backend_buffer_type_t buft, const ggml_tensor * tensor) {
    return packable(tensor) ? packed_size_q8_0(tensor->ne[1], tensor->ne[0]) : ggml_nbytes(tensor);

    GGML_UNUSED(buft);
}

}  // namespace ggml::cpu::zen5

const char * ggml_zen5_description(void) {
    return zt_guard_passed;
}

size_t ggml_zen5_piece_size(const ggml_tensor * tensor) {
    using namespace ggml::cpu::zen5;

    if (!in_zen5_buffer(tensor)) {
        return ggml_nbytes(tensor);
    }
    // less than a CCD's L3, and enough for the start of threads not to count
    constexpr size_t piece = size_t(8) << 20;
    const size_t     panel = tile_cols * tensor->nb[1];
    return std::max<size_t>(1, piece / panel) * panel;
}

bool ggml_zen5_swappable(ggml_backend_buffer_t buffer) {
    using namespace ggml::cpu::zen5;

    return buffer->buft == ggml_backend_cpu_zen5_buffer_type() && !((page_block *) buffer->context)->pool;
}

ggml_backend_buffer_type_t ggml_backend_cpu_zen5_buffer_type(void) {
    using namespace ggml::cpu::zen5;

    static ggml_backend_buffer_type buft = {
        /* .iface = */ {
            /* .get_name       = */ get_name,
            /* .alloc_buffer   = */ alloc_buffer,
            /* .get_alignment  = */ get_alignment,
            /* .get_max_size   = */ nullptr,
            /* .get_alloc_size = */ get_alloc_size,
            /* .is_host        = */ nullptr,
        },
        /* .device  = */ ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        /* .context = */ new buffer_type(),
    };
    static const bool enabled = [] {
        note("%s", ggml_zen5_description());
        if (!get_switches().enabled) {
            note("switched off by ZT_DISABLE");
        }
        return get_switches().enabled;
    }();
    return enabled ? &buft : nullptr;
}
