#pragma once

#include "pages.h"

#include <string>

// The ZT_* environment switches, read once. `mage doctor` lists them.

namespace ggml::host {

enum class code_policy { automatic, b11, b12, off };
enum class blas_use { off, backend, slices };
enum class idle_threads { wait, fetch, layer, copy };
enum class meeting_place { automatic, flat, tree };

enum class choice { automatic, off, on };

struct switches {
    bool          enabled = true;                      // ZT_DISABLE=1 leaves every tensor on stock's path
    bool          log     = false;                     // ZT_LOG=1 prints one line per decision
    page_policy   pages   = {};                        // ZT_HUGEPAGES=auto|1g|hugetlb|thp|off, ZT_HUGEPAGES_MIN=MiB
    bool          ahead   = false;                     // ZT_PREFETCH=auto|1|0: prefetch weights where memory is the limit
    code_policy   code    = code_policy::automatic;    // ZT_CODE=auto|11|12|off: the codes that float weights may have
    bool          share   = false;                     // ZT_SHARE=0|1: processes of one user share packed weights
    bool          threads = true;                      // ZT_THREADS=auto|stock: threads where the user names no number
    choice        pin     = choice::automatic;         // ZT_PIN=auto|0|1: 1 keeps every thread on a CPU of its own
    choice        govern  = choice::automatic;         // ZT_GOVERNOR=auto|0|1: generate with the threads that memory feeds
    blas_use      blas    = blas_use::off;             // ZT_BLAS=0|1|slices: ggml's own backend, or from ggml's threads where that was measured to win
    std::string   sysfs   = "/sys";                    // ZT_SYSFS=path: a simulated /sys, for tests
    bool          graph   = true;                      // ZT_GRAPH=0: threads meet behind every operation
    meeting_place meet    = meeting_place::automatic;  // ZT_BARRIER=auto|flat|tree: all threads in one place, or those of an L3 first
    bool          steal   = true;                      // ZT_STEAL=0: each thread does its own part of a product of few rows and no more
    idle_threads  idle    = idle_threads::fetch;       // ZT_AHEAD=off|wait|layer|copy: who brings weights nearer before they are read
    bool          waits   = false;                     // ZT_WAITS=1 counts barriers and how long threads wait there

    // Of libzenturbo-preload.so:
    bool          min_chosen = false;  // whether ZT_HUGEPAGES_MIN is set
    std::string   preload_blas;        // ZT_PRELOAD_BLAS=path of a library with cblas_sgemm
};

const switches & get_switches();

}  // namespace ggml::host
