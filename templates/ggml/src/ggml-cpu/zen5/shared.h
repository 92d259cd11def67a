#pragma once

#include "types.h"

#include "ggml-cpu-impl.h"
#include "ggml.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

// Activations as kernels read them, which the products of one graph share: Q, K and V read one tensor, gate and up another. Each thread pool has its
// own, since what lies in the work memory does not outlast an operation. All functions but reserve and find are for the thread that starts
// a graph.

namespace ggml::cpu::zen5 {

class shared_activations {
  public:
    // a format, in groups of tile_rows or of single rows
    static constexpr int kinds = 2 * 5;

    static constexpr int kind_of(activation f, bool single_rows) { return 2 * (int) f + (single_rows ? 1 : 0); }

    // Whether a tensor's values do not change while a graph is computed: not so for a view, or an input that something else writes.
    static bool steady(const ggml_tensor * src) { return src->view_src == nullptr && src->op != GGML_OP_NONE; }

    struct buffer {
        uint8_t * base = nullptr;
        size_t    size = 0;
    };

  private:
    // What a thread knows to be in a buffer. Each thread keeps that for itself and all run the same operations, so that they agree
    // without asking each other.
    struct alignas(64) contents {
        const ggml_tensor * src[kinds];
        uint64_t            graph[kinds];
    };

    static std::atomic<size_t> wanted[kinds];  // the most that an operation asked for

    buffer                buffers[kinds];
    std::vector<contents> known;      // by thread
    uint64_t              graph   = 0;  // number of the graph that is being computed
    uint64_t              version = 0;  // of the buffers: another where one has moved

  public:
    shared_activations() = default;
    ~shared_activations();

    shared_activations(const shared_activations &)             = delete;
    shared_activations & operator=(const shared_activations &) = delete;

    // Tells how large a buffer has to be before a graph starts.
    static void reserve(activation f, bool single_rows, size_t bytes);

    // A new graph starts on so many threads: what the buffers hold is of no use any more.
    void start(int n_threads);

    const buffer & at(int kind) const { return buffers[kind]; }
    uint64_t       layout() const { return version; }

    // The buffer for src's rows, and whether it holds them already; if not, the caller quantizes them into it. One that is not steady is
    // never taken to be there.
    uint8_t * find(const ggml_compute_params * params, const ggml_tensor * src, activation f, bool single_rows, bool & ready);
};

}  // namespace ggml::cpu::zen5
