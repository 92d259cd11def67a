// zt-probe chat

#include "zt-probe.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <sstream>

struct chat_turn {
    int prompt, reply; // tokens
};

static std::vector<chat_turn> parse_turns(const std::string & text) {
    std::vector<chat_turn> turns;
    std::istringstream list(text);
    for (std::string item; std::getline(list, item, ',');) {
        const size_t plus = item.find('+');
        if (plus == std::string::npos) {
            fail("--turns wants PROMPT+REPLY, not \"%s\"", item.c_str());
        }
        turns.push_back({ (int) to_int("--turns", item.substr(0, plus).c_str(), 0, 1 << 20),
            (int) to_int("--turns", item.substr(plus + 1).c_str(), 0, 1 << 20) });
    }
    if (turns.empty()) {
        fail("chat wants the lengths of its prompts and replies: --turns PROMPT+REPLY,...");
    }
    return turns;
}

// The context of --depth tokens is a file that any build may have made, so that it need not be computed again for every run.
void cmd_chat(const probe_params & p) {
    const auto turns = parse_turns(p.turns);
    const int n_warm = 64;
    int n_tokens = 0, longest = n_warm;
    for (const auto & t : turns) {
        n_tokens += t.prompt + t.reply;
        longest   = std::max(longest, t.prompt);
    }
    const int n_batch = std::min(std::max(longest, p.depth), 2048);

    const auto loading = steady::now();
    model_ptr model = load_model(p);
    const double load_ms = ns_since(loading)/1e6;
    session s(p, model.get(), p.depth + std::max(n_tokens, n_warm + 1), n_batch, 1);
    const auto tokens = seeded_tokens(p.seed, p.depth + std::max(n_tokens, n_warm + 1), s.n_vocab);
    batch_buf batch(n_batch);
    int pos = 0;
    auto feed = [&](int n, int n_call) {
        for (const int end = pos + n; pos < end;) {
            batch.clear();
            for (int last = std::min(pos + n_call, end); pos < last; pos++) {
                batch.add(tokens[pos], pos, 0, pos == last - 1);
            }
            s.decode(batch.b);
        }
    };

    // As llama.cpp's own tools do: the first calls read the weights from the file and find cold code.
    feed(n_warm, n_batch);
    feed(1, 1);
    llama_memory_clear(llama_get_memory(s.ctx.get()), false);
    pos = 0;

    if (p.depth > 0 && !p.state.empty() && access(p.state.c_str(), F_OK) == 0) {
        std::vector<llama_token> stored(p.depth);
        size_t n_stored = 0;
        if (llama_state_seq_load_file(s.ctx.get(), p.state.c_str(), 0, stored.data(), stored.size(), &n_stored) == 0 ||
            n_stored != stored.size() || !std::equal(stored.begin(), stored.end(), tokens.begin())) {
            fail("%s does not hold %d tokens of context for this model and seed; remove it", p.state.c_str(), p.depth);
        }
        pos = p.depth;
    } else if (p.depth > 0) {
        feed(p.depth, n_batch);
        if (!p.state.empty()) {
            const std::string part = p.state + ".part";
            if (llama_state_seq_save_file(s.ctx.get(), part.c_str(), 0, tokens.data(), p.depth) == 0 ||
                rename(part.c_str(), p.state.c_str()) != 0) {
                const int err = errno;
                unlink(part.c_str());
                fail("write %s: %s", p.state.c_str(), strerror(err));
            }
        }
    }

    printf("{\"command\":\"chat\",\"threads\":%d,\"load_ms\":%.3f,\"depth\":%d,\"weight_bytes\":%" PRIu64 ",\"depth_bytes\":%zu}\n", p.n_threads,
        load_ms, p.depth, weight_bytes_per_token(p.model), p.depth > 0 ? llama_state_seq_get_size(s.ctx.get(), 0) : 0);
    for (const auto & turn : turns) {
        const wait_counts before = wait_counts::now();
        auto t = steady::now();
        feed(turn.prompt, n_batch);
        const int64_t prompt_ns = ns_since(t);
        t = steady::now();
        feed(turn.reply, 1);
        const int64_t reply_ns = ns_since(t);
        printf("{\"prompt\":%d,\"prompt_ns\":%" PRId64 ",\"reply\":%d,\"reply_ns\":%" PRId64 "%s}\n", turn.prompt, prompt_ns,
            turn.reply, reply_ns, wait_counts::now().since(before).json().c_str());
    }
}
