// Matrix products of any shape, for the commands that time them.

#include "products.h"

#include <immintrin.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>

std::string shape::text() const {
    std::ostringstream s;
    s << ggml_type_name(type) << ",m=" << m << ",k=" << k << ",n=" << n;
    if (experts > 0) {
        s << ",experts=" << experts << ",used=" << used << (shared ? ",shared" : "");
    }
    s << (cold ? ",cold" : "");
    return s.str();
}

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

namespace {

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

} // namespace

buffer_types::buffer_types() {
    auto extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev),
        "ggml_backend_dev_get_extra_bufts");
    for (auto * buft = extra ? extra(dev) : nullptr; buft != nullptr && *buft != nullptr; buft++) {
        const std::string name = ggml_backend_buft_name(*buft);
        if (name == "CPU_ZEN5") {
            tuned = *buft;
        } else if (name == "CPU_ZEN5_CODED") {
            coded = *buft;
        } else {
            stock.push_back(*buft);
        }
    }
    stock.push_back(ggml_backend_cpu_buffer_type());
}

bool buffer_types::packs(const shape & s) const { return tuned != nullptr && takes(dev, tuned, s); }

ggml_backend_buffer_type_t buffer_types::stocks(const shape & s) const {
    for (auto * buft : stock) {
        if (takes(dev, buft, s)) {
            return buft;
        }
    }
    fail("no buffer type of stock's takes %s", s.text().c_str());
}

inputs::inputs(const shape & s, uint64_t seed) {
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

product_bench::product_bench(const shape & s, const inputs & in, ggml_backend_buffer_type_t buft, ggml_threadpool * pool, int n_threads) :
    s(s), pool(pool), n_threads(n_threads), weights_ctx(new_context(1)), w(new_weights(weights_ctx.get(), s)) {
    weights_buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(weights_ctx.get(), buft));
    if (!weights_buffer) {
        fail("no memory for the weights of %s", s.text().c_str());
    }
    ggml_backend_tensor_set(w, in.weights.data(), 0, in.weights.size());
    repeat(in, 1);
}

void product_bench::repeat(const inputs & in, int n) {
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

int64_t product_bench::run() {
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

void print_list(const char * name, const std::vector<int64_t> & values, size_t stride) {
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < values.size(); i += stride) {
        printf("%s%" PRId64, i == 0 ? "" : ",", values[i]);
    }
    printf("]");
}

double nmse_of(const float * a, const float * b, int64_t n, const shape & s) {
    double squares = 0, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        squares    += (double) a[i]*a[i];
        difference += ((double) a[i] - b[i])*((double) a[i] - b[i]);
    }
    const double nmse = difference/squares;
    if (!(nmse < HUGE_VAL)) {
        fail("%s: the results are not numbers, or all 0", s.text().c_str());
    }
    return nmse;
}
