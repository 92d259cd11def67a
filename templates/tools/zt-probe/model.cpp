// Tokens, models and contexts.

#include "zt-probe.h"

#include "gguf.h"

#if __has_include("ggml-zen5.h") // not in the stock build
#include "ggml-zen5.h"
#define COUNTS_WAITS
#endif

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>

std::vector<llama_token> seeded_tokens(uint64_t seed, int n, int n_vocab) {
    splitmix64 rng = { seed };
    std::vector<llama_token> tokens(n);
    for (auto & t : tokens) {
        t = (llama_token) (rng.next() % (uint64_t) n_vocab);
    }
    return tokens;
}

std::vector<llama_token> input_tokens(const probe_params & p, int n, int n_vocab) {
    if (p.tokens.empty()) {
        return seeded_tokens(p.seed, n, n_vocab);
    }
    std::ifstream file(p.tokens);
    if (!file) {
        fail("open %s: %s", p.tokens.c_str(), strerror(errno));
    }
    std::vector<llama_token> tokens;
    std::string word;
    while ((n < 0 || (int) tokens.size() < n) && file >> word) {
        tokens.push_back((llama_token) to_int(p.tokens, word.c_str(), 0, n_vocab - 1));
    }
    if (tokens.empty() || (n > 0 && (int) tokens.size() < n)) {
        fail("%s holds %zu tokens; -n %d wants more", p.tokens.c_str(), tokens.size(), n);
    }
    return tokens;
}

model_ptr load_model(const probe_params & p) {
    llama_model_params mp = llama_model_default_params();
    mp.load_mode       = p.load_mode;
    mp.use_extra_bufts = p.repack;
    model_ptr model(llama_model_load_from_file(p.model.c_str(), mp));
    if (!model) {
        fail("load %s: %s", p.model.c_str(), first_error.empty() ? "llama.cpp does not say why" : first_error.c_str());
    }
    return model;
}

session::session(const probe_params & p, llama_model * model, int n_ctx, int n_batch, int n_seqs) {
    llama_context_params cp = llama_context_default_params();
    cp.n_ctx           = n_ctx;
    cp.n_batch         = n_batch;
    cp.n_ubatch        = std::min(n_batch, p.n_ubatch);
    cp.n_seq_max       = n_seqs;
    cp.n_threads       = p.n_threads;
    cp.n_threads_batch = p.n_threads;
    cp.flash_attn_type = p.flash_attn;
    cp.type_k          = p.type_k;
    cp.type_v          = p.type_v;
    cp.no_perf         = true;
    ctx.reset(llama_init_from_model(model, cp));
    if (!ctx) {
        fail("context of %d tokens for %s: %s", n_ctx, p.model.c_str(),
            first_error.empty() ? "llama.cpp does not say why" : first_error.c_str());
    }
    if (!p.lora.empty()) {
        llama_adapter_lora * adapter = llama_adapter_lora_init(model, p.lora.c_str()); // the model frees it
        float scale = 1;
        if (adapter == nullptr || llama_set_adapters_lora(ctx.get(), &adapter, 1, &scale) != 0) {
            fail("adapter %s: %s", p.lora.c_str(), first_error.empty() ? "llama.cpp does not say why" : first_error.c_str());
        }
    }
    ggml_threadpool_params tp = ggml_threadpool_params_default(p.n_threads);
    tp.poll = p.n_poll;
    pool.reset(ggml_threadpool_new(&tp));
    if (!pool) {
        fail("cannot start %d threads", p.n_threads);
    }
    llama_attach_threadpool(ctx.get(), pool.get(), pool.get());
    n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
}

void session::decode(const llama_batch & batch) {
    const int rc = llama_decode(ctx.get(), batch);
    if (rc != 0) {
        fail("decode %d tokens: llama_decode says %d%s%s", batch.n_tokens, rc, first_error.empty() ? "" : ", ",
            first_error.c_str());
    }
    llama_synchronize(ctx.get());
}

wait_counts wait_counts::now() {
    wait_counts c;
#ifdef COUNTS_WAITS
    ggml_zen5_waits w = {};
    ggml_zen5_waits_read(&w);
    c.barriers = w.barriers;
    c.waited   = w.waited;
    c.total    = w.total;
#endif
    return c;
}

std::string wait_counts::json() const {
    if (total == 0) {
        return "";
    }
    return ",\"barriers\":" + std::to_string(barriers) + ",\"waited\":" + std::to_string(waited) + ",\"total\":" + std::to_string(total);
}

void session::forget() {
    llama_memory_clear(llama_get_memory(ctx.get()), true);
}

const float * session::logits(int i) {
    const float * row = llama_get_logits_ith(ctx.get(), i);
    if (row == nullptr) {
        fail("no logits for token %d of the batch", i);
    }
    return row;
}

// What a decoded token reads of the weights, from the GGUF's tensor table: every tensor once, but one row of a table
// that is only looked up, and of expert tensors the share that is used. A token_embd without an output.weight beside it
// is also the output matrix and read whole.
uint64_t weight_bytes_per_token(const std::string & first_path) {
    uint64_t total = 0, embd_bytes = 0, embd_row = 0;
    bool has_output = false;
    double expert_share = 1;
    int n_split = 1;
    for (int split = 0; split < n_split; split++) {
        std::string path = first_path;
        if (n_split > 1) {
            char prefix[PATH_MAX], full[PATH_MAX];
            if (llama_split_prefix(prefix, sizeof(prefix), first_path.c_str(), 0, n_split) <= 0) {
                fail("%s is the first of %d files but not named like one", first_path.c_str(), n_split);
            }
            llama_split_path(full, sizeof(full), prefix, split, n_split);
            path = full;
        }
        const gguf_init_params params = { /*.no_alloc =*/ true, /*.ctx =*/ nullptr };
        std::unique_ptr<gguf_context, void (*)(gguf_context *)> gguf(gguf_init_from_file(path.c_str(), params), gguf_free);
        if (!gguf) {
            fail("%s is not a GGUF file", path.c_str());
        }
        auto number = [&](const std::string & key) -> uint32_t {
            const int64_t id = gguf_find_key(gguf.get(), key.c_str());
            if (id < 0) {
                return 0;
            }
            switch (gguf_get_kv_type(gguf.get(), id)) {
                case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf.get(), id);
                case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf.get(), id);
                default: return 0;
            }
        };
        if (split == 0) {
            n_split = std::max<uint32_t>(1, number("split.count"));
            const int64_t arch = gguf_find_key(gguf.get(), "general.architecture");
            if (arch >= 0) {
                const std::string name = gguf_get_val_str(gguf.get(), arch);
                const uint32_t experts = number(name + ".expert_count"), used = number(name + ".expert_used_count");
                if (experts > 0) {
                    expert_share = (double) used/experts;
                }
            }
        }
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            const std::string name = gguf_get_tensor_name(gguf.get(), i);
            const uint64_t   bytes = gguf_get_tensor_size(gguf.get(), i);
            const int64_t *     ne = gguf_get_tensor_ne(gguf.get(), i);
            const uint64_t     row = ggml_row_size(gguf_get_tensor_type(gguf.get(), i), ne[0]);
            if (name == "token_embd.weight") {
                embd_bytes = bytes;
                embd_row   = row;
            } else if (name == "per_layer_token_embd.weight" || name == "position_embd.weight") {
                total += row;
            } else if (name.find("_exps.") != std::string::npos) {
                total += (uint64_t) (expert_share*bytes);
            } else {
                total += bytes;
            }
            has_output = has_output || name == "output.weight";
        }
    }
    return total + embd_row + (has_output ? 0 : embd_bytes);
}
