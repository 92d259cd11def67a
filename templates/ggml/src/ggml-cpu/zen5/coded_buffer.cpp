// The buffer type of coded float weights. A buffer has address space for the case that nothing can be coded, and memory for what is used.

#include "zen5.h"

#include "blas.h"
#include "code.h"
#include "coded.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-host/log.h"
#include "ggml-host/pages.h"
#include "ggml-host/switches.h"
#include "ggml-impl.h"
#include "ggml-zen5.h"
#include "traits.h"

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <string>
#include <vector>

namespace ggml::cpu::zen5 {

static bool takes(const ggml_tensor * t) {
    return t->ne[3] == 1 && t->view_src == nullptr && codable(t->type, t->ne[1], t->ne[0]);
}

static bool in_coded_buffer(const ggml_tensor * t) {
    return t != nullptr && t->buffer != nullptr && t->buffer->buft == ggml_backend_cpu_zen5_coded_buffer_type();
}

class coded_traits : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        if (op->op == GGML_OP_GET_ROWS) {
            size = line + n_threads * aligned(row_scratch_size(op->src[0]));
        } else if (blas_takes(op)) {
            size = blas_work_size(op, n_threads);
        } else {
            size = zen5::work_size(op, coded_multiplier((ggml_tensor *) op), n_threads);
        }
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        const ggml_tensor * src = op->src[0];
        if (op->op == GGML_OP_GET_ROWS) {
            uint8_t * scratch = (uint8_t *) aligned((size_t) params->wdata) + params->ith * aligned(row_scratch_size(src));
            get_rows(params, op, [&](int64_t row, float * out) { read_row(src, row, out, scratch); });
            return true;
        }
        if (blas_takes(op)) {
            blas_mul_mat(params, op);
            return true;
        }
        coded_multiplier m(op);
        switch (op->op) {
            case GGML_OP_MUL_MAT:
                mul_mat(params, op, m);
                return true;
            case GGML_OP_MUL_MAT_ID:
                mul_mat_id(params, op, m);
                return true;
            default:
                return false;
        }
    }
};

class coded_buffer_type : public ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t dev, const ggml_tensor * op) override {
        GGML_UNUSED(dev);
        if (!in_coded_buffer(op->src[0])) {
            return false;
        }
        const char * reason = takes(op->src[0]) ? refusal(op) : "k is no multiple of 64, or fewer than 16 rows";
        if (reason != nullptr && multiplies_or_reads(op) && !ggml_is_quantized(op->src[0]->type)) {
            host::note("%s: %s of %s stays on stock's path: %s", op->src[0]->name, ggml_op_name(op->op), ggml_type_name(op->src[0]->type), reason);
        }
        return reason == nullptr;
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static coded_traits coded;
        return multiplies_or_reads(op) && in_coded_buffer(op->src[0]) ? &coded : nullptr;
    }
};

static void free_coded(ggml_backend_buffer_t buffer) {
    auto * block = (host::page_block *) buffer->context;
    host::pages_free(*block);
    delete block;
}

static void * get_coded_base(ggml_backend_buffer_t buffer) {
    return ((host::page_block *) buffer->context)->base;
}

// Whether a coded tensor lies where t's is to be: memory that has never been written is zeros.
static bool is_set(const ggml_tensor * t) {
    const size_t size = coded_size(t->data);
    return size <= coded_bound(t->type, t->ne[1], t->ne[0], t->ne[2]) &&
           coded_fault(t->data, size, t->type, t->ne[1], t->ne[0], t->ne[2]) == nullptr;
}

// The whole tensor as it is in a GGUF; zeros if it has never been set.
static std::vector<uint8_t> decoded(const ggml_tensor * t) {
    std::vector<uint8_t> plain(ggml_nbytes(t));
    if (is_set(t)) {
        decode_rows(t->data, plain.data(), 0, t->ne[1] * t->ne[2]);
    }
    return plain;
}

void describe(const ggml_tensor * t) {
    static const char * const names[codes] = { "B11", "B12", "B16", "H14", "H16", "S32" };

    const code_use use = coded_use(t->data);
    std::string    panels;
    for (int c = 0; c < codes; c++) {
        if (use.panels[c] > 0) {
            panels += std::string(panels.empty() ? "" : ", ") + names[c] + " " + std::to_string(use.panels[c]) + " panels";
        }
    }
    const double plain = 8.0 * ggml_type_size(t->type);
    const double bits  = 8.0 * coded_size(t->data) / ggml_nelements(t);
    // the line that gen/gate reads
    host::note("%s: coded %s %" PRId64 " x %" PRId64 " x %" PRId64 ": %.2f bits a weight (%s), expected gain %.2fx", t->name, ggml_type_name(t->type),
         t->ne[2], t->ne[1], t->ne[0], bits, panels.c_str(), plain / bits);
}

static void set_coded(ggml_backend_buffer_t buffer, ggml_tensor * t, const void * data, size_t offset, size_t size) {
    std::vector<uint8_t> whole;
    if (size < ggml_nbytes(t)) {
        whole = decoded(t);
        memcpy(whole.data() + offset, data, size);
        data = whole.data();
    }
    const size_t used = encode(t->data, t->type, data, t->ne[1], t->ne[0], t->ne[2]);
    host::pages_drop((uint8_t *) t->data + used, coded_bound(t->type, t->ne[1], t->ne[0], t->ne[2]) - used);
    describe(t);

    GGML_UNUSED(buffer);
}

static void get_coded(ggml_backend_buffer_t buffer, const ggml_tensor * t, void * data, size_t offset, size_t size) {
    if (offset == 0 && size == ggml_nbytes(t) && is_set(t)) {
        decode_rows(t->data, data, 0, t->ne[1] * t->ne[2]);
    } else {
        memcpy(data, decoded(t).data() + offset, size);
    }

    GGML_UNUSED(buffer);
}

static void clear_coded(ggml_backend_buffer_t buffer, uint8_t value) {
    memset(get_coded_base(buffer), value, buffer->size);
}

static ggml_backend_buffer_t new_coded_buffer(ggml_backend_buffer_type_t buft, const host::page_block & block, size_t size) {
    static const ggml_backend_buffer_i iface = {
        /* .free_buffer   = */ free_coded,
        /* .get_base      = */ get_coded_base,
        /* .init_tensor   = */ nullptr,
        /* .memset_tensor = */ nullptr,
        /* .set_tensor    = */ set_coded,
        /* .get_tensor    = */ get_coded,
        /* .set_tensor_2d = */ nullptr,
        /* .get_tensor_2d = */ nullptr,
        /* .cpy_tensor    = */ nullptr,
        /* .clear         = */ clear_coded,
        /* .reset         = */ nullptr,
    };
    return ggml_backend_buffer_init(buft, iface, new host::page_block(block), size);
}

static const char * get_coded_name(ggml_backend_buffer_type_t buft) {
    return "CPU_ZEN5_CODED";

    GGML_UNUSED(buft);
}

static ggml_backend_buffer_t alloc_coded(ggml_backend_buffer_type_t buft, size_t size) {
    host::page_block block;
    if (size > 0) {
        block = host::pages_reserve(size);
        if (block.base == nullptr) {
            GGML_LOG_ERROR("zen5: no address space for %zu MiB of coded weights: %s; ZT_CODE=off leaves them in the model's file\n", size >> 20,
                           strerror(errno));
            return nullptr;
        }
        host::note("address space for %zu MiB of coded weights, in %s", size >> 20, block.describe().c_str());
    }
    return new_coded_buffer(buft, block, size);
}

// A huge page: what a tensor leaves unused of one before its start could not be given back.
static size_t get_coded_alignment(ggml_backend_buffer_type_t buft) {
    return size_t(2) << 20;

    GGML_UNUSED(buft);
}

static size_t get_coded_alloc_size(ggml_backend_buffer_type_t buft, const ggml_tensor * t) {
    return takes(t) ? coded_bound(t->type, t->ne[1], t->ne[0], t->ne[2]) : ggml_nbytes(t);

    GGML_UNUSED(buft);
}

}  // namespace ggml::cpu::zen5

bool ggml_zen5_is_coded(const ggml_tensor * tensor) {
    return ggml::cpu::zen5::in_coded_buffer(tensor);
}

ggml_backend_buffer_t ggml_zen5_coded_buffer_from_ptr(void * base, size_t size) {
    using namespace ggml::cpu::zen5;

    ggml::host::page_block block;  // not ours to free
    block.base = base;
    block.size = size;
    return new_coded_buffer(ggml_backend_cpu_zen5_coded_buffer_type(), block, size);
}

ggml_backend_buffer_type_t ggml_backend_cpu_zen5_coded_buffer_type(void) {
    using namespace ggml::cpu::zen5;

    static ggml_backend_buffer_type buft = {
        /* .iface = */ {
            /* .get_name       = */ get_coded_name,
            /* .alloc_buffer   = */ alloc_coded,
            /* .get_alignment  = */ get_coded_alignment,
            /* .get_max_size   = */ nullptr,
            /* .get_alloc_size = */ get_coded_alloc_size,
            /* .is_host        = */ nullptr,
        },
        /* .device  = */ ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        /* .context = */ new coded_buffer_type(),
    };
    static const bool enabled = [] {
        const bool codes = ggml::host::get_switches().code != ggml::host::code_policy::off;
        if (!codes) {
            ggml::host::note("float weights are not coded: ZT_CODE=off");
        } else {
            blas_init();
        }
        return ggml::host::get_switches().enabled && codes;
    }();
    return enabled ? &buft : nullptr;
}
