#pragma once

#include "types.h"

#include "ggml-cpu-impl.h"
#include "ggml.h"

// The operations on packed weights: MUL_MAT and MUL_MAT_ID with F32 activations, GET_ROWS. All threads call each function.

namespace ggml::cpu::zen5 {

// Bytes of shared work memory that op needs with so many threads.
size_t work_size(const weight_type & type, const ggml_tensor * op, int n_threads);

void mul_mat(const weight_type & type, ggml_compute_params * params, ggml_tensor * op);

// src[2] names, for each token, the experts whose matrices its activations meet.
void mul_mat_id(const weight_type & type, ggml_compute_params * params, ggml_tensor * op);

void get_rows(const weight_type & type, const ggml_compute_params * params, ggml_tensor * op);

}  // namespace ggml::cpu::zen5
