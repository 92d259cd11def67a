#pragma once

#include <cstddef>

#include <sys/types.h>

// The functions of the same name behind this library: the C library's, or those of another library that is preloaded after this one.

namespace zenturbo {

struct functions {
    void * (*malloc)(size_t);
    void * (*calloc)(size_t, size_t);
    void * (*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void * (*aligned_alloc)(size_t, size_t);
    void * (*memalign)(size_t, size_t);
    void * (*valloc)(size_t);
    void * (*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);

    void * (*mmap)(void *, size_t, int, int, int, off_t);
    int (*munmap)(void *, size_t);
    void * (*mremap)(void *, size_t, size_t, int, ...);
    int (*mprotect)(void *, size_t, int);
    int (*madvise)(void *, size_t, int);
};

// Any thread may ask at any time, before constructors ran as well. nullptr to the thread that is just looking them up, and needs memory
// for that.
const functions * next();

// Zeroed memory for that thread, a few KiB in all and never freed; nullptr if there is no more. align is a power of two.
void * early_alloc(size_t size, size_t align);
bool   is_early(const void * p);
size_t early_size(const void * p);

}  // namespace zenturbo
