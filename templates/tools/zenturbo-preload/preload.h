#pragma once

#include "pages.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

// What the functions of this library share. Those that a program calls in its place of the C library's are marked with ZT_EXPORT;
// libzenturbo-preload.map lists them.

#define ZT_EXPORT extern "C" __attribute__((visibility("default")))

namespace zenturbo {

constexpr size_t huge = size_t(2) << 20;

// The smallest request that the page policy is for; SIZE_MAX until start() has run, and with ZT_DISABLE=1.
extern std::atomic<size_t> least;

// Whether this thread is inside this library, where nothing is large.
extern thread_local bool inside;

// While there is one, what its thread asks for goes to the next allocator. errno is what it was when it goes: functions that succeed
// leave it alone, and those that fail hand over.
class within {
    const int why = errno;

  public:
    within() { inside = true; }

    ~within() {
        inside = false;
        errno  = why;
    }

    within(const within &)             = delete;
    within & operator=(const within &) = delete;
};

// Blocks with pages of the pools. Those are of huge pages alone, and the kernel does nothing with a part of one.
extern std::atomic<size_t> pooled;

// Moves the blocks that a range meets out of the pools, their content and address kept, unless the range is of whole huge
// pages. What another thread writes to the block meanwhile may be lost: a program that maps or protects parts of what malloc gave it has to see
// to that itself.
void leave_pools(const void * start, size_t size);

// Has fork leave the child with a sound list of blocks.
void keep_fork_safe();

// What this library has done, for the log.
struct counters {
    std::atomic<size_t> blocks{ 0 };   // of malloc and the like
    std::atomic<size_t> bytes{ 0 };    // in them now
    std::atomic<size_t> most{ 0 };     // of those at once
    std::atomic<size_t> maps{ 0 };     // of mmap
    std::atomic<size_t> products{ 0 }; // of BLAS
};

extern counters count;

}  // namespace zenturbo
