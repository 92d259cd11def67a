// zt-probe gemm

#include "products.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

namespace {

// A BLAS with the C interface of 32-bit integers (netlib.org/blas/blast-forum/cblas.tgz), loaded from its file. Several may be loaded at
// once: each sees its own symbols first.
class blas_library {
    using sgemm_fn = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float * a, int lda,
                              const float * b, int ldb, float beta, float * c, int ldc);

    sgemm_fn sgemm = nullptr;
    void (*set_openblas)(int)    = nullptr;
    void (*set_blis)(int64_t)    = nullptr;  // dim_t, 64 bits wide whatever the integers of the C interface are

    static std::string text_of(void * lib, const char * function) {
        auto text = (const char * (*)(void)) dlsym(lib, function);
        return text != nullptr ? text() : "";
    }

    // Upstream's BLIS knows neither Zen 5 nor every Intel: unless BLIS_ARCH_TYPE is set it gets its first family, AVX-512 (skx), as in our
    // runtime. It must be initialized before it is asked for it: until then it calls every family invalid.
    void ask_blis(void * lib) {
        version = text_of(lib, "bli_info_get_version_str");
        const bool choose = version.compare(0, 4, "AOCL") != 0 && getenv("BLIS_ARCH_TYPE") == nullptr;
        if (choose) {
            setenv("BLIS_ARCH_TYPE", "0", 1);
        }
        if (auto init = (void (*)(void)) dlsym(lib, "bli_init")) {
            init();
        }
        auto query = (int (*)(void)) dlsym(lib, "bli_arch_query_id");
        auto words = (const char * (*)(int)) dlsym(lib, "bli_arch_string");
        if (query != nullptr && words != nullptr) {
            core = words(query());
        }
        if (choose) {
            unsetenv("BLIS_ARCH_TYPE");  // AOCL's numbers mean other families
        }
    }

  public:
    std::string name, path, version, core;

    explicit blas_library(const std::string & item) {
        const size_t equals = item.find('=');
        if (equals == std::string::npos || equals == 0) {
            fail("--libs: \"%s\" is not NAME=FILE", item.c_str());
        }
        name = item.substr(0, equals);
        path = item.substr(equals + 1);
        void * lib = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        if (lib == nullptr) {
            fail("--libs: %s", dlerror());
        }
        sgemm        = (sgemm_fn) dlsym(lib, "cblas_sgemm");
        set_openblas = (void (*)(int)) dlsym(lib, "openblas_set_num_threads");
        set_blis     = (void (*)(int64_t)) dlsym(lib, "bli_thread_set_num_threads");
        if (sgemm == nullptr) {
            fail("--libs: %s has no cblas_sgemm", path.c_str());
        }
        if (set_openblas == nullptr && set_blis == nullptr) {
            fail("--libs: %s is neither BLIS nor OpenBLAS, so that its threads cannot be limited", path.c_str());
        }
        if (set_blis != nullptr) {
            ask_blis(lib);
        } else {
            version = text_of(lib, "openblas_get_config");
            core    = text_of(lib, "openblas_get_corename");
        }
    }

    // BLIS keeps the number for each thread that calls it, OpenBLAS for all.
    void set_threads(int n) const {
        if (set_blis != nullptr) {
            set_blis(n);
        } else {
            set_openblas(n);
        }
    }

    // c[n][ldc] = activations[n][k] * transposed weights[rows][k]
    void multiply(int64_t rows, int64_t k, int64_t n, const float * weights, const float * activations, float * c, int64_t ldc) const {
        const int row_major = 101, plain = 111, transposed = 112;
        sgemm(row_major, plain, transposed, (int) n, (int) rows, (int) k, 1.0f, activations, (int) k, weights, (int) k, 0.0f, c, (int) ldc);
    }
};

// Threads that sleep until there is work, which they begin together.
class team {
    std::vector<std::thread>          threads;
    std::mutex                        mutex;
    std::condition_variable           wake;
    std::function<void(int)>          work;
    int64_t                           generation = 0;
    bool                              ends       = false;
    std::atomic<int>                  ready{0}, done{0};

    void loop(int i) {
        for (int64_t seen = 0;;) {
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return ends || generation != seen; });
                if (ends) {
                    return;
                }
                seen = generation;
            }
            part(i);
        }
    }

    void part(int i) {
        for (ready++; ready.load() < size();) {
        }
        work(i);
        done++;
    }

  public:
    explicit team(int n) {
        for (int i = 1; i < n; i++) {
            threads.emplace_back([this, i] { loop(i); });
        }
    }

    ~team() {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            ends = true;
        }
        wake.notify_all();
        for (auto & t : threads) {
            t.join();
        }
    }

    int size() const { return (int) threads.size() + 1; }

    // All do f(i), this thread f(0). The time in ns from when all were awake until all had finished.
    int64_t run(const std::function<void(int)> & f) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            work  = f;
            ready = 0;
            done  = 0;
            generation++;
        }
        wake.notify_all();
        while (ready.load() < size() - 1) {
        }
        const auto t = steady::now();
        part(0);
        while (done.load() < size()) {
        }
        return ns_since(t);
    }
};

// Weight rows that are made F32 at a time: enough that what BLAS packs of the activations for each of them does not count.
constexpr int64_t slice_rows = 256;

void to_float(ggml_type type, const void * from, float * to, int64_t n) {
    if (type == GGML_TYPE_F16) {
        ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) from, to, n);
    } else {
        ggml_cpu_bf16_to_fp32((const ggml_bf16_t *) from, to, n);
    }
}

// What takes turns: run does the product n times, one after the other, and returns the ns they took.
struct contestant {
    std::string                  name, how;
    std::function<int64_t(int)>  run;
    const float *                results;
    bool                         spins = false;  // threads of its own may go on spinning
    std::vector<int64_t>         ns;             // of one product
};

void print_text(const char * name, const std::string & text) {
    printf(",\"%s\":\"", name);
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            putchar('\\');
        }
        putchar((unsigned char) c < 0x20 ? ' ' : c);
    }
    putchar('"');
}

void compete(const probe_params & p, const buffer_types & types, const shape & s, const std::vector<blas_library> & libraries, ggml_threadpool * pool,
             team & threads) {
    const inputs in(s, p.seed);
    const int    n_threads = threads.size();

    // By ggml: one graph of so many products, made anew where the number changes.
    product_bench stock(s, in, types.stocks(s), pool, n_threads);
    std::unique_ptr<product_bench> tuned;
    if (types.coded != nullptr) {
        tuned = std::make_unique<product_bench>(s, in, types.coded, pool, n_threads);
    }
    auto graph = [&](product_bench & b) {
        return [&b, &in, pool, now = 1](int n) mutable {
            if (n != now) {
                b.repeat(in, n);
                now = n;
            }
            const int64_t ns = b.run()*n;
            ggml_threadpool_pause(pool);
            return ns;
        };
    };
    std::vector<contestant> all;
    if (tuned) {
        all.push_back({ "ours", "ggml", graph(*tuned), nullptr, false, {} });
    }
    all.push_back({ "stock", "ggml", graph(stock), nullptr, false, {} });

    // By BLAS: on one's own slice of the weights each, or all at once on its own threads.
    std::vector<float> c(s.m*s.n);
    std::vector<std::vector<float>> scratch(n_threads);
    std::vector<float> whole;
    if (s.type != GGML_TYPE_F32) {
        for (auto & v : scratch) {
            v.resize(std::min(s.m, slice_rows)*s.k);
        }
        whole.resize(s.m*s.k);
    }
    const size_t row_bytes = ggml_row_size(s.type, s.k);
    for (const auto & lib : libraries) {
        auto slices = [&](int n) {
            lib.set_threads(1);
            return threads.run([&, n](int i) {
                lib.set_threads(1);
                const int64_t first = s.m*i/n_threads, last = s.m*(i + 1)/n_threads;
                const int64_t step  = s.type == GGML_TYPE_F32 ? last - first : slice_rows;
                for (int repeat = 0; repeat < n; repeat++) {
                    for (int64_t row = first; row < last; row += step) {
                        const int64_t rows = std::min(step, last - row);
                        const float * w    = (const float *) (in.weights.data() + row*row_bytes);
                        if (s.type != GGML_TYPE_F32) {
                            to_float(s.type, in.weights.data() + row*row_bytes, scratch[i].data(), rows*s.k);
                            w = scratch[i].data();
                        }
                        lib.multiply(rows, s.k, s.n, w, in.activations.data(), c.data() + row, s.m);
                    }
                }
            });
        };
        // As ggml's BLAS backend does it: all weights are made F32 by all threads first.
        auto own = [&](int n) {
            lib.set_threads(n_threads);
            int64_t ns = 0;
            for (int repeat = 0; repeat < n; repeat++) {
                const float * w = (const float *) in.weights.data();
                if (s.type != GGML_TYPE_F32) {
                    ns += threads.run([&](int i) {
                        const int64_t first = s.m*i/n_threads, last = s.m*(i + 1)/n_threads;
                        to_float(s.type, in.weights.data() + first*row_bytes, whole.data() + first*s.k, (last - first)*s.k);
                    });
                    w = whole.data();
                }
                const auto t = steady::now();
                lib.multiply(s.m, s.k, s.n, w, in.activations.data(), c.data(), s.m);
                ns += ns_since(t);
            }
            return ns;
        };
        all.push_back({ lib.name, "slices", slices, c.data(), false, {} });
        all.push_back({ lib.name, "own threads", own, c.data(), true, {} });
    }

    // A first run each: what it takes, and whether it computes the same.
    const int64_t sample_ns = 15000000;
    const auto    settle    = std::chrono::milliseconds(40);  // OpenBLAS's threads spin for 2^26 cycles
    std::vector<int>    repeats;
    std::vector<double> nmse;
    stock.run();
    for (auto & x : all) {
        x.run(1);
        repeats.push_back((int) std::max<int64_t>(1, std::min<int64_t>(32, sample_ns/std::max<int64_t>(1, x.run(1)))));
        const float * results = x.results != nullptr ? x.results : x.name == "ours" ? tuned->results() : stock.results();
        nmse.push_back(nmse_of(stock.results(), results, s.n_results(), s));
        if (x.spins) {
            std::this_thread::sleep_for(settle);
        }
    }
    // A B C, C B A
    const int rounds = p.n < 0 ? 4 : p.n;
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < all.size(); i++) {
            const size_t at = round % 2 == 0 ? i : all.size() - 1 - i;
            contestant & x  = all[at];
            x.ns.push_back(std::max<int64_t>(1, x.run(repeats[at])/repeats[at]));
            if (x.spins) {
                std::this_thread::sleep_for(settle);
            }
        }
    }
    for (size_t i = 0; i < all.size(); i++) {
        printf("{\"type\":\"%s\",\"m\":%" PRId64 ",\"k\":%" PRId64 ",\"n\":%" PRId64 ",\"name\":\"%s\",\"how\":\"%s\",\"nmse\":%.3g,\"repeats\":%d",
            ggml_type_name(s.type), s.m, s.k, s.n, all[i].name.c_str(), all[i].how.c_str(), nmse[i], repeats[i]);
        print_list("ns", all[i].ns, 1);
        printf("}\n");
    }
    fflush(stdout);
}

} // namespace

void cmd_gemm(const probe_params & p) {
    if (p.shapes.empty()) {
        fail("gemm wants shapes: --shape TYPE,m=N,k=N,n=N");
    }
    std::vector<shape> shapes;
    for (const auto & text : p.shapes) {
        shapes.push_back(parse_shape(text));
        const shape & s = shapes.back();
        if ((s.type != GGML_TYPE_F32 && s.type != GGML_TYPE_F16 && s.type != GGML_TYPE_BF16) || s.experts > 0 || s.cold) {
            fail("--shape %s: gemm compares products of one matrix of f32, f16 or bf16", text.c_str());
        }
    }
    std::vector<blas_library> libraries;
    std::istringstream list(p.libs);
    for (std::string item; std::getline(list, item, ',');) {
        libraries.emplace_back(item);
        const blas_library & lib = libraries.back();
        printf("{\"library\":\"%s\"", lib.name.c_str());
        print_text("path", lib.path);
        print_text("version", lib.version);
        print_text("core", lib.core);
        printf("}\n");
    }
    ggml_threadpool_params tp = ggml_threadpool_params_default(p.n_threads);
    tp.poll = p.n_poll;
    const threadpool_ptr pool(ggml_threadpool_new(&tp));
    if (!pool) {
        fail("cannot start %d threads", p.n_threads);
    }
    const buffer_types types;
    team threads(p.n_threads);
    for (const auto & s : shapes) {
        compete(p, types, s, libraries, pool.get(), threads);
    }
}
