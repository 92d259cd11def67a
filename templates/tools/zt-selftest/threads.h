#pragma once

#include "ggml-backend.h"

#include <random>

// Checks how threads meet, how they take work from each other, and, on random graphs with weights in buffers of buft, that no plan lets
// them disturb each other and that results are those of one thread.
void examine_threads(ggml_backend_t backend, ggml_backend_buffer_type_t buft, std::mt19937 & random);
