// zt-probe: what a gate needs to know about a build of llama.cpp and its own tools do not say.
//
// The same source is compiled into the stock and the tuned build and uses nothing but their public headers.
//
//   zt-probe logits  the logits of given tokens, by prefill, token by token, or as one of several sequences, to a file
//   zt-probe greedy  greedy tokens and how narrowly each won
//   zt-probe speed   decode times, each between two runs of a plain read loop over as many bytes
//   zt-probe chat    times of a conversation: prompts and replies in turn on a growing context
//   zt-probe load    load time and resident memory
//
// Results are JSON lines on stdout. An error is one line on stderr and exit status 1.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "gguf.h"
#include "llama.h"

#include <immintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <climits>
#include <cmath>
#include <condition_variable>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if !defined(__AVX512F__) || !defined(__linux__)
#error "zt-probe measures AVX-512 builds on Linux: compile it with the flags of a llama-zen-turbo target"
#endif

[[noreturn]] static void fail(const char * format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    throw std::runtime_error(text);
}

// The first error that llama.cpp logged: it knows why a load failed and its return value does not. Later ones say what
// failed because of it.
static std::string first_error;
static bool        verbose = false;

static void on_log(ggml_log_level level, const char * text, void *) {
    if (verbose) {
        fputs(text, stderr);
    }
    if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
        first_error = text;
        first_error.erase(first_error.find_last_not_of(" \n") + 1);
    }
}

//
// arguments
//

struct probe_params {
    std::string command;
    std::string model;
    std::string out;
    std::string tokens;        // file of token ids
    std::string mode = "prefill";
    std::string turns;         // chat: PROMPT+REPLY,...
    std::string state;         // chat: file of the context of --depth tokens

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
    uint64_t seed       = 1;
    uint64_t read_bytes = 0;   // 0: choose

    llama_flash_attn_type flash_attn = LLAMA_FLASH_ATTN_TYPE_AUTO;
    llama_load_mode       load_mode  = LLAMA_LOAD_MODE_AUTO;
    bool                  repack     = true;
};

static const char * usage =
    "usage: zt-probe COMMAND -m MODEL [options]\n"
    "\n"
    "commands\n"
    "  logits   feed tokens and write every token's logits to a file\n"
    "           -o FILE              where to (required)\n"
    "           --mode MODE          prefill: as few calls as -b allows; decode: one token a call;\n"
    "                                batch: one token a call of each of several sequences (default prefill)\n"
    "           --chunk N            prefill and decode: forget what was before after every N tokens\n"
    "           --seqs N, --slot N   batch: how many sequences, and which of them is written; the others carry\n"
    "                                other tokens (default 4, 0)\n"
    "  greedy   make tokens greedily after a prompt of --prompt N seeded tokens (default 8) or --tokens\n"
    "  speed    time single tokens at --depth N (default 0) tokens of context, a read loop before and after each\n"
    "           --read-bytes N       size of the read loop's buffer (default: what a token reads of the weights, but\n"
    "                                at least twice the L3 cache and 512 MiB)\n"
    "  chat     time turns of a conversation, each a prompt in one go and a reply token by token, all of seeded tokens,\n"
    "           after --depth N (default 0) tokens of context that are not timed\n"
    "           --turns P+R,...      tokens of each prompt and of its reply (required)\n"
    "           --state FILE         where the context is kept: made where it is missing, loaded where it is not\n"
    "  load     load the model, decode one token, and report time and memory\n"
    "\n"
    "options\n"
    "  -t N             threads (default 1)\n"
    "  -n N             tokens to feed (logits) or to make (greedy, speed); without it all of --tokens\n"
    "  --tokens FILE    token ids, separated by white space\n"
    "  --seed N         without --tokens: seed of the token ids (default 1)\n"
    "  -b N, -ub N      tokens a call and tokens a graph (default all, 512)\n"
    "  -fa MODE         flash attention: on, off, auto (default auto)\n"
    "  -lm MODE         load mode: auto, none, mmap, dio (default auto; load: none)\n"
    "  --no-repack      keep weights out of extra buffer types\n"
    "  --poll N         0-100, how long idle llama.cpp threads spin (default 50)\n"
    "  -v               llama.cpp's log on stderr\n";

static long long to_int(const std::string & flag, const char * text, long long lo, long long hi) {
    char * end = nullptr;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || v < lo || v > hi) {
        fail("%s wants a number from %lld to %lld, not \"%s\"", flag.c_str(), lo, hi, text);
    }
    return v;
}

static probe_params parse_args(int argc, char ** argv) {
    if (argc < 2) {
        fail("no command; zt-probe --help lists them");
    }
    probe_params p;
    p.command = argv[1];
    if (p.command == "--help" || p.command == "-h") {
        fputs(usage, stdout);
        exit(0);
    }
    if (p.command != "logits" && p.command != "greedy" && p.command != "speed" && p.command != "chat" &&
        p.command != "load") {
        fail("no command \"%s\"; there are logits, greedy, speed, chat and load", p.command.c_str());
    }
    if (p.command == "load") {
        p.load_mode = LLAMA_LOAD_MODE_NONE;
    }
    for (int i = 2; i < argc; i++) {
        const std::string flag = argv[i];
        auto value = [&]() -> const char * {
            if (++i == argc) {
                fail("%s wants a value", flag.c_str());
            }
            return argv[i];
        };
        auto number = [&](long long lo, long long hi) { return to_int(flag, value(), lo, hi); };

        /**/ if (flag == "-m")           { p.model      = value(); }
        else if (flag == "-o")           { p.out        = value(); }
        else if (flag == "-t")           { p.n_threads  = (int) number(1, GGML_MAX_N_THREADS); }
        else if (flag == "-n")           { p.n          = (int) number(1, 1 << 24); }
        else if (flag == "-b")           { p.n_batch    = (int) number(1, 1 << 24); }
        else if (flag == "-ub")          { p.n_ubatch   = (int) number(1, 1 << 24); }
        else if (flag == "--chunk")      { p.n_chunk    = (int) number(1, 1 << 24); }
        else if (flag == "--tokens")     { p.tokens     = value(); }
        else if (flag == "--seed")       { p.seed       = (uint64_t) number(0, LLONG_MAX); }
        else if (flag == "--prompt")     { p.n_prompt   = (int) number(1, 1 << 24); }
        else if (flag == "--mode")       { p.mode       = value(); }
        else if (flag == "--turns")      { p.turns      = value(); }
        else if (flag == "--state")      { p.state      = value(); }
        else if (flag == "--seqs")       { p.n_seqs     = (int) number(1, 256); }
        else if (flag == "--slot")       { p.slot       = (int) number(0, 255); }
        else if (flag == "--depth")      { p.depth      = (int) number(0, 1 << 24); }
        else if (flag == "--poll")       { p.n_poll     = (int) number(0, 100); }
        else if (flag == "--read-bytes") { p.read_bytes = (uint64_t) number(1 << 20, LLONG_MAX); }
        else if (flag == "--no-repack")  { p.repack     = false; }
        else if (flag == "-v")           { verbose      = true; }
        else if (flag == "-fa") {
            const std::string mode = value();
            /**/ if (mode == "on")   { p.flash_attn = LLAMA_FLASH_ATTN_TYPE_ENABLED;  }
            else if (mode == "off")  { p.flash_attn = LLAMA_FLASH_ATTN_TYPE_DISABLED; }
            else if (mode == "auto") { p.flash_attn = LLAMA_FLASH_ATTN_TYPE_AUTO;     }
            else { fail("-fa wants on, off or auto, not \"%s\"", mode.c_str()); }
        } else if (flag == "-lm") {
            const std::string mode = value();
            /**/ if (mode == "auto") { p.load_mode = LLAMA_LOAD_MODE_AUTO;      }
            else if (mode == "none") { p.load_mode = LLAMA_LOAD_MODE_NONE;      }
            else if (mode == "mmap") { p.load_mode = LLAMA_LOAD_MODE_MMAP;      }
            else if (mode == "dio")  { p.load_mode = LLAMA_LOAD_MODE_DIRECT_IO; }
            else { fail("-lm wants auto, none, mmap or dio, not \"%s\"", mode.c_str()); }
        } else {
            fail("no option %s; zt-probe --help lists them", flag.c_str());
        }
    }
    if (p.model.empty()) {
        fail("%s wants a model: -m FILE", p.command.c_str());
    }
    if (p.mode != "prefill" && p.mode != "decode" && p.mode != "batch") {
        fail("--mode wants prefill, decode or batch, not \"%s\"", p.mode.c_str());
    }
    if (p.mode == "batch" && p.slot >= p.n_seqs) {
        fail("--slot %d is not one of %d sequences", p.slot, p.n_seqs);
    }
    return p;
}

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

static std::vector<llama_token> seeded_tokens(uint64_t seed, int n, int n_vocab) {
    splitmix64 rng = { seed };
    std::vector<llama_token> tokens(n);
    for (auto & t : tokens) {
        t = (llama_token) (rng.next() % (uint64_t) n_vocab);
    }
    return tokens;
}

// The ids in p.tokens, or n seeded ones.
static std::vector<llama_token> input_tokens(const probe_params & p, int n, int n_vocab) {
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

//
// model and context
//

struct model_deleter      { void operator()(llama_model   * m) const { llama_model_free(m); } };
struct context_deleter    { void operator()(llama_context * c) const { llama_free(c);       } };
struct threadpool_deleter { void operator()(ggml_threadpool * t) const { ggml_threadpool_free(t); } };

using model_ptr      = std::unique_ptr<llama_model,     model_deleter>;
using context_ptr    = std::unique_ptr<llama_context,   context_deleter>;
using threadpool_ptr = std::unique_ptr<ggml_threadpool, threadpool_deleter>;

static model_ptr load_model(const probe_params & p) {
    llama_model_params mp = llama_model_default_params();
    mp.load_mode       = p.load_mode;
    mp.use_extra_bufts = p.repack;
    model_ptr model(llama_model_load_from_file(p.model.c_str(), mp));
    if (!model) {
        fail("load %s: %s", p.model.c_str(), first_error.empty() ? "llama.cpp does not say why" : first_error.c_str());
    }
    return model;
}

// A context with a thread pool of its own: without one llama.cpp starts and ends its threads for every graph, and they
// could not be paused.
struct session {
    threadpool_ptr pool;
    context_ptr    ctx; // after pool: it goes first
    int            n_vocab;

    session(const probe_params & p, llama_model * model, int n_ctx, int n_batch, int n_seqs) {
        llama_context_params cp = llama_context_default_params();
        cp.n_ctx           = n_ctx;
        cp.n_batch         = n_batch;
        cp.n_ubatch        = std::min(n_batch, p.n_ubatch);
        cp.n_seq_max       = n_seqs;
        cp.n_threads       = p.n_threads;
        cp.n_threads_batch = p.n_threads;
        cp.flash_attn_type = p.flash_attn;
        cp.no_perf         = true;
        ctx.reset(llama_init_from_model(model, cp));
        if (!ctx) {
            fail("context of %d tokens for %s: %s", n_ctx, p.model.c_str(),
                first_error.empty() ? "llama.cpp does not say why" : first_error.c_str());
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

    void decode(const llama_batch & batch) {
        const int rc = llama_decode(ctx.get(), batch);
        if (rc != 0) {
            fail("decode %d tokens: llama_decode says %d%s%s", batch.n_tokens, rc, first_error.empty() ? "" : ", ",
                first_error.c_str());
        }
        llama_synchronize(ctx.get());
    }

    void forget() {
        llama_memory_clear(llama_get_memory(ctx.get()), true);
    }

    const float * logits(int i) {
        const float * row = llama_get_logits_ith(ctx.get(), i);
        if (row == nullptr) {
            fail("no logits for token %d of the batch", i);
        }
        return row;
    }
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
// logits
//

// A file that appears under its name only when it is complete.
struct out_file {
    std::string path;
    std::string part;
    FILE *      file;

    explicit out_file(const std::string & path) : path(path), part(path + ".part"), file(fopen(part.c_str(), "wb")) {
        if (!file) {
            fail("create %s: %s", part.c_str(), strerror(errno));
        }
    }

    ~out_file() {
        if (file) {
            fclose(file);
            unlink(part.c_str());
        }
    }

    void write(const void * data, size_t size) {
        if (fwrite(data, 1, size, file) != size) {
            fail("write %s: %s", part.c_str(), strerror(errno));
        }
    }

    void finish() {
        FILE * f = file;
        file = nullptr;
        if (fclose(f) != 0 || rename(part.c_str(), path.c_str()) != 0) {
            const int err = errno;
            unlink(part.c_str());
            fail("write %s: %s", path.c_str(), strerror(err));
        }
    }
};

// Writes, little endian: "ZTLOGIT1", uint32 n, uint32 n_vocab, int32 tokens[n], float32 logits[n][n_vocab]. Row i holds
// the logits after token i.
static void cmd_logits(const probe_params & p) {
    if (p.out.empty()) {
        fail("logits wants a file to write: -o FILE");
    }
    if (p.n < 0 && p.tokens.empty()) {
        fail("logits wants tokens: -n N or --tokens FILE");
    }
    out_file out(p.out);

    model_ptr model   = load_model(p);
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
    const auto tokens = input_tokens(p, p.n, n_vocab);
    const int n       = (int) tokens.size();

    const uint32_t header[2] = { (uint32_t) n, (uint32_t) n_vocab };
    out.write("ZTLOGIT1", 8);
    out.write(header, sizeof(header));
    out.write(tokens.data(), n*sizeof(tokens[0]));

    if (p.mode == "batch") {
        std::vector<std::vector<llama_token>> seqs;
        for (int s = 0; s < p.n_seqs; s++) {
            seqs.push_back(s == p.slot ? tokens : seeded_tokens(p.seed + 1000003u*(s + 1), n, n_vocab));
        }
        session s(p, model.get(), n*p.n_seqs, p.n_seqs, p.n_seqs);
        batch_buf batch(p.n_seqs);
        for (int i = 0; i < n; i++) {
            batch.clear();
            for (int j = 0; j < p.n_seqs; j++) {
                batch.add(seqs[j][i], i, j, j == p.slot);
            }
            s.decode(batch.b);
            out.write(s.logits(p.slot), n_vocab*sizeof(float));
        }
    } else {
        const int n_chunk = p.n_chunk > 0 ? std::min(p.n_chunk, n) : n;
        const int n_batch = p.mode == "decode" ? 1 : p.n_batch > 0 ? std::min(p.n_batch, n_chunk) : n_chunk;
        session s(p, model.get(), n_chunk, n_batch, 1);
        batch_buf batch(n_batch);
        for (int i = 0, n_step; i < n; i += n_step) {
            const int pos = i % n_chunk;
            n_step = std::min({ n_batch, n_chunk - pos, n - i });
            if (pos == 0 && i > 0) {
                s.forget();
            }
            batch.clear();
            for (int j = 0; j < n_step; j++) {
                batch.add(tokens[i + j], pos + j, 0, true);
            }
            s.decode(batch.b);
            for (int j = 0; j < batch.b.n_tokens; j++) {
                out.write(s.logits(j), n_vocab*sizeof(float));
            }
        }
    }
    out.finish();
    printf("{\"command\":\"logits\",\"mode\":\"%s\",\"n\":%d,\"vocab\":%d}\n", p.mode.c_str(), n, n_vocab);
}

//
// greedy
//

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

// End-of-text tokens are kept like any other: what is compared is arithmetic.
static void cmd_greedy(const probe_params & p) {
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
        const top2 t = find_top2(s.logits(batch.b.n_tokens - 1), n_vocab);
        if (!(t.first_logit - t.second_logit >= 0)) {
            fail("step %d: the logits are not numbers", i);
        }
        printf("{\"step\":%d,\"token\":%d,\"logit\":%.9g,\"second\":%d,\"margin\":%.9g}\n", i, t.first, t.first_logit,
            t.second, t.first_logit - t.second_logit);
        batch.clear();
        batch.add(t.first, n_past + i, 0, true);
    }
}

//
// speed
//

using steady = std::chrono::steady_clock;

static int64_t ns_since(steady::time_point t) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(steady::now() - t).count();
}

static void nap(int us) {
    std::this_thread::sleep_for(std::chrono::microseconds(us));
}

// The number in the line of a /proc file that starts with key, in bytes; -1 if there is none.
static int64_t proc_kb(const char * path, const std::string & key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, key.size() + 1, key + ":") == 0) {
            return 1024*atoll(line.c_str() + key.size() + 1);
        }
    }
    return -1;
}

// The bytes of L3 that the CPUs of this machine have together.
static uint64_t l3_bytes() {
    uint64_t total = 0;
    std::vector<std::string> seen;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        const std::string dir = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index3/";
        std::ifstream size_file(dir + "size"), shared_file(dir + "shared_cpu_list");
        std::string size, shared;
        if (!(size_file >> size) || !(shared_file >> shared)) {
            continue; // offline, or a hole in the numbering
        }
        if (std::find(seen.begin(), seen.end(), shared) == seen.end()) {
            seen.push_back(shared);
            total += 1024*strtoull(size.c_str(), nullptr, 10);
        }
    }
    return total;
}

// What a decoded token reads of the weights, from the GGUF's tensor table: every tensor once, but one row of a table
// that is only looked up, and of expert tensors the share that is used. A token_embd without an output.weight beside it
// is also the output matrix and read whole.
static uint64_t weight_bytes_per_token(const std::string & first_path) {
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

// A plain read loop: every thread reads its contiguous share of a buffer once with 512-bit loads. It is the yardstick
// for decode, which can be no faster than its weights arrive.
//
// The caller is thread 0. The others sleep on a condition variable between runs and so take no CPU time and no memory
// bandwidth from llama.cpp; the clock starts when all of them have woken up.
struct read_loop {
    static constexpr size_t page = 2 << 20;

    uint8_t * buf  = nullptr;
    size_t    size = 0;
    int       n_threads;

    std::vector<std::thread> workers;
    std::mutex               mutex;
    std::condition_variable  cond;
    uint64_t                 run_id = 0;
    bool                     stop   = false;
    std::atomic<int>         n_ready{0}, n_done{0};
    std::atomic<uint64_t>    start{0};
    std::atomic<uint64_t>    sum{0};

    read_loop(size_t bytes, int n_threads) : n_threads(n_threads) {
        const size_t unit = page*n_threads;
        size = (bytes + unit - 1)/unit*unit; // whole huge pages for every thread
        void * p = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            fail("%zu bytes for the read loop: %s; give it fewer with --read-bytes", size, strerror(errno));
        }
        buf = (uint8_t *) (((uintptr_t) p + page - 1)/page*page);
        madvise(buf, size, MADV_HUGEPAGE);
        for (int i = 1; i < n_threads; i++) {
            workers.emplace_back([this, i] { work(i); });
        }
        run(); // the first run writes: untouched pages would all be the one zero page
    }

    ~read_loop() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            stop = true;
        }
        cond.notify_all();
        for (auto & w : workers) {
            w.join();
        }
    }

    void work(int i) {
        for (uint64_t seen = 0;;) {
            {
                std::unique_lock<std::mutex> lock(mutex);
                cond.wait(lock, [&] { return stop || run_id != seen; });
                if (stop) {
                    return;
                }
                seen = run_id;
            }
            n_ready++;
            while (start.load(std::memory_order_acquire) != seen) {
                _mm_pause();
            }
            share(i, seen);
            n_done++;
        }
    }

    void share(int i, uint64_t id) {
        const size_t n = size/n_threads;
        uint8_t * p = buf + i*n;
        if (id == 1) {
            memset(p, 0x5a, n);
            return;
        }
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (const uint8_t * end = p + n; p != end; p += 512) {
            s0 = _mm512_xor_si512(s0, _mm512_load_si512(p));
            s1 = _mm512_xor_si512(s1, _mm512_load_si512(p +  64));
            s2 = _mm512_xor_si512(s2, _mm512_load_si512(p + 128));
            s3 = _mm512_xor_si512(s3, _mm512_load_si512(p + 192));
            s0 = _mm512_xor_si512(s0, _mm512_load_si512(p + 256));
            s1 = _mm512_xor_si512(s1, _mm512_load_si512(p + 320));
            s2 = _mm512_xor_si512(s2, _mm512_load_si512(p + 384));
            s3 = _mm512_xor_si512(s3, _mm512_load_si512(p + 448));
        }
        s0 = _mm512_xor_si512(_mm512_xor_si512(s0, s1), _mm512_xor_si512(s2, s3));
        sum ^= (uint64_t) _mm512_reduce_or_epi64(s0); // keeps the compiler from dropping the loads
    }

    // Reads the buffer once and returns how long that took in ns.
    int64_t run() {
        n_ready = 0;
        n_done  = 0;
        uint64_t id;
        {
            std::lock_guard<std::mutex> lock(mutex);
            id = ++run_id;
        }
        cond.notify_all();
        while (n_ready != n_threads - 1) {
            _mm_pause();
        }
        const auto t = steady::now();
        start.store(id, std::memory_order_release);
        share(0, id);
        while (n_done != n_threads - 1) {
            _mm_pause();
        }
        return ns_since(t);
    }
};

static double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    const size_t n = v.size();
    return n % 2 ? v[n/2] : (v[n/2 - 1] + v[n/2])/2;
}

// Alternates the read loop and single tokens: read, token, read, token, ..., read, so that each token stands between two
// reads taken milliseconds away, in whichever speed the memory happens to have then.
//
// Neither may disturb the other. After a token llama.cpp's idle threads spin (--poll), so its pool is paused, and a nap
// lets the threads reach their wait, before the read loop runs; before the next token the pool is woken and, again, given
// a nap, so that tokens are timed with threads that are awake, as in steady decoding. The read loop's threads sleep while
// llama.cpp works. Each evicts the other's data from the caches: both start cold.
//
// The token's KV cache entry is removed again, so every token is decoded at the same depth.
static void cmd_speed(const probe_params & p) {
    if (p.n < 0) {
        fail("speed wants a number of tokens to time: -n N");
    }
    auto * cpu = ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    auto get_features = (ggml_backend_get_features_t) ggml_backend_reg_get_proc_address(cpu, "ggml_backend_get_features");
    for (auto * f = get_features(cpu); f->name != nullptr; f++) {
        if (strcmp(f->name, "OPENMP") == 0) {
            fail("this build uses OpenMP, whose threads spin where they cannot be paused; configure it with -DGGML_OPENMP=OFF");
        }
    }

    model_ptr model = load_model(p);
    session s(p, model.get(), p.depth + 1, std::min(p.depth + 1, 2048), 1);

    const uint64_t weight_bytes = weight_bytes_per_token(p.model);
    uint64_t read_bytes = p.read_bytes;
    if (read_bytes == 0) {
        read_bytes = std::max({ weight_bytes, 2*l3_bytes(), (uint64_t) 512 << 20 });
    }
    const int64_t available = proc_kb("/proc/meminfo", "MemAvailable");
    if (available > 0 && read_bytes > (uint64_t) available*9/10) {
        fail("the read loop wants %" PRIu64 " bytes and %" PRId64 " are available; give it fewer with --read-bytes",
            read_bytes, available);
    }
    const int64_t huge_before = proc_kb("/proc/self/smaps_rollup", "AnonHugePages");
    read_loop reads(read_bytes, p.n_threads);
    const int64_t huge_pages = proc_kb("/proc/self/smaps_rollup", "AnonHugePages") - huge_before;

    const auto tokens = seeded_tokens(p.seed, p.depth + 1, s.n_vocab);
    batch_buf batch(2048);
    for (int i = 0; i < p.depth;) {
        batch.clear();
        for (; i < p.depth && batch.b.n_tokens < 2048; i++) {
            batch.add(tokens[i], i, 0, false);
        }
        s.decode(batch.b);
    }
    const size_t kv_bytes = p.depth > 0 ? llama_state_seq_get_size(s.ctx.get(), 0) : 0;

    auto token = [&]() {
        ggml_threadpool_resume(s.pool.get());
        nap(200);
        batch.clear();
        batch.add(tokens[p.depth], p.depth, 0, true);
        const auto t = steady::now();
        s.decode(batch.b);
        const int64_t ns = ns_since(t);
        ggml_threadpool_pause(s.pool.get());
        if (!llama_memory_seq_rm(llama_get_memory(s.ctx.get()), 0, p.depth, -1)) {
            fail("this model's memory cannot drop its last token");
        }
        nap(200);
        return ns;
    };

    printf("{\"command\":\"speed\",\"threads\":%d,\"depth\":%d,\"weight_bytes\":%" PRIu64 ",\"kv_bytes\":%zu,"
        "\"read_bytes\":%zu,\"read_huge_bytes\":%" PRId64 "}\n", p.n_threads, p.depth, weight_bytes, kv_bytes, reads.size,
        huge_pages);

    token(); // the first token builds the graph and finds cold code
    reads.run();

    std::vector<double> rates, percents; // GB/s, percent of the reads around
    double before = reads.size/(double) reads.run();
    printf("{\"read_ns\":%" PRId64 "}\n", (int64_t) (reads.size/before));
    for (int i = 0; i < p.n; i++) {
        const int64_t token_ns = token();
        const int64_t read_ns  = reads.run();
        const double  after    = reads.size/(double) read_ns;
        rates.push_back(weight_bytes/(double) token_ns);
        percents.push_back(100*rates.back()/((before + after)/2));
        before = after;
        printf("{\"token_ns\":%" PRId64 ",\"read_ns\":%" PRId64 "}\n", token_ns, read_ns);
        fflush(stdout);
    }
    printf("{\"median_token_gbps\":%.2f,\"median_percent_of_read\":%.1f}\n", median(rates), median(percents));
}

//
// chat
//

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
static void cmd_chat(const probe_params & p) {
    const auto turns = parse_turns(p.turns);
    const int n_warm = 64;
    int n_tokens = 0, longest = n_warm;
    for (const auto & t : turns) {
        n_tokens += t.prompt + t.reply;
        longest   = std::max(longest, t.prompt);
    }
    const int n_batch = std::min(std::max(longest, p.depth), 2048);

    model_ptr model = load_model(p);
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

    printf("{\"command\":\"chat\",\"threads\":%d,\"depth\":%d,\"weight_bytes\":%" PRIu64 ",\"depth_bytes\":%zu}\n", p.n_threads,
        p.depth, weight_bytes_per_token(p.model), p.depth > 0 ? llama_state_seq_get_size(s.ctx.get(), 0) : 0);
    for (const auto & turn : turns) {
        auto t = steady::now();
        feed(turn.prompt, n_batch);
        const int64_t prompt_ns = ns_since(t);
        t = steady::now();
        feed(turn.reply, 1);
        const int64_t reply_ns = ns_since(t);
        printf("{\"prompt\":%d,\"prompt_ns\":%" PRId64 ",\"reply\":%d,\"reply_ns\":%" PRId64 "}\n", turn.prompt, prompt_ns,
            turn.reply, reply_ns);
    }
}

//
// load
//

static void print_memory(const char * when, double ms) {
    const char * status = "/proc/self/status";
    printf("{\"when\":\"%s\",\"ms\":%.3f,\"rss\":%" PRId64 ",\"rss_anon\":%" PRId64 ",\"rss_file\":%" PRId64
        ",\"rss_peak\":%" PRId64 ",\"hugetlb\":%" PRId64 ",\"anon_huge\":%" PRId64 "}\n", when, ms,
        proc_kb(status, "VmRSS"), proc_kb(status, "RssAnon"), proc_kb(status, "RssFile"), proc_kb(status, "VmHWM"),
        proc_kb(status, "HugetlbPages"), proc_kb("/proc/self/smaps_rollup", "AnonHugePages"));
}

static void cmd_load(const probe_params & p) {
    const auto since_ms = [](steady::time_point t) { return ns_since(t)/1e6; };

    auto t = steady::now();
    model_ptr model = load_model(p);
    print_memory("load", since_ms(t));

    t = steady::now();
    session s(p, model.get(), 512, 512, 1);
    print_memory("context", since_ms(t));

    batch_buf batch(1);
    batch.add(seeded_tokens(p.seed, 1, s.n_vocab)[0], 0, 0, true);
    t = steady::now();
    s.decode(batch.b);
    print_memory("decode", since_ms(t));
}

int main(int argc, char ** argv) {
    try {
        const probe_params p = parse_args(argc, argv);
        llama_log_set(on_log, nullptr);
        llama_backend_init();
        ggml_backend_load_all();
        /**/ if (p.command == "logits") { cmd_logits(p); }
        else if (p.command == "greedy") { cmd_greedy(p); }
        else if (p.command == "speed")  { cmd_speed(p);  }
        else if (p.command == "chat")   { cmd_chat(p);   }
        else                            { cmd_load(p);   }
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fail("write to stdout: %s", strerror(errno));
        }
        return 0;
    } catch (const std::exception & err) {
        fprintf(stderr, "zt-probe: %s\n", err.what());
        return 1;
    }
}
