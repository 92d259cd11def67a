#include "switches.h"

#include "log.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace ggml::host {

static bool is_on(const char * name) {
    const char * value = getenv(name);
    return value != nullptr && value[0] != '\0' && strcmp(value, "0") != 0;
}

static bool is_off(const char * name) {
    const char * value = getenv(name);
    return value != nullptr && strcmp(value, "0") == 0;
}

static huge_pages read_huge_pages() {
    const char * value = getenv("ZT_HUGEPAGES");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return huge_pages::automatic;
    }
    if (strcmp(value, "1g") == 0) {
        return huge_pages::gib;
    }
    if (strcmp(value, "hugetlb") == 0) {
        return huge_pages::hugetlb;
    }
    if (strcmp(value, "thp") == 0) {
        return huge_pages::transparent;
    }
    if (strcmp(value, "off") == 0) {
        return huge_pages::off;
    }
    warn("ZT_HUGEPAGES=%s is not one of auto, 1g, hugetlb, thp, off; using auto", value);
    return huge_pages::automatic;
}

// 8 MiB in pages of 4 KiB are half of what the TLB of a Zen 5 core knows, and the page that a block fills in part is less than a
// quarter of it.
static size_t read_huge_pages_min() {
    constexpr unsigned long standard = 8;
    constexpr unsigned long most     = 1ul << 40;  // in bytes still a size_t
    const char *            value    = getenv("ZT_HUGEPAGES_MIN");
    if (value == nullptr || value[0] == '\0') {
        return standard << 20;
    }
    char * end = nullptr;
    errno      = 0;
    const unsigned long n = strtoul(value, &end, 10);
    if (errno != 0 || value[0] < '0' || value[0] > '9' || *end != '\0' || n > most) {
        warn("ZT_HUGEPAGES_MIN=%s is not a number of MiB; using %lu", value, standard);
        return standard << 20;
    }
    return (size_t) n << 20;
}

static code_policy read_code() {
    const char * value = getenv("ZT_CODE");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return code_policy::automatic;
    }
    if (strcmp(value, "11") == 0) {
        return code_policy::b11;
    }
    if (strcmp(value, "12") == 0) {
        return code_policy::b12;
    }
    if (strcmp(value, "off") == 0) {
        return code_policy::off;
    }
    warn("ZT_CODE=%s is not one of auto, 11, 12, off; using auto", value);
    return code_policy::automatic;
}

static meeting_place read_barrier() {
    const char * value = getenv("ZT_BARRIER");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return meeting_place::automatic;
    }
    if (strcmp(value, "flat") == 0) {
        return meeting_place::flat;
    }
    if (strcmp(value, "tree") == 0) {
        return meeting_place::tree;
    }
    warn("ZT_BARRIER=%s is not one of auto, flat, tree; using auto", value);
    return meeting_place::automatic;
}

static idle_threads read_ahead() {
    const char * value = getenv("ZT_AHEAD");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "wait") == 0) {
        return idle_threads::fetch;
    }
    if (strcmp(value, "off") == 0) {
        return idle_threads::wait;
    }
    if (strcmp(value, "layer") == 0) {
        return idle_threads::layer;
    }
    if (strcmp(value, "copy") == 0) {
        return idle_threads::copy;
    }
    warn("ZT_AHEAD=%s is not one of off, wait, layer, copy; using wait", value);
    return idle_threads::fetch;
}

// On Zen 4 software prefetch never won over the hardware's and at times lost; on an Intel server it brought decode from 84 to
// 93 % of a read loop.
static bool read_prefetch() {
    const char * value = getenv("ZT_PREFETCH");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        __builtin_cpu_init();
        return __builtin_cpu_is("intel");
    }
    return is_on("ZT_PREFETCH");
}

// auto, 0 or 1
static choice read_choice(const char * name) {
    const char * value = getenv(name);
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return choice::automatic;
    }
    if (strcmp(value, "0") == 0) {
        return choice::off;
    }
    if (strcmp(value, "1") == 0) {
        return choice::on;
    }
    warn("%s=%s is not one of auto, 0, 1; using auto", name, value);
    return choice::automatic;
}

static bool read_threads() {
    const char * value = getenv("ZT_THREADS");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return true;
    }
    if (strcmp(value, "stock") != 0) {
        warn("ZT_THREADS=%s is not one of auto, stock; using auto", value);
        return true;
    }
    return false;
}

static std::string read_path(const char * name, const char * otherwise) {
    const char * value = getenv(name);
    return value == nullptr || value[0] == '\0' ? otherwise : value;
}

static blas_use read_blas() {
    const char * value = getenv("ZT_BLAS");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "0") == 0) {
        return blas_use::off;
    }
    if (strcmp(value, "1") == 0) {
        return blas_use::backend;
    }
    if (strcmp(value, "slices") == 0) {
        return blas_use::slices;
    }
    warn("ZT_BLAS=%s is not one of 0, 1, slices; using 0", value);
    return blas_use::off;
}

static switches read_switches() {
    switches s;
    s.enabled = !is_on("ZT_DISABLE");
    s.log     = is_on("ZT_LOG");
    s.pages   = { read_huge_pages(), read_huge_pages_min() };
    s.ahead   = read_prefetch();
    s.code    = read_code();
    s.share   = is_on("ZT_SHARE");
    s.threads = read_threads();
    s.pin     = read_choice("ZT_PIN");
    s.govern  = read_choice("ZT_GOVERNOR");
    s.blas    = read_blas();
    s.sysfs   = read_path("ZT_SYSFS", "/sys");
    s.graph   = !is_off("ZT_GRAPH");
    s.meet    = read_barrier();
    s.steal   = !is_off("ZT_STEAL");
    s.idle    = read_ahead();
    s.waits   = is_on("ZT_WAITS");
    s.min_chosen   = !read_path("ZT_HUGEPAGES_MIN", "").empty();
    s.preload_blas = read_path("ZT_PRELOAD_BLAS", "");
    return s;
}

const switches & get_switches() {
    static const switches s = read_switches();
    return s;
}

}  // namespace ggml::host
