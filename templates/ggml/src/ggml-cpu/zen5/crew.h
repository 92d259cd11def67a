#pragma once

#include "barrier.h"
#include "deal.h"
#include "plan.h"
#include "runner.h"
#include "seats.h"
#include "shared.h"

#include "ggml-cpu-impl.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

// What the threads of a pool have in common beyond what ggml gives them. Its name is C's, which knows it as a pointer.

struct ggml_zen5_crew {
    using barrier = ggml::cpu::zen5::barrier;
    using deal    = ggml::cpu::zen5::deal;
    using plan    = ggml::cpu::zen5::plan;

    // One thread's; no other writes it while a graph is computed.
    struct alignas(64) worker {
        int             node     = 0;        // of the graph
        int             upcoming = 0;        // number of the product whose weights it fetches while it waits
        const uint8_t * fetch    = nullptr;  // from here; nullptr: not known yet
        const uint8_t * fetched  = nullptr;  // to here
        uint64_t        barriers = 0;
        uint64_t        waited   = 0;        // cycles, where waits are counted
    };

    const ggml::cpu::zen5::seats          places;
    int                                   active;     // threads of the graph that is computed
    uint64_t                              began = 0;  // when that began, in cycles
    plan                                  graph;
    ggml::cpu::zen5::shared_activations   activations;
    barrier                               meeting;
    deal                                  cards;
    std::vector<worker>                   workers;

    std::unique_ptr<ggml::cpu::zen5::runner> ahead;  // nullptr: nobody runs ahead

    ggml_zen5_crew(const ggml_threadpool_params & params, bool lasts);

    // That of a thread pool.
    static ggml_zen5_crew & of(const ggml_compute_params * params);

    // The first n threads are about to compute a graph; they have.
    void start(const ggml_cgraph * cgraph, const ggml_cplan * cplan, int n);
    void end();

    // Thread ith begins with the graph.
    void join(int ith);

    // Thread ith comes to a node. False if thread 0 does it alone; nth becomes the number of those who do it.
    bool takes_part(ggml_compute_params * params, int node);

    // Waits for the other threads; with ZT_AHEAD=wait fetches weights meanwhile that this thread will read next.
    void wait(int ith);

    // Whether thread 0 quantizes the activations of the product that thread ith has come to.
    bool quantizes_alone(int ith) const;

    // Thread ith begins with the weights of a product. Where they have been copied to, if they have, else nullptr.
    const uint8_t * begin_product(int ith);

  private:
    void fetch_some(worker & w, int ith);
};
