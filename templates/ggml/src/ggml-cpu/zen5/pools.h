#pragma once

#include <vector>

struct ggml_threadpool;

namespace ggml::cpu::zen5 {

// The L3 (an index of ggml::host::topology) on which each thread of a pool runs; empty if the kernel may move them between L3s.
std::vector<int> domains_of(const ggml_threadpool * pool);

// The caller is thread 0 of a pool from here to ggml_zen5_graph_end.
void join_pool(const ggml_threadpool * pool);

void forget_pool(const ggml_threadpool * pool);

}  // namespace ggml::cpu::zen5
