#pragma once

#include <cstdint>
#include <functional>

namespace ggml::host {

// Runs f(begin, end) on parts of [begin, end) on all CPUs this process may use, and waits. Parts start at multiples of grain.
void parallel_for(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)> & f);

}  // namespace ggml::host
