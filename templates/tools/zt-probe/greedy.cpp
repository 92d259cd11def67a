// zt-probe greedy

#include "zt-probe.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>

struct top2 {
    llama_token first, second;
    float       first_logit, second_logit;
};

// The two largest logits; the lower id wins a tie.
static top2 find_top2(const float * logits, int n_vocab) {
    top2 t = { -1, -1, -INFINITY, -INFINITY };
    for (int i = 0; i < n_vocab; i++) {
        if (t.first < 0 || logits[i] > t.first_logit) {
            t.second       = t.first;
            t.second_logit = t.first_logit;
            t.first        = i;
            t.first_logit  = logits[i];
        } else if (t.second < 0 || logits[i] > t.second_logit) {
            t.second       = i;
            t.second_logit = logits[i];
        }
    }
    return t;
}

// A number that differs where any bit of the logits does, but for one case in 2^32: FNV-1a (Fowler, Noll and Vo) by words of 32 bits.
static uint64_t bits_of(const float * logits, int n_vocab) {
    uint64_t h = 0xcbf29ce484222325;
    for (int i = 0; i < n_vocab; i++) {
        uint32_t bits;
        memcpy(&bits, logits + i, sizeof(bits));
        h = (h ^ bits)*0x100000001b3;
    }
    return h;
}

// End-of-text tokens are kept like any other: what is compared is arithmetic.
void cmd_greedy(const probe_params & p) {
    if (p.n < 0) {
        fail("greedy wants a number of tokens to make: -n N");
    }
    model_ptr model   = load_model(p);
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
    const auto prompt = input_tokens(p, p.tokens.empty() ? p.n_prompt : -1, n_vocab);
    const int n_past  = (int) prompt.size();

    session s(p, model.get(), n_past + p.n, n_past, 1);
    batch_buf batch(n_past);
    for (int i = 0; i < n_past; i++) {
        batch.add(prompt[i], i, 0, i == n_past - 1);
    }
    for (int i = 0; i < p.n; i++) {
        s.decode(batch.b);
        const float * logits = s.logits(batch.b.n_tokens - 1);
        const top2 t = find_top2(logits, n_vocab);
        if (!(t.first_logit - t.second_logit >= 0)) {
            fail("step %d: the logits are not numbers", i);
        }
        printf("{\"step\":%d,\"token\":%d,\"logit\":%.9g,\"second\":%d,\"margin\":%.9g,\"bits\":\"%016" PRIx64 "\"}\n", i, t.first,
            t.first_logit, t.second, t.first_logit - t.second_logit, bits_of(logits, n_vocab));
        batch.clear();
        batch.add(t.first, n_past + i, 0, true);
    }
}
