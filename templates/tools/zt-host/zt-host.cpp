// zt-host: what the runtime of a tuned build makes of a machine.
//
//   zt-host topology [-n threads]...   the map of CPUs, how many threads compute where none are asked for, and where these and each
//                                      other number of threads would run
//   zt-host bandwidth [-n threads]     how fast 1 to so many threads (default: as above) read memory, measured now, and how many of them
//                                      generate tokens
//   zt-host kept [-n threads]          the same of the curve that an earlier run of any program kept
//
// The machine is this one, or the simulated one in the folder ZT_SYSFS. Results are JSON lines on stdout. An error is one line on stderr and
// exit status 1.

#include "ggml-host/bandwidth.h"
#include "ggml-host/governor.h"
#include "ggml-host/switches.h"
#include "ggml-host/threads.h"
#include "ggml-host/topology.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using namespace ggml::host;

static const char * usage =
    "usage: zt-host topology [-n THREADS]...\n"
    "       zt-host bandwidth [-n THREADS]\n"
    "       zt-host kept [-n THREADS]\n"
    "\n"
    "topology prints the map of CPUs, caches and memory that this process may use, and where threads would run. bandwidth measures how fast 1 to\n"
    "so many threads read memory, and prints how many would generate tokens; kept does so by the curve of an earlier run.\n"
    "ZT_SYSFS names a simulated machine.\n";

// "[1,2,3]"
template <typename number> static std::string list(const std::vector<number> & values) {
    std::string text = "[";
    for (const number v : values) {
        text += (text.size() > 1 ? "," : "") + std::to_string(v);
    }
    return text + "]";
}

static void print_threads(const topology & topo, int n) {
    const placement p = place_pool(topo, get_switches().pin, n);
    printf("{\"threads\":%d,\"cpus\":%s,\"pinned\":%s,\"domains\":%s,\"why\":\"%s\"}\n", n, list(place_threads(topo, n)).c_str(),
        p.cpus.empty() ? "false" : "true", list(p.domains).c_str(), p.text.c_str());
}

static void print_topology(const std::vector<int> & wanted) {
    const topology & topo = get_topology();

    printf("{\"text\":\"%s\",\"cores\":%d,\"l3s\":%d,\"nodes\":%d,\"packages\":%d,\"online\":%d,\"quota\":%d,\"guessed\":%s,\"l3_bytes\":%s}\n",
        describe(topo).c_str(), topo.cores, topo.l3s, topo.nodes, topo.packages, topo.online, topo.quota, topo.guessed ? "true" : "false",
        list(topo.l3_bytes).c_str());
    for (const cpu & c : topo.cpus) {
        printf("{\"cpu\":%d,\"core\":%d,\"l3\":%d,\"node\":%d,\"package\":%d,\"first_of_core\":%s}\n", c.id, c.core, c.l3, c.node, c.package,
            c.first_of_core ? "true" : "false");
    }
    for (const numa_node & m : topo.memory) {
        printf("{\"memory\":%d,\"bytes\":%" PRIu64 ",\"distance\":%s}\n", m.id, m.bytes, list(m.distance).c_str());
    }
    const int by_default = default_threads(topo, topo.cores);
    printf("{\"default_threads\":%d}\n", by_default);
    print_threads(topo, by_default);
    for (const int n : wanted) {
        print_threads(topo, n);
    }
}

static void print_curve(const bandwidth_curve & curve, const std::string & path, int all) {
    for (const auto & point : curve) {
        std::vector<int64_t> rates(point.rates.begin(), point.rates.end());
        printf("{\"threads\":%d,\"bytes_per_second\":%s}\n", point.threads, list(rates).c_str());
    }
    const int knee = find_knee(curve);
    printf("{\"machine\":\"%s\",\"kept\":\"%s\",\"all\":%d,\"knee\":%d,\"decode_threads\":%d}\n", describe_machine(get_topology()).c_str(), path.c_str(), all,
        knee, threads_at_knee(get_topology(), knee, all));
}

int main(int argc, char ** argv) {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "--help" || command == "-h") {
        fputs(usage, stdout);
        return 0;
    }
    if (command != "topology" && command != "bandwidth" && command != "kept") {
        fprintf(stderr, "zt-host: no command \"%s\"; zt-host --help lists them\n", command.c_str());
        return 1;
    }
    std::vector<int> wanted;
    for (int i = 2; i < argc; i++) {
        char *     end = nullptr;
        const long n   = strcmp(argv[i], "-n") == 0 && i + 1 < argc ? strtol(argv[++i], &end, 10) : 0;
        if (end == nullptr || *end != '\0' || n < 1 || n > 8192) {
            fprintf(stderr, "zt-host: %s is not -n and a number of threads from 1 to 8192\n", argv[i]);
            return 1;
        }
        wanted.push_back((int) n);
    }
    const topology & topo = get_topology();
    const int        all  = wanted.empty() ? default_threads(topo, topo.cores) : wanted.back();
    bandwidth_curve  curve;
    if (command == "topology") {
        print_topology(wanted);
    } else if (command == "kept") {
        const std::string path = load_curve(describe_machine(topo), all, curve);
        print_curve(curve, path, all);
    } else {
        print_curve(measure_bandwidth(topo, all, 0.9), "", all);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "zt-host: write to stdout: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
