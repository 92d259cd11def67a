#pragma once

#include <cstddef>

// Page policy of the packed weights: explicit 2 MiB pages if the pool has room, else transparent huge pages, else 4 KiB.

namespace ggml::host {

struct page_block {
    void *       base   = nullptr;  // 2 MiB aligned; nullptr if there is no memory
    size_t       size   = 0;        // bytes usable at base
    void *       map    = nullptr;  // what to unmap
    size_t       mapped = 0;
    bool         pool   = false;    // from the huge page pool, which is never swapped out
    const char * kind   = "";       // what was obtained, for the log
};

// Zeroed memory of at least size bytes. Pages of the pool are touched here, by all CPUs, to learn whether there are enough; others
// are not, so that each lands where its first user runs.
page_block pages_alloc(size_t size);

// Address space for size bytes. Memory comes as it is touched, in transparent huge pages if the policy allows them: most of it may
// never be, which is why none comes from the pool and nobody is warned.
page_block pages_reserve(size_t size);

// Gives back the memory of the whole 4 KiB pages in a part of a block of that kind: the rest of a huge page of which only the start is used.
void pages_drop(void * start, size_t size);

void pages_free(const page_block & block);

}  // namespace ggml::host
