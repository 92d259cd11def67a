#include "pages.h"

#include "log.h"
#include "parallel.h"
#include "switches.h"

#include "ggml-zen5.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_HUGE_2MB
#    define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#    define MADV_POPULATE_WRITE 23
#endif

namespace ggml::host {

static constexpr size_t huge = size_t(2) << 20;

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
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

// Fills block from the huge page pool, or leaves it without memory.
static void take_from_pool(page_block & block) {
    void * map = mmap(nullptr, block.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    if (map == MAP_FAILED) {
        return;
    }
    // mmap has reserved the pages, but a container's limit, or a memory policy for nodes that have none, is found when they are
    // touched and then is a bus error. Asked for all pages at once the kernel says so in time; before Linux 5.14 it cannot be
    // asked (EINVAL).
    std::atomic<bool> refused{ false };
    parallel_for(0, block.size / huge, 16, [&](int64_t begin, int64_t end) {
        if (madvise((char *) map + begin * huge, (end - begin) * huge, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
            refused = true;
        }
    });
    if (refused) {
        munmap(map, block.size);
        return;
    }
    block.base   = map;
    block.map    = map;
    block.mapped = block.size;
    block.pool   = true;
    block.kind   = "2 MiB pages from the huge page pool";
}

// Fills block with memory that the kernel hands out as it is touched, or leaves it without. flags are further ones of mmap.
static void take_from_kernel(page_block & block, huge_pages want, int flags) {
    // one huge page more than asked for, so that a 2 MiB boundary lies in the first one
    block.mapped = block.size + huge;
    block.map    = mmap(nullptr, block.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (block.map == MAP_FAILED) {
        return;
    }
    block.base = (void *) round_up((uintptr_t) block.map, huge);
    block.kind = "4 KiB pages";
    if (want == huge_pages::off) {
        madvise(block.base, block.size, MADV_NOHUGEPAGE);
    } else if (transparent_available() && madvise(block.base, block.size, MADV_HUGEPAGE) == 0) {
        block.kind = "2 MiB transparent huge pages";
    }
}

page_block pages_alloc(size_t size) {
    const huge_pages want = get_switches().pages;

    page_block block;
    block.size = round_up(size, huge);
    if (want == huge_pages::automatic || want == huge_pages::hugetlb) {
        take_from_pool(block);
    }
    if (block.base == nullptr) {
        // not MAP_NORESERVE: what exceeds all memory is refused here rather than killed while it is filled
        take_from_kernel(block, want, 0);
        const size_t available = available_memory();
        if (block.base != nullptr && available > 0 && block.size > available) {
            warn("%zu MiB of packed weights are more than the %zu MiB of memory available, and the kernel may kill this program; --no-repack "
                 "leaves them in the model's file", block.size >> 20, available >> 20);
        }
        if (block.base != nullptr && want == huge_pages::hugetlb) {
            warn("the huge page pool has no room for %zu MiB of packed weights (vm.nr_hugepages sets its size); they are in %s", size >> 20,
                 block.kind);
        }
    }
    return block;
}

page_block pages_reserve(size_t size) {
    page_block block;
    block.size = round_up(size, huge);
    take_from_kernel(block, get_switches().pages, MAP_NORESERVE);
    return block;
}

// Calls madvise for the whole pages of a range.
static void advise(const void * start, size_t size, int advice) {
    const uintptr_t page  = sysconf(_SC_PAGESIZE);
    const uintptr_t first = round_up((uintptr_t) start, page);
    const uintptr_t last  = ((uintptr_t) start + size) / page * page;
    if (first < last) {
        madvise((void *) first, last - first, advice);
    }
}

void pages_drop(void * start, size_t size) {
    advise(start, size, MADV_DONTNEED);
}

void pages_free(const page_block & block) {
    if (block.map != nullptr) {
        munmap(block.map, block.mapped);
    }
}

}  // namespace ggml::host

void ggml_zen5_drop_mapped(const void * data, size_t size) {
    using namespace ggml::host;

    advise(data, size, MADV_DONTNEED);
    // A touch of the small tensors between packed ones maps what surrounds it in the page cache, up to 2 MiB where that is in huge
    // pages. Other advice for these pages makes them a mapping of their own, which such a touch does not reach into.
    advise(data, size, MADV_NOHUGEPAGE);
}
