// mmap and its kin. Large private memory is mapped at a multiple of 2 MiB and advised to be in transparent huge pages, and is as long as it was
// asked for: the kernel unmaps, protects, moves and discards any part of it as ever. Pages of the pools cannot do that, and are never
// mapped here; where malloc's blocks have them, calls that concern a part of one move it out first.

#include "log.h"
#include "next.h"
#include "preload.h"
#include "switches.h"

#include <cstdarg>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#    define MADV_POPULATE_WRITE 23
#endif

using namespace zenturbo;
using namespace ggml::host;

static constexpr size_t page = 4096;

static void * next_mmap(void * at, size_t size, int prot, int flags, int fd, off_t offset) {
    const functions * f = next();
    return f ? f->mmap(at, size, prot, flags, fd, offset) : (void *) syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

// Whether a program that maps this wants memory, all of it, to use as it likes. Address space to be used bit by bit, stacks and files are
// something else.
static bool is_memory(void * at, size_t size, int prot, int flags) {
    return size >= least.load(std::memory_order_relaxed) && size <= PTRDIFF_MAX - huge && at == nullptr && prot == (PROT_READ | PROT_WRITE) &&
           (flags & ~MAP_POPULATE) == (MAP_PRIVATE | MAP_ANONYMOUS) && !inside;
}

// Memory of size bytes at a multiple of 2 MiB; MAP_FAILED if there is none so.
static void * map_aligned(const functions & f, size_t size) {
    void * map = f.mmap(nullptr, size + huge - page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return map;
    }
    char *       first = (char *) map;
    char *       base  = (char *) (((uintptr_t) map + huge - 1) & ~(uintptr_t) (huge - 1));
    char *       end   = first + size + huge - page;
    if (base > first) {
        f.munmap(first, base - first);
    }
    if (end > base + size) {
        f.munmap(base + size, end - (base + size));
    }
    return base;
}

static void * map(void * at, size_t size, int prot, int flags, int fd, off_t offset) {
    if ((flags & MAP_FIXED) != 0) {
        leave_pools(at, size);
    }
    const functions * f = is_memory(at, size, prot, flags) ? next() : nullptr;
    if (f == nullptr) {
        return next_mmap(at, size, prot, flags, fd, offset);
    }
    const int    why    = errno;
    const bool   off    = get_switches().pages.pages == huge_pages::off;
    const size_t whole  = (size + page - 1) & ~(page - 1);
    void *       memory = map_aligned(*f, whole);
    if (memory == MAP_FAILED) {
        memory = f->mmap(at, size, prot, flags & ~MAP_POPULATE, fd, offset);
        if (memory == MAP_FAILED) {
            return memory;
        }
    }
    f->madvise(memory, whole, off ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    if ((flags & MAP_POPULATE) != 0) {
        // now that its pages may be huge; mmap does not fail either where this does
        f->madvise(memory, whole, MADV_POPULATE_WRITE);
    }
    count.maps++;
    note("mmap: %zu MiB, to be in %s", size >> 20, off ? "4 KiB pages" : "2 MiB transparent huge pages");
    errno = why;
    return memory;
}

ZT_EXPORT void * mmap(void * at, size_t size, int prot, int flags, int fd, off_t offset) {
    return map(at, size, prot, flags, fd, offset);
}

ZT_EXPORT void * mmap64(void * at, size_t size, int prot, int flags, int fd, off64_t offset) {
    return map(at, size, prot, flags, fd, offset);
}

ZT_EXPORT int munmap(void * at, size_t size) {
    leave_pools(at, size);
    const functions * f = next();
    return f ? f->munmap(at, size) : (int) syscall(SYS_munmap, at, size);
}

ZT_EXPORT int mprotect(void * at, size_t size, int prot) {
    leave_pools(at, size);
    const functions * f = next();
    return f ? f->mprotect(at, size, prot) : (int) syscall(SYS_mprotect, at, size, prot);
}

ZT_EXPORT void * mremap(void * at, size_t size, size_t new_size, int flags, ...) {
    void * to = nullptr;
    if ((flags & ~MREMAP_MAYMOVE) != 0) {  // only then is there a fifth argument
        va_list args;
        va_start(args, flags);
        to = va_arg(args, void *);
        va_end(args);
        leave_pools(to, new_size);
    }
    leave_pools(at, size);
    const functions * f = next();
    return f ? f->mremap(at, size, new_size, flags, to) : (void *) syscall(SYS_mremap, at, size, new_size, flags, to);
}

// What changes memory or who has it, and so must reach exactly the pages it was called for; other advice is about speed.
static bool changes(int advice) {
    switch (advice) {
        case MADV_DONTNEED:
        case MADV_FREE:
        case MADV_REMOVE:
        case MADV_DONTFORK:
        case MADV_WIPEONFORK:
        case MADV_DONTDUMP:
            return true;
        default:
            return false;
    }
}

ZT_EXPORT int madvise(void * at, size_t size, int advice) {
    if (changes(advice)) {
        leave_pools(at, size);
    }
    const functions * f = next();
    return f ? f->madvise(at, size, advice) : (int) syscall(SYS_madvise, at, size, advice);
}
