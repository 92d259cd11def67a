#pragma once

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// What this build of llama-zen-turbo is: version, target and BLAS, in one line.
GGML_API const char * ggml_zen5_description(void);

#ifdef __cplusplus
}
#endif
