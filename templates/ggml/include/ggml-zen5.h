#pragma once

#include "ggml-backend.h"
#include "ggml.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// What this build of llama-zen-turbo is: version, target and BLAS, in one line.
GGML_API const char * ggml_zen5_description(void);

// Whether a buffer holds packed weights in memory that the kernel may swap out.
GGML_API bool ggml_zen5_swappable(ggml_backend_buffer_t buffer);

// Whether a tensor's weights are coded, in a buffer of type CPU_ZEN5_CODED.
GGML_API bool ggml_zen5_is_coded(const struct ggml_tensor * tensor);

// A buffer of that type over size bytes at base, which outlive it. A tensor's data is where its coded form begins.
GGML_API ggml_backend_buffer_t ggml_zen5_coded_buffer_from_ptr(void * base, size_t size);

// How many bytes of a tensor to set at a time: for packed weights whole panels that stay in the cache until they are packed, for any
// other tensor all of it.
GGML_API size_t ggml_zen5_piece_size(const struct ggml_tensor * tensor);

// Reads size bytes of what is offset bytes into a tensor's data as a GGUF has them. Called by several threads at a time. False: it cannot.
typedef bool (*ggml_zen5_reader)(void * context, void * to, size_t offset, size_t size);

// Sets all of a tensor of packed weights, each panel by the thread that has read it. False if the tensor is none, or could not be read: then
// its data are undefined.
GGML_API bool ggml_zen5_set_from(struct ggml_tensor * tensor, ggml_zen5_reader read, void * context);

// Gives back the memory behind a part of a mapped file. The contents stay: they are read from the file if touched again. Only
// whole pages inside the part are given back; never call it on memory that is not a file mapping.
GGML_API void ggml_zen5_drop_mapped(const void * data, size_t size);

// How many threads compute where the user names no number; stock is what llama.cpp would take.
GGML_API int ggml_zen5_default_threads(int stock);

// A thread pool has been made, and none of its threads but the caller run yet; each of the others calls the second, ith from 1, when it does.
GGML_API void ggml_zen5_threadpool_new(const struct ggml_threadpool * threadpool, const struct ggml_threadpool_params * params);
GGML_API void ggml_zen5_thread_start(const struct ggml_threadpool * threadpool, int ith);

// The graph that the calling thread computed is done.
GGML_API void ggml_zen5_graph_end(void);

// What the memory of CPU buffers is for, which decides about its pages.
enum ggml_zen5_purpose {
    GGML_ZEN5_COMPUTE, // also whatever nobody has said more of
    GGML_ZEN5_KV,
    GGML_ZEN5_WEIGHTS,
};

// Sets what this thread allocates CPU buffers for from now on; returns what it was.
GGML_API enum ggml_zen5_purpose ggml_zen5_allocate_for(enum ggml_zen5_purpose purpose);

// Memory of a CPU buffer, at a multiple of 64 bytes; NULL if there is none. With ZT_DISABLE=1 it is stock's.
GGML_API void * ggml_zen5_host_alloc(size_t size);
GGML_API void   ggml_zen5_host_free(void * data, size_t size);

// Prints, with ZT_LOG=1, how much memory in which pages there is for what. when: "as the context starts".
GGML_API void ggml_zen5_report_pages(const char * when);

// A thread pool is about to compute a graph with so many threads, or to end: activations that products share are those of one graph.
GGML_API void ggml_zen5_graph_start(struct ggml_threadpool * threadpool, int n_threads);
GGML_API void ggml_zen5_threadpool_free(struct ggml_threadpool * threadpool);

#ifdef __cplusplus
}

// While it lives, this thread allocates CPU buffers for a purpose.
class ggml_zen5_allocating {
    const ggml_zen5_purpose before;

  public:
    explicit ggml_zen5_allocating(ggml_zen5_purpose purpose) : before(ggml_zen5_allocate_for(purpose)) {}
    ~ggml_zen5_allocating() { ggml_zen5_allocate_for(before); }
    ggml_zen5_allocating(const ggml_zen5_allocating &)             = delete;
    ggml_zen5_allocating & operator=(const ggml_zen5_allocating &) = delete;
};
#endif
