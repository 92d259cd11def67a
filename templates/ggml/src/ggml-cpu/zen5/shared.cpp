#include "shared.h"

#include <cstdlib>

namespace ggml::cpu::zen5 {

std::atomic<size_t> shared_activations::wanted[kinds];

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
        version++;
        b.size = (size + 63) / 64 * 64;
        b.base = (uint8_t *) aligned_alloc(64, b.size);
        if (b.base == nullptr) {
            GGML_ABORT("zen5: no memory for %zu bytes of quantized activations", b.size);
        }
    }
}

shared_activations::~shared_activations() {
    for (buffer & b : buffers) {
        ::free(b.base);
    }
}

uint8_t * shared_activations::find(const ggml_compute_params * params, const ggml_tensor * src, activation f, bool single_rows, bool & ready) {
    const int  kind   = kind_of(f, single_rows);
    contents & c      = known[params->ith];
    const bool lasts  = steady(src);

    ready         = lasts && c.src[kind] == src && c.graph[kind] == graph;
    c.src[kind]   = lasts ? src : nullptr;
    c.graph[kind] = graph;
    return buffers[kind].base;
}

}  // namespace ggml::cpu::zen5
