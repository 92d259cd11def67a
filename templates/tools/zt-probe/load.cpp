// zt-probe load

#include "zt-probe.h"

#include <cinttypes>
#include <cstdio>

static void print_memory(const char * when, double ms) {
    const char * status = "/proc/self/status";
    printf("{\"when\":\"%s\",\"ms\":%.3f,\"rss\":%" PRId64 ",\"rss_anon\":%" PRId64 ",\"rss_file\":%" PRId64
        ",\"rss_peak\":%" PRId64 ",\"hugetlb\":%" PRId64 ",\"anon_huge\":%" PRId64 "}\n", when, ms,
        proc_kb(status, "VmRSS"), proc_kb(status, "RssAnon"), proc_kb(status, "RssFile"), proc_kb(status, "VmHWM"),
        proc_kb(status, "HugetlbPages"), proc_kb("/proc/self/smaps_rollup", "AnonHugePages"));
}

void cmd_load(const probe_params & p) {
    const auto since_ms = [](steady::time_point t) { return ns_since(t)/1e6; };

    auto t = steady::now();
    model_ptr model = load_model(p);
    print_memory("load", since_ms(t));

    t = steady::now();
    session s(p, model.get(), 512, 512, 1);
    print_memory("context", since_ms(t));

    batch_buf batch(1);
    batch.add(seeded_tokens(p.seed, 1, s.n_vocab)[0], 0, 0, true);
    t = steady::now();
    s.decode(batch.b);
    print_memory("decode", since_ms(t));
}
