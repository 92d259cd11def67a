#include "generation.h"

#include "ggml-host/governor.h"
#include "ggml-host/log.h"
#include "ggml-host/switches.h"
#include "ggml-host/topology.h"
#include "ggml-zen5.h"

#include <atomic>
#include <map>
#include <mutex>
#include <string>

namespace ggml::cpu::zen5 {

static std::atomic<size_t> packed_bytes{ 0 }, expanded_bytes{ 0 };

void count_packed(size_t bytes, bool expanded) {
    packed_bytes += bytes;
    expanded_bytes += expanded ? bytes : 0;
}

}  // namespace ggml::cpu::zen5

int ggml_zen5_decode_threads(int n_threads, bool model_loaded) {
    using namespace ggml::cpu::zen5;
    using namespace ggml::host;

    static std::mutex                     mutex;
    static std::map<int, governor_choice> choices;  // by threads; a program may load several models

    std::lock_guard<std::mutex> lock(mutex);
    if (choices.count(n_threads) == 0) {
        choices[n_threads] = govern(get_topology(), get_switches().govern, n_threads);
    }
    if (!model_loaded) {
        return n_threads;
    }
    governor_choice c = choices[n_threads];
    if (c.threads < n_threads && 4 * expanded_bytes > packed_bytes) {
        c = { n_threads, "weights of these types keep all of them busy" };
    }
    const std::string some = c.threads < n_threads ? std::to_string(c.threads) + " of " : "all ";
    note("%s%d threads generate tokens: %s", some.c_str(), n_threads, c.text.c_str());
    return c.threads;
}
