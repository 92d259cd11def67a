// zt-probe speed

#include "zt-probe.h"

#include "ggml-backend.h"

#include <immintrin.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <thread>

static void nap(int us) {
    std::this_thread::sleep_for(std::chrono::microseconds(us));
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
void cmd_speed(const probe_params & p) {
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

    wait_counts waits; // of tokens
    auto token = [&]() {
        ggml_threadpool_resume(s.pool.get());
        nap(200);
        batch.clear();
        batch.add(tokens[p.depth], p.depth, 0, true);
        const wait_counts counted = wait_counts::now();
        const auto t = steady::now();
        s.decode(batch.b);
        const int64_t ns = ns_since(t);
        waits.add(wait_counts::now().since(counted));
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
    waits = {};

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
    printf("{\"median_token_gbps\":%.2f,\"median_percent_of_read\":%.1f%s}\n", median(rates), median(percents), waits.json().c_str());
}
