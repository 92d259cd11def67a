#pragma once

#include "ggml-backend.h"
#include "ggml.h"

#include <cstdint>
#include <random>
#include <string>

// Records a check of a kind on weights of a type, or on what else is named; what fails is named on stderr. Of zt-selftest.cpp.
void check(bool ok, ggml_type type, const char * kind, const std::string & where);
void check(bool ok, const char * type, const char * kind, const std::string & where);

// Checks the encoder of float weights on those of a type.
void examine_codes(ggml_type type, std::mt19937 & random);

// Checks products of coded weights of a type, in buffers of buft, beside stock's.
void examine_floats(ggml_backend_t backend, ggml_backend_buffer_type_t buft, ggml_type type, std::mt19937 & random);

// Prints a JSON line for each kind of weights of a type and each policy: bits a weight, and how fast rows x cols weights are coded, decoded and
// looked over, in bytes of the original a second.
void measure_codes(ggml_type type, int64_t rows, int64_t cols, std::mt19937 & random);
