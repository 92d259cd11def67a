#include "shared.h"

#include "pools.h"

#include "ggml-zen5.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

namespace ggml::cpu::zen5 {

std::atomic<size_t> shared_activations::wanted[kinds];

static int kind_of(activation f, bool single_rows) {
    return 2 * (int) f + (single_rows ? 1 : 0);
}

shared_activations & shared_activations::of(const ggml_threadpool * pool) {
    // A pool's entry stays when the pool ends, and serves the next one at that address: a thread may keep a pointer to it.
    static std::mutex                                                            mutex;
    static std::map<const ggml_threadpool *, std::unique_ptr<shared_activations>> pools;

    static thread_local const ggml_threadpool * last  = nullptr;
    static thread_local shared_activations *    entry = nullptr;
    if (entry == nullptr || last != pool) {
        std::lock_guard<std::mutex> lock(mutex);
        auto &                      p = pools[pool];
        if (p == nullptr) {
            p = std::make_unique<shared_activations>();
        }
        last  = pool;
        entry = p.get();
    }
    return *entry;
}

void shared_activations::reserve(activation f, bool single_rows, size_t bytes) {
    auto & w    = wanted[kind_of(f, single_rows)];
    size_t most = w.load(std::memory_order_relaxed);
    while (most < bytes && !w.compare_exchange_weak(most, bytes, std::memory_order_relaxed)) {
    }
}

void shared_activations::start(int n_threads) {
    graph++;
    if ((int) known.size() < n_threads) {
        known.resize(n_threads);
    }
    for (int i = 0; i < kinds; i++) {
        const size_t size = wanted[i].load(std::memory_order_relaxed);
        buffer &     b    = buffers[i];
        if (b.size >= size) {
            continue;
        }
        ::free(b.base);
        b.size = (size + 63) / 64 * 64;
        b.base = (uint8_t *) aligned_alloc(64, b.size);
        if (b.base == nullptr) {
            GGML_ABORT("zen5: no memory for %zu bytes of quantized activations", b.size);
        }
    }
}

void shared_activations::free() {
    for (buffer & b : buffers) {
        ::free(b.base);
        b = {};
    }
}

uint8_t * shared_activations::find(const ggml_compute_params * params, const ggml_tensor * src, activation f, bool single_rows, bool & ready) {
    const int  kind   = kind_of(f, single_rows);
    contents & c      = known[params->ith];
    const bool steady = src->view_src == nullptr && src->op != GGML_OP_NONE;

    ready         = steady && c.src[kind] == src && c.graph[kind] == graph;
    c.src[kind]   = steady ? src : nullptr;
    c.graph[kind] = graph;
    return buffers[kind].base;
}

}  // namespace ggml::cpu::zen5

void ggml_zen5_graph_start(struct ggml_threadpool * threadpool, int n_threads) {
    ggml::cpu::zen5::join_pool(threadpool);
    ggml::cpu::zen5::shared_activations::of(threadpool).start(n_threads);
}

void ggml_zen5_threadpool_free(struct ggml_threadpool * threadpool) {
    ggml::cpu::zen5::shared_activations::of(threadpool).free();
    ggml::cpu::zen5::forget_pool(threadpool);
}
