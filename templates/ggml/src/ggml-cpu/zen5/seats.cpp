#include "seats.h"

#include "ggml-cpu.h"
#include "ggml-host/log.h"
#include "ggml-host/switches.h"
#include "ggml-host/threads.h"
#include "ggml-host/topology.h"
#include "ggml-zen5.h"

#include <algorithm>
#include <mutex>
#include <string>

namespace ggml::cpu::zen5 {

using namespace ggml::host;

namespace {

// The L3s of threads that their owner has placed by a mask, as far as each has but one. Upstream gives a strict pool's thread the next CPU
// of the mask, thread 0 last, and every other pool's threads the whole mask.
std::vector<int> domains_by_mask(const ggml_threadpool_params & params) {
    std::vector<int> ids;
    for (int i = 0; i < GGML_MAX_N_THREADS; i++) {
        if (params.cpumask[i]) {
            ids.push_back(i);
        }
    }
    std::vector<int> domains(params.n_threads, -1);
    if (!ids.empty() && params.strict_cpu) {
        for (int i = 0; i < params.n_threads; i++) {
            domains[(i + 1) % params.n_threads] = domain_of(ids[i % ids.size()]);
        }
    } else if (!ids.empty()) {
        const int first = domain_of(ids[0]);
        if (std::all_of(ids.begin(), ids.end(), [&](int id) { return domain_of(id) == first; })) {
            std::fill(domains.begin(), domains.end(), first);
        }
    }
    return std::count(domains.begin(), domains.end(), -1) == 0 ? domains : std::vector<int>();
}

// Pools come and go with the tests of a benchmark, most of them alike: what was said of the last one is not said again.
void say(const std::string & text) {
    static std::mutex  said_mutex;
    static std::string said;

    std::lock_guard<std::mutex> lock(said_mutex);
    if (said.empty()) {
        note("CPUs: %s", describe(get_topology()).c_str());
    }
    if (said != text) {
        said = text;
        note("%s", text.c_str());
    }
}

}  // namespace

// Where thread 0 of a pool may run when it computes no graph. It is the program's own: what it starts then inherits its mask, and the
// packing of another model uses as many threads as that has CPUs.
static thread_local affinity outside;
static thread_local bool     inside = false;

static bool move_to(const affinity & cpus) {
    if (cpus.apply()) {
        return true;
    }
    static std::once_flag once;
    std::call_once(once, [] { note("threads are not all where they should be: the kernel refuses some of the CPUs that it listed"); });
    return false;
}

seats::seats(const ggml_threadpool_params & params, bool lasts) {
    if (!lasts) {
        return;
    }
    const bool masked = std::any_of(params.cpumask, params.cpumask + GGML_MAX_N_THREADS, [](bool set) { return set; });

    std::string text = std::to_string(params.n_threads) + (params.n_threads == 1 ? " thread" : " threads");
    if (masked || params.strict_cpu) {
        l3s = domains_by_mask(params);
        text += ", placed as the CPU mask says";
    } else if (ggml_is_numa()) {
        text += ", placed as --numa says";
    } else {
        const placement where = place_pool(get_topology(), get_switches().pin, params.n_threads);
        l3s                   = where.domains;
        for (const auto & ids : where.cpus) {
            threads.push_back(affinity::of(ids));
        }
        text += where.cpus.empty() ? ", not pinned: " + where.text : ", " + where.text;
    }
    say(text);
}

std::vector<int> seats::domains(int n_threads) const {
    std::vector<int> numbers(n_threads, 0), seen;
    for (int i = 0; i < n_threads && i < (int) l3s.size(); i++) {
        const auto at = std::find(seen.begin(), seen.end(), l3s[i]);
        numbers[i]    = (int) (at - seen.begin());
        if (at == seen.end()) {
            seen.push_back(l3s[i]);
        }
    }
    return numbers;
}

void seats::take(int ith) const {
    if (ith < (int) threads.size()) {
        move_to(threads[ith]);
    }
}

void seats::sit_down() const {
    if (!threads.empty()) {
        outside = affinity::of_thread();
        inside  = outside.count() > 0 && move_to(threads[0]);
    }
}

void seats::stand_up() {
    if (inside) {
        outside.apply();
        inside = false;
    }
}

}  // namespace ggml::cpu::zen5

using namespace ggml::cpu::zen5;

int ggml_zen5_default_threads(int stock) {
    if (!get_switches().threads) {
        return stock;
    }
    const topology & topo = get_topology();
    const int        n    = default_threads(topo, stock);
    if (n != stock) {
        say(std::to_string(n) + (n == 1 ? " thread" : " threads") + " where none are asked for; stock would take " + std::to_string(stock));
    }
    return n;
}
