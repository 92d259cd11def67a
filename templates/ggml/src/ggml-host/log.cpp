#include "log.h"

#include "switches.h"

#include "ggml-impl.h"

#include <cstdarg>
#include <cstdio>

namespace ggml::host {

void note(const char * format, ...) {
    char    line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (get_switches().log) {
        fprintf(stderr, "zen5: %s\n", line);
    } else {
        GGML_LOG_INFO("zen5: %s\n", line);
    }
}

void warn(const char * format, ...) {
    char    line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    GGML_LOG_WARN("zen5: %s\n", line);
}

}  // namespace ggml::host
