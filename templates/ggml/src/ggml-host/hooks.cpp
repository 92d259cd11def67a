// What hooks in llama.cpp's own files call of this folder; declared in ggml-zen5.h.

#include "log.h"
#include "pages.h"
#include "switches.h"

#include "ggml-impl.h"
#include "ggml-zen5.h"

#include <cinttypes>
#include <cstring>
#include <sstream>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

using namespace ggml::host;

static thread_local ggml_zen5_purpose allocating = GGML_ZEN5_COMPUTE;

enum ggml_zen5_purpose ggml_zen5_allocate_for(enum ggml_zen5_purpose purpose) {
    const ggml_zen5_purpose before = allocating;
    allocating                     = purpose;
    return before;
}

void * ggml_zen5_host_alloc(size_t size) {
    static const struct {
        purpose      use;
        const char * name;
    } known[] = {
        { purpose::compute, "compute buffer" },
        { purpose::kv,      "KV cache"       },
        { purpose::weights, "plain weights"  },
    };
    if (!get_switches().enabled || size == 0) {
        return ggml_aligned_malloc(size);
    }
    const auto &     k     = known[allocating];
    const page_block block = pages_alloc(k.use, size);
    if (block.base == nullptr) {
        return ggml_aligned_malloc(size);  // which says why there is none
    }
    if (!block.ordinary) {
        note("%zu MiB of %s in %s", size >> 20, k.name, block.describe().c_str());
    }
    return block.base;
}

void ggml_zen5_host_free(void * data, size_t size) {
    const page_block block = pages_find(data);
    if (block.base == data && data != nullptr) {
        pages_free(block);
    } else {
        ggml_aligned_free(data, size);
    }
}

void ggml_zen5_report_pages(const char * when) {
    if (get_switches().enabled && get_switches().log) {
        std::istringstream lines(pages_report());
        for (std::string line; std::getline(lines, line);) {
            note("%s, %s", when, line.c_str());
        }
    }
}

// Calls madvise for the whole pages of a range.
static void advise(const void * start, size_t size, int advice) {
    const uintptr_t page  = sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t) start + page - 1) / page * page;
    const uintptr_t last  = ((uintptr_t) start + size) / page * page;
    if (first < last) {
        madvise((void *) first, last - first, advice);
    }
}

void ggml_zen5_drop_mapped(const void * data, size_t size) {
    advise(data, size, MADV_DONTNEED);
    // A touch of the small tensors between packed ones maps what surrounds it in the page cache, up to 2 MiB where that is in huge
    // pages. Other advice for these pages makes them a mapping of their own, which such a touch does not reach into.
    advise(data, size, MADV_NOHUGEPAGE);
}
