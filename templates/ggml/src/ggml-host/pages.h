#pragma once

#include <cstddef>
#include <string>

// The one policy for the pages of large memory, and exact accounts of them. It knows nothing of ggml; all of it may be called by any
// thread.
//
//   weights               pages of 1 GiB from their pool, for as many whole GiB as it has; then, in the same block,
//   weights, KV, compute  pages of 2 MiB from the huge page pool, as many as it has; then
//                         transparent huge pages of 2 MiB; then pages of 4 KiB
//   small                 the ordinary allocator, like KV and compute below ZT_HUGEPAGES_MIN and weights below 2 MiB
//
// A pool that has too little gives what it has and the rest of the block comes from the next kind: its memory is set apart for huge
// pages and of no other use, while all of the block in ordinary memory may be more than there is.

namespace ggml::host {

enum class purpose { weights, kv, compute, small };
enum class page_kind { gib, mib2, transparent, small };  // the first two from pools

constexpr int purposes   = 4;
constexpr int page_kinds = 4;

enum class huge_pages { automatic, gib, hugetlb, transparent, off };

// What the user wishes: ZT_HUGEPAGES and ZT_HUGEPAGES_MIN.
struct page_policy {
    huge_pages pages;
    size_t     min;  // bytes of the smallest KV cache or compute buffer in huge pages
};

struct page_block {
    void * base                = nullptr;  // nullptr: there is no memory, and errno says why
    size_t size                = 0;        // bytes usable at base, as many as asked for or more
    size_t bytes[page_kinds]   = {};       // of size, by the kind of pages that was obtained
    size_t missing[page_kinds] = {};       // bytes that a kind was asked for and did not have
    size_t id                  = 0;        // no other block's, ever; 0: not to be freed here
    bool   ordinary            = false;    // from the ordinary allocator, not in pages of its own

    // Whether any of it may be swapped out: pages of the pools never are.
    bool swappable() const;
    // Bytes in pages of the pools.
    size_t pooled() const;
    // What was obtained, for the log: "2 MiB pages from the huge page pool", or "pages of several kinds" and how many MiB of each.
    std::string describe() const;
};

// At least size bytes by the policy of the switches, at a multiple of 2 MiB if in pages of its own, else of 64. Weights are zeroed. Pages
// of the pools are touched here, by all CPUs, to learn whether there are enough: what a container may not have is then found in time, and is
// no bus error later. Others are not, so that each lands where its first user runs.
page_block pages_alloc(purpose use, size_t size);
page_block pages_alloc(purpose use, size_t size, const page_policy & policy);

// Address space for size bytes of weights. Memory comes as it is touched, in transparent huge pages if the policy allows them: most of it
// may never be, which is why none comes from a pool and nobody is warned.
page_block pages_reserve(size_t size);

// The block that an address lies in; one without base if there is none.
page_block pages_find(const void * at);
// The first block that ends behind an address, likewise.
page_block pages_next(const void * at);

// Has all CPUs touch what no one has touched of a part of a block, a huge page each at a time. Best effort: memory that is lacking, or a kernel
// before Linux 5.14, leave it to those who write there.
void pages_touch(void * start, size_t size);

// Gives back the memory of the whole pages in a part of a block: the rest of a huge page of which only the start is used. It reads as
// zeros and comes anew when it is touched.
void pages_drop(void * start, size_t size);

// Makes a block at least size bytes long and keeps its content up to there, without a copy: its pages go along where it has to go elsewhere. What is
// in pools cannot grow and leaves them first. block is what it has become. False, and nothing changed but for that, if it takes a copy after
// all or there is no memory.
bool pages_resize(page_block & block, size_t size);

// Moves a block out of the pools, its address and content kept: their pages are protected, unmapped and discarded in whole ones only. False
// if there is no memory for that. What other threads write to it meanwhile may be lost.
bool pages_leave_pools(page_block & block);

// For the child of a fork, before it does anything else. It shares all pages with its parent until one of them writes, and is ended by
// the kernel where that takes another page of a pool and there is none. Blocks for which there are not enough leave the pools, as far as there
// is other memory.
void pages_forked();

// Frees a block. One that is no more is left alone and said, and false returned, even if another has got its address. A block without
// id is somebody else's, which is fine.
bool pages_free(const page_block & block);

// All blocks there are: bytes by purpose and kind.
struct page_account {
    size_t blocks[purposes]               = {};
    size_t asked[purposes]                = {};  // by the callers
    size_t reserved[purposes][page_kinds] = {};  // obtained as that kind
    size_t missing[purposes][page_kinds]  = {};  // that kind was asked for and did not have them
    size_t used[purposes][page_kinds]     = {};  // in memory as that kind
};

// used, which the kernel is asked for (/proc/self/smaps), only if wanted: it takes milliseconds.
page_account pages_count(bool used);

// The account, a line for each purpose that has blocks.
std::string pages_report();

}  // namespace ggml::host
