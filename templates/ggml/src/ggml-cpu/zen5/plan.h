#pragma once

#include "shared.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <cstddef>
#include <cstdint>
#include <vector>

struct ggml_cgraph;

// Which barriers a graph needs. Upstream's threads meet after every operation; here they meet where one thread would otherwise touch what
// another has not written yet, or still reads. Operations so small that handing them out costs more than doing them are done by thread 0
// alone, one after the other, so that nobody meets between them.

namespace ggml::cpu::zen5 {

class plan {
  public:
    struct step {
        bool barrier;          // all threads meet behind this node
        bool alone;            // thread 0 does it
        bool quantizes_alone;  // a product whose activations thread 0 quantizes
        bool is_product;       // one of the products below
        int  upcoming;         // number of the first product behind this node
    };

    // Weights that a product reads: each thread its part of the panels.
    struct product {
        const ggml_tensor * weights;
        int64_t             panels;
        const uint8_t *   (*at)(const ggml_tensor * weights, int64_t panel);
        size_t              bytes;  // from the first panel on
        bool                whole;  // they are all that the product needs
    };

    // Makes the plan of a graph for so many threads, unless it is that of the graph before.
    void make(const ggml_cgraph * cgraph, const ggml_cplan * cplan, int n_threads, const shared_activations & activations);

    // No plan from now on.
    void drop();

    // False where there is none: threads meet behind every node.
    bool planned() const { return !steps.empty(); }

    const step & at(int node) const { return steps[node]; }

    // The first node that all threads have to agree about if the graph is to end behind this one.
    int next_meeting(int node) const;

    const std::vector<product> & all_products() const { return products; }

    // Bytes of scratch memory of each thread in products, which is the same for all of them: threads that are in different products must not
    // write each other's.
    size_t scratch() const { return scratch_bytes; }

  private:
    // What graph the plan is of. A graph's uid is new whenever its tensors may have moved.
    struct identity {
        uint64_t     uid     = 0;
        const void * nodes   = nullptr;
        int          n_nodes = 0;
        const void * work    = nullptr;
        size_t       size    = 0;
        int          threads = 0;
        uint64_t     buffers = 0;

        bool operator==(const identity & o) const;
    };

    identity             of;
    std::vector<step>    steps;  // by node
    std::vector<product> products;
    size_t               scratch_bytes = 0;
    int                  n_operations  = 0;

    void say(size_t n_products) const;
};

}  // namespace ggml::cpu::zen5
