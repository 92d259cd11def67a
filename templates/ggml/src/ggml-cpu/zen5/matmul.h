#pragma once

#include "activations.h"
#include "types.h"

#include "ggml-cpu-impl.h"
#include "ggml.h"

#include <cstddef>
#include <cstdint>
#include <functional>

// The operations on packed and coded weights: MUL_MAT and MUL_MAT_ID with F32 activations, GET_ROWS. All threads call each function.

namespace ggml::cpu::zen5 {

constexpr size_t line = 64;  // bytes of a cache line

constexpr size_t aligned(size_t bytes) {
    return (bytes + line - 1) / line * line;
}

// Operations that these functions may be able to do.
bool multiplies_or_reads(const ggml_tensor * op);

// Why such an operation cannot be done here whatever its weights are, or nullptr.
const char * refusal(const ggml_tensor * op);

// One matrix of a tensor and the activation rows that it meets.
struct product {
    int64_t         matrix;
    const uint8_t * activations;  // as kernels read them, group after group
    row_groups      groups;
    const int32_t * rows;         // which row of the result each of them gives, or nullptr: they follow each other
};

// Multiplies the matrices of a tensor by activations, panel by panel.
class multiplier {
  public:
    // Multiplies the weights of op, whose panels of `width` rows take `bytes` each while rows pass them. Groups have up to `tall` rows.
    multiplier(ggml_tensor * op, activation format, int tall, int width, size_t bytes);

    const activation format;
    const int        tall;

    virtual ~multiplier() = default;

    // Bytes of scratch memory that each thread needs, and a thread's.
    virtual size_t scratch_size() const              = 0;
    virtual void   set_scratch(uint8_t * scratch)    = 0;

    // Rows so few that memory is the limit and not arithmetic.
    static bool few(int64_t n) { return n <= 2 * tile_rows; }

    // Panels of a matrix.
    int64_t panel_count() const { return panels; }

    // Has this thread read the weights of a dense product somewhere else than in their tensor.
    virtual void read_from(const uint8_t * weights) { GGML_UNUSED(weights); }

    // This thread's share of count products, none of which has fewer than one row. Unless all have few, the threadpool's chunk counter
    // is at nth.
    void run(const ggml_compute_params * params, const product * products, int64_t count) const;

  protected:
    ggml_tensor * dst;
    int64_t       cols;    // weight rows, columns of the result
    int64_t       panels;  // of a matrix

    // The result's row of a product's row.
    float * row_of(const product & p, int64_t row) const {
        return (float *) ((char *) dst->data + (p.rows != nullptr ? p.rows[row] : row) * dst->nb[1]);
    }

  private:
    size_t bytes;

    // Computes the result's columns of panels first..last-1 for groups g0..g1-1 of a product.
    virtual void multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const = 0;
};

// Bytes of shared work memory that op needs with so many threads.
size_t work_size(const ggml_tensor * op, const multiplier & m, int n_threads);

void mul_mat(ggml_compute_params * params, ggml_tensor * op, multiplier & m);

// src[2] names, for each token, the experts whose matrices its activations meet.
void mul_mat_id(ggml_compute_params * params, ggml_tensor * op, multiplier & m);

// read gives one row of the weights as floats.
void get_rows(const ggml_compute_params * params, ggml_tensor * op, const std::function<void(int64_t row, float * out)> & read);

}  // namespace ggml::cpu::zen5
