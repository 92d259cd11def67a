// zt-probe load

#include "zt-probe.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// Touches as much memory as the model may take, and frees it again, in another process, so that this one's peak does not count it.
// A hypervisor that is told of free pages (page_reporting of virtio_balloon) takes them back, seconds after they were freed, and the
// first touch afterwards costs several times what it costs on a machine of one's own. Whether a load got pages of the one kind or
// the other decided more than the build did: the same build took 0.7 or 2.1 times as long as stock.
static void touch_memory(const std::string & model) {
    std::error_code error;
    const size_t    file = std::filesystem::file_size(model, error);
    const size_t    size = std::min<size_t>(file * 5 / 4 + (size_t(256) << 20), proc_kb("/proc/meminfo", "MemAvailable") / 2);
    const pid_t     child = error ? -1 : fork();
    if (child == 0) {
        void * p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED) {
            madvise(p, size, MADV_HUGEPAGE);
            madvise(p, size, MADV_POPULATE_WRITE); // too little memory, or a kernel before 5.14: measured as it comes
        }
        _exit(0);
    }
    if (child > 0) {
        waitpid(child, nullptr, 0);
    }
}

static void print_memory(const char * when, double ms) {
    const char * status = "/proc/self/status";
    printf("{\"when\":\"%s\",\"ms\":%.3f,\"rss\":%" PRId64 ",\"rss_anon\":%" PRId64 ",\"rss_file\":%" PRId64
        ",\"rss_peak\":%" PRId64 ",\"hugetlb\":%" PRId64 ",\"anon_huge\":%" PRId64 "}\n", when, ms,
        proc_kb(status, "VmRSS"), proc_kb(status, "RssAnon"), proc_kb(status, "RssFile"), proc_kb(status, "VmHWM"),
        proc_kb(status, "HugetlbPages"), proc_kb("/proc/self/smaps_rollup", "AnonHugePages"));
}

void cmd_load(const probe_params & p) {
    const auto since_ms = [](steady::time_point t) { return ns_since(t)/1e6; };

    touch_memory(p.model);

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

    fflush(stdout);
    while (p.hold && getchar() != EOF) {
    }
}
