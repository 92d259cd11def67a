// zt-selftest: holds the zen5 buffer type inside a finished build to its promises, for every type of weights that it takes. Weights come
// back from it as they were given; MUL_MAT and MUL_MAT_ID equal, bit for bit, a plain loop in the order of sums that avo/weight of
// llama-zen-turbo writes down, for any shape, thread count and layout of the activations; GET_ROWS equals stock's dequantization.
//
// What the loop multiplies comes from stock alone: its quantizers round the activations, and its dequantization of a block whose scales
// are made 1 gives the integers of the weights.
//
// The encoder of float weights is held to its own promises (codes.cpp), their products to what stock computes of them (floats.cpp).
//
// usage: zt-selftest [-t type]... [seed]
//        zt-selftest [-t type]... -m rows cols [seed]
//        zt-selftest pages [seed]
//
// Without types it examines all that the buffer type takes, and the encoder. Prints a JSON line with the seed and one for each type and kind of check; what
// fails is named on stderr. pages examines the page policy instead. -m measures the encoder on rows x cols weights instead: bits a weight, and bytes of the original a second.

#include "codes.h"
#include "pages.h"
#include "threads.h"

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

struct tally {
    int passed = 0;
    int failed = 0;
};

static std::map<std::pair<std::string, std::string>, tally> tallies;  // by type and kind of check

void check(bool ok, const char * type, const char * kind, const std::string & where) {
    tally & t = tallies[{ type, kind }];
    if (ok) {
        t.passed++;
    } else {
        t.failed++;
        fprintf(stderr, "FAIL %s %s: %s\n", type, kind, where.c_str());
    }
}

void check(bool ok, ggml_type type, const char * kind, const std::string & where) {
    check(ok, ggml_type_name(type), kind, where);
}

// Prints how many checks of each kind there were; returns the program's exit status.
static int print_tallies(unsigned seed) {
    printf("{\"seed\":%u}\n", seed);
    bool ok = true;
    for (const auto & [key, t] : tallies) {
        printf("{\"type\":\"%s\",\"check\":\"%s\",\"passed\":%d,\"failed\":%d}\n", key.first.c_str(), key.second.c_str(), t.passed, t.failed);
        ok = ok && t.failed == 0;
    }
    return ok ? 0 : 1;
}

// The order of the float operations of a dot product, block after block along k. I is the sum of the products of integers, M that of mins
// and activations, dw and da are the scales of weight and activation.
enum class order {
    fused,      // acc = fma(I, dw*da, acc)
    add_fused,  // acc = acc + fma(dw*da, I, min*s), where s is what Q8_1 keeps beside da
    two_sums,   // acc = fma(I, dw*da, acc), min = fma(M, dmin*da, min), at the end acc - min
};

// How a block keeps its scale. UE4M3 has four, each for a quarter; nibbles are the top ones of four words, together an FP16.
enum class scale { fp16, e8m0, ue4m3, nibbles };

// A type of weights, as far as ggml's public interface does not tell.
struct format {
    ggml_type type;
    order     sums;
    scale     kind;
    int       d;    // byte of a block where the scale lies
    int       min;  // the same of the min's scale, or of the min itself
    float     unit; // the scale for which weights are their integers
};

static const format formats[] = {
    { GGML_TYPE_Q4_0,    order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_Q4_1,    order::add_fused, scale::fp16,    0,   2,  1 },
    { GGML_TYPE_Q5_0,    order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_Q5_1,    order::add_fused, scale::fp16,    0,   2,  1 },
    { GGML_TYPE_Q8_0,    order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_IQ4_NL,  order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_MXFP4,   order::fused,     scale::e8m0,    0,   0,  1 },
    { GGML_TYPE_NVFP4,   order::fused,     scale::ue4m3,   0,   0,  1 },
    { GGML_TYPE_Q2_K,    order::two_sums,  scale::fp16,    80,  82, 1 },
    { GGML_TYPE_Q3_K,    order::fused,     scale::fp16,    108, 0,  1 },
    { GGML_TYPE_Q4_K,    order::two_sums,  scale::fp16,    0,   2,  1 },
    { GGML_TYPE_Q5_K,    order::two_sums,  scale::fp16,    0,   2,  1 },
    { GGML_TYPE_Q6_K,    order::fused,     scale::fp16,    208, 0,  1 },
    { GGML_TYPE_IQ4_XS,  order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_IQ1_S,   order::fused,     scale::fp16,    0,   0,  8 },
    { GGML_TYPE_IQ1_M,   order::fused,     scale::nibbles, 48,  0,  8 },
    { GGML_TYPE_IQ2_XXS, order::fused,     scale::fp16,    0,   0,  8 },
    { GGML_TYPE_IQ2_XS,  order::fused,     scale::fp16,    0,   0,  8 },
    { GGML_TYPE_IQ2_S,   order::fused,     scale::fp16,    0,   0,  8 },
    { GGML_TYPE_IQ3_XXS, order::fused,     scale::fp16,    0,   0,  4 },
    { GGML_TYPE_IQ3_S,   order::fused,     scale::fp16,    0,   0,  1 },
    { GGML_TYPE_TQ1_0,   order::fused,     scale::fp16,    52,  0,  1 },
    { GGML_TYPE_TQ2_0,   order::fused,     scale::fp16,    64,  0,  1 },
};

static const format * find_format(ggml_type type) {
    for (const format & f : formats) {
        if (f.type == type) {
            return &f;
        }
    }
    return nullptr;
}

static float get_half(const uint8_t * at) {
    ggml_fp16_t h;
    memcpy(&h, at, sizeof(h));
    return ggml_fp16_to_fp32(h);
}

static void set_half(uint8_t * at, float v) {
    const ggml_fp16_t h = ggml_fp32_to_fp16(v);
    memcpy(at, &h, sizeof(h));
}

// Gives a block the scale v. Formats of one byte hold no more than 1 of those asked for.
static void set_scale(const format & f, uint8_t * block, float v) {
    uint8_t * at = block + f.d;
    switch (f.kind) {
        case scale::fp16:
            set_half(at, v);
            break;
        case scale::e8m0:
            *at = 128;
            break;
        case scale::ue4m3:
            memset(at, 8 << 3, 4);
            break;
        case scale::nibbles: {
            const ggml_fp16_t h = ggml_fp32_to_fp16(v);
            for (int i = 0; i < 4; i++) {
                at[2 * i + 1] = (at[2 * i + 1] & 0x0f) | (h >> 4 * i & 0x0f) << 4;
            }
            break;
        }
    }
}

// The scale of part i of a block.
static float get_scale(const format & f, const uint8_t * block, int i) {
    const uint8_t * at = block + f.d;
    switch (f.kind) {
        case scale::fp16:
            return get_half(at);
        case scale::e8m0:  // 2^(x-127), halved because ggml's table of values is doubled
            return ldexpf(1.0f, *at - 128);
        case scale::ue4m3: {  // a sign that does not count, 4 bits of exponent, 3 of mantissa; halved likewise
            const int exponent = at[i] >> 3 & 15;
            const int mantissa = at[i] & 7;
            if (at[i] == 0x7f) {
                return 0.0f;
            }
            return exponent == 0 ? ldexpf((float) mantissa, -10) : ldexpf((float) (8 + mantissa), exponent - 11);
        }
        case scale::nibbles: {
            ggml_fp16_t h = 0;
            for (int i4 = 0; i4 < 4; i4++) {
                h |= (at[2 * i4 + 1] >> 4) << 4 * i4;
            }
            return ggml_fp16_to_fp32(h);
        }
    }
    return 0.0f;
}

// Makes a block of random bytes one that a model may have: all scales are numbers, and sums stay so.
static void tame(const format & f, uint8_t * block, std::mt19937 & random) {
    std::normal_distribution<float> normal(0.0f, 0.01f);
    switch (f.kind) {
        case scale::e8m0:
            block[f.d] = 108 + random() % 32;
            break;
        case scale::ue4m3:
            break;  // no byte is infinite
        default:
            set_scale(f, block, normal(random));
    }
    if (f.sums != order::fused) {
        set_half(block + f.min, normal(random));
    }
}

// A row of weights in integers. What a step of weights shares is there once for each.
struct weight_row {
    std::vector<float> sq, m;  // of each weight
    std::vector<float> d, min;
    int                step;
};

static weight_row decode(const format & f, const uint8_t * row, int64_t cols) {
    const ggml_type_traits * traits = ggml_get_type_traits(f.type);
    const int64_t            blocks = cols / traits->blck_size;
    const int                parts  = f.kind == scale::ue4m3 ? 4 : 1;

    weight_row w;
    w.sq.resize(cols);
    w.step = (int) traits->blck_size / parts;
    std::vector<uint8_t> plain(row, row + blocks * traits->type_size);
    for (int64_t b = 0; b < blocks; b++) {
        uint8_t * block = &plain[b * traits->type_size];
        for (int i = 0; i < parts; i++) {
            w.d.push_back(get_scale(f, block, i) / f.unit);
        }
        if (f.sums != order::fused) {
            w.min.push_back(get_half(block + f.min));
            set_half(block + f.min, 0.0f);
        }
        set_scale(f, block, f.unit);
    }
    traits->to_float(plain.data(), w.sq.data(), cols);
    if (f.sums == order::two_sums) {
        w.m.resize(cols);
        for (int64_t b = 0; b < blocks; b++) {
            set_half(&plain[b * traits->type_size] + f.d, 0.0f);
            set_half(&plain[b * traits->type_size] + f.min, -1.0f);
        }
        traits->to_float(plain.data(), w.m.data(), cols);
    }
    return w;
}

// A row of activations as stock's quantizer for a type of weights rounds it.
struct activation_row {
    std::vector<int8_t> q;
    std::vector<float>  d, s;  // of each block
    int                 block;
};

static activation_row quantize(const format & f, const float * x, int64_t cols) {
    const ggml_type type = ggml_get_type_traits_cpu(f.type)->vec_dot_type;
    const size_t    size = ggml_type_size(type);

    activation_row a;
    a.block = (int) ggml_blck_size(type);
    std::vector<uint8_t> row(cols / a.block * size);
    ggml_get_type_traits_cpu(type)->from_float(x, row.data(), cols);
    for (size_t at = 0; at < row.size(); at += size) {
        const uint8_t * block = &row[at];
        int             q     = 0;  // where the quants start
        switch (type) {
            case GGML_TYPE_Q8_0:
                a.d.push_back(get_half(block));
                q = 2;
                break;
            case GGML_TYPE_Q8_1:
                a.d.push_back(get_half(block));
                a.s.push_back(get_half(block + 2));
                q = 4;
                break;
            case GGML_TYPE_Q8_K:
                a.d.emplace_back();
                memcpy(&a.d.back(), block, sizeof(float));
                q = 4;
                break;
            default:
                fprintf(stderr, "zt-selftest: stock multiplies %s by %s, of which this program does not know the layout\n",
                        ggml_type_name(f.type), ggml_type_name(type));
                exit(1);
        }
        a.q.insert(a.q.end(), (const int8_t *) block + q, (const int8_t *) block + q + a.block);
    }
    return a;
}

// The oracle. All sums of a step are integers that a double holds.
static float dot(const format & f, const weight_row & w, const activation_row & a) {
    float acc = 0.0f;
    float min = 0.0f;
    for (size_t i = 0; i < w.d.size(); i++) {
        double products = 0.0;
        double mins     = 0.0;
        for (size_t k = i * w.step; k < (i + 1) * w.step; k++) {
            products += (double) w.sq[k] * a.q[k];
        }
        for (size_t k = i * w.step; !w.m.empty() && k < (i + 1) * w.step; k++) {
            mins += (double) w.m[k] * a.q[k];
        }
        const size_t block = i * w.step / a.block;
        const float  d     = w.d[i] * a.d[block];
        switch (f.sums) {
            case order::fused:
                acc = fmaf((float) products, d, acc);
                break;
            case order::add_fused:
                acc += fmaf(d, (float) products, w.min[i] * a.s[block]);
                break;
            case order::two_sums: {
                const float dmin = w.min[i] * a.d[block];
                acc              = fmaf((float) products, d, acc);
                min              = fmaf((float) mins, dmin, min);
                break;
            }
        }
    }
    return acc - min;
}

static void fill(std::vector<uint8_t> & bytes, std::mt19937 & random) {
    size_t at = 0;
    for (; at + 4 <= bytes.size(); at += 4) {
        const uint32_t v = random();
        memcpy(&bytes[at], &v, 4);
    }
    for (; at < bytes.size(); at++) {
        bytes[at] = (uint8_t) random();
    }
}

static bool equal(const std::vector<float> & a, const std::vector<float> & b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Matrices in the buffer type.
struct weights {
    const format &        f;
    int64_t               cols, rows, matrices;
    ggml_context *        ctx;
    ggml_tensor *         tensor;
    ggml_backend_buffer_t buffer;
    size_t                row_size;
    std::vector<uint8_t>  given;
    std::string           name;

    weights(const format & f, ggml_backend_buffer_type_t buft, int64_t cols, int64_t rows, int64_t matrices) :
        f(f),
        cols(cols),
        rows(rows),
        matrices(matrices),
        ctx(ggml_init({ ggml_tensor_overhead() * 4, nullptr, true })),
        tensor(ggml_new_tensor_3d(ctx, f.type, cols, rows, matrices)),
        buffer(ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft)),
        row_size(tensor->nb[1]),
        given(row_size * rows * matrices),
        name(std::to_string(rows) + " x " + std::to_string(cols)) {
        if (buffer == nullptr) {
            fprintf(stderr, "zt-selftest: no memory for %s weights of type %s\n", name.c_str(), ggml_type_name(f.type));
            exit(1);
        }
    }

    weights(const weights &) = delete;

    ~weights() {
        ggml_backend_buffer_free(buffer);
        ggml_free(ctx);
    }

    // Gives random weights, in parts that end anywhere, and takes them back, whole and in parts: first any bytes at all, then `given`, whose scales
    // are numbers.
    void set(std::mt19937 & random) {
        for (bool wild : { true, false }) {
            fill(given, random);
            if (!wild) {
                for (size_t at = 0; at < given.size(); at += ggml_type_size(f.type)) {
                    tame(f, &given[at], random);
                }
            }
            const int64_t total = rows * matrices;
            for (int64_t row = 0; row < total;) {
                const int64_t n = std::min<int64_t>(total - row, 1 + random() % total);
                ggml_backend_tensor_set(tensor, &given[row * row_size], row * row_size, n * row_size);
                row += n;
            }
            check(comes_back(0, total), f.type, "round trip", name);
            const int64_t first = random() % total;
            check(comes_back(first, 1 + random() % (total - first)), f.type, "round trip", name + ", a part");
        }
    }

    bool comes_back(int64_t first, int64_t n) const {
        std::vector<uint8_t> back(n * row_size);
        ggml_backend_tensor_get(tensor, back.data(), first * row_size, back.size());
        return memcmp(back.data(), &given[first * row_size], back.size()) == 0;
    }

    const uint8_t * row(int64_t i) const { return &given[i * row_size]; }
};

static std::vector<float> normal_floats(size_t n, std::mt19937 & random) {
    std::normal_distribution<float> normal;
    std::vector<float>              v(n);
    for (float & x : v) {
        x = normal(random);
    }
    return v;
}

using thread_counts = std::vector<int>;

// Where threads are more than CPUs they wait for each other's turn at every barrier, so only one case has so many. The same number twice puts
// to the test what threads remember of the graph before.
static thread_counts counts_of(size_t i) {
    return i == 1 ? thread_counts{ 1, 2, 3, 5 } : i < 5 ? thread_counts{ 1, 2, 2 } : thread_counts{ 1, 2 };
}

// As many threads for all graphs: what they remember of one is there when the next begins.
static ggml_threadpool_t pool_of(int threads) {
    static std::map<int, ggml_threadpool_t> pools;

    ggml_threadpool_t & pool = pools[threads];
    if (pool == nullptr) {
        ggml_threadpool_params params = ggml_threadpool_params_default(threads);
        params.poll                   = 0;  // several pools wait at the same time
        pool                          = ggml_threadpool_new(&params);
    }
    return pool;
}

static std::vector<float> scaled(std::vector<float> v, float by) {
    for (float & x : v) {
        x *= by;
    }
    return v;
}

// A graph whose results are held to what is wanted of them, whatever the number of threads.
struct graph {
    ggml_backend_t        backend;
    ggml_context *        ctx;
    ggml_backend_buffer_t buffer = nullptr;

    struct result {
        ggml_tensor *      tensor;
        const char *       kind;
        std::vector<float> want;
        bool               follows;  // the activations
    };

    explicit graph(ggml_backend_t backend) :
        backend(backend),
        ctx(ggml_init({ ggml_tensor_overhead() * 32 + ggml_graph_overhead(), nullptr, true })) {}

    graph(const graph &) = delete;

    ~graph() {
        ggml_backend_buffer_free(buffer);
        ggml_free(ctx);
    }

    void allocate() { buffer = ggml_backend_alloc_ctx_tensors(ctx, backend); }

    // Computes the graph once for each number of threads, with activations twice as large as the time before: a factor of 2 changes no bit but
    // those of exponents, and what is left of an earlier graph shows.
    void run(const weights & w, ggml_tensor * activations, const std::vector<float> & values, const std::vector<result> & results,
             const thread_counts & counts, const std::string & name) {
        ggml_cgraph * g = ggml_new_graph(ctx);
        for (const result & r : results) {
            check(ggml_backend_supports_op(backend, r.tensor), w.f.type, "support", name);
            ggml_build_forward_expand(g, r.tensor);
        }
        float by = 1.0f;
        for (int threads : counts) {
            ggml_backend_cpu_set_n_threads(backend, threads);
            ggml_backend_cpu_set_threadpool(backend, pool_of(threads));
            ggml_backend_tensor_set(activations, scaled(values, by).data(), 0, values.size() * sizeof(float));
            for (const result & r : results) {
                ggml_backend_tensor_memset(r.tensor, 0xff, 0, ggml_nbytes(r.tensor));
            }
            ggml_backend_graph_compute(backend, g);
            for (const result & r : results) {
                std::vector<float> got(r.want.size());
                ggml_backend_tensor_get(r.tensor, got.data(), 0, got.size() * sizeof(float));
                check(equal(got, r.follows ? scaled(r.want, by) : r.want), w.f.type, r.kind, name + ", " + std::to_string(threads) + " threads");
            }
            by *= 2.0f;
        }
    }
};

enum class layout {
    plain,
    permuted,  // the planes are interleaved in memory
    apart,     // between rows is something else
};

struct shape {
    int64_t rows, blocks;  // of the weights
    int64_t n1, n2;        // activation rows: n2 planes of n1
    layout  lies;
};

static void multiply(ggml_backend_t backend, ggml_backend_buffer_type_t buft, const format & f, const shape & s, const thread_counts & counts,
                     std::mt19937 & random) {
    weights w(f, buft, s.blocks * ggml_blck_size(f.type), s.rows, 1);
    w.set(random);

    const char * const layouts[] = { "", " permuted", " apart" };
    const auto         name      = w.name + ", " + std::to_string(s.n1) + " x " + std::to_string(s.n2) + layouts[(int) s.lies] + " activations";

    // in floats
    const int64_t width = s.lies == layout::apart ? w.cols + 24 : w.cols;
    const int64_t nb1   = s.lies == layout::permuted ? s.n2 * width : width;
    const int64_t nb2   = s.lies == layout::permuted ? width : s.n1 * width;

    graph         g(backend);
    ggml_tensor * memory = ggml_new_tensor_1d(g.ctx, GGML_TYPE_F32, width * s.n1 * s.n2);
    ggml_tensor * x      = ggml_view_3d(g.ctx, memory, w.cols, s.n1, s.n2, nb1 * sizeof(float), nb2 * sizeof(float), 0);
    ggml_tensor * y      = ggml_mul_mat(g.ctx, w.tensor, x);
    ggml_tensor * ids    = ggml_new_tensor_1d(g.ctx, GGML_TYPE_I32, s.rows);
    ggml_tensor * r      = ggml_get_rows(g.ctx, w.tensor, ids);
    // products that can share what is quantized of one tensor, and one of a tensor like it
    ggml_tensor *              half = s.lies == layout::plain ? ggml_scale(g.ctx, x, 0.5f) : nullptr;
    std::vector<ggml_tensor *> halves;
    ggml_tensor *              again = nullptr;
    if (half != nullptr) {
        halves = { ggml_mul_mat(g.ctx, w.tensor, half), ggml_mul_mat(g.ctx, w.tensor, half), ggml_mul_mat(g.ctx, w.tensor, half) };
        again  = ggml_mul_mat(g.ctx, w.tensor, ggml_scale(g.ctx, half, 2.0f));
    }
    g.allocate();

    const std::vector<float> activations = normal_floats(width * s.n1 * s.n2, random);
    std::vector<int32_t> wanted(s.rows);
    std::iota(wanted.begin(), wanted.end(), 0);
    std::shuffle(wanted.begin(), wanted.end(), random);
    ggml_backend_tensor_set(ids, wanted.data(), 0, wanted.size() * sizeof(int32_t));

    std::vector<float> rows(s.rows * w.cols);
    for (int64_t i = 0; i < s.rows; i++) {
        ggml_get_type_traits(f.type)->to_float(w.row(wanted[i]), &rows[i * w.cols], w.cols);
    }
    std::vector<activation_row> quantized;
    for (int64_t i = 0; i < s.n1 * s.n2; i++) {
        quantized.push_back(quantize(f, &activations[i % s.n1 * nb1 + i / s.n1 * nb2], w.cols));
    }
    std::vector<float> products(s.rows * quantized.size());
    for (int64_t c = 0; c < s.rows; c++) {
        const weight_row row = decode(f, w.row(c), w.cols);
        for (size_t i = 0; i < quantized.size(); i++) {
            products[i * s.rows + c] = dot(f, row, quantized[i]);
        }
    }
    // a graph ends with what it begins with: the next one must not take it for its own
    std::vector<graph::result> results = { { y, "MUL_MAT", products, true }, { r, "GET_ROWS", rows, false } };
    if (half != nullptr) {
        const auto of_half = [&](int i) { return graph::result{ halves[i], "MUL_MAT", scaled(products, 0.5f), true }; };
        results.insert(results.begin(), { of_half(0), of_half(1), { again, "MUL_MAT", products, true } });
        results.push_back(of_half(2));
    }
    g.run(w, memory, activations, results, counts, name);
}

struct expert_shape {
    int64_t rows, blocks;  // of an expert's weights
    int64_t experts, used, tokens;
    bool    shared;  // each token has one row for all its experts
    int64_t most;    // experts that tokens choose from; the others get no row
};

static void multiply_experts(ggml_backend_t backend, ggml_backend_buffer_type_t buft, const format & f, const expert_shape & s,
                             const thread_counts & counts, std::mt19937 & random) {
    weights w(f, buft, s.blocks * ggml_blck_size(f.type), s.rows, s.experts);
    w.set(random);

    const auto name = std::to_string(s.experts) + " experts of " + w.name + ", " + std::to_string(s.tokens) + " tokens use " +
                      std::to_string(s.used) + " of " + std::to_string(s.most) + (s.shared ? ", shared rows" : "");

    const int64_t each = s.shared ? 1 : s.used;

    // a router's choice is a part of the order of all experts
    graph         g(backend);
    ggml_tensor * x       = ggml_new_tensor_3d(g.ctx, GGML_TYPE_F32, w.cols, each, s.tokens);
    ggml_tensor * ordered = ggml_new_tensor_2d(g.ctx, GGML_TYPE_I32, s.experts, s.tokens);
    ggml_tensor * ids     = ggml_view_2d(g.ctx, ordered, s.used, s.tokens, ordered->nb[1], 0);
    ggml_tensor * y       = ggml_mul_mat_id(g.ctx, w.tensor, x, ids);
    ggml_tensor * half    = ggml_scale(g.ctx, x, 0.5f);  // shared by products
    ggml_tensor * first   = ggml_mul_mat_id(g.ctx, w.tensor, half, ids);
    ggml_tensor * second  = ggml_mul_mat_id(g.ctx, w.tensor, half, ids);
    ggml_tensor * last    = ggml_mul_mat_id(g.ctx, w.tensor, half, ids);
    g.allocate();

    const std::vector<float> activations = normal_floats(w.cols * each * s.tokens, random);
    std::vector<int32_t> chosen(s.experts * s.tokens);
    for (int64_t t = 0; t < s.tokens; t++) {
        const auto begin = chosen.begin() + t * s.experts;
        std::iota(begin, begin + s.experts, 0);
        std::shuffle(begin, begin + s.most, random);
    }
    ggml_backend_tensor_set(ordered, chosen.data(), 0, chosen.size() * sizeof(int32_t));

    std::vector<activation_row> quantized;
    for (int64_t i = 0; i < each * s.tokens; i++) {
        quantized.push_back(quantize(f, &activations[i * w.cols], w.cols));
    }
    std::vector<float> products(s.rows * s.used * s.tokens);
    for (int64_t e = 0; e < s.most; e++) {
        for (int64_t c = 0; c < s.rows; c++) {
            const weight_row row = decode(f, w.row(e * s.rows + c), w.cols);
            for (int64_t i = 0; i < s.used * s.tokens; i++) {
                const int64_t t = i / s.used;
                if (chosen[t * s.experts + i % s.used] == e) {
                    products[i * s.rows + c] = dot(f, row, quantized[t * each + i % s.used % each]);
                }
            }
        }
    }
    const std::vector<float> halved = scaled(products, 0.5f);
    g.run(w, x, activations,
          { { first, "MUL_MAT_ID", halved, true }, { second, "MUL_MAT_ID", halved, true }, { y, "MUL_MAT_ID", products, true },
            { last, "MUL_MAT_ID", halved, true } },
          counts, name);
}

static ggml_backend_buffer_type_t find_buffer_type(ggml_backend_dev_t dev, const char * name) {
    auto get = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(dev), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * buft = get ? get(dev) : nullptr; buft && *buft; buft++) {
        if (strcmp(ggml_backend_buft_name(*buft), name) == 0) {
            return *buft;
        }
    }
    return nullptr;
}

// Says whether the buffer type takes a matrix of a type.
static bool takes(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type) {
    ggml_context *        ctx    = ggml_init({ ggml_tensor_overhead() * 4, nullptr, true });
    ggml_tensor *         w      = ggml_new_tensor_2d(ctx, type, 256, 32);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft);
    const bool            ok     = ggml_backend_supports_op(backend, ggml_mul_mat(ctx, w, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 256, 1)));
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    return ok;
}

static void examine(ggml_backend_t backend, ggml_backend_buffer_type_t buft, const format & f, std::mt19937 & random) {
    auto up_to = [&](int64_t n) { return (int64_t) (1 + random() % n); };

    const int64_t block = ggml_blck_size(f.type);
    auto          k     = [&](int64_t cols) { return std::max<int64_t>(1, cols / block); };

    std::vector<shape> shapes = {
        { 32, 1, 1, 1, layout::plain },          { 33, 2, 1, 1, layout::plain },        { 17, 1, 2, 1, layout::plain },
        { 500, k(1024), 7, 1, layout::plain },   { 1000, k(512), 13, 1, layout::plain }, { 96, k(256), 100, 1, layout::plain },
        { 64, k(512), 3, 4, layout::permuted },  { 70, k(768), 5, 3, layout::apart },
        { 34, k(65536), 2, 1, layout::plain },   // a panel larger than half of L2
    };
    for (int i = 0; i < 12; i++) {
        shapes.push_back({ 15 + up_to(200), up_to(k(1280)), up_to(20), up_to(2), (layout) (random() % 3) });
    }
    for (size_t i = 0; i < shapes.size(); i++) {
        multiply(backend, buft, f, shapes[i], counts_of(i), random);
    }

    std::vector<expert_shape> experts = {
        { 32, 1, 4, 2, 1, true, 4 },      { 33, k(512), 8, 2, 1, false, 8 },   { 48, k(256), 16, 4, 1, true, 16 },
        { 77, k(512), 8, 3, 33, true, 8 }, { 50, k(512), 8, 2, 64, false, 3 }, { 17, 2, 3, 3, 5, false, 3 },
        { 40, k(256), 1, 1, 19, true, 1 }, { 100, k(1024), 32, 8, 7, false, 32 },
    };
    for (int i = 0; i < 8; i++) {
        expert_shape s = { 15 + up_to(80), up_to(k(768)), 1 + up_to(12), 0, up_to(40), random() % 2 == 0, 0 };
        s.used         = up_to(s.experts);
        s.most         = s.used - 1 + up_to(s.experts - s.used + 1);
        experts.push_back(s);
    }
    for (size_t i = 0; i < experts.size(); i++) {
        multiply_experts(backend, buft, f, experts[i], counts_of(i), random);
    }
}

int main(int argc, char ** argv) {
    unsigned                 seed = std::random_device()();
    std::vector<std::string> only;
    bool                     measures = false;
    int64_t                  rows = 0, cols = 0;  // to measure on
    bool                     pages = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-t") == 0 && i + 1 < argc) {
            only.push_back(argv[++i]);
        } else if (strcmp(argv[i], "pages") == 0) {
            pages = true;
        } else if (strcmp(argv[i], "page-policy") == 0) {  // for a test of its own
            print_page_policy();
            return 0;
        } else if (strcmp(argv[i], "-m") == 0 && i + 2 < argc) {
            measures = true;
            rows     = atoll(argv[++i]);
            cols     = atoll(argv[++i]);
        } else {
            seed = (unsigned) strtoul(argv[i], nullptr, 0);
        }
    }

    if (pages) {
        examine_pages(seed);
        return print_tallies(seed);
    }

    // every packed tensor gets a line of log, among which the failures would be lost
    ggml_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);

    ggml_backend_t             backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    ggml_backend_buffer_type_t buft    = find_buffer_type(ggml_backend_get_device(backend), "CPU_ZEN5");
    ggml_backend_buffer_type_t coded   = find_buffer_type(ggml_backend_get_device(backend), "CPU_ZEN5_CODED");
    if (buft == nullptr || coded == nullptr) {
        fprintf(stderr, "zt-selftest: this program lacks the buffer type CPU_ZEN5 or CPU_ZEN5_CODED; is ZT_DISABLE set, or ZT_CODE off?\n");
        return 1;
    }

    const auto named = [&](ggml_type type) { return only.empty() || std::find(only.begin(), only.end(), ggml_type_name(type)) != only.end(); };

    if (!measures && (only.empty() || std::find(only.begin(), only.end(), "threads") != only.end())) {
        std::mt19937 random(seed);
        examine_threads(backend, buft, random);
    }

    for (ggml_type type : { GGML_TYPE_BF16, GGML_TYPE_F16, GGML_TYPE_F32 }) {
        std::mt19937 random(seed);
        if (named(type) && measures) {
            measure_codes(type, rows, cols, random);
        } else if (named(type)) {
            examine_codes(type, random);
            examine_floats(backend, coded, type, random);
        }
    }

    for (int t = 0; !measures && t < GGML_TYPE_COUNT; t++) {
        const ggml_type type = (ggml_type) t;
        if (!named(type) || !ggml_is_quantized(type) || !takes(backend, buft, type)) {
            continue;
        }
        const format * f = find_format(type);
        check(f != nullptr, type, "oracle", "this program does not know the type");
        if (f != nullptr) {
            std::mt19937 random(seed);  // for each type by itself, so that a seed finds a failure again whatever other types there are
            examine(backend, buft, *f, random);
        }
    }
    ggml_backend_free(backend);
    return print_tallies(seed);
}
