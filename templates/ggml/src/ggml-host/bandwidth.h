#pragma once

#include "topology.h"

#include <vector>

namespace ggml::host {

// How fast so many threads read memory together: bytes a second, a number for each round. All points of a curve have as many rounds, and
// those of one round were taken one after the other.
struct bandwidth_point {
    int                 threads;
    std::vector<double> rates;
};

using bandwidth_curve = std::vector<bandwidth_point>;  // by threads

// The curve of 1 to most threads, or of 16 numbers up to most, spread over L3s as thread pools are. Reads a buffer larger than the caches in 2 MiB
// transparent huge pages, where weights usually lie, for about so many seconds in all. Empty if there is no memory for it, if threads
// cannot be started, or if they get no CPU: it takes twice as long at the most.
bandwidth_curve measure_bandwidth(const topology & topo, int most, double seconds);

}  // namespace ggml::host
