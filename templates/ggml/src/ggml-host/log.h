#pragma once

// What the runtime tells the user, a line each. Where lines go is up to what the files of this folder are linked into: log.cpp
// is for programs of llama.cpp.

namespace ggml::host {

// About a decision: on stderr with ZT_LOG=1, else at info level in the program's own log.
__attribute__((format(printf, 1, 2))) void note(const char * format, ...);

// About something that is not as it was asked for, or should be.
__attribute__((format(printf, 1, 2))) void warn(const char * format, ...);

}  // namespace ggml::host
