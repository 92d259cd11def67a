#pragma once

#include "ggml.h"
#include "plan.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

// A thread that runs ahead of those that compute a graph and brings weights nearer: by prefetching them (ZT_AHEAD=layer), or by copying the
// next products' into buffers that stay in the cache (ZT_AHEAD=copy). Both read weights no sooner than memory gives them, which the
// computing threads ask for all the time where decoding is limited by memory, so they gain only where these have gaps.

namespace ggml::cpu::zen5 {

class runner {
    struct buffer {
        std::unique_ptr<uint8_t, void (*)(void *)> data;
        std::atomic<int>                           holds{ -1 };  // number of the product whose weights are in it, all of them

        buffer();
    };

    const bool                              copies;
    const std::vector<plan::product> *      products = nullptr;  // of the graph that is computed
    std::vector<std::atomic<int>>           at;                  // number of the product that each thread comes to next
    int                                     active = 0;          // threads
    std::atomic<bool>                       running{ false };    // there is a graph
    std::mutex                              mutex;
    std::condition_variable                 changed;
    bool                                    wanted = false, busy = false, over = false;
    buffer                                  buffers[2];
    std::thread                             thread;

  public:
    runner(int n_threads, bool copies);
    ~runner();

    // A graph begins, whose products outlive its end.
    void start(const std::vector<plan::product> & of_graph, int n_threads);
    void stop();

    // Thread ith comes to product number n.
    void comes_to(int ith, int n) { at[ith].store(n, std::memory_order_release); }

    // Where the weights of product n have been copied to, or nullptr.
    const uint8_t * copy_of(int n) const;

  private:
    void run();
    void follow();
    int  slowest() const;
    int  fastest() const;
};

}  // namespace ggml::cpu::zen5
