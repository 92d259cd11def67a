#include "deal.h"

#include <algorithm>

namespace ggml::cpu::zen5 {

namespace {

struct content {
    uint16_t round;
    units    left;

    content(uint16_t round, const units & left) : round(round), left(left) {}

    explicit content(uint64_t word) :
        round((uint16_t) (word >> 48)),
        left{ (int64_t) (word >> 24 & 0xffffff), (int64_t) (word & 0xffffff) } {}

    uint64_t word() const { return (uint64_t) round << 48 | (uint64_t) left.begin << 24 | (uint64_t) left.end; }
};

}  // namespace

deal::deal(const std::vector<int> & domain_of_thread) :
    hands(domain_of_thread.size()),
    others(domain_of_thread.size()) {
    constexpr size_t some = 15;

    const std::vector<int> &      domain    = domain_of_thread;
    const int                     n_threads = (int) domain.size();
    std::vector<std::vector<int>> members;  // by domain
    std::vector<int>              rank(n_threads);
    for (int i = 0; i < n_threads; i++) {
        members.resize(std::max(members.size(), (size_t) domain[i] + 1));
        rank[i] = (int) members[domain[i]].size();
        members[domain[i]].push_back(i);
    }
    for (int i = 0; i < n_threads; i++) {
        const auto & mine = members[domain[i]];
        victims &    v    = others[i];
        for (size_t step = 1; step < mine.size() && step <= some; step++) {
            v.threads.push_back(mine[(rank[i] + step) % mine.size()]);
        }
        v.near = v.threads.size();
        for (size_t step = 1; step < members.size(); step++) {
            const auto & theirs = members[(domain[i] + step) % members.size()];
            if (rank[i] < (int) theirs.size()) {
                v.threads.push_back(theirs[rank[i]]);
            }
        }
    }
}

void deal::start(int n_threads) {
    const uint16_t round = hands[0].round;
    for (int i = 0; i < n_threads; i++) {
        hands[i].round = round;
        hands[i].left.store(content(round, {}).word(), std::memory_order_relaxed);
    }
}

void deal::enter(int ith, int nth, int64_t total) {
    hand &         h     = hands[ith];
    const uint16_t round = ++h.round;
    // somebody who was here before may have dealt this hand already, and taken from it, and even gone on to deal those of later rounds
    uint64_t word = h.left.load(std::memory_order_acquire);
    while ((int16_t) (content(word).round - round) < 0 &&
           !h.left.compare_exchange_weak(word, content(round, share(total, ith, nth)).word(), std::memory_order_acq_rel)) {
    }
}

units deal::take(int ith, int nth, int64_t total, int64_t grain) {
    hand &   h    = hands[ith];
    uint64_t word = h.left.load(std::memory_order_acquire);
    for (;;) {
        const content c(word);
        if (c.round != h.round || c.left.empty()) {
            break;
        }
        // large pieces first: others can still take what is not in hand
        const int64_t remain = c.left.end - c.left.begin;
        const int64_t n      = std::min(remain, std::max(grain, remain / 8));
        if (h.left.compare_exchange_weak(word, content(c.round, { c.left.begin + n, c.left.end }).word(), std::memory_order_acq_rel)) {
            return { c.left.begin, c.left.begin + n };
        }
    }
    const victims & v = others[ith];
    for (size_t i = 0; i < v.threads.size(); i++) {
        const units u = v.threads[i] < nth ? steal(ith, v.threads[i], nth, total, i < v.near ? 1 : 2 * grain, grain) : units();
        if (!u.empty()) {
            return u;
        }
    }
    return {};
}

// Takes up to `grain` units of a victim that has at least `least` left.
units deal::steal(int ith, int victim, int nth, int64_t total, int64_t least, int64_t grain) {
    const uint16_t round = hands[ith].round;
    uint64_t       word  = hands[victim].left.load(std::memory_order_acquire);
    for (;;) {
        const content c(word);
        units         left;
        if (c.round == round) {
            left = c.left;
        } else if (c.round == (uint16_t) (round - 1) && c.left.empty()) {
            left = share(total, victim, nth);  // it has not come yet: all of its last part is taken, so that this hand can be dealt
        }
        if (left.end - left.begin < least) {
            return {};
        }
        const int64_t n = std::min(left.end - left.begin, grain);
        if (hands[victim].left.compare_exchange_weak(word, content(round, { left.begin, left.end - n }).word(), std::memory_order_acq_rel)) {
            return { left.end - n, left.end };
        }
    }
}

}  // namespace ggml::cpu::zen5
