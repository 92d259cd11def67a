// What the files of ggml-host and this library say, on stderr: past stdio, whose locks a program may hold when it asks for memory.

#include "log.h"

#include "stop.h"
#include "switches.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include <unistd.h>

static void say(const char * format, va_list args) {
    static constexpr char name[] = "zen5: ";
    static constexpr int  start  = sizeof(name) - 1;

    char line[512] = "zen5: ";
    // one byte less than there is room for, and that is the end of the line
    const int length = vsnprintf(line + start, sizeof(line) - start - 1, format, args);
    int       size   = start + std::clamp(length, 0, (int) sizeof(line) - start - 2);
    line[size++]     = '\n';
    // a message that cannot be written is nobody's error
    const ssize_t written = write(STDERR_FILENO, line, size);
    (void) written;
}

namespace ggml::host {

void note(const char * format, ...) {
    if (!get_switches().log) {
        return;
    }
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void warn(const char * format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

}  // namespace ggml::host

namespace zenturbo {

void stop(const char * format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    abort();
}

}  // namespace zenturbo
