#include "blas.h"

#include "coded.h"
#include "matmul.h"

#include "ggml-host/log.h"
#include "ggml-host/switches.h"
#include "ggml-impl.h"

#ifdef GGML_ZEN5_BLIS
#    include <blis.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace ggml::cpu::zen5 {

#ifdef GGML_ZEN5_BLIS

static int64_t least_tokens = 0;  // that the linked BLIS gains from

// Whether the linked BLIS runs AVX-512 kernels here; others are slower than ours for any shape. AOCL's chooses for itself, or as BLIS_ARCH_TYPE
// says. Upstream's knows neither Zen 5 nor every Intel and would fall back to AVX2 or plain C: unless BLIS_ARCH_TYPE says otherwise, it is
// told to take those of its AVX-512 family, which run on every CPU that this program runs on.
static bool prepare_blas() {
    const bool aocl = strncmp(bli_info_get_version_str(), "AOCL", 4) == 0;
    if (!aocl) {
        setenv("BLIS_ARCH_TYPE", std::to_string((int) BLIS_ARCH_SKX).c_str(), 0);
    }
    least_tokens = aocl ? 128 : 512;
    bli_init();
    const char *      family = bli_arch_string(bli_arch_query_id());
    const std::string name   = family;
    const bool        wide   = name == "zen5" || name == "zen4" || name == "skx";
    host::note("ZT_BLAS=slices: %s%s with kernels for %s%s", aocl ? "" : "BLIS ", bli_info_get_version_str(), family,
               wide ? "" : ", which are slower than ours: not used");
    return wide;
}

static bool has_blas = false;

void blas_init() {
    has_blas = host::get_switches().blas == host::blas_use::slices && prepare_blas();
}

// What was measured on a quiet Intel server with AVX-512, products with all that belongs to them: sums of ours run along whole rows. Where these are
// so long that activations and panels leave L1 and L2 (14336 weights), AOCL-BLAS 5.1 is 1.2 to 1.3 times as fast, upstream's BLIS 0.9 1.2 times
// from 512 tokens on. At 8192 AOCL-BLAS is 0.95 to 1.05 times as fast, of shorter rows and on F16, which ours make F32 in L2, neither gains.
static bool wins(const ggml_tensor * weights, int64_t n) {
    return weights->type == GGML_TYPE_F32 && weights->ne[0] > 8192 && n >= least_tokens;
}

bool blas_takes(const ggml_tensor * op) {
    const ggml_tensor * src1 = op->src[1];
    return op->op == GGML_OP_MUL_MAT && has_blas && src1->ne[2] == 1 && src1->ne[3] == 1 && wins(op->src[0], src1->ne[1]);
}

// Rows of weights that are multiplied at a time: BLAS packs the activations again for each slice, so a slice is not small, but every thread
// gets one, and F32 weights of one stay in L2 or a part of L3.
static int64_t slice_rows(const ggml_tensor * weights, int n_threads) {
    constexpr int64_t bytes = 2 << 20, least = 64;

    const int64_t cached = bytes / (int64_t) sizeof(float) / weights->ne[0];
    const int64_t shared = (weights->ne[1] + n_threads - 1) / n_threads;
    const int64_t rows   = std::max(least, std::min(cached, shared));
    return (rows + code_rows - 1) / code_rows * code_rows;
}

static size_t slice_bytes(const ggml_tensor * weights, int n_threads) {
    return aligned(slice_rows(weights, n_threads) * weights->ne[0] * sizeof(float));
}

size_t blas_work_size(const ggml_tensor * op, int n_threads) {
    const ggml_tensor * weights = op->src[0];
    return line + n_threads * (slice_bytes(weights, n_threads) + aligned(row_scratch_size(weights)));
}

void blas_mul_mat(const ggml_compute_params * params, ggml_tensor * op) {
    const ggml_tensor * weights     = op->src[0];
    const ggml_tensor * activations = op->src[1];

    const int64_t k    = weights->ne[0];
    const int64_t cols = weights->ne[1];
    const int64_t n    = activations->ne[1];
    const int64_t step = slice_rows(weights, params->nth);

    static thread_local bool alone = false;
    if (!alone) {
        bli_thread_set_num_threads(1);  // of what this thread calls
        alone = true;
    }
    // Nobody is in the product before any more, nor in the next one already: its chunks are counted and its work memory is shared out by other rules.
    ggml_barrier(params->threadpool);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    uint8_t * work  = (uint8_t *) aligned((size_t) params->wdata) + params->ith * (slice_bytes(weights, params->nth) + aligned(row_scratch_size(weights)));
    float *   slice = (float *) work;
    uint8_t * panel = work + slice_bytes(weights, params->nth);
    for (int64_t u = params->ith; u * step < cols; u = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t first = u * step;
        const int64_t rows  = std::min(step, cols - first);
        read_rows(weights, first, rows, slice, panel);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, rows, k, 1.0f, (const float *) activations->data,
                    activations->nb[1] / sizeof(float), slice, k, 0.0f, (float *) op->data + first, op->nb[1] / sizeof(float));
    }
    ggml_barrier(params->threadpool);
}

#else

void blas_init() {}

bool blas_takes(const ggml_tensor *) {
    return false;
}

size_t blas_work_size(const ggml_tensor *, int) {
    return 0;
}

void blas_mul_mat(const ggml_compute_params *, ggml_tensor *) {}

#endif

}  // namespace ggml::cpu::zen5
