#include "affinity.h"

#include <cerrno>

#include <sched.h>

namespace ggml::host {

static constexpr int word_bits = 8 * sizeof(unsigned long);

affinity affinity::of_thread() {
    affinity a;
    // The kernel refuses a set that is smaller than its own. Linux 6 on x86-64 can have 8192 CPUs.
    for (int bits = 1024; bits <= 1 << 16; bits *= 2) {
        a.words.assign(bits / word_bits, 0);
        if (sched_getaffinity(0, bits / 8, (cpu_set_t *) a.words.data()) == 0) {
            return a;
        }
        if (errno != EINVAL) {
            break;
        }
    }
    a.words.clear();
    return a;
}

affinity affinity::of(const std::vector<int> & cpu_ids) {
    affinity a;
    for (const int id : cpu_ids) {
        if (id / word_bits >= (int) a.words.size()) {
            a.words.resize(id / word_bits + 1, 0);
        }
        a.words[id / word_bits] |= 1ul << id % word_bits;
    }
    return a;
}

std::vector<int> affinity::cpu_ids() const {
    std::vector<int> ids;
    for (int i = 0; i < (int) words.size(); i++) {
        for (unsigned long left = words[i]; left != 0; left &= left - 1) {
            ids.push_back(i * word_bits + __builtin_ctzl(left));
        }
    }
    return ids;
}

int affinity::count() const {
    int n = 0;
    for (const unsigned long word : words) {
        n += __builtin_popcountl(word);
    }
    return n;
}

bool affinity::apply() const {
    return sched_setaffinity(0, words.size() * sizeof(unsigned long), (const cpu_set_t *) words.data()) == 0;
}

}  // namespace ggml::host
