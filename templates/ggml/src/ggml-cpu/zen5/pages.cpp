#include "pages.h"

#include "switches.h"

#include "ggml-zen5.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_HUGE_2MB
#    define MAP_HUGE_2MB (21 << 26)
#endif

namespace ggml::cpu::zen5 {

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

page_block pages_alloc(size_t size) {
    const huge_pages want = get_switches().pages;

    page_block block;
    block.size = round_up(size, huge);

    if (want == huge_pages::automatic || want == huge_pages::hugetlb) {
        // mmap reserves the pages: if the pool is too small it fails here, never later on first touch
        block.mapped = block.size;
        block.map    = mmap(nullptr, block.mapped, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
        if (block.map != MAP_FAILED) {
            block.base = block.map;
            block.kind = "2 MiB pages from the huge page pool";
            return block;
        }
    }

    // one huge page more than asked for, so that a 2 MiB boundary lies in the first one
    block.mapped = block.size + huge;
    block.map    = mmap(nullptr, block.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block.map == MAP_FAILED) {
        return page_block{};
    }
    block.base = (void *) round_up((uintptr_t) block.map, huge);
    block.kind = "4 KiB pages";
    if (want != huge_pages::off && transparent_available() && madvise(block.base, block.size, MADV_HUGEPAGE) == 0) {
        block.kind = "2 MiB transparent huge pages";
    } else if (want == huge_pages::off) {
        madvise(block.base, block.size, MADV_NOHUGEPAGE);
    }
    return block;
}

void pages_free(const page_block & block) {
    if (block.base != nullptr) {
        munmap(block.map, block.mapped);
    }
}

}  // namespace ggml::cpu::zen5

void ggml_zen5_drop_mapped(const void * data, size_t size) {
    const uintptr_t page  = sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t) data + page - 1) / page * page;
    const uintptr_t last  = ((uintptr_t) data + size) / page * page;
    if (first < last) {
        madvise((void *) first, last - first, MADV_DONTNEED);
    }
}
