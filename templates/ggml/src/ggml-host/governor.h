#pragma once

#include "bandwidth.h"
#include "switches.h"
#include "topology.h"

#include <string>

// How many threads generate tokens. Generation waits for memory, and a few cores ask for all that memory gives: the others would wait too,
// taking power from those few, and every barrier would wait for them.

namespace ggml::host {

// The fewest threads of a curve that read within 3 % of the fastest in at least four of five rounds; 0 if the curve has no sense. Rounds are
// compared with themselves, so that a memory which is slow for a while favours nobody, and noise leads to more threads, not to fewer.
int find_knee(const bandwidth_curve & curve);

// Threads for generation of all that compute, by the knee: half as many again, because a token takes more than reading weights, and
// equally many for each L3. All of them where less than an eighth could be spared: it takes a thread pool more, and a moment to switch.
int threads_at_knee(const topology & topo, int knee, int all);

struct governor_choice {
    int         threads = 0;  // for generation
    std::string text;         // for the log: why
};

// What threads_at_knee makes of a curve that is measured in a second, or was on an earlier run. choice::automatic leaves up to 4
// threads alone: there is nothing to spare.
governor_choice govern(const topology & topo, choice governor, int all);

// A curve that is kept for the next run, in a file of its own for each machine in $XDG_CACHE_HOME/llama-zen-turbo (~/.cache/llama-zen-turbo
// without). Loading gives an empty curve where there is none of this machine and this number of threads, or none that can be trusted; saving
// does nothing where there is no room for it. Both return the file's path, "" if there is no home.
std::string load_curve(const std::string & machine, int most, bandwidth_curve & curve);
std::string save_curve(const std::string & machine, const bandwidth_curve & curve);

// What decides about a curve: the processor, which of it the process may use, and the memory.
std::string describe_machine(const topology & topo);

}  // namespace ggml::host
