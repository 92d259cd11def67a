// Products of coded float weights beside those that stock computes of the same weights in its own buffer, bit for bit.

#include "codes.h"

#include "ggml-alloc.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <cmath>
#include <cstring>
#include <vector>

// What weights are made of: what models hold, where each type gets another code, and what no code helps.
enum class content {
    normal,     // rounded to the type
    from_bf16,  // rounded to BF16 first
    from_f16,
    any,        // any finite numbers
    mixed,      // a kind for each row
};

static const char * const contents[] = { "normal", "BF16", "F16", "any", "mixed" };

static float number(ggml_type type, content c, std::mt19937 & random) {
    std::normal_distribution<float> normal(0.0f, 0.03f);
    switch (c) {
        case content::from_bf16:
            return ggml_bf16_to_fp32(ggml_fp32_to_bf16(normal(random)));
        case content::from_f16:
            return ggml_fp16_to_fp32(ggml_fp32_to_fp16(normal(random)));
        case content::any: {
            // exponents that the type has and whose products stay finite, denormals and zeros of both signs among them
            const int range = type == GGML_TYPE_F16 ? 28 : 120;
            const float v   = std::ldexp(1.0f + (random() & 0x7fffff) * 0x1p-23f, (int) (random() % range) - range + 2);
            return random() % 50 == 0 ? (random() % 2 ? 0.0f : -0.0f) : random() % 2 ? v : -v;
        }
        default:
            return normal(random);
    }
}

// A matrix (or those of several experts) twice: where stock multiplies by it, and coded.
class twins {
    ggml_context_ptr        contexts[2];
    ggml_backend_buffer_ptr buffers[2];

  public:
    ggml_tensor * stock;
    ggml_tensor * coded;

    twins(ggml_backend_buffer_type_t buft, ggml_type type, content c, int64_t cols, int64_t rows, int64_t experts, std::mt19937 & random) {
        ggml_tensor ** const             tensors[] = { &stock, &coded };
        const ggml_backend_buffer_type_t bufts[]   = { ggml_backend_cpu_buffer_type(), buft };
        for (int i = 0; i < 2; i++) {
            contexts[i].reset(ggml_init({ ggml_tensor_overhead() * 2, nullptr, true }));
            *tensors[i] = ggml_new_tensor_3d(contexts[i].get(), type, cols, rows, experts);
            buffers[i].reset(ggml_backend_alloc_ctx_tensors_from_buft(contexts[i].get(), bufts[i]));
        }
        std::vector<float> values(ggml_nelements(stock));
        for (int64_t i = 0; i < (int64_t) values.size(); i++) {
            const content kind = c != content::mixed ? c : (content) (i / cols % 4);
            values[i]          = number(type, kind, random);
        }
        std::vector<uint8_t> weights(ggml_nbytes(stock));
        ggml_quantize_chunk(type, values.data(), weights.data(), 0, rows * experts, cols, nullptr);
        if (type == GGML_TYPE_F32) {
            memcpy(weights.data(), values.data(), weights.size());
        }
        ggml_backend_tensor_set(stock, weights.data(), 0, weights.size());
        ggml_backend_tensor_set(coded, weights.data(), 0, weights.size());

        std::vector<uint8_t> back(weights.size());
        ggml_backend_tensor_get(coded, back.data(), 0, back.size());
        check(back == weights, type, "round trip", contents[(int) c]);
    }
};

// A graph of operations of both twins.
class comparison {
    ggml_backend_t          backend;
    ggml_context_ptr        ctx;
    ggml_backend_buffer_ptr buffer;

    struct pair {
        const char *  kind;
        ggml_tensor * want;
        ggml_tensor * got;
    };
    std::vector<pair> pairs;

  public:
    explicit comparison(ggml_backend_t backend) :
        backend(backend),
        ctx(ggml_init({ ggml_tensor_overhead() * 64 + ggml_graph_overhead(), nullptr, true })) {}

    ggml_context * context() { return ctx.get(); }

    void add(const char * kind, ggml_tensor * want, ggml_tensor * got) { pairs.push_back({ kind, want, got }); }

    void allocate() { buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend)); }

    void run(ggml_type type, const std::string & name) {
        ggml_cgraph * g = ggml_new_graph(ctx.get());
        for (const pair & p : pairs) {
            check(ggml_backend_supports_op(backend, p.got), type, "support", name);
            ggml_build_forward_expand(g, p.want);
            ggml_build_forward_expand(g, p.got);
        }
        for (int threads : { 1, 2, 3 }) {
            ggml_backend_cpu_set_n_threads(backend, threads);
            for (const pair & p : pairs) {
                ggml_backend_tensor_memset(p.got, 0xff, 0, ggml_nbytes(p.got));
            }
            ggml_backend_graph_compute(backend, g);
            for (const pair & p : pairs) {
                check(memcmp(p.want->data, p.got->data, ggml_nbytes(p.want)) == 0, type, p.kind, name + ", " + std::to_string(threads) + " threads");
            }
        }
    }
};

static void fill(ggml_tensor * t, std::mt19937 & random) {
    std::normal_distribution<float> normal;
    std::vector<float>              values(ggml_nelements(t));
    for (float & v : values) {
        v = normal(random);
    }
    ggml_backend_tensor_set(t, values.data(), 0, values.size() * sizeof(float));
}

struct float_shape {
    int64_t rows, cols, n1, n2;
    bool    apart;  // between rows of activations is something else
};

static void multiply(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type, content c, const float_shape & s, std::mt19937 & random) {
    twins       w(buft, type, c, s.cols, s.rows, 1, random);
    comparison  both(backend);
    const auto  ctx  = both.context();
    const auto  name = std::string(contents[(int) c]) + " " + std::to_string(s.rows) + " x " + std::to_string(s.cols) + ", " + std::to_string(s.n1) +
                      " x " + std::to_string(s.n2) + (s.apart ? " apart" : "") + " activations";

    ggml_tensor * all = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.cols + (s.apart ? 64 : 0), s.n1, s.n2);
    ggml_tensor * x   = s.apart ? ggml_view_3d(ctx, all, s.cols, s.n1, s.n2, all->nb[1], all->nb[2], 0) : all;
    ggml_tensor * ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, s.rows);
    both.add("MUL_MAT", ggml_mul_mat(ctx, w.stock, x), ggml_mul_mat(ctx, w.coded, x));
    both.add("GET_ROWS", ggml_get_rows(ctx, w.stock, ids), ggml_get_rows(ctx, w.coded, ids));
    both.allocate();
    fill(all, random);
    std::vector<int32_t> rows(s.rows);
    for (int32_t & r : rows) {
        r = (int32_t) (random() % s.rows);
    }
    ggml_backend_tensor_set(ids, rows.data(), 0, rows.size() * sizeof(int32_t));
    both.run(type, name);
}

struct float_expert_shape {
    int64_t rows, cols, experts, used, tokens;
    bool    shared;  // all of a token's experts meet one row
};

static void multiply_experts(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type, content c, const float_expert_shape & s,
                             std::mt19937 & random) {
    twins      w(buft, type, c, s.cols, s.rows, s.experts, random);
    comparison both(backend);
    const auto ctx  = both.context();
    const auto name = std::string(contents[(int) c]) + " " + std::to_string(s.experts) + " x " + std::to_string(s.rows) + " x " + std::to_string(s.cols) +
                      ", " + std::to_string(s.used) + " of them for each of " + std::to_string(s.tokens) + " tokens";

    ggml_tensor * x   = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.cols, s.shared ? 1 : s.used, s.tokens);
    ggml_tensor * ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, s.used, s.tokens);
    both.add("MUL_MAT_ID", ggml_mul_mat_id(ctx, w.stock, x, ids), ggml_mul_mat_id(ctx, w.coded, x, ids));
    both.allocate();
    fill(x, random);
    std::vector<int32_t> chosen(s.used * s.tokens);
    for (size_t i = 0; i < chosen.size(); i++) {
        // distinct for a token
        chosen[i] = (int32_t) ((i / s.used * 7 + i % s.used) % s.experts);
    }
    ggml_backend_tensor_set(ids, chosen.data(), 0, chosen.size() * sizeof(int32_t));
    both.run(type, name);
}

void examine_floats(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type, std::mt19937 & random) {
    auto up_to = [&](int64_t n) { return (int64_t) (1 + random() % n); };

    std::vector<float_shape> shapes = {
        { 16, 64, 1, 1, false },   { 17, 128, 1, 1, false },  { 32, 192, 2, 1, false },   { 64, 2048, 1, 1, false }, { 100, 576, 7, 1, false },
        { 66, 256, 13, 1, false }, { 48, 1024, 6, 1, false }, { 40, 320, 100, 1, false }, { 36, 512, 1, 5, false },  { 64, 448, 3, 4, false },
        { 64, 512, 5, 3, true },   { 1000, 64, 33, 1, false }, { 20, 16384, 25, 1, false },
    };
    for (int i = 0; i < 12; i++) {
        shapes.push_back({ 15 + up_to(200), 64 * up_to(20), up_to(20), up_to(3), random() % 3 == 0 });
    }
    for (size_t i = 0; i < shapes.size(); i++) {
        multiply(backend, buft, type, (content) (i % 5), shapes[i], random);
    }
    const std::vector<float_expert_shape> experts = {
        { 32, 64, 4, 2, 1, true }, { 33, 512, 8, 2, 1, false }, { 48, 256, 16, 4, 9, true }, { 77, 192, 8, 3, 33, true }, { 20, 1024, 3, 3, 64, false },
    };
    for (size_t i = 0; i < experts.size(); i++) {
        multiply_experts(backend, buft, type, (content) (i % 5), experts[i], random);
    }
}
