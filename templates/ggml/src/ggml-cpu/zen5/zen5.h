#pragma once

#include "ggml-backend.h"

// The buffer type that holds packed weights, or nullptr if it is switched off (ZT_DISABLE=1).
ggml_backend_buffer_type_t ggml_backend_cpu_zen5_buffer_type(void);

// The buffer type that holds coded float weights, or nullptr if it is switched off (ZT_CODE=off, ZT_DISABLE=1).
ggml_backend_buffer_type_t ggml_backend_cpu_zen5_coded_buffer_type(void);
