#pragma once

#include "ggml-host/affinity.h"

#include <vector>

struct ggml_threadpool_params;

// Where the threads of a pool run.

namespace ggml::cpu::zen5 {

class seats {
    std::vector<ggml::host::affinity> threads;  // that we place them by; empty: none of ours
    std::vector<int>                  l3s;

  public:
    // Of a pool with these parameters; one that does not last ends before it would be worth placing.
    seats(const ggml_threadpool_params & params, bool lasts);

    // The L3 of each thread, by numbers from 0 without gaps; all 0 if the kernel may move threads between L3s.
    std::vector<int> domains(int n_threads) const;

    // Thread ith, the caller, which is not 0, takes its seat for good.
    void take(int ith) const;

    // The caller is thread 0 until it stands up.
    void sit_down() const;
    static void stand_up();
};

}  // namespace ggml::cpu::zen5
