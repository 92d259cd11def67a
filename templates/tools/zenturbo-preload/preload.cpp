// libzenturbo-preload.so: the page policy and a BLAS for programs that were built without them.
//
//   LD_PRELOAD=out/bin/libzenturbo-preload.so llama-server ...
//
// Compiled for plain x86-64, and asleep until its constructors have run: the guard's, which ends a program on a CPU that the build is not
// for, and then this file's.

#include "preload.h"

#include "log.h"
#include "next.h"
#include "switches.h"

#include <algorithm>

using namespace zenturbo;
using namespace ggml::host;

static constexpr size_t mib = size_t(1) << 20;

extern "C" const char zt_guard_passed[];  // of guard.c; referring to it links the guard in

__attribute__((constructor)) static void start() {
    const within     w;
    const switches & s = get_switches();
    note("libzenturbo-preload.so of %s%s", zt_guard_passed, s.enabled ? "" : ", disabled");
    if (!s.enabled) {
        return;
    }
    next();
    keep_fork_safe();
    // From 32 MiB on glibc's malloc gives freed memory back to the kernel, as this library does; below it the next caller often gets it
    // without a page fault. Less than a MiB would have the policy's own lists among its blocks.
    least = s.min_chosen ? std::max(s.pages.min, mib) : 32 * mib;
}

__attribute__((destructor)) static void report() {
    if (count.blocks + count.maps + count.products > 0) {
        note("libzenturbo-preload.so: %zu blocks of malloc, %zu MiB of them at most at once; %zu of mmap; %zu products of BLAS", count.blocks.load(),
             count.most.load() >> 20, count.maps.load(), count.products.load());
    }
}
