#pragma once

// What the commands of zt-probe share.

#include "ggml-cpu.h"
#include "llama.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#if !defined(__AVX512F__) || !defined(__linux__)
#error "zt-probe measures AVX-512 builds on Linux: compile it with the flags of a llama-zen-turbo target"
#endif

// Ends the program with a line on stderr.
[[noreturn]] void fail(const char * format, ...) __attribute__((format(printf, 1, 2)));

// Ends the program unless text, the value of flag, is a number from lo to hi.
long long to_int(const std::string & flag, const char * text, long long lo, long long hi);

// The first error that llama.cpp logged: it knows why a load failed and its return value does not. Later ones say what
// failed because of it.
extern std::string first_error;

struct probe_params {
    std::string command;
    std::string model;
    std::string out;
    std::string tokens;        // file of token ids
    std::string mode = "prefill";
    std::string turns;         // chat: PROMPT+REPLY,...
    std::string state;         // chat: file of the context of --depth tokens
    std::string types;         // shapes: TYPE,...
    std::string lora;          // file of an adapter
    std::string libs;          // gemm: NAME=FILE,...

    std::vector<std::string> shapes;

    int      n_threads  = 1;
    int      n_ubatch   = 512;
    int      n_batch    = 0;   // 0: all tokens in one call
    int      n_chunk    = 0;   // 0: all tokens are one text
    int      n          = -1;  // tokens to feed or to make
    int      n_prompt   = 8;
    int      n_seqs     = 4;
    int      slot       = 0;
    int      depth      = 0;
    int      n_poll     = 50;  // as llama.cpp's own tools have it
    int      ms         = 300; // shapes: for each
    uint64_t seed       = 1;
    uint64_t read_bytes = 0;   // 0: choose

    llama_flash_attn_type flash_attn = LLAMA_FLASH_ATTN_TYPE_AUTO;
    llama_load_mode       load_mode  = LLAMA_LOAD_MODE_AUTO;
    ggml_type             type_k     = GGML_TYPE_F16;
    ggml_type             type_v     = GGML_TYPE_F16;
    bool                  repack     = true;
    bool                  hold       = false;
};

void cmd_logits(const probe_params & p);
void cmd_greedy(const probe_params & p);
void cmd_speed (const probe_params & p);
void cmd_chat  (const probe_params & p);
void cmd_load  (const probe_params & p);
void cmd_shapes(const probe_params & p);
void cmd_gemm  (const probe_params & p);

//
// tokens
//

// splitmix64 (Steele, Lea, Flood 2014): one state word, so a seed means the same tokens in every build.
struct splitmix64 {
    uint64_t state;

    uint64_t next() {
        uint64_t z = (state += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
};

std::vector<llama_token> seeded_tokens(uint64_t seed, int n, int n_vocab);

// The ids in p.tokens, or n seeded ones.
std::vector<llama_token> input_tokens(const probe_params & p, int n, int n_vocab);

//
// model and context
//

struct model_deleter      { void operator()(llama_model   * m) const { llama_model_free(m); } };
struct context_deleter    { void operator()(llama_context * c) const { llama_free(c);       } };
struct threadpool_deleter { void operator()(ggml_threadpool * t) const { ggml_threadpool_free(t); } };

using model_ptr      = std::unique_ptr<llama_model,     model_deleter>;
using context_ptr    = std::unique_ptr<llama_context,   context_deleter>;
using threadpool_ptr = std::unique_ptr<ggml_threadpool, threadpool_deleter>;

model_ptr load_model(const probe_params & p);

// What a decoded token reads of the weights of the GGUF at path, in bytes.
uint64_t weight_bytes_per_token(const std::string & path);

// A context with a thread pool of its own: without one llama.cpp starts and ends its threads for every graph, and they
// could not be paused.
struct session {
    threadpool_ptr pool;
    context_ptr    ctx; // after pool: it goes first
    int            n_vocab;

    session(const probe_params & p, llama_model * model, int n_ctx, int n_batch, int n_seqs);

    void decode(const llama_batch & batch);
    void forget();

    const float * logits(int i);
};

// Barriers that all threads met at in graphs so far, cycles they waited there, and all cycles they had. Counted by the tuned build with ZT_WAITS=1; else
// zeros.
struct wait_counts {
    uint64_t barriers = 0, waited = 0, total = 0;

    static wait_counts now();

    wait_counts since(const wait_counts & before) const { return { barriers - before.barriers, waited - before.waited, total - before.total }; }
    void        add(const wait_counts & more) { barriers += more.barriers, waited += more.waited, total += more.total; }

    // The fields as they stand behind others in a JSON object; nothing where nothing was counted.
    std::string json() const;
};

struct batch_buf {
    llama_batch b;

    explicit batch_buf(int n) : b(llama_batch_init(n, 0, 1)) { b.n_tokens = 0; }
    ~batch_buf() { llama_batch_free(b); }
    batch_buf(const batch_buf &) = delete;
    batch_buf & operator=(const batch_buf &) = delete;

    void clear() { b.n_tokens = 0; }

    void add(llama_token token, llama_pos pos, llama_seq_id seq, bool logits) {
        const int i = b.n_tokens++;
        b.token[i]     = token;
        b.pos[i]       = pos;
        b.n_seq_id[i]  = 1;
        b.seq_id[i][0] = seq;
        b.logits[i]    = logits;
    }
};

//
// measuring
//

using steady = std::chrono::steady_clock;

int64_t ns_since(steady::time_point t);

// The number in the line of a /proc file that starts with key, in bytes; -1 if there is none.
int64_t proc_kb(const char * path, const std::string & key);
