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

// Says what buffers of packed weights that this thread allocates from now on will hold: with ZT_SHARE=1 processes that say the same share one.
// nullptr: what nobody else has.
GGML_API void ggml_zen5_share_as(const char * content);

// Whether a tensor lies in such memory which has been filled, by another process or this one.
GGML_API bool ggml_zen5_is_filled(const struct ggml_tensor * tensor);

// All tensors of a buffer have their data, and other processes may have them too. Does nothing to buffers that are not shared.
GGML_API void ggml_zen5_offer(ggml_backend_buffer_t buffer);

// Gives back the memory behind a part of a mapped file. The contents stay: they are read from the file if touched again. Only
// whole pages inside the part are given back; never call it on memory that is not a file mapping.
GGML_API void ggml_zen5_drop_mapped(const void * data, size_t size);

// How many threads compute where the user names no number; stock is what llama.cpp would take.
GGML_API int ggml_zen5_default_threads(int stock);

// How many of n_threads, which the user has not chosen, generate tokens: fewer where memory is not fast enough for all. The first call, before
// weights are loaded (model_loaded false), measures that if need be, and returns n_threads.
GGML_API int ggml_zen5_decode_threads(int n_threads, bool model_loaded);

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

// What the threads of a pool have in common: which barriers of a graph they need, and how they meet there.
struct ggml_zen5_crew;
struct ggml_threadpool_params;
struct ggml_compute_params;
struct ggml_cplan;

// lasts: the pool is for more than one graph.
GGML_API struct ggml_zen5_crew * ggml_zen5_crew_new(const struct ggml_threadpool_params * params, bool lasts);
GGML_API void                    ggml_zen5_crew_free(struct ggml_zen5_crew * crew);

// That of a pool.
GGML_API struct ggml_zen5_crew * ggml_threadpool_crew(struct ggml_threadpool * threadpool);

// The first n threads are about to compute a graph; they have.
GGML_API void ggml_zen5_graph_start(struct ggml_zen5_crew * crew, const struct ggml_cgraph * cgraph, const struct ggml_cplan * cplan, int n_threads);
GGML_API void ggml_zen5_graph_end(struct ggml_zen5_crew * crew);

// Called by each thread but the first when it is started.
GGML_API void ggml_zen5_thread_start(const struct ggml_zen5_crew * crew, int ith);

// Called by each thread: when it begins with a graph; before each node, with false for one that it leaves to thread 0; behind a
// node, whether threads meet there; and to meet.
GGML_API void ggml_zen5_join(struct ggml_zen5_crew * crew, int ith);
GGML_API bool ggml_zen5_takes_part(struct ggml_zen5_crew * crew, struct ggml_compute_params * params, int node);
GGML_API bool ggml_zen5_meets_behind(const struct ggml_zen5_crew * crew, int node);
GGML_API void ggml_zen5_barrier(struct ggml_zen5_crew * crew);

// The node before which a graph can end that is aborted behind a node: all threads know by then.
GGML_API int ggml_zen5_next_meeting(const struct ggml_zen5_crew * crew, int node);

// Barriers of all threads since the program began, cycles that they waited there, and cycles that they had while graphs were computed.
// Counted with ZT_WAITS=1, else 0.
struct ggml_zen5_waits {
    uint64_t barriers, waited, total;
};

GGML_API void ggml_zen5_waits_read(struct ggml_zen5_waits * waits);

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
