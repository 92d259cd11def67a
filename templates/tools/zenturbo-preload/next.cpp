#include "next.h"

#include "stop.h"

#include <atomic>
#include <cstdint>

#include <dlfcn.h>
#include <pthread.h>

namespace zenturbo {

static functions         found;
static std::atomic<bool> complete{ false };
static thread_local bool searching = false;

template <typename F> static void look_up(F & function, const char * name) {
    function = (F) dlsym(RTLD_NEXT, name);
    if (function == nullptr) {
        stop("no %s behind libzenturbo-preload.so, which is for programs that are linked to a C library like glibc", name);
    }
}

static void search() {
    look_up(found.malloc, "malloc");
    look_up(found.calloc, "calloc");
    look_up(found.realloc, "realloc");
    look_up(found.free, "free");
    look_up(found.posix_memalign, "posix_memalign");
    look_up(found.aligned_alloc, "aligned_alloc");
    look_up(found.memalign, "memalign");
    look_up(found.valloc, "valloc");
    look_up(found.pvalloc, "pvalloc");
    look_up(found.malloc_usable_size, "malloc_usable_size");
    look_up(found.mmap, "mmap");
    look_up(found.munmap, "munmap");
    look_up(found.mremap, "mremap");
    look_up(found.mprotect, "mprotect");
    look_up(found.madvise, "madvise");
}

const functions * next() {
    if (complete.load(std::memory_order_acquire)) {
        return &found;
    }
    if (searching) {
        return nullptr;
    }
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    if (!complete.load(std::memory_order_relaxed)) {
        searching = true;
        search();
        searching = false;
        complete.store(true, std::memory_order_release);
    }
    pthread_mutex_unlock(&mutex);
    return &found;
}

// Before each piece stands its size.
alignas(64) static char    early[16384];
static std::atomic<size_t> early_used{ 0 };

void * early_alloc(size_t size, size_t align) {
    align = align < 16 ? 16 : align;
    if (size > sizeof(early) || align > sizeof(early)) {
        return nullptr;
    }
    const size_t need = size + align + sizeof(size_t);
    const size_t at   = early_used.fetch_add(need);
    if (at + need > sizeof(early)) {
        return nullptr;
    }
    const uintptr_t base = ((uintptr_t) early + at + sizeof(size_t) + align - 1) & ~(uintptr_t) (align - 1);
    *(size_t *) (base - sizeof(size_t)) = size;  
    return (void *) base;
}

bool is_early(const void * p) {
    return (uintptr_t) p - (uintptr_t) early < sizeof(early);
}

size_t early_size(const void * p) {
    return *(const size_t *) ((uintptr_t) p - sizeof(size_t));
}

}  // namespace zenturbo
