#pragma once

#include <cstddef>

namespace ggml::cpu::zen5 {

// Weights have been packed. Some types must be expanded for every product: these keep more threads busy than memory does.
void count_packed(size_t bytes, bool expanded);

}  // namespace ggml::cpu::zen5
