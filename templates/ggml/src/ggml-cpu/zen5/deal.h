#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

// Shares work out to threads that each have a part of their own, and lets one that is done take from those that are not. Work comes in
// rounds of numbered units. Threads enter the rounds one after the other, each when it gets there.

namespace ggml::cpu::zen5 {

struct units {
    int64_t begin = 0, end = 0;
    bool    empty() const { return begin >= end; }
};

class deal {
    // What nobody has taken yet of a thread's part: round (16 bits), begin, end (24 each), in one word so that it is taken in one step.
    struct alignas(64) hand {
        std::atomic<uint64_t> left{ 0 };
        uint16_t              round = 0;  // the owner's
    };

    // Whom a thread takes from, in this order: the first `near` are of its own domain.
    struct victims {
        std::vector<int> threads;
        size_t           near;
    };

    std::vector<hand>    hands;
    std::vector<victims> others;  // by thread

  public:
    static constexpr int64_t most = 1 << 24;  // units of a round, less than this

    // Domain of each thread: numbers from 0, equal for threads that share an L3. A thread takes from some of its own domain, and from one of each other domain: all
    // would be many lines to look at.
    explicit deal(const std::vector<int> & domain_of_thread);

    // All threads are between two rounds, and so many of them will enter the next ones.
    void start(int n_threads);

    // Thread ith enters the next round, of total units in parts for nth threads.
    void enter(int ith, int nth, int64_t total);

    // Some units for this thread, until there are none: first from the front of its own part, at least `grain`, then from the back of
    // others'. What is left of a part in another domain must be worth the way.
    units take(int ith, int nth, int64_t total, int64_t grain);

  private:
    units steal(int ith, int victim, int nth, int64_t total, int64_t least, int64_t grain);
};

// Part i of n of total units.
constexpr units share(int64_t total, int i, int n) {
    return { total * i / n, total * (i + 1) / n };
}

}  // namespace ggml::cpu::zen5
