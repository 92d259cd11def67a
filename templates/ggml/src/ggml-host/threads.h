#pragma once

#include "switches.h"
#include "topology.h"

#include <string>
#include <vector>

// How many threads compute, and on which CPUs.

namespace ggml::host {

// The threads that compute where the user names no number: one for each physical core that the process may use, on all L3 caches, but
// no more than it may have CPU time for. stock is what llama.cpp would take. It holds where the kernel does not tell which CPUs share
// a core, as far as there are that many CPUs.
int default_threads(const topology & topo, int stock);

// Where the threads of a pool run.
struct placement {
    std::vector<std::vector<int>> cpus;     // that each thread may run on; empty: the kernel decides
    std::vector<int>              domains;  // the L3 of each thread
    std::string                   text;     // for the log: where, or why the kernel decides
};

// The placement of n threads that their owner has not placed. Each stays with an L3, which holds what it works on, but which core of it a
// thread gets, and whether it leaves one that another program has begun to use, the kernel decides as always. choice::on gives every
// thread a CPU of its own instead: for a machine on which nothing else runs.
//
// With choice::automatic threads are placed only where there are several L3s and each gets a share of them by its cores: what several
// programs add up to is then even too, and none of them waits for a core while others are idle. Nor are they placed where somebody has
// confined the process to some of the CPUs or of their time: they may do so again, and all threads would wait for those on a CPU that is
// gone.
placement place_pool(const topology & topo, choice pin, int n);

// The machine in a line.
std::string describe(const topology & topo);

}  // namespace ggml::host
