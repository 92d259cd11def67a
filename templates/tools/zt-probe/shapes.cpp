// zt-probe shapes

#include "zt-probe.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>

namespace {

// A matrix product: MUL_MAT of m x k weights and n rows of activations, or MUL_MAT_ID of such weights for each of several experts, of
// which every one of n tokens uses some.
struct shape {
    ggml_type type    = GGML_TYPE_COUNT;
    int64_t   m       = 0;
    int64_t   k       = 0;
    int64_t   n       = 0;
    int64_t   experts = 0;      // 0: MUL_MAT
    int64_t   used    = 0;
    bool      shared  = false;  // the experts of a token read one row of activations, as the first products of a block do
    bool      cold    = false;  // the weights come from memory, as they do in a model larger than the caches

    int64_t n_weights() const { return m*k*std::max<int64_t>(experts, 1); }
    int64_t n_results() const { return m*n*std::max<int64_t>(used, 1); }

    std::string text() const {
        std::ostringstream s;
        s << ggml_type_name(type) << ",m=" << m << ",k=" << k << ",n=" << n;
        if (experts > 0) {
            s << ",experts=" << experts << ",used=" << used << (shared ? ",shared" : "");
        }
        s << (cold ? ",cold" : "");
        return s.str();
    }
};

// Whether zt-probe can make weights of a type that ggml can multiply.
bool can_fill(ggml_type type) {
    return ggml_get_type_traits_cpu(type)->vec_dot != nullptr && ggml_blck_size(type) > 0 &&
        type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K; // these are of activations alone
}

ggml_type type_named(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const char * known = ggml_type_name((ggml_type) t);
        if (known != nullptr && name == known && can_fill((ggml_type) t)) {
            return (ggml_type) t;
        }
    }
    fail("\"%s\" is no type of weights that ggml multiplies", name.c_str());
}

shape parse_shape(const std::string & text) {
    shape s;
    std::istringstream list(text);
    for (std::string item; std::getline(list, item, ',');) {
        const size_t      equals = item.find('=');
        const std::string key    = item.substr(0, equals);
        if (s.type == GGML_TYPE_COUNT) {
            s.type = type_named(item);
            continue;
        }
        if (equals == std::string::npos && (key == "shared" || key == "cold")) {
            (key == "shared" ? s.shared : s.cold) = true;
            continue;
        }
        int64_t * field = key == "m" ? &s.m : key == "k" ? &s.k : key == "n" ? &s.n : key == "experts" ? &s.experts :
            key == "used" ? &s.used : nullptr;
        if (field == nullptr || equals == std::string::npos) {
            fail("--shape %s: \"%s\" is none of m=N, k=N, n=N, experts=N, used=N, shared, cold", text.c_str(), item.c_str());
        }
        *field = to_int("--shape " + text, item.c_str() + equals + 1, 1, 1 << 24);
    }
    if (s.m == 0 || s.k == 0 || s.n == 0) {
        fail("--shape %s: it wants a type, m, k and n", text.c_str());
    }
    if (s.k % ggml_blck_size(s.type) != 0) {
        fail("--shape %s: rows of %s have a multiple of %" PRId64 " elements", text.c_str(), ggml_type_name(s.type), ggml_blck_size(s.type));
    }
    if ((s.experts == 0) != (s.used == 0) || s.used > s.experts || (s.shared && s.experts == 0)) {
        fail("--shape %s: experts and used go together, and no more can be used than there are", text.c_str());
    }
    return s;
}

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

// Nearly Gaussian: the sum of the four parts of a word, less their mean, over their standard deviation.
float gaussian(splitmix64 & rng) {
    const uint64_t r = rng.next();
    const int64_t sum = (int64_t) ((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48)) - 2*0xffff;
    return (float) sum*(1/37837.2f);
}

// Weights of a type: blocks drawn from a few that ggml has quantized, since some types take it seconds a million.
std::vector<uint8_t> random_weights(splitmix64 & rng, const shape & s) {
    static std::map<ggml_type, std::vector<uint8_t>> pools;
    const int64_t n_pool = 128, block = ggml_blck_size(s.type);
    const size_t  bytes  = ggml_type_size(s.type);

    std::vector<uint8_t> & pool = pools[s.type];
    if (pool.empty()) {
        splitmix64 own = { 1 };
        std::vector<float> values(n_pool*block), importance(block, 1.0f);
        for (auto & v : values) {
            v = gaussian(own);
        }
        pool.resize(n_pool*bytes);
        ggml_quantize_chunk(s.type, values.data(), pool.data(), 0, n_pool, block, importance.data());
    }
    std::vector<uint8_t> weights(s.n_weights()/block*bytes);
    for (size_t at = 0; at < weights.size(); at += bytes) {
        memcpy(&weights[at], &pool[rng.next() % n_pool*bytes], bytes);
    }
    return weights;
}

ggml_context_ptr new_context(size_t n_tensors) {
    return ggml_context_ptr(ggml_init({ n_tensors*ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true }));
}

ggml_tensor * new_weights(ggml_context * ctx, const shape & s) {
    return s.experts > 0 ? ggml_new_tensor_3d(ctx, s.type, s.k, s.m, s.experts) : ggml_new_tensor_2d(ctx, s.type, s.k, s.m);
}

ggml_tensor * new_activations(ggml_context * ctx, const shape & s, int64_t n) {
    return s.experts > 0 ? ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.k, s.shared ? 1 : s.used, n) : ggml_new_tensor_2d(ctx, GGML_TYPE_F32, s.k, n);
}

ggml_tensor * new_ids(ggml_context * ctx, const shape & s, int64_t n) {
    return s.experts > 0 ? ggml_new_tensor_2d(ctx, GGML_TYPE_I32, s.used, n) : nullptr;
}

ggml_tensor * product(ggml_context * ctx, ggml_tensor * w, ggml_tensor * x, ggml_tensor * ids) {
    return ids != nullptr ? ggml_mul_mat_id(ctx, w, x, ids) : ggml_mul_mat(ctx, w, x);
}

// Whether llama.cpp would put such weights into a buffer type: it asks with 512 tokens (weight_buft_supported in llama-model-loader.cpp).
bool takes(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft, const shape & s) {
    const ggml_context_ptr        ctx = new_context(8);
    const ggml_backend_buffer_ptr none(ggml_backend_buft_alloc_buffer(buft, 0));
    ggml_tensor * w = new_weights(ctx.get(), s);
    w->buffer = none.get();
    return ggml_backend_dev_supports_op(dev, product(ctx.get(), w, new_activations(ctx.get(), s, 512), new_ids(ctx.get(), s, 512)));
}

// The buffer types of the CPU, in the order in which llama.cpp asks them.
struct buffer_types {
    ggml_backend_dev_t                      dev   = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_buffer_type_t              tuned = nullptr; // ours; null in stock's build
    std::vector<ggml_backend_buffer_type_t> stock;           // its own; the plain one last

    buffer_types() {
        auto extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev),
            "ggml_backend_dev_get_extra_bufts");
        for (auto * buft = extra ? extra(dev) : nullptr; buft != nullptr && *buft != nullptr; buft++) {
            if (strcmp(ggml_backend_buft_name(*buft), "CPU_ZEN5") == 0) {
                tuned = *buft;
            } else {
                stock.push_back(*buft);
            }
        }
        stock.push_back(ggml_backend_cpu_buffer_type());
    }

    bool packs(const shape & s) const { return tuned != nullptr && takes(dev, tuned, s); }

    ggml_backend_buffer_type_t stocks(const shape & s) const {
        for (auto * buft : stock) {
            if (takes(dev, buft, s)) {
                return buft;
            }
        }
        fail("no buffer type of stock's takes %s", s.text().c_str());
    }
};

// The data that all products of a shape read.
struct inputs {
    std::vector<uint8_t> weights;
    std::vector<float>   activations;
    std::vector<int32_t> ids;

    inputs(const shape & s, uint64_t seed) {
        splitmix64 rng = { seed };
        for (const char c : s.text()) { // shapes of one seed differ, and each is the same wherever it stands
            rng.state = (rng.state ^ (uint8_t) c)*0x100000001b3;
        }
        weights = random_weights(rng, s);
        activations.resize(s.k*s.n*(s.experts > 0 && !s.shared ? s.used : 1));
        for (auto & v : activations) {
            v = gaussian(rng);
        }
        std::vector<int32_t> order(s.experts);
        for (int64_t i = 0; i < s.experts; i++) {
            order[i] = (int32_t) i;
        }
        for (int64_t token = 0; s.experts > 0 && token < s.n; token++) {
            for (int64_t i = 0; i < s.used; i++) { // the start of a shuffle
                std::swap(order[i], order[i + (int64_t) (rng.next() % (uint64_t) (s.experts - i))]);
                ids.push_back(order[i]);
            }
        }
    }
};

// CPU time of all threads of this process, in ns. That of threads that run is as old as the kernel's last tick.
int64_t cpu_ns() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t) t.tv_sec*1000000000 + t.tv_nsec;
}

// A product on weights in one buffer type, so often in a graph that the graph's own time does not count. Each reads activations of its own:
// what a build prepares of them once for several products is no merit of the product's.
class bench {
    const shape &           s;
    ggml_threadpool *       pool;
    int                     n_threads;
    ggml_context_ptr        weights_ctx, ctx;
    ggml_backend_buffer_ptr weights_buffer, buffer;
    ggml_tensor *           w;
    ggml_tensor *           y = nullptr; // of the last product
    ggml_cgraph *           graph = nullptr;
    ggml_cplan              plan;
    std::vector<uint8_t>    work;
    int                     n_products = 0;

  public:
    bench(const shape & s, const inputs & in, ggml_backend_buffer_type_t buft, ggml_threadpool * pool, int n_threads) :
        s(s), pool(pool), n_threads(n_threads), weights_ctx(new_context(1)), w(new_weights(weights_ctx.get(), s)) {
        weights_buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(weights_ctx.get(), buft));
        if (!weights_buffer) {
            fail("no memory for the weights of %s", s.text().c_str());
        }
        ggml_backend_tensor_set(w, in.weights.data(), 0, in.weights.size());
        repeat(in, 1);
    }

    void repeat(const inputs & in, int n) {
        n_products = n;
        ctx = new_context(3*n + 1);
        graph = ggml_new_graph(ctx.get());
        std::vector<ggml_tensor *> activations, ids;
        for (int i = 0; i < n; i++) {
            activations.push_back(new_activations(ctx.get(), s, s.n));
            ids.push_back(new_ids(ctx.get(), s, s.n));
            y = product(ctx.get(), w, activations.back(), ids.back());
            ggml_build_forward_expand(graph, y);
        }
        buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), ggml_backend_cpu_buffer_type()));
        if (!buffer) {
            fail("no memory for %s", s.text().c_str());
        }
        for (int i = 0; i < n; i++) {
            ggml_backend_tensor_set(activations[i], in.activations.data(), 0, in.activations.size()*sizeof(float));
            if (ids[i] != nullptr) {
                ggml_backend_tensor_set(ids[i], in.ids.data(), 0, in.ids.size()*sizeof(int32_t));
            }
        }
        plan = ggml_graph_plan(graph, n_threads, pool);
        work.resize(plan.work_size);
        plan.work_data = work.data();
    }

    // The time of one product in ns.
    int64_t run() {
        if (s.cold) {
            const auto * base = (const uint8_t *) ggml_backend_buffer_get_base(weights_buffer.get());
            for (size_t at = 0; at < ggml_backend_buffer_get_size(weights_buffer.get()); at += 64) {
                _mm_clflushopt(const_cast<uint8_t *>(base + at));
            }
            _mm_mfence();
        }
        const auto t = steady::now();
        if (ggml_graph_compute(graph, &plan) != GGML_STATUS_SUCCESS) {
            fail("ggml does not compute %s", s.text().c_str());
        }
        return std::max<int64_t>(1, ns_since(t)/n_products);
    }

    const float * results() const { return (const float *) y->data; }
};

// FNV-1a (Fowler, Noll, Vo)
uint64_t hash(const void * data, size_t size) {
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ ((const uint8_t *) data)[i])*0x100000001b3;
    }
    return h;
}

// Prints one in so many values.
void print_list(const char * name, const std::vector<int64_t> & values, size_t stride) {
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < values.size(); i += stride) {
        printf("%s%" PRId64, i == 0 ? "" : ",", values[i]);
    }
    printf("]");
}

// Prints a line on s: whose buffer type stock takes, what its results are (a hash), times, and how far ours are from them.
void measure(const probe_params & p, const buffer_types & types, const shape & s, ggml_threadpool * pool) {
    const inputs in(s, p.seed);
    ggml_backend_buffer_type_t stocks = types.stocks(s);
    bench stock(s, in, stocks, pool, p.n_threads);
    std::unique_ptr<bench> tuned;
    if (types.packs(s)) {
        tuned = std::make_unique<bench>(s, in, types.tuned, pool, p.n_threads);
    }

    int64_t first_ns = stock.run();
    printf("{\"shape\":\"%s\",\"type\":\"%s\",\"packed\":%s,\"stock_buffer\":\"%s\",\"stock_hash\":\"%016" PRIx64 "\"",
        s.text().c_str(), ggml_type_name(s.type), tuned ? "true" : "false", ggml_backend_buft_name(stocks),
        hash(stock.results(), s.n_results()*sizeof(float)));
    if (tuned) {
        first_ns = std::min(first_ns, tuned->run());
        double  squares = 0, difference = 0;
        int64_t differing = 0;
        for (int64_t i = 0; i < s.n_results(); i++) {
            const float a = stock.results()[i], b = tuned->results()[i];
            squares    += (double) a*a;
            difference += ((double) a - b)*((double) a - b);
            differing  += memcmp(&a, &b, sizeof(a)) != 0;
        }
        const double nmse = difference/squares;
        if (!(nmse < HUGE_VAL)) {
            fail("%s: the results are not numbers, or all 0", s.text().c_str());
        }
        printf(",\"nmse\":%.6g,\"differing\":%" PRId64 ",\"results\":%" PRId64, nmse, differing, s.n_results());
    }

    if (p.ms == 0) {
        printf("}\n");
        fflush(stdout);
        return;
    }
    const int64_t graph_ns = 200000;
    const int n_products = s.cold ? 1 : (int) std::max<int64_t>(1, std::min<int64_t>(16, graph_ns/first_ns));
    for (bench * b : { &stock, tuned.get() }) {
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
