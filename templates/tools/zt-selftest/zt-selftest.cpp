// zt-selftest: holds the zen5 buffer type inside a finished build to its promises. Weights come back from it as they were given;
// MUL_MAT equals, bit for bit, one fma(float(dot), d_w*d_a, acc) per block in k order with stock's quantizer on the activations, for any
// shape, thread count and layout of the activations; GET_ROWS equals stock's dequantization.
//
// usage: zt-selftest [seed]
//
// Prints a JSON line with the seed and one for each kind of check; what fails is named on stderr.

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
#include <vector>

struct block {
    ggml_fp16_t d;
    int8_t      qs[32];
};

static_assert(sizeof(block) == 34, "block_q8_0");

struct tally {
    int passed = 0;
    int failed = 0;
};

static std::map<std::string, tally> tallies;  // by kind of check

static void check(bool ok, const char * kind, const std::string & where) {
    tally & t = tallies[kind];
    if (ok) {
        t.passed++;
    } else {
        t.failed++;
        fprintf(stderr, "FAIL %s: %s\n", kind, where.c_str());
    }
}

static ggml_backend_buffer_type_t find_buffer_type(ggml_backend_dev_t dev) {
    auto get = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(dev), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * buft = get ? get(dev) : nullptr; buft && *buft; buft++) {
        if (strcmp(ggml_backend_buft_name(*buft), "CPU_ZEN5") == 0) {
            return *buft;
        }
    }
    return nullptr;
}

struct shape {
    int64_t rows, cols;  // of the weights
    int64_t n1, n2;      // activation rows: n2 planes of n1
    bool    permuted;    // the planes are interleaved in memory
};

static void run(ggml_backend_t backend, ggml_backend_buffer_type_t buft, const shape & s, std::mt19937 & random) {
    const int64_t blocks = s.cols / 32;
    const auto    name   = std::to_string(s.rows) + " x " + std::to_string(s.cols) + ", " + std::to_string(s.n1) + " x " +
                      std::to_string(s.n2) + (s.permuted ? " permuted" : "") + " activations";

    ggml_init_params params = { ggml_tensor_overhead() * 16, nullptr, true };
    ggml_context *   packed = ggml_init(params);
    ggml_tensor *    w      = ggml_new_tensor_2d(packed, GGML_TYPE_Q8_0, s.cols, s.rows);
    ggml_backend_buffer_t weights = ggml_backend_alloc_ctx_tensors_from_buft(packed, buft);
    if (weights == nullptr) {
        check(false, "allocation", name);
        ggml_free(packed);
        return;
    }

    // every int8 and scales of both signs
    std::vector<block> given(s.rows * blocks);
    for (auto & b : given) {
        b.d = ggml_fp32_to_fp16(std::normal_distribution<float>(0.0f, 0.01f)(random));
        for (auto & q : b.qs) {
            q = (int8_t) random();
        }
    }
    // in two parts, the first of which does not end with a panel
    const size_t row_size = blocks * sizeof(block);
    const size_t first    = s.rows / 3 * row_size;
    ggml_backend_tensor_set(w, given.data(), 0, first);
    ggml_backend_tensor_set(w, (const char *) given.data() + first, first, s.rows * row_size - first);

    std::vector<block> back(given.size());
    ggml_backend_tensor_get(w, back.data(), 0, s.rows * row_size);
    check(memcmp(given.data(), back.data(), s.rows * row_size) == 0, "round trip", name);

    ggml_context * ctx = ggml_init({ ggml_tensor_overhead() * 32 + ggml_graph_overhead(), nullptr, true });
    ggml_tensor *  x   = s.permuted ? ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.cols, s.n2, s.n1)
                                    : ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.cols, s.n1, s.n2);
    ggml_tensor *  y   = ggml_mul_mat(ctx, w, s.permuted ? ggml_permute(ctx, x, 0, 2, 1, 3) : x);
    ggml_tensor *  ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, s.rows);
    ggml_tensor *  r   = ggml_get_rows(ctx, w, ids);
    ggml_cgraph *  graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    ggml_build_forward_expand(graph, r);
    check(ggml_backend_supports_op(backend, y) && ggml_backend_supports_op(backend, r), "support", name);
    ggml_backend_buffer_t rest = ggml_backend_alloc_ctx_tensors(ctx, backend);

    std::vector<float> activations(s.cols * s.n1 * s.n2);
    for (auto & v : activations) {
        v = std::normal_distribution<float>()(random);
    }
    ggml_backend_tensor_set(x, activations.data(), 0, activations.size() * sizeof(float));
    std::vector<int32_t> wanted(s.rows);
    std::iota(wanted.begin(), wanted.end(), 0);
    std::shuffle(wanted.begin(), wanted.end(), random);
    ggml_backend_tensor_set(ids, wanted.data(), 0, wanted.size() * sizeof(int32_t));
    std::vector<float> want_rows(s.rows * s.cols);
    for (int64_t i = 0; i < s.rows; i++) {
        ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(&given[wanted[i] * blocks], &want_rows[i * s.cols], s.cols);
    }

    // the oracle
    const ggml_from_float_t quantize = ggml_get_type_traits_cpu(GGML_TYPE_Q8_0)->from_float;
    std::vector<float>      want(s.rows * s.n1 * s.n2);
    std::vector<block>      row(blocks);
    for (int64_t i2 = 0; i2 < s.n2; i2++) {
        for (int64_t i1 = 0; i1 < s.n1; i1++) {
            quantize(&activations[(s.permuted ? i1 * s.n2 + i2 : i2 * s.n1 + i1) * s.cols], row.data(), s.cols);
            for (int64_t c = 0; c < s.rows; c++) {
                float acc = 0.0f;
                for (int64_t b = 0; b < blocks; b++) {
                    const block & wb  = given[c * blocks + b];
                    int32_t       dot = 0;
                    for (int k = 0; k < 32; k++) {
                        dot += wb.qs[k] * row[b].qs[k];
                    }
                    const float scale = ggml_fp16_to_fp32(wb.d) * ggml_fp16_to_fp32(row[b].d);
                    acc               = fmaf((float) dot, scale, acc);
                }
                want[(i2 * s.n1 + i1) * s.rows + c] = acc;
            }
        }
    }

    for (int threads : { 1, 2, 3, 5 }) {
        const auto where = name + ", " + std::to_string(threads) + " threads";
        ggml_backend_cpu_set_n_threads(backend, threads);
        ggml_backend_graph_compute(backend, graph);
        std::vector<float> got(want.size());
        ggml_backend_tensor_get(y, got.data(), 0, got.size() * sizeof(float));
        check(memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0, "MUL_MAT", where);

        std::vector<float> got_rows(want_rows.size());
        ggml_backend_tensor_get(r, got_rows.data(), 0, got_rows.size() * sizeof(float));
        check(memcmp(got_rows.data(), want_rows.data(), got_rows.size() * sizeof(float)) == 0, "GET_ROWS", where);
    }

    ggml_backend_buffer_free(rest);
    ggml_backend_buffer_free(weights);
    ggml_free(ctx);
    ggml_free(packed);
}

int main(int argc, char ** argv) {
    const unsigned seed = argc > 1 ? (unsigned) strtoul(argv[1], nullptr, 0) : std::random_device()();
    std::mt19937   random(seed);

    // every packed tensor gets a line of log, among which the failures would be lost
    ggml_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);

    ggml_backend_t             backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    ggml_backend_buffer_type_t buft    = find_buffer_type(ggml_backend_get_device(backend));
    if (buft == nullptr) {
        fprintf(stderr, "zt-selftest: this program has no CPU_ZEN5 buffer type; is ZT_DISABLE set?\n");
        return 1;
    }

    std::vector<shape> shapes = {
        { 32, 32, 1, 1, false },     { 33, 64, 1, 1, false },   { 17, 32, 2, 1, false },     { 100, 96, 5, 1, false },
        { 1000, 2048, 1, 1, false }, { 500, 2048, 7, 1, false }, { 4096, 160, 13, 1, false }, { 96, 256, 100, 1, false },
        { 64, 64, 3, 4, false },     { 64, 96, 5, 3, true },
        { 70, 20480, 8, 1, false },  // a panel larger than half of L2: taken in parts along k
    };
    for (int i = 0; i < 40; i++) {
        shapes.push_back({ (int64_t) (16 + random() % 300), (int64_t) (32 * (1 + random() % 20)), (int64_t) (1 + random() % 20),
                           (int64_t) (1 + random() % 2), random() % 4 == 0 });
    }
    for (const auto & s : shapes) {
        run(backend, buft, s, random);
    }
    ggml_backend_free(backend);
    printf("{\"seed\":%u}\n", seed);
    bool ok = true;
    for (const auto & [kind, t] : tallies) {
        printf("{\"type\":\"q8_0\",\"check\":\"%s\",\"passed\":%d,\"failed\":%d}\n", kind.c_str(), t.passed, t.failed);
        ok = ok && t.failed == 0;
    }
    return ok ? 0 : 1;
}
