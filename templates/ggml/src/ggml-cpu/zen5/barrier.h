#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

// Where the threads of a pool meet. With several L3 caches (CCDs) they meet in two steps, so that waiting threads read lines of their own
// L3 and each of these is written once from outside: in a domain, whose last thread to come goes on to meet those of the other domains.

namespace ggml::cpu::zen5 {

class barrier {
    // Lines apart: those who arrive must not disturb those who wait.
    struct domain {
        alignas(64) std::atomic<uint32_t> arrived{ 0 };
        alignas(64) std::atomic<uint32_t> phase{ 0 };
        alignas(64) uint32_t members = 0;
    };

    std::vector<domain>               domains;
    std::vector<int>                  of;  // domain of each thread
    uint32_t                          occupied = 0;
    alignas(64) std::atomic<uint32_t> domains_arrived{ 0 };

  public:
    // Domain of each thread: numbers from 0, equal for threads that share an L3.
    explicit barrier(const std::vector<int> & domain_of_thread);

    // From now on the first n threads meet. No thread may be on its way into a barrier; late leavers may still be in one.
    void expect(int n_threads);

    // Waits for the others. While it does, idle() is called again and again.
    template <class F> void meet(int ith, F idle) {
        domain &       d     = domains[of[ith]];
        const uint32_t phase = d.phase.load(std::memory_order_relaxed);
        if (d.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == d.members) {
            d.arrived.store(0, std::memory_order_relaxed);
            if (occupied == 1 || domains_arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == occupied) {
                domains_arrived.store(0, std::memory_order_relaxed);
                for (domain & other : domains) {
                    other.phase.store(other.phase.load(std::memory_order_relaxed) + 1, std::memory_order_release);
                }
                return;
            }
        }
        while (d.phase.load(std::memory_order_acquire) == phase) {
            idle();
        }
    }
};

}  // namespace ggml::cpu::zen5
