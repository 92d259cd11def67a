// zt-probe shapes

#include "products.h"

#include <time.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <sstream>

namespace {

// From lo to hi, each power of two as likely as the next.
int64_t log_uniform(splitmix64 & rng, int64_t lo, int64_t hi) {
    const double u = (double) (rng.next() >> 11)*0x1p-53;
    return std::min(hi, (int64_t) ((double) lo*std::exp(u*std::log((double) (hi + 1)/(double) lo))));
}

// Half of the sizes are those of models, the other half are any.
shape draw(splitmix64 & rng, ggml_type type, bool experts) {
    static const std::vector<int64_t> sizes = {
        64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 2880, 3072, 4096, 5120, 6144, 7168, 8192, 11008, 14336, 16384,
    };
    // What keeps 200 shapes within two minutes, and each within a few hundred MiB.
    const int64_t most_weights = 64 << 20, most_ops = (int64_t) 4 << 30;

    const int64_t block = ggml_blck_size(type);
    auto any  = [&](int64_t n) { return (int64_t) (rng.next() % (uint64_t) n); };
    auto size = [&](int64_t lo) { return any(2) == 0 ? std::max(lo, sizes[any((int64_t) sizes.size())]) : log_uniform(rng, lo, 16384); };

    shape s;
    s.type = type;
    s.cold = any(2) == 0;
    s.m    = size(16);
    s.k    = std::max(block, size(block)/block*block);
    switch (any(4)) {
        case 0:  s.n = 1;                         break;
        case 1:
        case 2:  s.n = 1 + any(16);               break;
        default: s.n = log_uniform(rng, 17, 512); break;
    }
    if (experts) {
        s.experts = (int64_t) 1 << (1 + any(7));
        s.used    = 1 + any(std::min<int64_t>(8, s.experts));
        s.shared  = any(2) == 0;
    }
    while (s.n_weights() > most_weights && std::max(s.m, s.k) > 2*std::max<int64_t>(block, 16)) {
        if (s.m > s.k) {
            s.m /= 2;
        } else {
            s.k = s.k/2/block*block;
        }
    }
    s.n = std::max<int64_t>(1, std::min(s.n, most_ops/(2*s.m*s.k*std::max<int64_t>(s.used, 1))));
    return s;
}

// CPU time of all threads of this process, in ns. That of threads that run is as old as the kernel's last tick.
int64_t cpu_ns() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t) t.tv_sec*1000000000 + t.tv_nsec;
}

// FNV-1a (Fowler, Noll, Vo)
uint64_t hash(const void * data, size_t size) {
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ ((const uint8_t *) data)[i])*0x100000001b3;
    }
    return h;
}

// Prints a line on s: whose buffer type stock takes, what its results are (a hash), times, and how far ours are from them.
void measure(const probe_params & p, const buffer_types & types, const shape & s, ggml_threadpool * pool) {
    const inputs in(s, p.seed);
    ggml_backend_buffer_type_t stocks = types.stocks(s);
    product_bench stock(s, in, stocks, pool, p.n_threads);
    std::unique_ptr<product_bench> tuned;
    if (types.packs(s)) {
        tuned = std::make_unique<product_bench>(s, in, types.tuned, pool, p.n_threads);
    }

    int64_t first_ns = stock.run();
    printf("{\"shape\":\"%s\",\"type\":\"%s\",\"packed\":%s,\"stock_buffer\":\"%s\",\"stock_hash\":\"%016" PRIx64 "\"",
        s.text().c_str(), ggml_type_name(s.type), tuned ? "true" : "false", ggml_backend_buft_name(stocks),
        hash(stock.results(), s.n_results()*sizeof(float)));
    if (tuned) {
        first_ns = std::min(first_ns, tuned->run());
        int64_t differing = 0;
        for (int64_t i = 0; i < s.n_results(); i++) {
            differing += memcmp(stock.results() + i, tuned->results() + i, sizeof(float)) != 0;
        }
        const double nmse = nmse_of(stock.results(), tuned->results(), s.n_results(), s);
        printf(",\"nmse\":%.6g,\"differing\":%" PRId64 ",\"results\":%" PRId64, nmse, differing, s.n_results());
    }

    if (p.ms == 0) {
        printf("}\n");
        fflush(stdout);
        return;
    }
    const int64_t graph_ns = 200000;
    const int n_products = s.cold ? 1 : (int) std::max<int64_t>(1, std::min<int64_t>(16, graph_ns/first_ns));
    for (product_bench * b : { &stock, tuned.get() }) {
        if (b != nullptr && n_products > 1) {
            b->repeat(in, n_products);
        }
        if (b != nullptr) {
            b->run();
        }
    }

    // ggml's threads spin where they wait for each other, and for some time after a graph: without others on its CPUs the process uses all
    // the time of its threads. The clock of that ticks a few times in many_ns.
    const size_t  few = 5, many = 201;
    const int64_t many_ns = 60000000, limit_ns = p.ms*(int64_t) 1000000;
    std::vector<int64_t> stock_ns, tuned_ns;
    const int64_t cpu   = cpu_ns();
    const auto    start = steady::now();
    for (int64_t ns = 0; stock_ns.size() < few || (ns < limit_ns && (stock_ns.size() < many || ns < many_ns)); ns = ns_since(start)) {
        const bool tuned_first = stock_ns.size() % 2 == 1;
        if (tuned && tuned_first) {
            tuned_ns.push_back(tuned->run());
        }
        stock_ns.push_back(stock.run());
        if (tuned && !tuned_first) {
            tuned_ns.push_back(tuned->run());
        }
    }
    printf(",\"busy\":%.3f", (double) (cpu_ns() - cpu)/((double) ns_since(start)*p.n_threads));
    const size_t stride = (stock_ns.size() - 1)/many + 1;
    print_list("stock_ns", stock_ns, stride);
    if (tuned) {
        print_list("tuned_ns", tuned_ns, stride);
    }
    printf("}\n");
    fflush(stdout);
}

// A type may be packed for one operator and not for the other.
bool packs_type(const buffer_types & types, ggml_type type, bool experts) {
    shape s;
    s.type = type;
    s.m    = 4096;
    s.k    = std::max<int64_t>(4096, ggml_blck_size(type));
    s.n    = 1;
    if (experts) {
        s.experts = 8;
        s.used    = 2;
    }
    return types.packs(s);
}

} // namespace

// Draws shapes of each packed type in turn. The two that are compared take turns A B, B A, ... on the same data.
void cmd_shapes(const probe_params & p) {
    const buffer_types types;
    std::vector<shape> shapes;
    for (const auto & text : p.shapes) {
        shapes.push_back(parse_shape(text));
    }
    if (shapes.empty()) {
        if (p.n < 0) {
            fail("shapes wants a number of shapes to draw, -n N, or --shape");
        }
        if (types.tuned == nullptr) {
            fail("this program has no CPU_ZEN5 buffer type, so that no weights can be packed; name shapes with --shape, or is ZT_DISABLE set?");
        }
        std::vector<ggml_type> wanted;
        std::istringstream list(p.types);
        for (std::string name; std::getline(list, name, ',');) {
            wanted.push_back(type_named(name));
        }
        for (int t = 0; p.types.empty() && t < GGML_TYPE_COUNT; t++) {
            if (ggml_is_quantized((ggml_type) t) && can_fill((ggml_type) t)) {
                wanted.push_back((ggml_type) t);
            }
        }
        struct kind { ggml_type type; bool experts; };
        std::vector<kind> kinds;
        for (const ggml_type type : wanted) {
            for (const bool experts : { false, true }) {
                if (packs_type(types, type, experts)) {
                    kinds.push_back({ type, experts });
                }
            }
        }
        if (kinds.empty()) {
            fail("CPU_ZEN5 packs no weights of %s", p.types.empty() ? "any quantized type" : p.types.c_str());
        }
        splitmix64 rng = { p.seed };
        for (int i = 0; i < p.n; i++) {
            const kind & k = kinds[i % kinds.size()];
            shapes.push_back(draw(rng, k.type, k.experts));
        }
    }

    ggml_threadpool_params tp = ggml_threadpool_params_default(p.n_threads);
    tp.poll = p.n_poll;
    const threadpool_ptr pool(ggml_threadpool_new(&tp));
    if (!pool) {
        fail("cannot start %d threads", p.n_threads);
    }
    for (const auto & s : shapes) {
        measure(p, types, s, pool.get());
    }
}
