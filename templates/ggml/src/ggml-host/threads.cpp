#include "threads.h"

#include <algorithm>
#include <map>

namespace ggml::host {

int default_threads(const topology & topo, int stock) {
    int n = topo.guessed ? std::min(stock, (int) topo.cpus.size()) : topo.cores;
    if (topo.quota > 0) {
        n = std::min(n, topo.quota);
    }
    return std::max(1, n);
}

// "8 + 8", "16 times 8": how many threads each L3 has.
static std::string shares(const std::vector<int> & domains) {
    std::map<int, int> count;
    for (const int d : domains) {
        count[d]++;
    }
    const bool even = std::all_of(count.begin(), count.end(), [&](const auto & c) { return c.second == count.begin()->second; });
    if (even && count.size() > 2) {
        return std::to_string(count.size()) + " times " + std::to_string(count.begin()->second);
    }
    std::string text;
    for (const auto & c : count) {
        text += (text.empty() ? "" : " + ") + std::to_string(c.second);
    }
    return text;
}

placement place_pool(const topology & topo, choice pin, int n) {
    placement p;
    if (pin == choice::off) {
        p.text = "ZT_PIN=0";
        return p;
    }
    if (n < 2) {
        p.text = "it is alone";
        return p;
    }
    if (n > topo.cores) {
        p.text = "they are more than the " + std::to_string(topo.cores) + " cores";
        return p;
    }
    const bool confined = (int) topo.cpus.size() != topo.online || topo.quota > 0;
    if (pin == choice::automatic && topo.l3s == 1) {
        p.text = "they share one L3";
        return p;
    }
    if (pin == choice::automatic && confined) {
        p.text = "this process may not use the whole machine";
        return p;
    }

    std::vector<std::vector<int>> members(topo.l3s);
    std::map<int, int>            l3_of;
    std::vector<int64_t>          cores(topo.l3s), threads(topo.l3s);
    for (const cpu & c : topo.cpus) {
        members[c.l3].push_back(c.id);
        l3_of[c.id] = c.l3;
        cores[c.l3] += c.first_of_core ? 1 : 0;
    }
    const std::vector<int> ids = place_threads(topo, n);
    for (const int id : ids) {
        threads[l3_of[id]]++;
    }
    for (int i = 0; pin == choice::automatic && i < topo.l3s; i++) {
        if (threads[i] * topo.cores != n * cores[i]) {
            p.text = "they are no even share of " + std::to_string(topo.l3s) + " L3s";
            return p;
        }
    }
    for (const int id : ids) {
        const int l3 = l3_of[id];
        p.cpus.push_back(pin == choice::on ? std::vector<int>{ id } : members[l3]);
        p.domains.push_back(l3);
    }
    p.text = (pin == choice::on ? "each on a CPU of its own, by L3: " : "each within its L3: ") + shares(p.domains);
    return p;
}

static std::string plural(int n, const char * thing) {
    return std::to_string(n) + " " + thing + (n == 1 ? "" : "s");
}

std::string describe(const topology & topo) {
    std::vector<int> cores(topo.l3s);
    for (const cpu & c : topo.cpus) {
        cores[c.l3] += c.first_of_core ? 1 : 0;
    }
    std::string text = plural(topo.cores, "core") + ", " + plural((int) topo.cpus.size(), "CPU");
    if ((int) topo.cpus.size() != topo.online) {
        text += " of " + std::to_string(topo.online);
    }
    text += ", " + plural(topo.l3s, "L3");
    // equal ones together: "2 L3s (8 cores and 32 MiB each)"
    std::map<std::pair<int, uint64_t>, int> kinds;
    for (int i = 0; i < topo.l3s; i++) {
        kinds[{ cores[i], topo.l3_bytes[i] >> 20 }]++;
    }
    std::string list;
    for (const auto & [kind, n] : kinds) {
        list += list.empty() ? " (" : ", ";
        list += kinds.size() > 1 ? std::to_string(n) + " with " : "";
        list += plural(kind.first, "core") + (kind.second > 0 ? " and " + std::to_string(kind.second) + " MiB" : "");
        list += n > 1 ? " each" : "";
    }
    text += list + "), " + plural(topo.nodes, "NUMA node") + ", " + plural(topo.packages, "package");
    if (topo.quota > 0) {
        text += ", the time of " + plural(topo.quota, "CPU");
    }
    return text + (topo.guessed ? "; some of it guessed" : "");
}

}  // namespace ggml::host
