#include "topology.h"

#include "affinity.h"
#include "switches.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ggml::host {

// The kernel's own limits on x86-64 (NR_CPUS, MAX_NUMNODES): what claims more is not a topology.
static constexpr int max_cpus  = 8192;
static constexpr int max_nodes = 1024;

// A CPU has four to five of them on x86-64.
static constexpr int max_caches = 16;

// The start of a regular file, more than any file of a topology has; nothing if it cannot be read.
static std::optional<std::string> read_text(const std::string & path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        return std::nullopt;
    }
    std::optional<std::string> text;
    struct stat                info;
    if (fstat(file, &info) == 0 && S_ISREG(info.st_mode)) {
        char    data[64 << 10];
        size_t  size = 0;
        ssize_t n    = 0;
        while (size < sizeof(data) && (n = read(file, data + size, sizeof(data) - size)) > 0) {
            size += n;
        }
        if (n >= 0) {
            while (size > 0 && (data[size - 1] == '\n' || data[size - 1] == ' ')) {
                size--;
            }
            text.emplace(data, size);
        }
    }
    close(file);
    return text;
}

// The number from 0 to most that a text begins with, which is moved behind it.
static std::optional<int> take_number(const char *& text, int most) {
    if (*text < '0' || *text > '9') {
        return std::nullopt;
    }
    int64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = std::min<int64_t>(10 * value + (*text - '0'), INT_MAX);
    }
    return value <= most ? std::optional<int>((int) value) : std::nullopt;
}

static std::optional<int> read_number(const std::string & path) {
    const auto text = read_text(path);
    if (!text) {
        return std::nullopt;
    }
    const char * at    = text->c_str();
    const auto   value = take_number(at, INT_MAX - 1);
    return *at == '\0' ? value : std::nullopt;
}

// A list as the kernel prints CPUs and nodes, "0-7,16-23": sorted, each below limit. An empty text is an empty list.
static std::optional<std::vector<int>> read_list(const std::string & path, int limit) {
    const auto text = read_text(path);
    if (!text) {
        return std::nullopt;
    }
    std::vector<char> named(limit, 0);
    for (const char * at = text->c_str(); *at != '\0';) {
        const auto first = take_number(at, limit - 1);
        auto       last  = first;
        if (first && *at == '-') {
            last = take_number(++at, limit - 1);
        }
        if (!last || *last < *first) {
            return std::nullopt;
        }
        std::fill(named.begin() + *first, named.begin() + *last + 1, 1);
        if (*at == ',' && at[1] != '\0') {
            at++;
        } else if (*at != '\0') {
            return std::nullopt;
        }
    }
    std::vector<int> list;
    for (int i = 0; i < limit; i++) {
        if (named[i]) {
            list.push_back(i);
        }
    }
    return list;
}

// Of the first thread when the program starts: once a thread pool has pinned the thread that calls it, that one's mask is no longer
// what the process may use.
static const std::vector<int> & affinity_at_start() {
    static const std::vector<int> list = affinity::of_thread().cpu_ids();
    return list;
}

[[maybe_unused]] static const bool affinity_is_read = !affinity_at_start().empty();

// The size of a cache as the kernel prints it, "32768K".
static uint64_t read_cache_size(const std::string & path) {
    const auto text = read_text(path);
    if (!text) {
        return 0;
    }
    const char * at    = text->c_str();
    const auto   value = take_number(at, INT_MAX - 1);
    return value && at[0] == 'K' && at[1] == '\0' ? uint64_t(*value) << 10 : 0;
}

// MemTotal of a node's meminfo, "Node 0 MemTotal:       65536000 kB".
static uint64_t read_node_memory(const std::string & path) {
    const auto        text = read_text(path);
    const std::string name = "MemTotal:";
    const size_t      at   = text ? text->find(name) : std::string::npos;
    return at == std::string::npos ? 0 : strtoull(text->c_str() + at + name.size(), nullptr, 10) << 10;
}

// What follows a node's number in its file distance is a number for each online node.
static std::vector<int> read_distances(const std::string & path) {
    std::vector<int> distances;
    const auto       text = read_text(path);
    if (text) {
        for (const char * at = text->c_str(); *at != '\0' && (int) distances.size() < max_nodes;) {
            const auto value = take_number(at, INT_MAX - 1);
            if (!value || (*at != ' ' && *at != '\0')) {
                return {};
            }
            distances.push_back(*value);
            while (*at == ' ') {
                at++;
            }
        }
    }
    return distances;
}

// CPUs' worth of time by a cpu.max, "400000 100000" or "max 100000": rounded down, because threads that wait for each other by spinning
// must not be stopped for the rest of a period; at least 1. 0: no limit.
static int read_quota(const std::string & path) {
    const auto text = read_text(path);
    if (!text) {
        return 0;
    }
    const char * at    = text->c_str();
    const auto   quota = take_number(at, INT_MAX - 1);
    if (!quota || *at != ' ') {
        return 0;
    }
    const auto period = take_number(++at, INT_MAX - 1);
    return period && *period > 0 ? std::max(1, *quota / *period) : 0;
}

std::vector<std::string> control_groups(const std::string & mount) {
    std::string group;
    if (const auto text = read_text("/proc/self/cgroup")) {
        const size_t at = text->rfind("0::/", 0) == 0 ? 0 : text->find("\n0::/");
        if (at != std::string::npos) {
            group = text->substr(text->find("::", at) + 2);
            group = group.substr(0, group.find('\n'));
        }
    }
    if (group.find("..") != std::string::npos) {
        group.clear();  // outside of what this namespace shows
    }
    std::vector<std::string> folders{ mount + group };
    while (!group.empty()) {
        group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
        folders.push_back(mount + group);
    }
    return folders;
}

// The tightest quota of the control groups of this process.
static int read_own_quota(const std::string & mount) {
    int quota = 0;
    for (const std::string & folder : control_groups(mount)) {
        const int here = read_quota(folder + "/cpu.max");
        if (here > 0 && (quota == 0 || here < quota)) {
            quota = here;
        }
    }
    return quota;
}

// Numbers things in the order in which they are met.
template <typename key> struct numbering {
    std::map<key, int> known;

    int operator()(const key & k) { return known.emplace(k, (int) known.size()).first->second; }

    int size() const { return (int) known.size(); }
};

// What a CPU shares its L3 with: the first CPU of that cache, or the package if the kernel does not say.
struct l3_key {
    bool known;
    int  first;

    bool operator<(const l3_key & other) const { return std::make_pair(known, first) < std::make_pair(other.known, other.first); }
};

static bool contains(const std::vector<int> & sorted, int value) {
    return std::binary_search(sorted.begin(), sorted.end(), value);
}

topology read_topology(const std::string & sysfs_root) {
    const bool        simulated = sysfs_root != "/sys";
    const std::string cpu_dir   = sysfs_root + "/devices/system/cpu/";
    const std::string node_dir  = sysfs_root + "/devices/system/node/";

    topology topo;

    auto usable = simulated ? read_list(sysfs_root + "/affinity", max_cpus) : std::optional(affinity_at_start());
    auto online = read_list(cpu_dir + "online", max_cpus);
    if (!online || online->empty()) {
        // the mask is what is left to go by
        online       = usable && !usable->empty() ? *usable : std::vector<int>{ 0 };
        topo.guessed = true;
    }
    if (!usable) {
        usable = *online;
    }
    std::vector<int> ids;
    std::set_intersection(online->begin(), online->end(), usable->begin(), usable->end(), std::back_inserter(ids));
    if (ids.empty()) {
        ids = *online;
    }
    topo.online = (int) online->size();
    topo.quota  = simulated ? read_quota(sysfs_root + "/fs/cgroup/cpu.max") : read_own_quota(sysfs_root + "/fs/cgroup");

    auto nodes = read_list(node_dir + "online", max_nodes).value_or(std::vector<int>());
    if (nodes.empty()) {
        nodes.push_back(0);
    }
    std::map<int, int> node_of;  // kernel's number of the node by CPU
    for (const int node : nodes) {
        for (const int id : read_list(node_dir + "node" + std::to_string(node) + "/cpulist", max_cpus).value_or(std::vector<int>())) {
            node_of.emplace(id, node);
        }
    }

    numbering<int>    core, node, package;
    numbering<l3_key> l3;
    for (const int id : ids) {
        const std::string dir = cpu_dir + "cpu" + std::to_string(id) + "/";

        cpu        c;
        const int  physical = read_number(dir + "topology/physical_package_id").value_or(0);
        const auto siblings = read_list(dir + "topology/thread_siblings_list", max_cpus);
        const bool sane     = siblings && contains(*siblings, id);
        const int  before   = core.size();
        c.id                = id;
        c.core              = core(sane ? siblings->front() : id);
        c.first_of_core     = core.size() > before;

        l3_key   shared = { false, physical };
        uint64_t bytes  = 0;
        for (int i = 0; i < max_caches; i++) {
            const std::string cache = dir + "cache/index" + std::to_string(i) + "/";
            const auto        level = read_number(cache + "level");
            if (!level) {
                break;
            }
            const auto with = *level == 3 ? read_list(cache + "shared_cpu_list", max_cpus) : std::nullopt;
            if (with && contains(*with, id)) {
                shared = { true, with->front() };
                bytes  = read_cache_size(cache + "size");
                break;
            }
        }
        c.l3 = l3(shared);
        if (c.l3 == (int) topo.l3_bytes.size()) {
            topo.l3_bytes.push_back(bytes);
        }
        topo.guessed |= !sane || !shared.known;

        const auto at = node_of.find(id);
        c.node        = node(at == node_of.end() ? nodes.front() : at->second);
        c.package     = package(physical);
        topo.cpus.push_back(c);
    }
    topo.cores    = core.size();
    topo.l3s      = l3.size();
    topo.nodes    = node.size();
    topo.packages = package.size();

    topo.memory.resize(topo.nodes);
    for (const auto & [id, index] : node.known) {
        topo.memory[index].id = id;
    }
    for (const int id : nodes) {
        if (node.known.count(id) == 0) {
            topo.memory.push_back({ id, 0, {} });
        }
    }
    for (auto & m : topo.memory) {
        const std::string dir       = node_dir + "node" + std::to_string(m.id) + "/";
        const auto        distances = read_distances(dir + "distance");
        m.bytes                     = read_node_memory(dir + "meminfo");
        if (distances.size() == nodes.size()) {
            for (const auto & to : topo.memory) {
                m.distance.push_back(distances[std::lower_bound(nodes.begin(), nodes.end(), to.id) - nodes.begin()]);
            }
        }
    }
    return topo;
}

const topology & get_topology() {
    static const topology topo = read_topology(get_switches().sysfs);
    return topo;
}

std::vector<int> place_threads(const topology & topo, int n) {
    if (n < 1 || n > (int) topo.cpus.size()) {
        return {};
    }
    // CPUs of each L3 in the order in which they are given away: a CPU's rank is how many of its core come before it
    std::vector<int> taken(topo.cores), rank(topo.cpus.size());
    for (size_t i = 0; i < topo.cpus.size(); i++) {
        rank[i] = taken[topo.cpus[i].core]++;
    }
    std::vector<std::vector<int>> queue(topo.l3s);  // of indices
    for (size_t i = 0; i < topo.cpus.size(); i++) {
        queue[topo.cpus[i].l3].push_back((int) i);
    }
    for (auto & q : queue) {
        std::stable_sort(q.begin(), q.end(), [&](int a, int b) { return rank[a] < rank[b]; });
    }

    std::vector<size_t> next(topo.l3s);
    std::vector<int>    per_node(topo.nodes), per_package(topo.packages), chosen;
    while ((int) chosen.size() < n) {
        // what each L3 would give next; the fewest siblings first, then the least used L3, package, node
        int                               best = -1;
        std::tuple<int, size_t, int, int> lowest;
        for (int d = 0; d < topo.l3s; d++) {
            if (next[d] == queue[d].size()) {
                continue;
            }
            const int   i    = queue[d][next[d]];
            const cpu & c    = topo.cpus[i];
            const auto  cost = std::tuple<int, size_t, int, int>{ rank[i], next[d], per_package[c.package], per_node[c.node] };
            if (best < 0 || cost < lowest) {
                best   = d;
                lowest = cost;
            }
        }
        const int i = queue[best][next[best]++];
        per_package[topo.cpus[i].package]++;
        per_node[topo.cpus[i].node]++;
        chosen.push_back(i);
    }
    std::sort(chosen.begin(), chosen.end(), [&](int a, int b) {
        return std::make_pair(topo.cpus[a].l3, topo.cpus[a].id) < std::make_pair(topo.cpus[b].l3, topo.cpus[b].id);
    });
    std::vector<int> placed;
    for (const int i : chosen) {
        placed.push_back(topo.cpus[i].id);
    }
    return placed;
}

int domain_of(int cpu_id) {
    const auto & cpus = get_topology().cpus;
    const auto   at   = std::lower_bound(cpus.begin(), cpus.end(), cpu_id, [](const cpu & c, int id) { return c.id < id; });
    return at != cpus.end() && at->id == cpu_id ? at->l3 : -1;
}

}  // namespace ggml::host
