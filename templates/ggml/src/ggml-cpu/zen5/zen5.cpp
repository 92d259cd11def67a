// The zen5 extra buffer type: weights packed at load into the panels that the generated kernels read, and the operations that
// work on them.

#include "zen5.h"

#include "crc32c.h"
#include "generation.h"
#include "kernels.h"
#include "pack.h"
#include "packed.h"
#include "types.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-host/log.h"
#include "ggml-host/pages.h"
#include "ggml-host/parallel.h"
#include "ggml-host/share.h"
#include "ggml-host/switches.h"
#include "ggml-impl.h"
#include "ggml-zen5.h"
#include "traits.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

extern "C" const char zt_guard_passed[];  // defined in guard.c; referring to it links the guard in

namespace ggml::cpu::zen5 {

// The type of a tensor's weights if it can be packed, else nullptr. A matrix of fewer rows than half a panel would be mostly padding.
static const weight_type * packable(const ggml_tensor * t) {
    return t->ne[3] == 1 && t->ne[1] >= tile_cols / 2 && t->view_src == nullptr ? find_type(t->type) : nullptr;
}

class traits : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        const weight_type & type = *packable(op->src[0]);
        const bool          row  = op->op == GGML_OP_GET_ROWS;
        size                     = row ? 0 : zen5::work_size(op, packed_multiplier(type, (ggml_tensor *) op), n_threads);
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        const ggml_tensor * src  = op->src[0];
        const weight_type & type = *packable(src);
        switch (op->op) {
            case GGML_OP_MUL_MAT: {
                packed_multiplier m(type, op);
                mul_mat(params, op, m);
                return true;
            }
            case GGML_OP_MUL_MAT_ID: {
                packed_multiplier m(type, op);
                mul_mat_id(params, op, m);
                return true;
            }
            case GGML_OP_GET_ROWS:
                get_rows(params, op, [&](int64_t row, float * out) { dequantize_row(type, src->data, out, src->ne[0], row); });
                return true;
            default:
                return false;
        }
    }
};

static bool in_zen5_buffer(const ggml_tensor * t) {
    return t != nullptr && t->buffer != nullptr && t->buffer->buft == ggml_backend_cpu_zen5_buffer_type();
}

const weight_type * packed_type(const ggml_tensor * weights) {
    return in_zen5_buffer(weights) ? packable(weights) : nullptr;
}

class buffer_type : public ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t dev, const ggml_tensor * op) override {
        GGML_UNUSED(dev);
        if (!in_zen5_buffer(op->src[0])) {
            return false;
        }
        const char * reason = find_type(op->src[0]->type) == nullptr ? "no kernel for the type" :
                              packable(op->src[0]) == nullptr        ? "no kernel for the shape" :
                                                                       refusal(op);
        if (reason != nullptr && multiplies_or_reads(op) && ggml_is_quantized(op->src[0]->type)) {
            host::note("%s: %s of %s stays on stock's path: %s", op->src[0]->name, ggml_op_name(op->op), ggml_type_name(op->src[0]->type), reason);
        }
        return reason == nullptr;
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static traits packed;
        return multiplies_or_reads(op) && in_zen5_buffer(op->src[0]) ? &packed : nullptr;
    }
};

// The memory of a buffer. A block that is not owned is that of shared.
struct packed_memory : host::page_block {
    std::unique_ptr<host::shared_memory> shared;
};

static packed_memory & memory_of(ggml_backend_buffer_t buffer) {
    return *static_cast<packed_memory *>((host::page_block *) buffer->context);
}

static void free_buffer(ggml_backend_buffer_t buffer) {
    packed_memory & memory = memory_of(buffer);
    if (memory.shared == nullptr) {
        host::pages_free(memory);
    }
    delete &memory;
}

static void * get_base(ggml_backend_buffer_t buffer) {
    return memory_of(buffer).base;
}

// Other processes must not see what is written from now on.
static void detach(ggml_backend_buffer_t buffer) {
    const auto & shared = memory_of(buffer).shared;
    if (shared != nullptr && shared->filled() && !shared->detach()) {
        GGML_ABORT("zen5: no memory for a copy of %zu MiB of shared weights that are to be changed; ZT_SHARE=0 shares none", buffer->size >> 20);
    }
}

// Weights come and go in whole rows; the loader always sets a whole tensor.
static void check_rows(const ggml_tensor * tensor, size_t offset, size_t size) {
    if (!packable(tensor) || offset % tensor->nb[1] != 0 || size % tensor->nb[1] != 0) {
        GGML_ABORT("zen5: %s: only whole rows of packed weights can be read or written (offset %zu, size %zu, row %zu bytes)",
                   tensor->name, offset, size, tensor->nb[1]);
    }
}

// Where matrix i of a packed tensor starts.
static uint8_t * matrix(const ggml_tensor * tensor, const weight_type & type, int64_t i) {
    return (uint8_t *) tensor->data + i * packed_size(type, tensor->ne[1], tensor->ne[0]);
}

// Calls f(matrix, first, n, bytes before them) for the rows of a part of a tensor, in parallel: rows first .. first+n-1 of one of its matrices,
// none of which shares a panel with another call's.
static void each_panel(const ggml_tensor * tensor, size_t offset, size_t size,
                       const std::function<void(int64_t matrix, int64_t first, int64_t n, size_t before)> & f) {
    const int64_t rows   = tensor->ne[1];
    const int64_t panels = (rows + tile_cols - 1) / tile_cols;
    const int64_t begin  = offset / tensor->nb[1];
    const int64_t end    = begin + size / tensor->nb[1];
    auto          panel  = [&](int64_t row) { return row / rows * panels + row % rows / tile_cols; };
    if (begin == end) {
        return;
    }
    host::parallel_for(panel(begin), panel(end - 1) + 1, 1, [&](int64_t from, int64_t to) {
        for (int64_t p = from; p < to; p++) {
            const int64_t base  = p / panels * rows;  // the matrix' first row
            const int64_t first = std::max(begin, base + p % panels * tile_cols);
            const int64_t last  = std::min({ end, base + rows, base + (p % panels + 1) * tile_cols });
            f(p / panels, first - base, last - first, (first - begin) * tensor->nb[1]);
        }
    });
}

// Has all CPUs touch the memory that a part of a tensor is packed into. Panels are smaller than huge pages: of the threads that pack those of one
// page at a time each would clear a huge page, and all but one give theirs back.
static void touch(const ggml_tensor * tensor, size_t offset, size_t size) {
    const weight_type & type  = *packable(tensor);
    const int64_t       begin = offset / tensor->nb[1];
    const int64_t       last  = begin + size / tensor->nb[1] - 1;
    const size_t        panel = tensor->ne[0] / type.block * type.panel_bytes();
    auto                start = [&](int64_t row) { return matrix(tensor, type, row / tensor->ne[1]) + row % tensor->ne[1] / tile_cols * panel; };
    if (begin <= last) {
        host::pages_touch(start(begin), start(last) + panel - start(begin));
    }
}

static void note_packed(const ggml_tensor * tensor) {
    host::note("%s: packed %s %" PRId64 " x %" PRId64 " x %" PRId64, tensor->name, ggml_type_name(tensor->type), tensor->ne[2], tensor->ne[1],
         tensor->ne[0]);
    count_packed(ggml_nbytes(tensor), packable(tensor)->gemm[0] == nullptr);
}

static void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    check_rows(tensor, offset, size);
    const weight_type & type = *packable(tensor);
    detach(buffer);
    touch(tensor, offset, size);
    each_panel(tensor, offset, size, [&](int64_t i, int64_t first, int64_t n, size_t before) {
        pack_rows(type, matrix(tensor, type, i), (const char *) data + before, tensor->ne[1], tensor->ne[0], first, n);
    });
    if (offset + size == ggml_nbytes(tensor)) {
        note_packed(tensor);
    }
}

static void get_tensor(ggml_backend_buffer_t buffer, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    check_rows(tensor, offset, size);
    const weight_type & type = *packable(tensor);
    each_panel(tensor, offset, size, [&](int64_t i, int64_t first, int64_t n, size_t before) {
        unpack_rows(type, matrix(tensor, type, i), (char *) data + before, tensor->ne[0], first, n);
    });

    GGML_UNUSED(buffer);
}

static void clear(ggml_backend_buffer_t buffer, uint8_t value) {
    detach(buffer);
    memset(get_base(buffer), value, buffer->size);
}

static const char * get_name(ggml_backend_buffer_type_t buft) {
    return "CPU_ZEN5";

    GGML_UNUSED(buft);
}

// What the next buffer that this thread allocates is to hold; empty if that is no one else's.
static thread_local std::string content;

// How this build packs: what becomes of rows of each type that are the same bytes in all builds.
static const std::string & layout() {
    static const std::string text = [] {
        std::string all = ggml_zen5_description();
        for (int t = 0; t < GGML_TYPE_COUNT; t++) {
            const weight_type * type = find_type((ggml_type) t);
            if (type == nullptr) {
                continue;
            }
            const int64_t        rows = tile_cols + 1;
            const int64_t        cols = 2 * type->block;
            std::vector<uint8_t> plain(rows * ggml_row_size(type->type, cols));
            std::vector<uint8_t> packed(packed_size(*type, rows, cols));
            uint32_t             state = 1;
            for (uint8_t & byte : plain) {
                state = state * 1664525 + 1013904223;  // Knuth's; any bytes that do not repeat would do
                byte  = state >> 24;
            }
            pack_rows(*type, packed.data(), plain.data(), rows, cols, 0, rows);
            all += "," + std::to_string(t) + ":" + std::to_string(crc32c(packed.data(), packed.size()));
        }
        return all;
    }();
    return text;
}

static void take_shared(packed_memory & memory, size_t size) {
    memory.shared = host::shared_memory::open(layout() + ";" + std::to_string(size) + ";" + content, size);
    if (memory.shared == nullptr) {
        return;
    }
    memory.base = memory.shared->base();
    memory.size = size;
    memory.bytes[(int) (memory.shared->pool() ? host::page_kind::mib2 : host::page_kind::transparent)] = size;
    // the line that gen/fault reads
    host::note("%zu MiB of packed weights in %s", size >> 20, memory.shared->kind());
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

    auto memory = std::make_unique<packed_memory>();
    if (size > 0 && !content.empty()) {
        take_shared(*memory, size);
    }
    if (size > 0 && memory->base == nullptr) {
        host::page_block & block = *memory;
        block                    = host::pages_alloc(host::purpose::weights, size);
        if (block.base == nullptr) {
            GGML_LOG_ERROR("zen5: no memory for %zu MiB of packed weights: %s; --no-repack leaves them in the model's file\n", size >> 20,
                           strerror(errno));
            return nullptr;
        }
        host::note("%zu MiB of packed weights in %s", size >> 20, block.describe().c_str());
    }
    return ggml_backend_buffer_init(buft, iface, static_cast<host::page_block *>(memory.release()), size);
}

static size_t get_alignment(ggml_backend_buffer_type_t buft) {
    return 64;  // a cache line: no panel block straddles one more than it must

    GGML_UNUSED(buft);
}

static size_t get_alloc_size(ggml_backend_buffer_type_t buft, const ggml_tensor * tensor) {
    const weight_type * type = packable(tensor);
    return type != nullptr ? tensor->ne[2] * packed_size(*type, tensor->ne[1], tensor->ne[0]) : ggml_nbytes(tensor);

    GGML_UNUSED(buft);
}

}  // namespace ggml::cpu::zen5

const char * ggml_zen5_description(void) {
    return zt_guard_passed;
}

size_t ggml_zen5_piece_size(const ggml_tensor * tensor) {
    using namespace ggml::cpu::zen5;

    if (!in_zen5_buffer(tensor)) {
        return ggml_nbytes(tensor);  // a coded tensor too: all of it says which codes serve
    }
    // less than a CCD's L3, and enough for the start of threads not to count
    constexpr size_t piece = size_t(8) << 20;
    const size_t     panel = tile_cols * tensor->nb[1];
    return std::max<size_t>(1, piece / panel) * panel;
}

bool ggml_zen5_set_from(ggml_tensor * tensor, ggml_zen5_reader read, void * context) {
    using namespace ggml::cpu::zen5;

    if (!in_zen5_buffer(tensor) || packable(tensor) == nullptr) {
        return false;
    }
    const weight_type & type = *packable(tensor);
    const size_t        all  = ggml_nbytes(tensor);
    std::atomic<bool>   read_all{ true };
    touch(tensor, 0, all);
    each_panel(tensor, 0, all, [&](int64_t i, int64_t first, int64_t n, size_t before) {
        thread_local std::vector<uint8_t> rows;  // stays in L2 from the read to the end of packing
        rows.resize(n * tensor->nb[1]);
        if (read(context, rows.data(), before, rows.size())) {
            pack_rows(type, matrix(tensor, type, i), rows.data(), tensor->ne[1], tensor->ne[0], first, n);
        } else {
            read_all = false;
        }
    });
    if (read_all) {
        note_packed(tensor);
    }
    return read_all;
}

void ggml_zen5_share_as(const char * content) {
    ggml::cpu::zen5::content = content != nullptr && ggml::host::get_switches().share ? content : "";
}

bool ggml_zen5_is_filled(const ggml_tensor * tensor) {
    using namespace ggml::cpu::zen5;

    const auto * memory = in_zen5_buffer(tensor) ? &memory_of(tensor->buffer) : nullptr;
    return memory != nullptr && memory->shared != nullptr && memory->shared->filled();
}

void ggml_zen5_offer(ggml_backend_buffer_t buffer) {
    using namespace ggml::cpu::zen5;

    if (buffer->buft == ggml_backend_cpu_zen5_buffer_type() && memory_of(buffer).shared != nullptr) {
        memory_of(buffer).shared->offer();
    }
}

bool ggml_zen5_swappable(ggml_backend_buffer_t buffer) {
    using namespace ggml::cpu::zen5;

    const bool ours = buffer->buft == ggml_backend_cpu_zen5_buffer_type() || buffer->buft == ggml_backend_cpu_zen5_coded_buffer_type();
    return ours && ((ggml::host::page_block *) buffer->context)->swappable();
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
        ggml::host::note("%s", ggml_zen5_description());
        if (!ggml::host::get_switches().enabled) {
            ggml::host::note("switched off by ZT_DISABLE");
        }
        return ggml::host::get_switches().enabled;
    }();
    return enabled ? &buft : nullptr;
}
