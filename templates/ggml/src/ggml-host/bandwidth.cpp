#include "bandwidth.h"

#include "affinity.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>

#include <immintrin.h>
#include <sys/mman.h>

namespace ggml::host {

using steady = std::chrono::steady_clock;

static constexpr int    rounds    = 5;
static constexpr size_t huge_page = size_t(2) << 20;
static constexpr size_t piece     = 64 << 10;  // between two looks at the clock

__attribute__((target("avx512f"))) static void read_piece(const uint8_t * at) {
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (const uint8_t * end = at + piece; at != end; at += 256) {
        s0 = _mm512_or_si512(s0, _mm512_load_si512(at));
        s1 = _mm512_or_si512(s1, _mm512_load_si512(at + 64));
        s2 = _mm512_or_si512(s2, _mm512_load_si512(at + 128));
        s3 = _mm512_or_si512(s3, _mm512_load_si512(at + 192));
    }
    s0 = _mm512_or_si512(_mm512_or_si512(s0, s1), _mm512_or_si512(s2, s3));
    asm volatile("" : : "v"(s0));  // else nothing would be read
}

namespace {

// Threads that read when they are told to. Between samples they sleep: one that spins takes power and memory bandwidth from others.
class readers {
  public:
    readers(const topology & topo, int most, size_t bytes, steady::time_point limit);
    ~readers();

    bool ready() const { return base != nullptr && (int) threads.size() == n; }

    // Has the threads on these CPUs read for so long; bytes a second, or 0 if time was up before.
    double sample(const std::vector<int> & cpus, std::chrono::nanoseconds length);

  private:
    void work(int index);
    void read(int index);

    const int                n;
    size_t                   size = 0;
    void *                   map;
    uint8_t *                base = nullptr;
    const steady::time_point limit;

    std::vector<int>              where;    // the CPU that each thread stands for
    std::vector<std::vector<int>> members;  // CPUs on which it may run
    std::vector<std::thread>      threads;

    std::mutex              mutex;
    std::condition_variable called;
    uint64_t                call  = 0;
    bool                    touch = true;  // the first call writes: untouched pages would all be the one zero page
    bool                    ended = false;
    std::vector<int>        place;  // of each thread among those called; -1: it is not

    int                      active = 0;
    std::chrono::nanoseconds length{ 0 };
    size_t                   from = 0;  // where in its share each thread goes on, so that caches never hold what is read
    std::atomic<int>         arrived{ 0 }, done{ 0 };
    std::atomic<bool>        failed{ false };
    std::vector<double>      rate;
    std::vector<size_t>      read_bytes;
};

readers::readers(const topology & topo, int most, size_t bytes, steady::time_point limit_) : n(most), limit(limit_), where(place_threads(topo, most)) {
    const size_t unit = huge_page * n;
    size              = (bytes + unit - 1) / unit * unit;
    map               = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || where.empty()) {
        return;
    }
    base = (uint8_t *) (((uintptr_t) map + huge_page - 1) / huge_page * huge_page);
    madvise(base, size, MADV_HUGEPAGE);

    std::vector<std::vector<int>> of_l3(topo.l3s);
    for (const cpu & c : topo.cpus) {
        of_l3[c.l3].push_back(c.id);
    }
    for (const int id : where) {
        for (const cpu & c : topo.cpus) {
            if (c.id == id) {
                members.push_back(topo.l3s > 1 ? of_l3[c.l3] : std::vector<int>());
            }
        }
    }
    place.assign(n, -1);
    rate.assign(n, 0);
    read_bytes.assign(n, 0);
    for (int i = 0; i < n; i++) {
        try {
            threads.emplace_back([this, i] { work(i); });
        } catch (const std::system_error &) {
            return;
        }
    }
}

readers::~readers() {
    {
        std::lock_guard<std::mutex> lock(mutex);
        ended = true;
    }
    called.notify_all();
    for (auto & t : threads) {
        t.join();
    }
    if (map != MAP_FAILED) {
        munmap(map, size + huge_page);
    }
}

void readers::work(int index) {
    if (!members[index].empty()) {
        affinity::of(members[index]).apply();
    }
    for (uint64_t seen = 0;;) {
        {
            std::unique_lock<std::mutex> lock(mutex);
            called.wait(lock, [&] { return ended || call != seen; });
            if (ended) {
                return;
            }
            seen = call;
            if (place[index] < 0) {
                continue;
            }
        }
        read(index);
        done++;
    }
}

void readers::read(int index) {
    const size_t share = size / active / piece * piece;
    uint8_t *    mine  = base + place[index] * share;
    if (touch) {
        memset(mine, 1, share);
        return;
    }
    arrived++;
    while (arrived.load(std::memory_order_acquire) < active) {
        _mm_pause();
        if (failed || steady::now() > limit) {
            failed = true;
            return;
        }
    }
    const auto start = steady::now();
    auto       now   = start;
    size_t     at    = from % share / piece * piece;
    size_t     bytes = 0;
    do {
        read_piece(mine + at);
        at = at + piece == share ? 0 : at + piece;
        bytes += piece;
        now = steady::now();
    } while (now - start < length);
    rate[index]       = (double) bytes / std::chrono::duration<double>(now - start).count();
    read_bytes[index] = bytes;
}

double readers::sample(const std::vector<int> & cpus, std::chrono::nanoseconds length_) {
    std::vector<int> chosen;
    {
        std::lock_guard<std::mutex> lock(mutex);
        std::fill(place.begin(), place.end(), -1);
        for (int i = 0; i < n; i++) {
            if (std::find(cpus.begin(), cpus.end(), where[i]) != cpus.end()) {
                place[i] = (int) chosen.size();
                chosen.push_back(i);
            }
        }
        active  = (int) chosen.size();
        length  = length_;
        arrived = 0;
        done    = 0;
        call++;
    }
    called.notify_all();
    while (done.load(std::memory_order_acquire) < active) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    touch = false;
    if (failed || steady::now() > limit) {
        return 0;
    }
    double sum  = 0;
    size_t most = 0;
    for (const int i : chosen) {
        sum += rate[i];
        most = std::max(most, read_bytes[i]);
    }
    from += most;
    return sum;
}

// The number in a file that begins with it, or that follows a name in it; otherwise, if there is none.
uint64_t read_bytes_of(const std::string & path, const char * name, uint64_t otherwise) {
    uint64_t value = otherwise;
    if (FILE * f = fopen(path.c_str(), "r")) {
        for (char line[128]; fgets(line, sizeof(line), f) != nullptr;) {
            if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), "%" SCNu64, &value) == 1) {
                break;
            }
        }
        fclose(f);
    }
    return value;
}

// Bytes of memory that this process can still get: of the machine's and of what its control groups leave it, or a container would be killed for it.
uint64_t free_memory() {
    uint64_t free = read_bytes_of("/proc/meminfo", "MemAvailable:", 0) << 10;
    for (const std::string & folder : control_groups("/sys/fs/cgroup")) {
        const uint64_t limit = read_bytes_of(folder + "/memory.max", "", UINT64_MAX);
        // what the page cache holds of files is given up first
        const uint64_t used  = read_bytes_of(folder + "/memory.current", "", 0);
        const uint64_t files = std::min(used, read_bytes_of(folder + "/memory.stat", "file ", 0));
        free                 = std::min(free, limit - std::min(limit, used - files));
    }
    // of version 1, where a container sees its own group
    const std::string version1 = "/sys/fs/cgroup/memory/memory.";
    const uint64_t    limit    = read_bytes_of(version1 + "limit_in_bytes", "", UINT64_MAX);
    return std::min(free, limit - std::min(limit, read_bytes_of(version1 + "usage_in_bytes", "", 0)));
}

// Bytes to read: no cache holds most of it when it is read again, and no more than an eighth of the memory that is free.
size_t buffer_bytes(const topology & topo) {
    const uint64_t caches = std::accumulate(topo.l3_bytes.begin(), topo.l3_bytes.end(), uint64_t(0));
    return std::min({ std::max<uint64_t>(2 * caches, 256 << 20), uint64_t(1) << 30, free_memory() / 8 });
}

}  // namespace

bandwidth_curve measure_bandwidth(const topology & topo, int most, double seconds) {
    const auto start   = steady::now();
    const auto in      = [](double s) { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(s)); };
    const auto elapsed = [&] { return std::chrono::duration<double>(steady::now() - start).count(); };

    bandwidth_curve curve;
    const size_t    bytes = buffer_bytes(topo);
    if (most < 1 || most > (int) topo.cpus.size() || bytes < (64 << 20)) {
        return curve;
    }
    readers r(topo, most, bytes, start + in(2 * seconds));
    if (!r.ready()) {
        return curve;
    }
    const int steps = std::min(most, 16);
    for (int i = 1; i <= steps; i++) {
        curve.push_back({ (most * i + steps - 1) / steps, {} });
    }
    const auto all = place_threads(topo, most);
    r.sample(all, in(0));     // touches the buffer
    r.sample(all, in(0.02));  // clocks of cores take a moment to rise
    const double each = std::max(0.002, (seconds - elapsed()) / (rounds * steps));
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < steps; i++) {
            // up and down, so that drift favours no number of threads
            auto &       point = curve[round % 2 == 0 ? i : steps - 1 - i];
            const double rate  = r.sample(place_threads(topo, point.threads), in(each));
            if (rate == 0) {
                return {};
            }
            point.rates.push_back(rate);
        }
    }
    return curve;
}

}  // namespace ggml::host
