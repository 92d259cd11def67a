// zt-probe: what a gate needs to know about a build of llama.cpp and its own tools do not say.
//
// The same source is compiled into the stock and the tuned build and uses nothing but their public headers.
//
//   zt-probe logits  the logits of given tokens, by prefill, token by token, or as one of several sequences, to a file
//   zt-probe greedy  greedy tokens, how narrowly each won, and a hash of the logits it won among
//   zt-probe speed   decode times, each between two runs of a plain read loop over as many bytes
//   zt-probe chat    times of a conversation: prompts and replies in turn on a growing context
//   zt-probe load    load time and resident memory
//   zt-probe shapes  times of single matrix products of random shapes, our buffer type's and stock's in turn
//   zt-probe gemm    times of products of float weights: ours, stock's and those of BLAS libraries, in turn
//
// Results are JSON lines on stdout. An error is one line on stderr and exit status 1.

#include "zt-probe.h"

#include "ggml-backend.h"

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

void fail(const char * format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    throw std::runtime_error(text);
}

std::string first_error;
static bool verbose = false;

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

static const char * usage =
    "usage: zt-probe COMMAND [options]\n"
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
    "           --hold               and keep it until the end of standard input\n"
    "  shapes   time matrix products of -n random shapes on weights in our buffer type and in the one that stock would take,\n"
    "           in turn, and compare the results\n"
    "           --types TYPE,...     weight types to draw from, as far as they can be packed (default all quantized ones)\n"
    "           --shape SHAPE        one given shape instead; may be repeated. A SHAPE is TYPE,m=N,k=N,n=N: m weight rows of\n"
    "                                k elements, n activation rows. With ,experts=N,used=N it is MUL_MAT_ID, with ,shared of\n"
    "                                one row of activations for all experts of a token; with ,cold the weights are not cached\n"
    "           --ms N               time for each shape; 0: only compare results (default 300)\n"
    "  gemm     time products of float weights (f32, f16, bf16) by our kernels, by stock's and by BLAS libraries, in turn, -n times\n"
    "           each (default 4); libraries are called by each thread for a slice of the weights, and with threads of their own\n"
    "           --libs NAME=FILE,... shared libraries: BLIS (AOCL's or upstream's), OpenBLAS\n"
    "           --shape SHAPE        as for shapes; may be repeated\n"
    "\n"
    "options\n"
    "  -m FILE          model (required, but for shapes and gemm)\n"
    "  -t N             threads (default 1)\n"
    "  -n N             tokens to feed (logits) or to make (greedy, speed), without it all of --tokens; shapes to draw; rounds (gemm)\n"
    "  --tokens FILE    token ids, separated by white space\n"
    "  --seed N         without --tokens: seed of the token ids; of shapes and their data (default 1)\n"
    "  -b N, -ub N      tokens a call and tokens a graph (default all, 512)\n"
    "  -fa MODE         flash attention: on, off, auto (default auto)\n"
    "  -ctk TYPE        of cached keys, and -ctv TYPE of values (default f16)\n"
    "  --lora FILE      adapter to apply\n"
    "  -lm MODE         load mode: auto, none, mmap, dio (default auto; load: none)\n"
    "  --no-repack      keep weights out of extra buffer types\n"
    "  --poll N         0-100, how long idle llama.cpp threads spin (default 50)\n"
    "  -v               llama.cpp's log on stderr\n";

long long to_int(const std::string & flag, const char * text, long long lo, long long hi) {
    char * end = nullptr;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || v < lo || v > hi) {
        fail("%s wants a number from %lld to %lld, not \"%s\"", flag.c_str(), lo, hi, text);
    }
    return v;
}

static ggml_type to_type(const std::string & flag, const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const char * known = ggml_type_name((ggml_type) t);
        if (known != nullptr && name == known) {
            return (ggml_type) t;
        }
    }
    fail("%s: ggml has no type \"%s\"", flag.c_str(), name.c_str());
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
        p.command != "load" && p.command != "shapes" && p.command != "gemm") {
        fail("no command \"%s\"; there are logits, greedy, speed, chat, load, shapes and gemm", p.command.c_str());
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
        else if (flag == "--lora")       { p.lora       = value(); }
        else if (flag == "-ctk")         { p.type_k     = to_type(flag, value()); }
        else if (flag == "-ctv")         { p.type_v     = to_type(flag, value()); }
        else if (flag == "--types")      { p.types      = value(); }
        else if (flag == "--libs")       { p.libs       = value(); }
        else if (flag == "--shape")      { p.shapes.push_back(value()); }
        else if (flag == "--ms")         { p.ms         = (int) number(0, 1 << 20); }
        else if (flag == "--depth")      { p.depth      = (int) number(0, 1 << 24); }
        else if (flag == "--poll")       { p.n_poll     = (int) number(0, 100); }
        else if (flag == "--read-bytes") { p.read_bytes = (uint64_t) number(1 << 20, LLONG_MAX); }
        else if (flag == "--no-repack")  { p.repack     = false; }
        else if (flag == "--hold")       { p.hold       = true; }
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
    if (p.model.empty() && p.command != "shapes" && p.command != "gemm") {
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
// measuring
//

int64_t ns_since(steady::time_point t) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(steady::now() - t).count();
}

int64_t proc_kb(const char * path, const std::string & key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, key.size() + 1, key + ":") == 0) {
            return 1024*atoll(line.c_str() + key.size() + 1);
        }
    }
    return -1;
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
        else if (p.command == "load")   { cmd_load(p);   }
        else if (p.command == "gemm")   { cmd_gemm(p);   }
        else                            { cmd_shapes(p); }
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fail("write to stdout: %s", strerror(errno));
        }
        return 0;
    } catch (const std::exception & err) {
        fprintf(stderr, "zt-probe: %s\n", err.what());
        return 1;
    }
}
