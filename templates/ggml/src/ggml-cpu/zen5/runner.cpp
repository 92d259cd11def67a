#include "runner.h"

#include "kernels.h"
#include "matmul.h"

#include "ggml.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <immintrin.h>

namespace ggml::cpu::zen5 {

// Two of these are to fit into an L3 of 32 MiB beside what else is there.
constexpr size_t buffer_bytes = size_t(8) << 20;

// How far the runner is ahead of the fastest thread, in products: those of about half a layer.
constexpr int products_ahead = 4;

// How much is brought before the runner looks again whether it is still of use.
constexpr size_t step_bytes = 64 << 10;

runner::buffer::buffer() :
    data(nullptr, ::free) {}

runner::runner(int n_threads, bool copies) :
    copies(copies),
    at(n_threads) {
    for (buffer & b : buffers) {
        if (copies) {
            b.data.reset((uint8_t *) aligned_alloc(line, buffer_bytes));
        }
    }
    try {
        thread = std::thread([this] { run(); });
    } catch (const std::system_error &) {
        // a limit on threads: nobody runs ahead
    }
}

runner::~runner() {
    stop();
    {
        std::lock_guard<std::mutex> lock(mutex);
        over = true;
    }
    changed.notify_all();
    if (thread.joinable()) {
        thread.join();
    }
}

void runner::start(const std::vector<plan::product> & of_graph, int n_threads) {
    std::lock_guard<std::mutex> lock(mutex);
    products = &of_graph;
    active   = n_threads;
    for (auto & a : at) {
        a.store(0, std::memory_order_relaxed);
    }
    for (buffer & b : buffers) {
        b.holds.store(-1, std::memory_order_relaxed);
    }
    running.store(true, std::memory_order_release);
    wanted = true;
    changed.notify_all();
}

void runner::stop() {
    running.store(false, std::memory_order_release);
    std::unique_lock<std::mutex> lock(mutex);
    wanted = false;
    changed.wait(lock, [&] { return !busy; });
}

const uint8_t * runner::copy_of(int n) const {
    const buffer & b = buffers[n % 2];
    return copies && b.holds.load(std::memory_order_acquire) == n ? b.data.get() : nullptr;
}

int runner::slowest() const {
    int n = at[0].load(std::memory_order_acquire);
    for (int i = 1; i < active; i++) {
        n = std::min(n, at[i].load(std::memory_order_acquire));
    }
    return n;
}

int runner::fastest() const {
    int n = 0;
    for (int i = 0; i < active; i++) {
        n = std::max(n, at[i].load(std::memory_order_acquire));
    }
    return n;
}

void runner::run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        changed.wait(lock, [&] { return wanted || over; });
        if (over) {
            return;
        }
        wanted = false;
        busy   = true;
        lock.unlock();
        follow();
        lock.lock();
        busy = false;
        changed.notify_all();
    }
}

// Brings one product's weights after the other until the graph ends.
void runner::follow() {
    const int count = (int) products->size();
    for (int n = 0; n < count && running.load(std::memory_order_acquire);) {
        // what a thread has begun with is too late; a buffer is free when all have left the product that was in it, and then read the other one
        n = std::max(n, fastest());
        if (n >= count) {
            return;
        }
        if (copies ? slowest() < n : n - fastest() > products_ahead) {
            _mm_pause();
            continue;
        }
        const plan::product & p    = (*products)[n];
        const uint8_t *       from = p.at(p.weights, 0);
        const size_t          size = p.bytes;
        buffer &              b    = buffers[n % 2];
        if (copies && (!p.whole || size > buffer_bytes || b.data == nullptr)) {
            n++;
            continue;
        }
        b.holds.store(-1, std::memory_order_release);
        size_t done = 0;
        for (; done < size && fastest() <= n && running.load(std::memory_order_relaxed); done += step_bytes) {
            const size_t bytes = std::min(step_bytes, size - done);
            if (copies) {
                memcpy(b.data.get() + done, from + done, bytes);
            } else {
                for (size_t i = 0; i < bytes; i += line) {
                    _mm_prefetch((const char *) from + done + i, _MM_HINT_T2);
                }
            }
        }
        if (copies && done >= size) {
            b.holds.store(n, std::memory_order_release);
        }
        n++;
    }
}

}  // namespace ggml::cpu::zen5
