// malloc and its kin. Requests of at least `least` bytes become blocks of the page policy, at multiples of 2 MiB; all others go to the next
// allocator. Blocks are found again in the policy's own list.

#include "log.h"
#include "next.h"
#include "preload.h"
#include "stop.h"
#include "switches.h"

#include <algorithm>
#include <cstring>
#include <new>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace zenturbo;
using namespace ggml::host;

namespace zenturbo {

std::atomic<size_t> least{ SIZE_MAX };
std::atomic<size_t> pooled{ 0 };
counters            count;
thread_local bool   inside = false;

// Held around every call of the page policy, and across fork: a child must not find its list locked by a thread that it has not.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

class locked {
  public:
    locked() { pthread_mutex_lock(&mutex); }

    ~locked() { pthread_mutex_unlock(&mutex); }

    locked(const locked &)             = delete;
    locked & operator=(const locked &) = delete;
};

// While the policy makes a block it opens files, where a thread may be cancelled, and starts threads, which should handle none of the
// program's signals. Those of faults stay: blocked they would end the program.
class undisturbed {
    sigset_t signals;
    int      cancel;

  public:
    undisturbed() {
        sigset_t all;
        sigfillset(&all);
        for (int fault : { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS }) {
            sigdelset(&all, fault);
        }
        pthread_sigmask(SIG_SETMASK, &all, &signals);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    }

    ~undisturbed() {
        pthread_setcancelstate(cancel, nullptr);
        pthread_sigmask(SIG_SETMASK, &signals, nullptr);
    }

    undisturbed(const undisturbed &)             = delete;
    undisturbed & operator=(const undisturbed &) = delete;
};

static bool aligned(const void * p) {
    return ((uintptr_t) p & (huge - 1)) == 0;
}

// By default no pages of the pools: what malloc gave a program may be inherited by a child, protected, discarded and mapped over in
// parts, and they can do none of it. When a child needs a copy of one and there is none left the kernel ends it. Who asks for the pools
// knows the program.
static page_policy policy() {
    page_policy p = get_switches().pages;
    if (p.pages == huge_pages::automatic) {
        p.pages = huge_pages::transparent;
    }
    p.min = 0;
    return p;
}

// Counts block in, or out with sign -1.
static void account(const page_block & block, int sign) {
    const size_t bytes = count.bytes += sign * block.size;
    size_t       most  = count.most;
    while (bytes > most && !count.most.compare_exchange_weak(most, bytes)) {
    }
    if (block.pooled() > 0) {
        pooled += sign;
    }
}

static size_t whole(size_t size) {
    return (size + huge - 1) & ~(huge - 1);
}

// Says where a new block is, and once that pools which were asked for have too little.
static void told(const page_block & block) {
    static bool warned = false;
    note("malloc: %zu MiB: %s", block.size >> 20, block.describe().c_str());
    if (get_switches().pages.pages == huge_pages::hugetlb && block.missing[(int) page_kind::mib2] > 0 && !warned) {
        warned = true;
        warn("the huge page pool has no room for %zu of the %zu MiB of a block (vm.nr_hugepages sets its size): %s",
             block.missing[(int) page_kind::mib2] >> 20, block.size >> 20, block.describe().c_str());
    }
}

// A block of at least size zeroed bytes; nullptr if that is too little for one or there is no memory for it.
static void * take(size_t size) {
    if (size < least.load(std::memory_order_relaxed) || size > PTRDIFF_MAX || inside) {
        return nullptr;
    }
    within            w;
    undisturbed       u;
    locked            l;
    const page_policy p = policy();
    // pages of 1 GiB are for weights alone, and for those that ask for them here
    const purpose     use = p.pages == huge_pages::gib ? purpose::weights : purpose::compute;
    try {
        // whole huge pages: the rest of one would be a mapping of its own, which does not move along
        const page_block block = pages_alloc(use, whole(size), p);
        if (block.ordinary) {  // the policy's last resort is where the caller goes next
            pages_free(block);
        } else if (block.base != nullptr) {
            count.blocks++;
            account(block, 1);
            told(block);
            return block.base;
        }
    } catch (const std::bad_alloc &) {
    }
    return nullptr;
}

// The block at p; one without base if p is from elsewhere. Locked.
static page_block block_at(const void * p) {
    const page_block block = pages_find(p);
    if (block.base == p || block.base == nullptr) {
        return block;
    }
    stop("free() or realloc() of %p, which is inside a block at %p", p, block.base);
}

static void drop(const page_block & block) {
    account(block, -1);
    pages_free(block);
}

// Frees the block at p. False if p is none of ours.
static bool give_back(void * p) {
    if (!aligned(p) || count.blocks.load(std::memory_order_relaxed) == 0 || inside) {
        return false;
    }
    within           w;
    locked           l;
    const page_block block = block_at(p);
    if (block.base != nullptr) {
        drop(block);
        return true;
    }
    // The next allocator would look at what stands before p.
    unsigned char there;
    if (mincore(p, 1, &there) != 0 && errno == ENOMEM) {
        stop("free() of %p, which is free already or was never allocated", p);
    }
    return false;
}

// The bytes of the block at p, 0 if p is none of ours.
static size_t size_at(void * p) {
    if (!aligned(p) || count.blocks.load(std::memory_order_relaxed) == 0 || inside) {
        return 0;
    }
    within w;
    locked l;
    return block_at(p).size;
}

// Makes the block at p as large as asked and returns where it is now; nullptr, and the block is as before, if that takes a copy.
static void * remap(void * p, size_t size) {
    if (size > PTRDIFF_MAX) {
        return nullptr;
    }
    within      w;
    undisturbed u;
    locked      l;
    try {
        page_block       block   = block_at(p);
        const page_block before  = block;
        const bool       resized = pages_resize(block, whole(size));
        account(before, -1);
        account(block, 1);
        return resized ? block.base : nullptr;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void leave_pools(const void * start, size_t size) {
    const uintptr_t begin = (uintptr_t) start;
    if (pooled.load(std::memory_order_relaxed) == 0 || size == 0 || size > UINTPTR_MAX - begin || (begin | size) % huge == 0 || inside) {
        return;
    }
    within      w;
    undisturbed u;
    locked      l;
    for (page_block block = pages_next(start); block.base != nullptr && (uintptr_t) block.base < begin + size;) {
        const page_block before = block;
        if (before.pooled() > 0 && pages_leave_pools(block)) {
            account(before, -1);
            account(block, 1);
        } else if (before.pooled() > 0) {
            warn("there is no memory to move %zu MiB out of the huge page pool, of which the program maps or protects a part", block.size >> 20);
        }
        block = pages_next((char *) block.base + block.size);
    }
}

static void before_fork() {
    pthread_mutex_lock(&mutex);
}

static void after_fork() {
    pthread_mutex_unlock(&mutex);
}

static void after_fork_in_child() {
    if (pooled > 0) {
        const within w;
        pages_forked();
        pooled = 0;
        for (page_block block = pages_next(nullptr); block.base != nullptr; block = pages_next((char *) block.base + block.size)) {
            pooled += block.pooled() > 0;
        }
    }
    pthread_mutex_unlock(&mutex);
}

void keep_fork_safe() {
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

}  // namespace zenturbo

// Memory while the next allocator is being looked up.
static void * early(size_t size, size_t align) {
    void * p = early_alloc(size, align);
    if (p == nullptr) {
        errno = ENOMEM;
    }
    return p;
}

ZT_EXPORT void * malloc(size_t size) {
    if (void * p = take(size)) {
        return p;
    }
    const functions * f = next();
    return f ? f->malloc(size) : early(size, 16);
}

ZT_EXPORT void * calloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return nullptr;
    }
    if (void * p = take(bytes)) {
        return p;
    }
    const functions * f = next();
    return f ? f->calloc(n, size) : early(bytes, 16);
}

ZT_EXPORT void free(void * p) {
    if (p == nullptr || give_back(p) || is_early(p)) {
        return;
    }
    if (const functions * f = next()) {
        f->free(p);
    }
}

// realloc of a block, or early memory, of have bytes.
static void * resize(void * p, size_t have, size_t size) {
    if (size >= least.load(std::memory_order_relaxed) && !is_early(p)) {
        if (void * q = remap(p, size)) {
            return q;
        }
    }
    void * q = malloc(size);
    if (q != nullptr) {
        memcpy(q, p, std::min(size, have));
        free(p);
        return q;
    }
    return size <= have ? p : nullptr;  // what is there will do
}

ZT_EXPORT void * realloc(void * p, size_t size) {
    if (p == nullptr) {
        return malloc(size);
    }
    if (is_early(p)) {
        return resize(p, early_size(p), size);
    }
    if (const size_t have = size_at(p)) {
        if (size == 0) {
            free(p);
            return nullptr;
        }
        return resize(p, have, size);
    }
    const functions * f = next();
    if (f == nullptr) {
        return nullptr;
    }
    void * q = take(size);
    if (q == nullptr) {
        return f->realloc(p, size);
    }
    memcpy(q, p, std::min(size, f->malloc_usable_size(p)));
    f->free(p);
    return q;
}

ZT_EXPORT void * reallocarray(void * p, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return nullptr;
    }
    return realloc(p, bytes);
}

// A block for an alignment that blocks have.
static void * take_aligned(size_t align, size_t size) {
    return align <= huge && (align & (align - 1)) == 0 ? take(size) : nullptr;
}

ZT_EXPORT int posix_memalign(void ** out, size_t align, size_t size) {
    void *            p = align % sizeof(void *) == 0 ? take_aligned(align, size) : nullptr;
    const functions * f = p ? nullptr : next();
    if (f != nullptr) {
        return f->posix_memalign(out, align, size);
    }
    if (p == nullptr) {
        p = early_alloc(size, align);
    }
    *out = p;
    return p ? 0 : ENOMEM;
}

ZT_EXPORT void * aligned_alloc(size_t align, size_t size) {
    if (void * p = take_aligned(align, size)) {
        return p;
    }
    const functions * f = next();
    return f ? f->aligned_alloc(align, size) : early(size, align);
}

ZT_EXPORT void * memalign(size_t align, size_t size) {
    if (void * p = take_aligned(align, size)) {
        return p;
    }
    const functions * f = next();
    return f ? f->memalign(align, size) : early(size, align);
}

ZT_EXPORT void * valloc(size_t size) {
    if (void * p = take(size)) {
        return p;
    }
    const functions * f = next();
    return f ? f->valloc(size) : early(size, 4096);
}

ZT_EXPORT void * pvalloc(size_t size) {
    if (void * p = take(size)) {
        return p;
    }
    const functions * f = next();
    return f ? f->pvalloc(size) : early(size, 4096);
}

ZT_EXPORT size_t malloc_usable_size(void * p) {
    if (p == nullptr) {
        return 0;
    }
    if (is_early(p)) {
        return early_size(p);
    }
    const size_t      have = size_at(p);
    const functions * f    = have > 0 ? nullptr : next();
    return f ? f->malloc_usable_size(p) : have;
}

// Of C23. In a C library that has them they would go past the functions above.
ZT_EXPORT void free_sized(void * p, size_t) {
    free(p);
}

ZT_EXPORT void free_aligned_sized(void * p, size_t, size_t) {
    free(p);
}
