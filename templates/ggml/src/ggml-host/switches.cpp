#include "switches.h"

#include "log.h"

#include <cstdlib>
#include <cstring>

namespace ggml::host {

static bool is_on(const char * name) {
    const char * value = getenv(name);
    return value != nullptr && value[0] != '\0' && strcmp(value, "0") != 0;
}

static huge_pages read_huge_pages() {
    const char * value = getenv("ZT_HUGEPAGES");
    if (value == nullptr || value[0] == '\0' || strcmp(value, "auto") == 0) {
        return huge_pages::automatic;
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
    warn("ZT_HUGEPAGES=%s is not one of auto, hugetlb, thp, off; using auto", value);
    return huge_pages::automatic;
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

static std::string read_path(const char * name, const char * otherwise) {
    const char * value = getenv(name);
    return value == nullptr || value[0] == '\0' ? otherwise : value;
}

const switches & get_switches() {
    static const switches s = {
        /*.enabled =*/ !is_on("ZT_DISABLE"),
        /*.log     =*/ is_on("ZT_LOG"),
        /*.pages   =*/ read_huge_pages(),
        /*.ahead   =*/ read_prefetch(),
        /*.code    =*/ read_code(),
        /*.sysfs   =*/ read_path("ZT_SYSFS", "/sys"),
    };
    return s;
}

}  // namespace ggml::host
