#include "parallel.h"

#include "affinity.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace ggml::host {

void parallel_for(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)> & f) {
    const int64_t last    = (end + grain - 1) / grain;
    const int     threads = (int) std::min<int64_t>(std::max(1, affinity::of_thread().count()), last - begin / grain);

    std::atomic<int64_t> next{ begin / grain };
    auto                 work = [&]() {
        for (int64_t part = next++; part < last; part = next++) {
            f(std::max(begin, part * grain), std::min(end, (part + 1) * grain));
        }
    };

    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; i++) {
        try {
            helpers.emplace_back(work);
        } catch (const std::system_error &) {
            break;  // a limit on threads or memory: those that run do all the work
        }
    }
    work();
    for (auto & helper : helpers) {
        helper.join();
    }
}

}  // namespace ggml::host
