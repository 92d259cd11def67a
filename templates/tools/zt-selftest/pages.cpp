// The page policy: every block is what was asked for, in the pages that the account says, and what is freed is gone, pools included. What the
// kernel says of this process and of its pools decides, not what the policy says of itself.

#include "pages.h"

#include "codes.h"

#include "ggml-cpp.h"
#include "ggml-host/pages.h"
#include "ggml-host/switches.h"
#include "ggml-zen5.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace ggml::host;

static constexpr size_t mib  = size_t(1) << 20;
static constexpr size_t huge = 2 * mib;
static constexpr size_t gib  = 1024 * mib;

static const huge_pages all_policies[] = { huge_pages::automatic, huge_pages::gib, huge_pages::hugetlb, huge_pages::transparent, huge_pages::off };
static const purpose    all_purposes[] = { purpose::weights, purpose::kv, purpose::compute, purpose::small };

static size_t of(const page_block & b, page_kind kind) {
    return b.bytes[(int) kind];
}

static size_t missing(const page_block & b, page_kind kind) {
    return b.missing[(int) kind];
}

struct result {
    bool         ok;
    const char * kind;
    std::string  where;
};

// Results that may yet turn out to mean nothing, while there is such a list.
static std::vector<result> * pending;

static bool expect(bool ok, const char * kind, const std::string & where) {
    if (pending != nullptr) {
        pending->push_back({ ok, kind, where });
    } else {
        check(ok, "pages", kind, where);
    }
    return ok;
}

// Lines of warning so far.
static std::vector<std::string> warnings;

// What the kernel says of the pages in a range, in bytes.
struct mapped_pages {
    size_t rss         = 0;
    size_t transparent = 0;
    size_t pool        = 0;
    size_t pool_page   = 0;  // largest page of a pool
};

static mapped_pages look(const void * base, size_t size) {
    mapped_pages found;
    FILE *       f = fopen("/proc/self/smaps", "r");
    if (f == nullptr) {
        return found;
    }
    bool   in   = false;
    size_t page = 0;
    for (char line[512]; fgets(line, sizeof(line), f) != nullptr;) {
        uintptr_t first, last;
        size_t    kib;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &first, &last) == 2) {
            in = first >= (uintptr_t) base && last <= (uintptr_t) base + size;
        } else if (in && sscanf(line, "KernelPageSize: %zu", &kib) == 1) {
            page = kib << 10;
        } else if (in && sscanf(line, "Rss: %zu", &kib) == 1) {
            found.rss += kib << 10;
        } else if (in && sscanf(line, "AnonHugePages: %zu", &kib) == 1) {
            found.transparent += kib << 10;
        } else if (in && (sscanf(line, "Private_Hugetlb: %zu", &kib) == 1 || sscanf(line, "Shared_Hugetlb: %zu", &kib) == 1) && kib > 0) {
            // Linux 6.18 has been seen to call a page of 1 GiB shared that one process has
            found.pool += kib << 10;
            found.pool_page = std::max(found.pool_page, page);
        }
    }
    fclose(f);
    return found;
}

// Pages of a pool: all there are, free ones, those promised to programs, and those beyond its size.
struct pool_state {
    long total = 0, free = 0, reserved = 0, surplus = 0;

    bool operator==(const pool_state & b) const { return total == b.total && free == b.free && reserved == b.reserved && surplus == b.surplus; }
    bool idle() const { return free == total && reserved == 0 && surplus == 0; }
};

// Files with the sizes of pools that this program has set. They were empty, and are so again if it is ended early.
static const char * volatile pools_set[2];

static void empty_pools(int signal) {
    for (const char * path : pools_set) {
        const int f = path == nullptr ? -1 : open(path, O_WRONLY);
        if (f >= 0 && write(f, "0", 1) == 1) {
            close(f);
        }
    }
    _exit(128 + signal);
}

// The pool of pages of so many KiB.
class pool {
    const std::string dir;
    const std::string size;         // the file
    const int         index;
    bool              set_up = false;

    long read(const char * name) const {
        long   n = -1;
        FILE * f = fopen((dir + name).c_str(), "r");
        if (f != nullptr) {
            if (fscanf(f, "%ld", &n) != 1) {
                n = -1;
            }
            fclose(f);
        }
        return n;
    }

    bool resize(long n) const {
        FILE * f = fopen(size.c_str(), "w");
        return f != nullptr && fprintf(f, "%ld", n) > 0 && fclose(f) == 0;
    }

  public:
    // index: in pools_set
    pool(int kib, int index) : dir("/sys/kernel/mm/hugepages/hugepages-" + std::to_string(kib) + "kB/"), size(dir + "nr_hugepages"), index(index) {}
    ~pool() {
        if (set_up) {
            resize(0);
            pools_set[index] = nullptr;
        }
    }

    pool_state state() const { return { read("nr_hugepages"), read("free_hugepages"), read("resv_hugepages"), read("surplus_hugepages") }; }

    // Makes it hold n pages until this object is gone; returns why it cannot.
    std::string set(long n) {
        const pool_state s = state();
        if (geteuid() != 0) {
            return "changing the huge page pool needs root";
        }
        if (s.total < 0) {
            return "this kernel has no such pool";
        }
        if (!set_up && s.total != 0) {
            return "somebody has set up the huge page pool, and may need it";
        }
        if (read("nr_overcommit_hugepages") != 0) {
            return "the huge page pool may grow";
        }
        if (!set_up) {
            set_up           = true;
            pools_set[index] = size.c_str();
            for (const int end : { SIGINT, SIGTERM, SIGHUP, SIGABRT, SIGSEGV, SIGBUS }) {
                signal(end, empty_pools);
            }
        }
        if (!resize(n) || state().total != n) {
            return "the kernel finds " + std::to_string(std::max(0L, state().total)) + " huge pages of " + std::to_string(n);
        }
        return "";
    }
};

// Looks, from its start to its end, whether another process has pages of the 2 MiB pool, which changes what this one gets of it.
class lookout {
    std::atomic<bool> seen{ false };
    std::atomic<bool> done{ false };
    std::thread       eyes;

    static bool others() {
        DIR * all = opendir("/proc");
        if (all == nullptr) {
            return false;
        }
        bool found = false;
        for (const dirent * d; (d = readdir(all)) != nullptr;) {
            const long pid = strtol(d->d_name, nullptr, 10);
            FILE *     f   = pid <= 0 || pid == getpid() ? nullptr : fopen((std::string("/proc/") + d->d_name + "/status").c_str(), "r");
            if (f == nullptr) {
                continue;
            }
            size_t kib = 0;
            for (char line[256]; fgets(line, sizeof(line), f) != nullptr && sscanf(line, "HugetlbPages: %zu", &kib) != 1;) {
            }
            fclose(f);
            found = found || kib > 0;
        }
        closedir(all);
        return found;
    }

  public:
    lookout() : eyes([this]() {
        while (!done && !seen) {
            seen = others();
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    }) {}

    // Whether one had; at the end.
    bool disturbed() {
        done = true;
        eyes.join();
        return seen || others();
    }
};

// Runs checks of a pool until nobody disturbs them, some times at most; returns whether that was so. Else they do not count.
static bool undisturbed(const std::function<void()> & checks) {
    for (int attempt = 0; attempt < 2; attempt++) {
        std::vector<result> results;
        pending = &results;
        lookout watch;
        checks();
        pending = nullptr;
        if (!watch.disturbed()) {
            for (const result & r : results) {
                expect(r.ok, r.kind, r.where);
            }
            return true;
        }
    }
    return false;
}

static void skip(const char * kind, const std::string & why) {
    printf("{\"type\":\"pages\",\"check\":\"%s\",\"skipped\":\"%s\"}\n", kind, why.c_str());
}

static bool same(const page_account & a, const page_account & b) {
    return memcmp(a.blocks, b.blocks, sizeof(a.blocks)) == 0 && memcmp(a.asked, b.asked, sizeof(a.asked)) == 0 &&
           memcmp(a.reserved, b.reserved, sizeof(a.reserved)) == 0 && memcmp(a.missing, b.missing, sizeof(a.missing)) == 0;
}

static void write_all(const page_block & b, uint8_t with) {
    memset(b.base, with, b.size);
}

static bool holds(const void * base, size_t size, uint8_t value) {
    const auto * bytes = (const uint8_t *) base;
    return size == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static std::string named(huge_pages pages, purpose use, size_t size) {
    return "policy " + std::to_string((int) pages) + ", purpose " + std::to_string((int) use) + ", " + std::to_string(size) + " bytes";
}

static void examine_sizes() {
    const size_t sizes[] = { 1, 63, 4096, 100000, huge - 1, huge, huge + 1, 3 * mib - 1, 3 * mib, 3 * mib + 1, 11 * mib + 123, 40 * mib };
    for (const huge_pages pages : all_policies) {
        for (const purpose use : all_purposes) {
            for (const size_t size : sizes) {
                const page_account before = pages_count(false);
                const page_policy  policy = { pages, 3 * mib };
                const size_t       least  = use == purpose::weights ? huge : use == purpose::small ? SIZE_MAX : policy.min;
                const page_block   b      = pages_alloc(use, size, policy);
                const auto         where  = named(pages, use, size);
                if (!expect(b.base != nullptr && b.size >= size, "sizes", where)) {
                    continue;
                }
                size_t sum = 0;
                for (const size_t bytes : b.bytes) {
                    sum += bytes;
                }
                expect(sum == b.size && b.size < size + huge + 4096, "sizes", where + ": kinds add up");
                expect(b.ordinary == (size < least), "sizes", where + ": thresholds");
                expect((uintptr_t) b.base % (b.ordinary ? 64 : huge) == 0, "sizes", where + ": alignment");
                expect(use != purpose::weights || holds(b.base, b.size, 0), "sizes", where + ": zeroed");
                expect(b.describe() != "", "sizes", where + ": description");
                write_all(b, 0x5a);
                const page_account during = pages_count(false);
                expect(during.asked[(int) use] == before.asked[(int) use] + size && during.blocks[(int) use] == before.blocks[(int) use] + 1, "sizes",
                       where + ": counted");
                expect(pages_find(b.base).id == b.id && pages_find((char *) b.base + b.size - 1).id == b.id && pages_find((char *) b.base + b.size).id != b.id,
                       "sizes", where + ": found");
                expect(pages_free(b) && same(pages_count(false), before), "sizes", where + ": gone");
            }
        }
    }
}

static void examine_double_free() {
    for (const size_t size : { size_t(1000), 5 * mib }) {
        const page_policy policy = { huge_pages::automatic, mib };
        const page_block  a      = pages_alloc(purpose::kv, size, policy);
        expect(pages_free(a), "double free", "once");
        const size_t said = warnings.size();
        expect(!pages_free(a), "double free", "twice");
        expect(warnings.size() == said + 1 && warnings.back().find("freed twice") != std::string::npos, "double free", "said in a line");
        // most likely where the first one was
        const page_block b = pages_alloc(purpose::kv, size, policy);
        write_all(b, 7);
        expect(!pages_free(a) && holds(b.base, b.size, 7), "double free", "of a block whose address another has got");
        expect(pages_free(b), "double free", "the other");
        page_block c = b;
        c.base       = &c;
        expect(!pages_free(c), "double free", "of what never was a block");
        expect(pages_free(page_block()), "double free", "of no block");
    }
}

// Allocates, fills, verifies and frees at random; many threads do so at once.
static void churn(unsigned seed, int rounds, std::vector<std::string> & faults) {
    std::mt19937            random(seed);
    std::vector<page_block> blocks;
    std::vector<uint8_t>    fill;
    for (int i = 0; i < rounds || !blocks.empty(); i++) {
        if (i < rounds && (blocks.size() < 4 || random() % 2 == 0)) {
            const page_policy policy = { all_policies[random() % 5], 3 * mib };
            const size_t      size   = random() % (random() % 2 == 0 ? 10 * mib : 9999) + 1;
            const page_block  b      = pages_alloc(all_purposes[random() % 4], size, policy);
            if (b.base == nullptr || b.size < size) {
                faults.push_back("no memory for " + std::to_string(size) + " bytes");
                continue;
            }
            fill.push_back((uint8_t) random());
            blocks.push_back(b);
            write_all(b, fill.back());
        } else {
            const size_t at = random() % blocks.size();
            if (!holds(blocks[at].base, blocks[at].size, fill[at])) {
                faults.push_back("somebody wrote into a block");
            }
            if (pages_find((char *) blocks[at].base + blocks[at].size / 2).id != blocks[at].id || !pages_free(blocks[at])) {
                faults.push_back("a block is not known");
            }
            blocks.erase(blocks.begin() + at);
            fill.erase(fill.begin() + at);
        }
    }
}

static void examine_threads(unsigned seed, const char * kind, int rounds) {
    constexpr int            n      = 8;
    const page_account       before = pages_count(false);
    std::vector<std::string> faults[n];
    std::vector<std::thread> threads;
    for (int i = 0; i < n; i++) {
        threads.emplace_back([&, i]() { churn(seed + i, rounds, faults[i]); });
    }
    for (auto & t : threads) {
        t.join();
    }
    for (const auto & list : faults) {
        expect(list.empty(), kind, list.empty() ? "" : list[0]);
    }
    expect(same(pages_count(false), before), kind, "all is freed");
}

// 50 models that come and go.
static void examine_cycles(const pool & p, bool set) {
    const pool_state   empty  = p.state();
    const page_account before = pages_count(false);
    for (int i = 0; i < 50; i++) {
        const page_policy  policy = { huge_pages::automatic, 8 * mib };
        const page_block   blocks[] = { pages_alloc(purpose::weights, 11 * mib + i * 4097, policy), pages_alloc(purpose::kv, 9 * mib, policy),
                                        pages_alloc(purpose::compute, 8 * mib + 1, policy), pages_alloc(purpose::compute, 5 * mib, policy) };
        size_t in_pool = 0;
        for (const page_block & b : blocks) {
            write_all(b, (uint8_t) i);
            in_pool += of(b, page_kind::mib2);
        }
        const pool_state used = p.state();
        if (set) {
            expect((size_t) (used.total - used.free) * huge == in_pool && used.reserved == 0, "cycles", "the pool's counters while blocks are there");
            expect(of(blocks[0], page_kind::mib2) == 12 * mib && of(blocks[1], page_kind::mib2) == 8 * mib && in_pool == 20 * mib, "cycles",
                   "weights first, then the KV cache");
        }
        for (const page_block & b : blocks) {
            expect(pages_free(b), "cycles", "free");
        }
        expect(!set || p.state() == empty, "cycles", "the pool's counters are as they were");
    }
    expect(same(pages_count(false), before), "cycles", "all is freed");
}

static void examine_exhaustion(const pool & p) {
    const pool_state empty = p.state();
    for (const huge_pages pages : { huge_pages::automatic, huge_pages::hugetlb, huge_pages::gib }) {
        for (const purpose use : { purpose::weights, purpose::kv, purpose::compute }) {
            const size_t     said = warnings.size();
            const page_block a    = pages_alloc(use, 31 * mib, { pages, mib });
            const auto       where = named(pages, use, 31 * mib);
            expect(of(a, page_kind::mib2) == 20 * mib && missing(a, page_kind::mib2) == 12 * mib, "pool exhausted midway", where + ": what it had");
            expect(of(a, page_kind::transparent) + of(a, page_kind::small) == 11 * mib, "pool exhausted midway", where + ": the rest");
            write_all(a, 1);
            const mapped_pages m = look(a.base, a.size);
            expect(m.pool == 20 * mib && m.pool_page == huge && m.rss == 11 * mib, "pool exhausted midway", where + ": what the kernel says");
            expect(a.swappable(), "pool exhausted midway", where + ": the rest may be swapped out");
            const page_account used = pages_count(true);
            expect(used.used[(int) use][(int) page_kind::mib2] == 20 * mib, "pool exhausted midway", where + ": used");
            const page_block b = pages_alloc(use, 4 * mib, { pages, mib });
            expect(b.base != nullptr && of(b, page_kind::mib2) == 0 && missing(b, page_kind::mib2) == 4 * mib, "pool exhausted midway", where + ": nothing left");
            // blocks that want a pool say what it lacks, for weights
            const size_t lines = use != purpose::weights || pages == huge_pages::automatic ? 0 : pages == huge_pages::hugetlb ? 2 : 0;
            expect(warnings.size() == said + lines, "pool exhausted midway", where + ": said once for each");
            expect(holds(a.base, a.size, 1) && pages_free(a) && pages_free(b), "pool exhausted midway", where + ": free");
            expect(p.state() == empty, "pool exhausted midway", where + ": counters back");
        }
    }
    const page_block whole = pages_alloc(purpose::weights, 20 * mib, { huge_pages::automatic, mib });
    expect(of(whole, page_kind::mib2) == 20 * mib && !whole.swappable() && whole.size == 20 * mib, "pool exhausted midway", "a block that fits");
    expect(pages_free(whole) && p.state() == empty, "pool exhausted midway", "counters back");
}

// 8 threads ask for more than the pool has, so that it has less than it said when pages are touched.
static void examine_race(const pool & p) {
    const pool_state empty = p.state();
    for (int round = 0; round < 20; round++) {
        constexpr int            n = 8;
        page_block               blocks[n];
        std::vector<std::thread> threads;
        for (int i = 0; i < n; i++) {
            threads.emplace_back([&, i]() {
                blocks[i] = pages_alloc(purpose::kv, 5 * mib, { huge_pages::automatic, mib });
                write_all(blocks[i], (uint8_t) (i + 1));
            });
        }
        for (auto & t : threads) {
            t.join();
        }
        size_t in_pool = 0;
        for (int i = 0; i < n; i++) {
            expect(holds(blocks[i].base, blocks[i].size, (uint8_t) (i + 1)), "race for the pool", "contents");
            expect(of(blocks[i], page_kind::mib2) == look(blocks[i].base, blocks[i].size).pool, "race for the pool", "kinds");
            in_pool += of(blocks[i], page_kind::mib2);
        }
        const pool_state s = p.state();
        expect((size_t) (s.total - s.free) * huge == in_pool && s.reserved == 0, "race for the pool", "counters");
        for (const page_block & b : blocks) {
            pages_free(b);
        }
        expect(p.state() == empty, "race for the pool", "counters back");
    }
}

// Without pages of 1 GiB, weights that ask for them get others, and that is said.
static void examine_no_gib() {
    const size_t     said = warnings.size();
    const size_t     size = gib + 5 * mib;
    const page_block b    = pages_alloc(purpose::weights, size, { huge_pages::gib, mib });
    expect(b.base != nullptr && of(b, page_kind::gib) == 0 && missing(b, page_kind::gib) == gib, "1 GiB pool absent", "weights");
    expect(warnings.size() == said + 1 && warnings.back().find("no room for 1024 of 1029 MiB of weights") != std::string::npos, "1 GiB pool absent", "said once");
    expect(pages_free(b), "1 GiB pool absent", "free");
    const page_block c = pages_alloc(purpose::kv, size, { huge_pages::gib, mib });
    expect(c.base != nullptr && missing(c, page_kind::gib) == 0 && warnings.size() == said + 1, "1 GiB pool absent", "a KV cache never asks for them");
    expect(pages_free(c), "1 GiB pool absent", "free");
}

static void examine_gib(const pool & p) {
    const pool_state empty = p.state();
    const page_block b     = pages_alloc(purpose::weights, gib + 5 * mib, { huge_pages::automatic, mib });
    expect(of(b, page_kind::gib) == gib && (uintptr_t) b.base % gib == 0 && b.size >= gib + 5 * mib, "1 GiB pool", b.describe());
    expect(p.state().free == empty.free - 1, "1 GiB pool", "counters");
    memset((char *) b.base + gib - mib, 3, 2 * mib);  // across the border
    const mapped_pages m = look(b.base, b.size);
    expect(m.pool == gib + of(b, page_kind::mib2) && m.pool_page == gib, "1 GiB pool", "what the kernel says: " + std::to_string(m.pool) + " bytes in pools");
    expect(pages_count(true).used[(int) purpose::weights][(int) page_kind::gib] == gib, "1 GiB pool", "used");
    expect(pages_free(b) && p.state() == empty, "1 GiB pool", "counters back");
}

static void examine_off() {
    for (const purpose use : all_purposes) {
        const page_block b = pages_alloc(use, 32 * mib + 1, { huge_pages::off, mib });
        write_all(b, 1);
        if (use != purpose::small) {  // the heap is nobody's to speak for
            const mapped_pages m = look(b.base, b.size);
            expect(m.transparent == 0 && m.pool == 0 && m.rss == b.size, "no huge page when off", named(huge_pages::off, use, b.size));
        }
        expect(of(b, page_kind::small) == b.size && pages_free(b), "no huge page when off", "free");
    }
}

static void examine_account() {
    for (const huge_pages pages : { huge_pages::automatic, huge_pages::transparent, huge_pages::off }) {
        const page_account before = pages_count(true);
        const page_block   a      = pages_alloc(purpose::compute, 21 * mib + 4096, { pages, mib });
        const page_block   b      = pages_alloc(purpose::compute, 100 * 4096, { pages, mib });
        memset(a.base, 1, 7 * mib);
        memset(b.base, 1, b.size);
        const page_account after = pages_count(true);
        const mapped_pages m     = look(a.base, a.size);
        const auto         grown = [&](const size_t (&now)[purposes][page_kinds], const size_t (&then)[purposes][page_kinds], page_kind kind) {
            return now[(int) purpose::compute][(int) kind] - then[(int) purpose::compute][(int) kind];
        };
        const auto where = "policy " + std::to_string((int) pages);
        for (int kind = 0; kind < page_kinds; kind++) {
            expect(grown(after.reserved, before.reserved, (page_kind) kind) == a.bytes[kind] + b.bytes[kind], "account", where + ": reserved");
        }
        expect(grown(after.used, before.used, page_kind::transparent) == m.transparent, "account", where + ": used, transparent");
        expect(grown(after.used, before.used, page_kind::small) == m.rss - m.transparent + b.size, "account", where + ": used, 4 KiB");
        expect(grown(after.used, before.used, page_kind::mib2) == m.pool && m.rss + m.pool >= 7 * mib, "account", where + ": used, pool");
        expect(pages_report().find("compute buffers: 21.4 MiB in 2 blocks") != std::string::npos, "account", where + ": report");
        pages_drop((char *) a.base + 4 * mib, 17 * mib);
        expect(look(a.base, a.size).rss + look(a.base, a.size).pool == 4 * mib, "account", where + ": dropped");
        expect(holds(a.base, 4 * mib, 1) && holds((char *) a.base + 4 * mib, 17 * mib, 0), "account", where + ": contents");
        expect(pages_free(a) && pages_free(b), "account", where + ": free");
    }
}

// What malloc could not give either is refused, and what it could is not.
static void examine_no_memory() {
    const page_account before = pages_count(false);
    for (const size_t size : { SIZE_MAX, SIZE_MAX - 5000, SIZE_MAX / 2, size_t(1) << 50, size_t(0) }) {
        errno              = 0;
        const page_block b = pages_alloc(purpose::kv, size, { huge_pages::automatic, mib });
        expect(b.base == nullptr && (errno == ENOMEM || size == 0) && same(pages_count(false), before), "no memory", std::to_string(size) + " bytes");
    }
    size_t pages = 0;
    FILE * f     = fopen("/proc/self/statm", "r");
    if (f == nullptr || fscanf(f, "%zu", &pages) != 1) {
        pages = 0;
    }
    if (f != nullptr) {
        fclose(f);
    }
    rlimit all = {};
    getrlimit(RLIMIT_AS, &all);
    const rlimit tight = { pages * 4096 + 65 * mib, all.rlim_max };  // a whole page more than the block does not fit
    setrlimit(RLIMIT_AS, &tight);
    const page_block b = pages_alloc(purpose::kv, 64 * mib, { huge_pages::automatic, mib });
    setrlimit(RLIMIT_AS, &all);
    expect(b.base != nullptr && b.ordinary, "no memory", "as little address space as malloc needs");
    expect(pages_free(b) && same(pages_count(false), before), "no memory", "free");
}

// What hooks in llama.cpp's files call.
static void examine_purposes() {
    const page_account before = pages_count(false);
    const auto         alloc  = [] { return ggml_backend_buffer_ptr(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), 9 * mib)); };
    const auto         asked  = [&](purpose use) { return (pages_count(false).asked[(int) use] - before.asked[(int) use]) / mib; };
    {
        const auto compute = alloc();
        expect(asked(purpose::compute) == 9, "purposes", "compute");
        {
            const ggml_zen5_allocating outer(GGML_ZEN5_WEIGHTS);
            const auto                 weights = alloc();
            expect(asked(purpose::weights) == 9, "purposes", "weights");
            const ggml_zen5_allocating inner(GGML_ZEN5_KV);
            const auto                 kv = alloc();
            expect(asked(purpose::kv) == 9 && asked(purpose::weights) == 9, "purposes", "KV cache");
            std::thread([&]() {
                const auto other = alloc();
                expect(asked(purpose::compute) == 18, "purposes", "another thread");
            }).join();
        }
        const auto again = alloc();
        expect(asked(purpose::compute) == 18 && asked(purpose::kv) == 0 && asked(purpose::weights) == 0, "purposes", "compute again");
    }
    expect(same(pages_count(false), before), "purposes", "all is freed");
}

void print_page_policy() {
    const page_policy p = get_switches().pages;
    printf("policy %d %zu\n", (int) p.pages, p.min);
}

// Output of this program, called to print the policy, with switches set.
static std::string policy_with(const char * pages, const char * min) {
    int ends[2];
    if (pipe(ends) != 0) {
        return "";
    }
    fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        setenv("ZT_HUGEPAGES", pages, 1);
        setenv("ZT_HUGEPAGES_MIN", min, 1);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl("/proc/self/exe", "zt-selftest", "page-policy", (char *) nullptr);
        _exit(127);
    }
    close(ends[1]);
    std::string text;
    char        part[512];
    for (ssize_t n; (n = read(ends[0], part, sizeof(part))) > 0;) {
        text.append(part, n);
    }
    close(ends[0]);
    int status = 1;
    waitpid(child, &status, 0);
    return status == 0 ? text : "";
}

static void examine_switches() {
    const struct {
        const char * pages;
        const char * min;
        huge_pages   want;
        size_t       least;
        const char * warning;
    } cases[] = {
        { "",        "",       huge_pages::automatic,   8 * mib,   ""                                                      },
        { "auto",    "0",      huge_pages::automatic,   0,         ""                                                      },
        { "1g",      "1",      huge_pages::gib,         mib,       ""                                                      },
        { "hugetlb", "64",     huge_pages::hugetlb,     64 * mib,  ""                                                      },
        { "thp",     "100000", huge_pages::transparent, 100000 * mib, ""                                                   },
        { "off",     "8",      huge_pages::off,         8 * mib,   ""                                                      },
        { "2m",      "8",      huge_pages::automatic,   8 * mib,   "ZT_HUGEPAGES=2m is not one of auto, 1g, hugetlb, thp, off" },
        { "auto",    "-1",     huge_pages::automatic,   8 * mib,   "ZT_HUGEPAGES_MIN=-1 is not a number of MiB; using 8"   },
        { "auto",    "4M",     huge_pages::automatic,   8 * mib,   "ZT_HUGEPAGES_MIN=4M is not a number of MiB; using 8"   },
        { "auto",    " 4",     huge_pages::automatic,   8 * mib,   "ZT_HUGEPAGES_MIN= 4 is not a number of MiB; using 8"   },
        { "auto",    "1e3",    huge_pages::automatic,   8 * mib,   "ZT_HUGEPAGES_MIN=1e3 is not"                           },
        { "auto",    "99999999999999999999", huge_pages::automatic, 8 * mib, "ZT_HUGEPAGES_MIN=99999999999999999999 is not"  },
        { "auto",    "20000000000000",       huge_pages::automatic, 8 * mib, "ZT_HUGEPAGES_MIN=20000000000000 is not"        },
    };
    for (const auto & c : cases) {
        const std::string text = policy_with(c.pages, c.min);
        const std::string want = "policy " + std::to_string((int) c.want) + " " + std::to_string(c.least) + "\n";
        const auto        where = std::string("ZT_HUGEPAGES=") + c.pages + " ZT_HUGEPAGES_MIN=" + c.min + ": " + text;
        expect(text.find(want) != std::string::npos, "switches", where);
        expect(std::count(text.begin(), text.end(), '\n') == (c.warning[0] == '\0' ? 1 : 2) && text.find(c.warning) != std::string::npos, "switches", where);
    }
}

void examine_pages(unsigned seed) {
    ggml_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_WARN) {
            warnings.push_back(text);
        }
    }, nullptr);

    pool small(2048, 0);
    pool large(1048576, 1);
    examine_switches();
    examine_sizes();
    examine_double_free();
    examine_off();
    examine_account();
    examine_no_memory();
    examine_purposes();
    examine_threads(seed, "threads", 200);
    if (large.state().total <= 0) {
        examine_no_gib();
    } else {
        skip("1 GiB pool absent", "there is a pool of 1 GiB pages");
    }

    std::string why = small.set(10);
    if (why.empty() && !undisturbed([&]() {
            examine_cycles(small, true);
            examine_exhaustion(small);
            examine_race(small);
            examine_threads(seed, "threads and a pool", 100);
            expect(small.state().idle(), "threads and a pool", "counters back");
        })) {
        why = "other programs take pages of the pool";
        small.set(0);
    }
    if (!why.empty()) {
        examine_cycles(small, false);
        for (const char * kind : { "pool exhausted midway", "race for the pool", "threads and a pool" }) {
            skip(kind, why);
        }
    }
    small.set(0);
    why = large.set(1);
    if (why.empty()) {
        examine_gib(large);
    } else {
        skip("1 GiB pool", why);
    }
}
