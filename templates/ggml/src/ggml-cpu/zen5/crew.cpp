#include "crew.h"

#include "kernels.h"
#include "matmul.h"

#include "ggml-host/switches.h"
#include "ggml-zen5.h"

#include <algorithm>

#include <immintrin.h>

using namespace ggml::cpu::zen5;
namespace host = ggml::host;

// Cycles and barriers of all pools' threads since the program began, where they are counted.
static std::atomic<uint64_t> all_barriers{ 0 }, all_waited{ 0 }, all_cycles{ 0 };

// This thread's place in the pool whose graph it computes.
static thread_local int here = 0;

// How much of its next weights a waiting thread fetches into its L2 cache, and how much at a time.
constexpr ptrdiff_t fetch_bytes = l2_bytes / 8;
constexpr ptrdiff_t fetch_step  = 4 * line;

// The domain in which each thread meets others first, by numbers from 0.
static std::vector<int> domains_of(const seats & places, int n_threads) {
    std::vector<int> domains = places.domains(n_threads);
    const bool       several = *std::max_element(domains.begin(), domains.end()) > 0;
    if (host::get_switches().meet == host::meeting_place::flat) {
        std::fill(domains.begin(), domains.end(), 0);
    } else if (host::get_switches().meet == host::meeting_place::tree && !several) {
        // nobody knows better
        std::fill(domains.begin() + (n_threads + 1) / 2, domains.end(), 1);
    }
    return domains;
}

ggml_zen5_crew::ggml_zen5_crew(const ggml_threadpool_params & params, bool lasts) :
    places(params, lasts),
    active(params.n_threads),
    meeting(domains_of(places, params.n_threads)),
    cards(domains_of(places, params.n_threads)),
    workers(params.n_threads) {
    const host::idle_threads idle = host::get_switches().idle;
    if (lasts && (idle == host::idle_threads::layer || idle == host::idle_threads::copy)) {
        ahead = std::make_unique<runner>(params.n_threads, idle == host::idle_threads::copy);
    }
}

ggml_zen5_crew & ggml_zen5_crew::of(const ggml_compute_params * params) {
    return *ggml_threadpool_crew(params->threadpool);
}

void ggml_zen5_crew::start(const ggml_cgraph * cgraph, const ggml_cplan * cplan, int n) {
    places.sit_down();
    activations.start(n);
    if (n != active) {
        meeting.expect(n);
        cards.start(n);
        active = n;
    }
    if (n > 1 && host::get_switches().graph) {
        graph.make(cgraph, cplan, n, activations);
    } else {
        graph.drop();
    }
    if (ahead != nullptr && !graph.all_products().empty()) {
        ahead->start(graph.all_products(), n);
    }
    if (host::get_switches().waits) {
        began = __rdtsc();
    }
}

void ggml_zen5_crew::end() {
    if (ahead != nullptr) {
        ahead->stop();
    }
    seats::stand_up();
    if (!host::get_switches().waits) {
        return;
    }
    for (worker & w : workers) {
        all_barriers += w.barriers;
        all_waited   += w.waited;
        w.barriers = w.waited = 0;
    }
    all_cycles += (__rdtsc() - began) * active;
}

void ggml_zen5_crew::join(int ith) {
    here         = ith;
    worker & w   = workers[ith];
    w.upcoming   = 0;
    w.fetch      = nullptr;
}

bool ggml_zen5_crew::takes_part(ggml_compute_params * params, int node) {
    workers[params->ith].node = node;
    const bool alone          = graph.planned() && graph.at(node).alone;
    params->nth               = alone ? 1 : active;
    return params->ith < params->nth;
}

bool ggml_zen5_crew::quantizes_alone(int ith) const {
    return graph.planned() && graph.at(workers[ith].node).quantizes_alone;
}

const uint8_t * ggml_zen5_crew::begin_product(int ith) {
    if (!graph.planned()) {
        return nullptr;
    }
    worker &  w = workers[ith];
    const int n = graph.at(w.node).upcoming;
    w.upcoming  = n;
    w.fetch     = nullptr;
    if (ahead == nullptr) {
        return nullptr;
    }
    const bool planned = graph.at(w.node).is_product;
    ahead->comes_to(ith, n);
    return planned ? ahead->copy_of(n - 1) : nullptr;
}

void ggml_zen5_crew::wait(int ith) {
    worker &       w     = workers[ith];
    const bool     waits = host::get_switches().waits;
    const uint64_t from  = waits ? __rdtsc() : 0;
    if (host::get_switches().idle == host::idle_threads::fetch) {
        meeting.meet(ith, [&] { fetch_some(w, ith); });
    } else {
        meeting.meet(ith, [] { _mm_pause(); });
    }
    if (waits) {
        w.barriers++;
        w.waited += __rdtsc() - from;
    }
}

void ggml_zen5_crew::fetch_some(worker & w, int ith) {
    if (w.fetch == nullptr && w.upcoming < (int) graph.all_products().size()) {
        const plan::product & p = graph.all_products()[w.upcoming];
        const units           u = share(p.panels, ith, active);
        w.fetch                 = p.at(p.weights, u.begin);
        w.fetched               = u.empty() ? w.fetch : w.fetch + std::min(fetch_bytes, p.at(p.weights, u.end - 1) - w.fetch);
    }
    if (w.fetch >= w.fetched) {
        _mm_pause();
        return;
    }
    for (ptrdiff_t i = 0; i < fetch_step; i += line) {
        _mm_prefetch((const char *) w.fetch + i, _MM_HINT_T1);
    }
    w.fetch += fetch_step;
}

ggml_zen5_crew * ggml_zen5_crew_new(const ggml_threadpool_params * params, bool lasts) {
    return new ggml_zen5_crew(*params, lasts);
}

void ggml_zen5_crew_free(ggml_zen5_crew * crew) {
    delete crew;
}

void ggml_zen5_graph_start(ggml_zen5_crew * crew, const ggml_cgraph * cgraph, const ggml_cplan * cplan, int n_threads) {
    crew->start(cgraph, cplan, n_threads);
}

void ggml_zen5_graph_end(ggml_zen5_crew * crew) {
    crew->end();
}

void ggml_zen5_thread_start(const ggml_zen5_crew * crew, int ith) {
    crew->places.take(ith);
}

void ggml_zen5_join(ggml_zen5_crew * crew, int ith) {
    crew->join(ith);
}

bool ggml_zen5_takes_part(ggml_zen5_crew * crew, ggml_compute_params * params, int node) {
    return crew->takes_part(params, node);
}

bool ggml_zen5_meets_behind(const ggml_zen5_crew * crew, int node) {
    return !crew->graph.planned() || crew->graph.at(node).barrier;
}

int ggml_zen5_next_meeting(const ggml_zen5_crew * crew, int node) {
    return crew->graph.next_meeting(node);
}

void ggml_zen5_barrier(ggml_zen5_crew * crew) {
    crew->wait(here);
}

void ggml_zen5_waits_read(ggml_zen5_waits * waits) {
    waits->barriers = all_barriers;
    waits->waited   = all_waited;
    waits->total    = all_cycles;
}
