#pragma once

// Matrix products of any shape, for the commands that time them.

#include "zt-probe.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <cstdint>
#include <string>
#include <vector>

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

    std::string text() const;  // as --shape takes it
};

// The type of weights that is called name, one that ggml can multiply, and whether zt-probe can make such weights.
ggml_type type_named(const std::string & name);
bool      can_fill(ggml_type type);

shape parse_shape(const std::string & text);

// The buffer types of the CPU, in the order in which llama.cpp asks them.
struct buffer_types {
    ggml_backend_dev_t                      dev   = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_buffer_type_t              tuned = nullptr; // ours; null in stock's build
    ggml_backend_buffer_type_t              coded = nullptr; // ours for float weights, likewise
    std::vector<ggml_backend_buffer_type_t> stock;           // its own; the plain one last

    buffer_types();

    bool packs(const shape & s) const;

    // Which of stock's it would put such weights into.
    ggml_backend_buffer_type_t stocks(const shape & s) const;
};

// The data that all products of a shape read.
struct inputs {
    std::vector<uint8_t> weights;
    std::vector<float>   activations;
    std::vector<int32_t> ids;

    inputs(const shape & s, uint64_t seed);
};

// A product on weights in one buffer type, so often in a graph that the graph's own time does not count. Each reads activations of its own:
// what a build prepares of them once for several products is no merit of the product's.
class product_bench {
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
    product_bench(const shape & s, const inputs & in, ggml_backend_buffer_type_t buft, ggml_threadpool * pool, int n_threads);

    void repeat(const inputs & in, int n);

    // The time of one product in ns.
    int64_t run();

    // [n][m]
    const float * results() const { return (const float *) y->data; }
};

// Prints a member of a JSON object: a list of one in so many values.
void print_list(const char * name, const std::vector<int64_t> & values, size_t stride);

// How far values are from others: the sum of the squared differences over that of the squares of a. It fails where that is no number.
double nmse_of(const float * a, const float * b, int64_t n, const shape & s);
