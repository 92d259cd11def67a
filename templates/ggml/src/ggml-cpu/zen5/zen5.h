#pragma once

#include "ggml-backend-impl.h"
#include "ggml-backend.h"

// The buffer type that holds packed weights, or nullptr if it is switched off (ZT_DISABLE=1).
ggml_backend_buffer_type_t ggml_backend_cpu_zen5_buffer_type(void);

// The buffer type that holds coded float weights, or nullptr if it is switched off (ZT_CODE=off, ZT_DISABLE=1).
ggml_backend_buffer_type_t ggml_backend_cpu_zen5_coded_buffer_type(void);

// Orders a graph's nodes so that its threads wait for each other less, before memory is given to them. An entry of the CPU backend's interface.
void ggml_zen5_order_graph(ggml_backend_t backend, struct ggml_cgraph * cgraph, struct ggml_backend_graph_optimize_params * params);
