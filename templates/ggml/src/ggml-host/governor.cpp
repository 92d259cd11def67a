#include "governor.h"

#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include <cpuid.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ggml::host {

static double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// The point of the highest median, of equal ones that of most threads.
static const bandwidth_point & fastest(const bandwidth_curve & curve) {
    return *std::max_element(curve.rbegin(), curve.rend(), [](const auto & a, const auto & b) { return median(a.rates) < median(b.rates); });
}

// Whether a curve is one: the same number of rounds at growing numbers of threads.
static bool sane(const bandwidth_curve & curve) {
    if (curve.empty() || curve[0].rates.empty()) {
        return false;
    }
    int threads = 0;
    for (const auto & point : curve) {
        if (point.threads <= threads || point.rates.size() != curve[0].rates.size() ||
            !std::all_of(point.rates.begin(), point.rates.end(), [](double r) { return std::isfinite(r) && r > 0; })) {
            return false;
        }
        threads = point.threads;
    }
    return true;
}

int find_knee(const bandwidth_curve & curve) {
    if (!sane(curve)) {
        return 0;
    }
    const auto & best = fastest(curve).rates;
    for (const auto & point : curve) {
        size_t near = 0;
        for (size_t i = 0; i < best.size(); i++) {
            near += point.rates[i] >= 0.97 * best[i] ? 1 : 0;
        }
        if (5 * near >= 4 * best.size()) {
            return point.threads;
        }
    }
    return 0;  // not reached: the fastest is near itself
}

int threads_at_knee(const topology & topo, int knee, int all) {
    if (knee < 1) {
        return all;
    }
    const int64_t more = (3 * int64_t(knee) + 1) / 2;
    const int64_t n    = more <= topo.l3s ? more : (more + topo.l3s - 1) / topo.l3s * topo.l3s;
    return 8 * n > 7 * int64_t(all) ? all : (int) n;
}

// Whether rounds differ so much that the curve is one of a busy machine: it serves this time, not for good.
static bool noisy(const bandwidth_curve & curve) {
    const auto & rates = fastest(curve).rates;
    const auto   range = std::minmax_element(rates.begin(), rates.end());
    return *range.second > 1.15 * *range.first;
}

std::string describe_machine(const topology & topo) {
    char     brand[49] = {};
    unsigned registers[12];
    bool     known = true;
    for (unsigned i = 0; i < 3; i++) {
        known = known && __get_cpuid(0x80000002 + i, &registers[4 * i], &registers[4 * i + 1], &registers[4 * i + 2], &registers[4 * i + 3]) != 0;
    }
    if (known) {
        memcpy(brand, registers, sizeof(registers));
    }
    std::string text;
    for (const char * c = brand; *c != '\0'; c++) {
        if (*c >= ' ' && *c <= '~' && *c != '"' && *c != '\\' && !(*c == ' ' && (text.empty() || text.back() == ' '))) {
            text += *c;
        }
    }
    text += "; " + describe(topo) + "; CPUs";
    for (const cpu & c : topo.cpus) {
        text += ' ' + std::to_string(c.id);
    }
    text += "; GiB";
    for (const auto & m : topo.memory) {
        text += ' ' + std::to_string((m.bytes + (1 << 29)) >> 30);
    }
    return text;
}

// The folder for what is kept, without a slash at its end; "" if there is no home.
static std::string cache_folder() {
    const char * cache = getenv("XDG_CACHE_HOME");
    const char * home  = getenv("HOME");
    // the XDG Base Directory Specification has relative paths ignored
    if (cache != nullptr && cache[0] == '/') {
        return std::string(cache) + "/llama-zen-turbo";
    }
    return home != nullptr && home[0] == '/' ? std::string(home) + "/.cache/llama-zen-turbo" : "";
}

// Machines that share a home have a file each: FNV-1a (Fowler, Noll and Vo) of their description.
static std::string curve_path(const std::string & machine) {
    const std::string folder = cache_folder();
    if (folder.empty()) {
        return "";
    }
    uint64_t h = 0xcbf29ce484222325;
    for (const char c : machine) {
        h = (h ^ (unsigned char) c) * 0x100000001b3;
    }
    char name[32];
    snprintf(name, sizeof(name), "/bandwidth-%016llx", (unsigned long long) h);
    return folder + name;
}

static const char * const curve_version = "llama-zen-turbo bandwidth 1";

// The file: version, machine, a line for each point with its threads and the bytes a second of every round, and "end".
std::string load_curve(const std::string & machine, int most, bandwidth_curve & curve) {
    curve.clear();
    const std::string path = curve_path(machine);
    struct stat       info;
    if (path.empty() || stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > (1 << 20)) {
        return path;
    }
    std::ifstream file(path);
    std::string   line;
    if (!std::getline(file, line) || line != curve_version || !std::getline(file, line) || line != machine) {
        return path;
    }
    bandwidth_curve read;
    while (std::getline(file, line) && line != "end") {
        std::istringstream words(line);
        bandwidth_point    point;
        words >> point.threads;
        for (double rate; words >> rate;) {
            point.rates.push_back(rate);
        }
        if (!words.eof()) {
            return path;
        }
        read.push_back(point);
    }
    if (line == "end" && sane(read) && read.back().threads == most) {
        curve = read;
    }
    return path;
}

std::string save_curve(const std::string & machine, const bandwidth_curve & curve) {
    const std::string path = curve_path(machine);
    if (path.empty()) {
        return path;
    }
    const std::string folder = cache_folder();
    mkdir(folder.substr(0, folder.rfind('/')).c_str(), 0700);
    mkdir(folder.c_str(), 0700);

    std::ostringstream text;
    text << curve_version << '\n' << machine << '\n';
    for (const auto & point : curve) {
        text << point.threads;
        for (const double rate : point.rates) {
            text << ' ' << std::llround(rate);
        }
        text << '\n';
    }
    text << "end\n";
    const std::string data = text.str();

    // whole or not at all: another program may be reading, or writing its own
    std::string part = path + ".XXXXXX";
    const int   file = mkstemp(part.data());
    if (file < 0) {
        return path;
    }
    const bool written = write(file, data.data(), data.size()) == (ssize_t) data.size();
    if (close(file) != 0 || !written || rename(part.c_str(), path.c_str()) != 0) {
        unlink(part.c_str());
    }
    return path;
}

governor_choice govern(const topology & topo, choice governor, int all) {
    governor_choice c;
    c.threads = all;
    if (governor == choice::off) {
        c.text = "ZT_GOVERNOR=0";
        return c;
    }
    if (governor == choice::automatic && all <= 4) {
        c.text = "there are no more than 4";
        return c;
    }
    if (all > topo.cores) {
        c.text = "they are more than the cores";
        return c;
    }
    const std::string machine = describe_machine(topo);
    bandwidth_curve   curve;
    load_curve(machine, all, curve);
    const bool kept = !curve.empty();
    if (!kept) {
        curve = measure_bandwidth(topo, all, 0.9);
    }
    const int knee = find_knee(curve);
    if (knee == 0) {
        c.text = "memory bandwidth could not be measured";
        return c;
    }
    if (!kept && !noisy(curve)) {
        save_curve(machine, curve);
    }
    c.threads = threads_at_knee(topo, knee, all);
    char text[160];
    snprintf(text, sizeof(text), "%d of %d read memory at the full %.0f GB/s, as measured %s", knee, all, median(fastest(curve).rates) / 1e9,
        kept ? "on an earlier run" : "now");
    c.text = text;
    return c;
}

}  // namespace ggml::host
