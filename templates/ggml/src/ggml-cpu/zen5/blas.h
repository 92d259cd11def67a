#pragma once

#include "ggml-cpu-impl.h"
#include "ggml.h"

#include <cstddef>

// Products of coded float weights by the linked BLAS (ZT_BLAS=slices). ggml's threads call it, each for slices of the weights that it has
// made F32: threads of BLAS's own would fight with ggml's for the same cores. Sums are added in BLAS's order, not in stock's, and
// activations are not rounded to F16 or BF16 first: results are as exact, but not stock's bits.

namespace ggml::cpu::zen5 {

// Readies the library if it is wanted. It may change the environment, so it is called before there are threads that read it.
void blas_init();

// Whether a MUL_MAT of coded weights is one that BLAS was measured to do faster than our kernels. What it says of a shape never changes.
bool blas_takes(const ggml_tensor * op);

// Bytes of shared work memory that such a product needs with so many threads.
size_t blas_work_size(const ggml_tensor * op, int n_threads);

// All threads call it.
void blas_mul_mat(const ggml_compute_params * params, ggml_tensor * op);

}  // namespace ggml::cpu::zen5
