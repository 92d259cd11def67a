#include "barrier.h"

#include <algorithm>

namespace ggml::cpu::zen5 {

barrier::barrier(const std::vector<int> & domain_of_thread) :
    domains(1 + *std::max_element(domain_of_thread.begin(), domain_of_thread.end())),
    of(domain_of_thread) {
    expect((int) of.size());
}

void barrier::expect(int n_threads) {
    for (domain & d : domains) {
        d.members = 0;
    }
    for (int i = 0; i < n_threads; i++) {
        domains[of[i]].members++;
    }
    occupied = (uint32_t) std::count_if(domains.begin(), domains.end(), [](const domain & d) { return d.members > 0; });
}

}  // namespace ggml::cpu::zen5
