#include "pages.h"

#include "log.h"
#include "parallel.h"
#include "switches.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#    define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_FIXED_NOREPLACE
#    define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace ggml::host {

static constexpr size_t mib  = size_t(1) << 20;
static constexpr size_t huge = 2 * mib;
static constexpr size_t gib  = 1024 * mib;

static constexpr size_t page_size[page_kinds] = { gib, huge, huge, 4096 };

static const char * const purpose_names[purposes] = { "weights", "KV caches", "compute buffers", "small buffers" };
static const char * const kind_names[page_kinds]  = {
    "1 GiB pages from the huge page pool",
    "2 MiB pages from the huge page pool",
    "2 MiB transparent huge pages",
    "4 KiB pages",
};

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

bool page_block::swappable() const {
    return bytes[(int) page_kind::transparent] + bytes[(int) page_kind::small] > 0;
}

std::string page_block::describe() const {
    std::string parts;
    int         only = -1;  // kind
    int         n    = 0;
    for (int kind = 0; kind < page_kinds; kind++) {
        // what does not fill the last transparent huge page is not worth a word
        if (bytes[kind] == 0 || (kind == (int) page_kind::small && bytes[kind] < huge && bytes[(int) page_kind::transparent] > 0)) {
            continue;
        }
        char part[128];
        snprintf(part, sizeof(part), "%s%.1f MiB in %s", n > 0 ? ", " : "", bytes[kind] / double(mib), kind_names[kind]);
        parts += part;
        only = kind;
        n++;
    }
    return n == 0 ? "" : n == 1 ? kind_names[only] : "pages of several kinds (" + parts + ")";
}

// The number in a file of the pool of a kind; 0 if the kernel has none.
static size_t pool_number(page_kind kind, const char * name) {
    char path[128];
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", page_size[(int) kind] >> 10, name);
    FILE * f = fopen(path, "r");
    if (f == nullptr) {
        return 0;
    }
    size_t n = 0;
    if (fscanf(f, "%zu", &n) != 1) {
        n = 0;
    }
    fclose(f);
    return n;
}

// Bytes that the pool of a kind has and nobody was promised, those included by which it may grow.
static size_t room(page_kind kind) {
    const auto minus = [](size_t a, size_t b) { return a > b ? a - b : 0; };
    const size_t free = minus(pool_number(kind, "free_hugepages"), pool_number(kind, "resv_hugepages"));
    const size_t more = minus(pool_number(kind, "nr_overcommit_hugepages"), pool_number(kind, "surplus_hugepages"));
    return (free + more) * page_size[(int) kind];
}

// Whether the kernel gives transparent huge pages to those who ask with madvise.
static bool transparent_available() {
    FILE * f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (f == nullptr) {
        return false;
    }
    char line[128] = {};
    const bool read = fgets(line, sizeof(line), f) != nullptr;
    fclose(f);
    return read && strstr(line, "[never]") == nullptr;
}

// Bytes of RAM and swap that programs can still get; 0 if the kernel does not say.
static size_t available_memory() {
    FILE * f = fopen("/proc/meminfo", "r");
    if (f == nullptr) {
        return 0;
    }
    size_t total = 0;
    for (char line[128]; fgets(line, sizeof(line), f) != nullptr;) {
        size_t kib = 0;
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1 || sscanf(line, "SwapFree: %zu", &kib) == 1) {
            total += kib << 10;
        }
    }
    fclose(f);
    return total;
}

// Whether the kernel (Linux 5.14) can be asked for the pages of a range in a way that fails if there are none.
static bool can_populate() {
    static const bool can = [] {
        void * page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const bool ok = page != MAP_FAILED && madvise(page, 4096, MADV_POPULATE_WRITE) == 0;
        if (page != MAP_FAILED) {
            munmap(page, 4096);
        }
        return ok;
    }();
    return can;
}

// What belongs to a block and is no concern of its user.
struct holding {
    page_block block;
    purpose    use    = purpose::small;
    size_t     asked  = 0;
    char *     map    = nullptr;  // address space to unmap; nullptr if block.base is from the ordinary allocator
    size_t     mapped = 0;
};

struct part {
    char * at;
    size_t size;
    bool   fresh;  // address space that nothing has been mapped over yet
};

// A block in the making, in address space that is ours.
class builder {
    holding &           h;
    const page_policy & policy;
    const int           flags;  // further ones of mmap, for memory that the kernel hands out as it is touched
    std::vector<part>   lost;   // of the address space

    bool wants(page_kind kind) const {
        const huge_pages p = policy.pages;
        switch (kind) {
            case page_kind::gib:
                return h.use == purpose::weights && (p == huge_pages::automatic || p == huge_pages::gib);
            case page_kind::mib2:
                return p == huge_pages::automatic || p == huge_pages::gib || p == huge_pages::hugetlb;
            case page_kind::transparent:
                return p != huge_pages::off;
            default:
                return true;
        }
    }

    // Maps memory over a part of the address space. If there is none, Linux before 6.12 has unmapped what was there, and another thread may
    // have got it before it is taken again: then it is not ours to unmap.
    bool replace(char * at, size_t size, int more) {
        if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | more, -1, 0) != MAP_FAILED) {
            return true;
        }
        const int why = errno;
        if (mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | flags, -1, 0) == MAP_FAILED) {
            lost.push_back({ at, size, false });
        }
        errno = why;
        return false;
    }

    // Touches pages of a pool and returns the parts that the kernel refuses, for want of pages, a container's limit, or a memory policy for
    // nodes that have none.
    static std::vector<part> touch(char * at, size_t size, size_t page) {
        const int64_t     grain = std::max<int64_t>(1, (32 * mib) / page);
        std::vector<part> refused;
        std::mutex        mutex;
        parallel_for(0, size / page, grain, [&](int64_t begin, int64_t end) {
            const part p = { at + begin * page, (end - begin) * page, false };
            if (madvise(p.at, p.size, MADV_POPULATE_WRITE) != 0) {
                std::lock_guard<std::mutex> lock(mutex);
                refused.push_back(p);
            }
        });
        return refused;
    }

    bool from_kernel(const part & p) {
        if (p.fresh ? mprotect(p.at, p.size, PROT_READ | PROT_WRITE) != 0 : !replace(p.at, p.size, flags)) {
            return false;
        }
        const size_t whole = p.size / huge * huge;
        size_t       large = 0;
        if (policy.pages == huge_pages::off) {
            madvise(p.at, p.size, MADV_NOHUGEPAGE);
        } else if (whole > 0) {
            large = transparent_available() && madvise(p.at, whole, MADV_HUGEPAGE) == 0 ? whole : 0;
            h.block.missing[(int) page_kind::transparent] += whole - large;
        }
        h.block.bytes[(int) page_kind::transparent] += large;
        h.block.bytes[(int) page_kind::small] += p.size - large;
        return true;
    }

    // Fills a part with pages of the pools, from a kind on, as many as there are, and the rest of it from the kernel.
    bool fill(part p, int kind) {
        for (; kind < (int) page_kind::transparent && p.size > 0; kind++) {
            const size_t page = page_size[kind];
            // the end of a block is worth a page of 2 MiB, not one of 1 GiB
            const size_t want = kind == (int) page_kind::gib ? p.size / page * page : round_up(p.size, page);
            if (want == 0 || !wants((page_kind) kind)) {
                continue;
            }
            size_t get = std::min(want, room((page_kind) kind));
            // Without a reservation two programs that race get some pages each. Where pages cannot be populated a reservation must do.
            const int huge_flags = MAP_HUGETLB | (kind == (int) page_kind::gib ? 30 << 26 : 21 << 26) | (can_populate() ? MAP_NORESERVE : 0);
            if (get == 0 || (uintptr_t) p.at % page != 0 || !replace(p.at, get, huge_flags)) {
                get = 0;
            }
            if (!lost.empty()) {
                return false;
            }
            h.block.bytes[kind] += get;
            h.block.missing[kind] += want - get;
            for (const part & refused : get > 0 && can_populate() ? touch(p.at, get, page) : std::vector<part>()) {
                h.block.bytes[kind] -= refused.size;
                h.block.missing[kind] += refused.size;
                if (!fill(refused, kind + 1)) {
                    return false;
                }
            }
            p = { p.at + get, p.size - std::min(p.size, get), p.fresh };
        }
        return p.size == 0 || from_kernel(p);
    }

  public:
    builder(holding & h, const page_policy & policy, int flags) : h(h), policy(policy), flags(flags) {}

    // Fills h for its use and size with pages from a kind on, or leaves it without memory.
    bool build(int first) {
        h.block           = {};
        const size_t size = round_up(h.asked, 4096);
        if (size < h.asked) {
            errno = ENOMEM;
            return false;
        }
        // a page more than the alignment takes, so that no other mapping is next to ours and counted as it in smaps
        const bool   gibs = first == (int) page_kind::gib && wants(page_kind::gib) && size >= gib && room(page_kind::gib) > 0;
        const size_t unit = gibs ? gib : huge;
        h.mapped          = round_up(size, huge) + unit + 4096;
        if (h.mapped < size) {
            errno = ENOMEM;
            return false;
        }
        void * map = mmap(nullptr, h.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
        if (map == MAP_FAILED) {
            return false;
        }
        h.map       = (char *) map;
        char * base = (char *) round_up((uintptr_t) map + 4096, unit);
        if (!fill({ base, size, true }, first)) {
            release();
            return false;
        }
        h.block.base = base;
        for (const size_t bytes : h.block.bytes) {
            h.block.size += bytes;
        }
        return true;
    }

  private:
    void release() {
        const int why = errno;
        std::sort(lost.begin(), lost.end(), [](const part & a, const part & b) { return a.at < b.at; });
        char * at = h.map;
        for (const part & p : lost) {
            if (p.at > at) {
                munmap(at, p.at - at);
            }
            at = p.at + p.size;
        }
        munmap(at, h.map + h.mapped - at);
        errno = why;
    }
};

// All blocks, by the address where they start.
class ledger {
    mutable std::mutex           mutex;
    std::map<uintptr_t, holding> holdings;
    size_t                       last = 0;  // id

  public:
    void add(holding & h) {
        std::lock_guard<std::mutex> lock(mutex);
        h.block.id                         = h.block.id == 0 ? ++last : h.block.id;
        holdings[(uintptr_t) h.block.base] = h;
    }

    // Takes a block out.
    bool take(const page_block & block, holding & h) {
        std::lock_guard<std::mutex> lock(mutex);
        const auto                  found = holdings.find((uintptr_t) block.base);
        if (found == holdings.end() || found->second.block.id != block.id) {
            return false;
        }
        h = found->second;
        holdings.erase(found);
        return true;
    }

    // The first block that ends behind an address.
    page_block next(const void * at) const {
        std::lock_guard<std::mutex> lock(mutex);
        const auto                  behind = holdings.upper_bound((uintptr_t) at);
        if (behind != holdings.begin()) {
            const auto & [base, h] = *std::prev(behind);
            if ((uintptr_t) at - base < h.block.size) {
                return h.block;
            }
        }
        return behind == holdings.end() ? page_block() : behind->second.block;
    }

    std::vector<holding> all() const {
        std::lock_guard<std::mutex> lock(mutex);
        std::vector<holding>        list;
        for (const auto & entry : holdings) {
            list.push_back(entry.second);
        }
        return list;
    }
};

// Never destroyed: buffers of static lifetime are freed after it would be.
static ledger & get_ledger() {
    static ledger & l = *new ledger();
    return l;
}

// Memory of the ordinary allocator for h, as stock gets it.
static bool allocate_ordinary(holding & h) {
    void *    base = nullptr;
    const int why  = posix_memalign(&base, 64, h.asked);
    if (why != 0) {
        errno = why;
        return false;
    }
    if (h.use == purpose::weights) {
        memset(base, 0, h.asked);
    }
    h.map            = nullptr;
    h.block          = {};
    h.block.base     = base;
    h.block.ordinary = true;
    h.block.size = h.block.bytes[(int) page_kind::small] = h.asked;
    return true;
}

static page_block allocate(purpose use, size_t size, const page_policy & policy, int first, int flags) {
    holding h;
    h.use                = use;
    h.asked              = size;
    const size_t least   = use == purpose::weights ? huge : use == purpose::small ? SIZE_MAX : std::max<size_t>(policy.min, 1);
    // address space for pages of 1 GiB, or what lies in a pool, may be refused where ordinary memory is not
    const int    last    = (int) page_kind::transparent;
    const bool   whole   = size >= least && (builder(h, policy, flags).build(first) || (first < last && builder(h, policy, flags).build(last)));
    if (!whole && (size == 0 || !allocate_ordinary(h))) {
        return {};
    }
    get_ledger().add(h);
    return h.block;
}

page_block pages_alloc(purpose use, size_t size, const page_policy & policy) {
    // not MAP_NORESERVE: what exceeds all memory is refused here rather than killed while it is filled
    const page_block block = allocate(use, size, policy, 0, 0);
    if (block.base == nullptr || use != purpose::weights) {
        return block;
    }
    const size_t ordinary  = block.bytes[(int) page_kind::transparent] + block.bytes[(int) page_kind::small];
    const size_t available = ordinary < huge ? 0 : available_memory();
    if (available > 0 && ordinary > available) {
        warn("%zu MiB of weights are more than the %zu MiB of memory available, and the kernel may kill this program; --no-repack with "
             "--load-mode mmap leaves them in the model's file", ordinary / mib, available / mib);
    }
    const page_kind asked = policy.pages == huge_pages::gib ? page_kind::gib : page_kind::mib2;
    const size_t lacks = std::min(size, block.missing[(int) asked]);
    if ((policy.pages == huge_pages::hugetlb || policy.pages == huge_pages::gib) && lacks > 0) {
        warn("the huge page pool has no room for %zu of %zu MiB of weights (%s sets its size); they are in %s", round_up(lacks, mib) / mib,
             round_up(size, mib) / mib, asked == page_kind::gib ? "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages" : "vm.nr_hugepages",
             block.describe().c_str());
    }
    return block;
}

page_block pages_alloc(purpose use, size_t size) {
    return pages_alloc(use, size, get_switches().pages);
}

page_block pages_reserve(size_t size) {
    return allocate(purpose::weights, size, get_switches().pages, (int) page_kind::transparent, MAP_NORESERVE);
}

page_block pages_next(const void * at) {
    return get_ledger().next(at);
}

page_block pages_find(const void * at) {
    const page_block block = pages_next(at);
    return block.base <= at ? block : page_block();
}

void pages_touch(void * start, size_t size) {
    const uintptr_t page  = sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t) start / page * page;
    const uintptr_t last  = (uintptr_t) start + size;
    parallel_for(first, last, huge, [&](int64_t begin, int64_t end) {
        madvise((void *) begin, round_up(end - begin, page), MADV_POPULATE_WRITE);
    });
}

void pages_drop(void * start, size_t size) {
    const uintptr_t first = round_up((uintptr_t) start, 4096);
    const uintptr_t last  = ((uintptr_t) start + size) / 4096 * 4096;
    if (first < last) {
        madvise((void *) first, last - first, MADV_DONTNEED);
    }
}

bool pages_free(const page_block & block) {
    if (block.id == 0) {
        return true;
    }
    holding h;
    if (!get_ledger().take(block, h)) {
        warn("memory at %p is freed twice, or was never allocated; it is left alone", block.base);
        return false;
    }
    if (h.map == nullptr) {
        free(h.block.base);
    } else {
        munmap(h.map, h.mapped);
    }
    return true;
}

size_t page_block::pooled() const {
    return bytes[(int) page_kind::gib] + bytes[(int) page_kind::mib2];
}

// Moves what h has in pools to where it can be swapped, protected and unmapped in parts, at the same address.
static bool leave_pools(holding & h) {
    const size_t size = h.block.size;
    char * const map  = (char *) mmap(nullptr, size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    char * const copy  = (char *) round_up((uintptr_t) map, huge);
    const bool   large = transparent_available() && madvise(map, size + huge, MADV_HUGEPAGE) == 0;
    memcpy(copy, h.block.base, size);
    const bool moved = mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, h.block.base) != MAP_FAILED;
    // where it was another thread may have mapped something since
    munmap(map, copy - map);
    munmap(copy + (moved ? size : 0), map + huge - copy + (moved ? 0 : size));
    if (moved) {
        const size_t whole                          = large ? size / huge * huge : 0;
        h.block.bytes[(int) page_kind::gib]         = 0;
        h.block.bytes[(int) page_kind::mib2]        = 0;
        h.block.bytes[(int) page_kind::transparent] = whole;
        h.block.bytes[(int) page_kind::small]       = size - whole;
    }
    return moved;
}

// Gives h, which has nothing in pools, another size, with its pages and without a copy.
static bool remap(holding & h, size_t size) {
    char * const base = (char *) h.block.base;
    const size_t have = h.block.size;
    if (size < have) {
        // the address space stays ours
        if (mmap(base + size, have - size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
            return false;
        }
    } else if (size > have) {
        const size_t mapped = round_up(size, huge) + huge + 4096;
        char * const map    = (char *) mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) {
            return false;
        }
        char * const to = (char *) round_up((uintptr_t) map + 4096, huge);
        if (mremap(base, have, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
            munmap(map, mapped);
            return false;
        }
        munmap(h.map, base - h.map);
        munmap(base + have, h.map + h.mapped - (base + have));
        h.map        = map;
        h.mapped     = mapped;
        h.block.base = to;
    }
    const size_t whole                          = h.block.bytes[(int) page_kind::transparent] > 0 ? size / huge * huge : 0;
    h.block.size                                = size;
    h.block.bytes[(int) page_kind::transparent] = whole;
    h.block.bytes[(int) page_kind::small]       = size - whole;
    return true;
}

// Lets change do something to what is known of block.
template <typename F> static bool with_holding(page_block & block, F change) {
    holding h;
    if (block.id == 0 || block.ordinary || !get_ledger().take(block, h)) {
        return false;
    }
    const bool changed = change(h);
    get_ledger().add(h);
    block = h.block;
    return changed;
}

bool pages_leave_pools(page_block & block) {
    return with_holding(block, leave_pools);
}

bool pages_resize(page_block & block, size_t size) {
    return with_holding(block, [&](holding & h) {
        const size_t whole = round_up(size, 4096);
        if (whole < size || whole == 0) {
            return false;
        }
        if (h.block.pooled() > 0) {
            if (whole <= h.block.size) {
                return whole >= h.block.size / 2;
            }
            if (!leave_pools(h)) {
                return false;
            }
        }
        h.asked = size;
        return remap(h, whole);
    });
}

void pages_forked() {
    for (const holding & h : get_ledger().all()) {
        const bool enough = h.block.bytes[(int) page_kind::gib] <= room(page_kind::gib) && h.block.bytes[(int) page_kind::mib2] <= room(page_kind::mib2);
        page_block block  = h.block;
        if (!enough && available_memory() > block.size) {
            pages_leave_pools(block);
        }
    }
}

// Bytes in memory of blocks, by kind, from what the kernel says of each mapping. Mappings do not reach from one block into another.
static void count_used(const std::vector<holding> & all, page_account & account) {
    FILE * f = fopen("/proc/self/smaps", "r");
    if (f == nullptr) {
        return;
    }
    const holding * inside = nullptr;
    size_t          page   = 4096;
    for (char line[512]; fgets(line, sizeof(line), f) != nullptr;) {
        uintptr_t begin = 0;
        uintptr_t end   = 0;
        size_t    kib   = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
            inside = nullptr;
            for (const holding & h : all) {
                const uintptr_t base = (uintptr_t) h.block.base;
                if (h.map != nullptr && begin >= base && end <= base + h.block.size) {
                    inside = &h;
                }
            }
        } else if (inside == nullptr) {
            continue;
        } else if (sscanf(line, "KernelPageSize: %zu kB", &kib) == 1) {
            page = kib << 10;
        } else {
            auto & used = account.used[(int) inside->use];
            if (sscanf(line, "Rss: %zu kB", &kib) == 1) {  // without pages of the pools
                used[(int) page_kind::small] += kib << 10;
            } else if (sscanf(line, "AnonHugePages: %zu kB", &kib) == 1) {
                used[(int) page_kind::transparent] += kib << 10;
                used[(int) page_kind::small] -= kib << 10;
            } else if (sscanf(line, "Private_Hugetlb: %zu kB", &kib) == 1 || sscanf(line, "Shared_Hugetlb: %zu kB", &kib) == 1) {
                used[(int) (page == gib ? page_kind::gib : page_kind::mib2)] += kib << 10;
            }
        }
    }
    fclose(f);
}

// Bytes in memory of a block of the ordinary allocator, whose pages it may share with others.
static size_t resident(const holding & h) {
    const uintptr_t            base  = (uintptr_t) h.block.base;
    const uintptr_t            first = base / 4096 * 4096;
    std::vector<unsigned char> in((base + h.block.size - first + 4095) / 4096);
    if (mincore((void *) first, in.size() * 4096, in.data()) != 0) {
        return 0;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < in.size(); i++) {
        if (in[i] & 1) {
            bytes += std::min(base + h.block.size, first + (i + 1) * 4096) - std::max(base, first + i * 4096);
        }
    }
    return bytes;
}

page_account pages_count(bool used) {
    const std::vector<holding> all = get_ledger().all();
    page_account               account;
    for (const holding & h : all) {
        const int use = (int) h.use;
        account.blocks[use]++;
        account.asked[use] += h.asked;
        for (int kind = 0; kind < page_kinds; kind++) {
            account.reserved[use][kind] += h.block.bytes[kind];
            account.missing[use][kind] += h.block.missing[kind];
        }
        if (used && h.map == nullptr) {
            account.used[use][(int) page_kind::small] += resident(h);
        }
    }
    if (used) {
        count_used(all, account);
    }
    return account;
}

std::string pages_report() {
    const page_account a = pages_count(true);
    std::string        text;
    char               line[256];
    for (int use = 0; use < purposes; use++) {
        if (a.blocks[use] == 0) {
            continue;
        }
        snprintf(line, sizeof(line), "%s%s: %.1f MiB in %zu blocks", text.empty() ? "" : "\n", purpose_names[use], a.asked[use] / double(mib), a.blocks[use]);
        text += line;
        for (int kind = 0; kind < page_kinds; kind++) {
            if (a.reserved[use][kind] + a.used[use][kind] + a.missing[use][kind] > 0) {
                snprintf(line, sizeof(line), "; %s: %.1f reserved, %.1f used, %.1f not to be had", kind_names[kind],
                         a.reserved[use][kind] / double(mib), a.used[use][kind] / double(mib), a.missing[use][kind] / double(mib));
                text += line;
            }
        }
    }
    return text;
}

}  // namespace ggml::host
