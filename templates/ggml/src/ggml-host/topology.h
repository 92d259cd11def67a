#pragma once

// Which CPUs this process may use, and what they share: cores, L3 caches (one per CCD on Zen 5), NUMA nodes, packages.

#include <cstdint>
#include <string>
#include <vector>

namespace ggml::host {

// A CPU is what the kernel schedules on: a hardware thread. Its core, l3, node and package are indices from 0, in the order in which
// they are met when CPUs are gone through by id. The kernel's own number of a node is in numa_node.
struct cpu {
    int  id;
    int  core;
    int  l3;
    int  node;
    int  package;
    bool first_of_core;  // no other CPU of this core that the process may use has a lower id
};

struct numa_node {
    int              id;        // the kernel's number, which memory policies take
    uint64_t         bytes;     // of memory; 0 if unknown
    std::vector<int> distance;  // to each node of topology::memory, local is 10; empty if unknown
};

struct topology {
    std::vector<cpu> cpus;  // by id, never empty
    int              cores    = 0;
    int              l3s      = 0;
    int              nodes    = 0;
    int              packages = 0;

    // Memory: first the nodes 0 .. nodes-1 of cpus, then online ones without a CPU for this process.
    std::vector<numa_node> memory;

    std::vector<uint64_t> l3_bytes;     // by index; 0 if unknown
    int                   online = 0;   // CPUs of the machine, also those that this process may not use
    int                   quota  = 0;   // CPUs' worth of time that the process' control groups allow, rounded down; 0: no limit
    bool                  guessed = false;  // the kernel did not say which CPUs share a core or an L3, all of it or in part
};

// The topology that the kernel tells of below sysfs_root ("/sys"), restricted to the CPUs that this process may use (sched_getaffinity,
// hence cpusets too) and to the time it may have (cpu.max of control groups, version 2). Below another root that is a
// simulation: its file "affinity", a list of CPUs, takes the place of the process' own mask, and fs/cgroup/cpu.max that of the
// process' groups. What is missing or makes no sense is done without: a package is one L3, a CPU is a core, all memory is one node.
topology read_topology(const std::string & sysfs_root);

// Below ZT_SYSFS, or /sys; read once.
const topology & get_topology();

// The folders of the control groups (version 2) that this process is in, as far as it sees them, the innermost first.
std::vector<std::string> control_groups(const std::string & mount);

// The CPU ids for n threads: each physical core gets one before SMT siblings get any, evenly over L3s, nodes and packages, and threads of one L3
// follow each other. Empty if n is less than 1 or more than there are CPUs.
std::vector<int> place_threads(const topology & topo, int n);

// The index of the L3 of a CPU in get_topology(); -1 if it is not one of its CPUs.
int domain_of(int cpu_id);

}  // namespace ggml::host
