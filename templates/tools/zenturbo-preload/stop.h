#pragma once

namespace zenturbo {

// Says why on stderr and aborts.
[[noreturn]] __attribute__((format(printf, 1, 2))) void stop(const char * format, ...);

}  // namespace zenturbo
