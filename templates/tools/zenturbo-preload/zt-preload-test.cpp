// zt-preload-test TEST PAGES: holds memory to what the C library and the kernel promise of it, with libzenturbo-preload.so and without.
// PAGES says where large blocks have to be: thp, pool (what it has), off, or any. Prints nothing if all is well, else a line, and exits with 1.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static constexpr size_t kib  = 1024;
static constexpr size_t mib  = 1024 * kib;
static constexpr size_t page = 4 * kib;

static std::string pages;  // the second argument

[[noreturn]] __attribute__((format(printf, 1, 2))) static void fail(const char * format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "zt-preload-test: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    _exit(1);
}

#define CHECK(condition, ...)   \
    do {                        \
        if (!(condition)) {     \
            fail(__VA_ARGS__);  \
        }                       \
    } while (false)

// The threshold that the library was told.
static size_t least() {
    const char * value = getenv("ZT_HUGEPAGES_MIN");
    return value ? strtoul(value, nullptr, 10) * mib : 32 * mib;
}

// A field of a file of /proc whose lines are "Field:   123 kB", in bytes.
static size_t proc_bytes(const char * file, const char * field) {
    FILE * f = fopen(file, "r");
    CHECK(f != nullptr, "%s: %s", file, strerror(errno));
    size_t found = 0;
    for (char line[256]; fgets(line, sizeof(line), f) != nullptr;) {
        const size_t n = strlen(field);
        if (strncmp(line, field, n) == 0 && line[n] == ':') {
            found = strtoul(line + n + 1, nullptr, 10) * kib;
        }
    }
    fclose(f);
    return found;
}

// The kernel's flags of the mapping that an address lies in: "rd wr mr mw me ac hg ".
static std::string flags_at(const void * at) {
    FILE * f = fopen("/proc/self/smaps", "r");
    CHECK(f != nullptr, "/proc/self/smaps: %s", strerror(errno));
    std::string flags;
    bool        here = false;
    for (char line[512]; fgets(line, sizeof(line), f) != nullptr;) {
        uintptr_t begin = 0;
        uintptr_t end   = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
            here = (uintptr_t) at >= begin && (uintptr_t) at < end;
        } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            flags = line + 8;
        }
    }
    fclose(f);
    return flags;
}

static bool has(const std::string & flags, const char * flag) {
    return flags.find(std::string(" ") + flag + " ") != std::string::npos;
}

// Holds large memory to the pages that it must be in. What is mapped is never in pages of the pool.
static void check_pages(const char * what, const void * p, bool mapped = false) {
    const std::string flags = flags_at(p);
    if (pages == "thp" || (pages == "pool" && mapped)) {
        CHECK(has(flags, "hg") && !has(flags, "ht"), "%s at %p is not advised to be in huge pages:%s", what, p, flags.c_str());
    } else if (pages == "pool") {
        CHECK(has(flags, "ht"), "%s at %p is not in pages of the pool:%s", what, p, flags.c_str());
    } else if (pages == "off") {
        CHECK(has(flags, "nh"), "%s at %p may be in huge pages:%s", what, p, flags.c_str());
    }
}

static void check_not_ours(const char * what, const void * p, bool stack = false) {
    const std::string flags = flags_at(p);
    // the kernel itself keeps stacks out of huge pages
    CHECK(!has(flags, "hg") && !has(flags, "ht") && (!has(flags, "nh") || stack), "%s at %p has pages of the policy:%s", what, p, flags.c_str());
}

// A number for each 8 bytes of a buffer.
static uint64_t word(size_t i, uint64_t seed) {
    return (i + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ seed;
}

// One word of each 512 bytes, and those at the end.
static void fill(void * p, size_t size, uint64_t seed) {
    uint64_t * w = (uint64_t *) p;
    for (size_t i = 0; i < size / 8; i += 64) {
        w[i] = word(i, seed);
    }
    w[size / 8 - 1] = word(size / 8 - 1, seed);
}

static void verify(const char * what, const void * p, size_t begin, size_t end, uint64_t seed) {
    const uint64_t * w = (const uint64_t *) p;
    for (size_t i = (begin / 8 + 63) / 64 * 64; i < end / 8; i += 64) {
        CHECK(w[i] == word(i, seed), "%s: byte %zu has changed", what, 8 * i);
    }
}

static void verify_all(const char * what, const void * p, size_t size, uint64_t seed) {
    verify(what, p, 0, size, seed);
    CHECK(((const uint64_t *) p)[size / 8 - 1] == word(size / 8 - 1, seed), "%s: its end has changed", what);
}

static void verify_zero(const char * what, const void * p, size_t size) {
    const char * c = (const char *) p;
    CHECK(size == 0 || (c[0] == 0 && memcmp(c, c + 1, size - 1) == 0), "%s is not zero", what);
}

// Whether the kernel can write to an address.
static bool writable(void * at) {
    static const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    return read(zero, at, 1) == 1;
}

static bool unmapped(void * at) {
    unsigned char in;
    return mincore((void *) ((uintptr_t) at & ~(page - 1)), page, &in) != 0 && errno == ENOMEM;
}

static void * allocate(int kind, size_t size) {
    void * p = nullptr;
    switch (kind) {
        case 0:
            return malloc(size);
        case 1:
            return calloc(size / 8, 8);
        case 2:
            return posix_memalign(&p, 64, size) == 0 ? p : nullptr;
        case 3:
            return aligned_alloc(4096, size);
        case 4:
            return memalign(2 * mib, size);
        case 5:
            return valloc(size);
        case 6:
            return pvalloc(size);
        case 7:
            return realloc(nullptr, size);
        default:
            return reallocarray(nullptr, size / 16, 16);
    }
}

static constexpr int                kinds        = 9;
static constexpr const char * const names[kinds] = { "malloc", "calloc", "posix_memalign", "aligned_alloc", "memalign",
                                                     "valloc", "pvalloc", "realloc", "reallocarray" };

static void test_functions() {
    const size_t size = least() + 3 * mib + 16;
    for (int kind = 0; kind < kinds; kind++) {
        errno    = 1234;
        void * p = allocate(kind, size);
        CHECK(p != nullptr, "%s gave nothing", names[kind]);
        CHECK(errno == 1234, "%s changed errno to %d", names[kind], errno);
        check_pages(names[kind], p);
        check_pages(names[kind], (char *) p + size - 1);
        CHECK(malloc_usable_size(p) >= size, "%s: malloc_usable_size says %zu of %zu", names[kind], malloc_usable_size(p), size);
        if (kind == 1) {
            verify_zero("memory of calloc", p, size);
        }
        memset(p, kind + 1, size);
        errno = 1234;
        free(p);
        CHECK(errno == 1234, "free changed errno to %d", errno);
    }
    void * p = nullptr;
    CHECK(posix_memalign(&p, 3, size) == EINVAL, "posix_memalign took an alignment of 3");
    p = memalign(1024 * mib, size);
    CHECK(p != nullptr && (uintptr_t) p % (1024 * mib) == 0, "memalign to 1 GiB gave %p", p);
    free(p);
    errno = 0;
    CHECK(malloc(SIZE_MAX - 4096) == nullptr && errno == ENOMEM, "malloc of nearly everything");
    CHECK(malloc(PTRDIFF_MAX) == nullptr && errno == ENOMEM, "malloc of half of everything");
    CHECK(calloc(SIZE_MAX / 2, 4) == nullptr && errno == ENOMEM, "calloc took an overflow");
    CHECK(reallocarray(nullptr, SIZE_MAX / 2, 4) == nullptr && errno == ENOMEM, "reallocarray took an overflow");
    free(nullptr);
}

static void test_threshold() {
    for (int kind = 0; kind < kinds; kind++) {
        if (kind == 6) {
            continue;  // pvalloc rounds up by itself
        }
        void * under = allocate(kind, least() - (kind == 4 ? 2 * mib : 16));
        void * at    = allocate(kind, least());
        check_not_ours((std::string(names[kind]) + " of less than the threshold").c_str(), under);
        check_pages(names[kind], at);
        free(under);
        free(at);
    }
    const int private_memory = MAP_PRIVATE | MAP_ANONYMOUS;
    void *    under          = mmap(nullptr, least() - page, PROT_READ | PROT_WRITE, private_memory, -1, 0);
    void *    at             = mmap(nullptr, least(), PROT_READ | PROT_WRITE, private_memory, -1, 0);
    check_not_ours("mmap of less than the threshold", under);
    check_pages("mmap", at, true);
    munmap(under, least() - page);
    munmap(at, least());
    const struct {
        const char * what;
        int          prot, flags;
    } others[] = {
        { "address space without access", PROT_NONE, private_memory },
        { "address space that is not to be reserved", PROT_READ | PROT_WRITE, private_memory | MAP_NORESERVE },
        { "a stack", PROT_READ | PROT_WRITE, private_memory | MAP_STACK },
        { "shared memory", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS },
        { "memory for code", PROT_READ | PROT_WRITE | PROT_EXEC, private_memory },
    };
    for (const auto & other : others) {
        void * p = mmap(nullptr, least(), other.prot, other.flags, -1, 0);
        CHECK(p != MAP_FAILED, "mmap of %s: %s", other.what, strerror(errno));
        check_not_ours(other.what, p, (other.flags & MAP_STACK) != 0);
        munmap(p, least());
    }
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    void *    p    = mmap(nullptr, least(), PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    CHECK(p != MAP_FAILED && memcmp(p, "\177ELF", 4) == 0, "a file is not mapped as it is");
    check_not_ours("a file", p);
    munmap(p, least());
    close(file);
    void * populated = mmap(nullptr, least(), PROT_READ | PROT_WRITE, private_memory | MAP_POPULATE, -1, 0);
    check_pages("mmap of populated memory", populated, true);
    std::vector<unsigned char> in(least() / page);
    CHECK(mincore(populated, least(), in.data()) == 0 && std::count(in.begin(), in.end(), 1) == (ptrdiff_t) in.size(), "MAP_POPULATE left pages out");
    munmap(populated, least());
}

// What a program may do to memory that it has mapped, and some do to what malloc gave them.
static void parts(const char * what, char * p, size_t size) {
    fill(p, size, 1);
    const size_t at = 3 * mib + 5 * page;

    CHECK(mprotect(p + at, page, PROT_READ) == 0, "%s: mprotect of a page: %s", what, strerror(errno));
    CHECK(!writable(p + at) && writable(p + at - 8 * kib + 8) && writable(p + at + page + 8), "%s: mprotect did not protect just its page", what);
    CHECK(mprotect(p + at, page, PROT_READ | PROT_WRITE) == 0, "%s: mprotect back: %s", what, strerror(errno));
    fill(p, size, 1);
    verify_all(what, p, size, 1);

    CHECK(madvise(p + at, page, MADV_DONTNEED) == 0, "%s: madvise of a page: %s", what, strerror(errno));
    verify_zero("a page that was not needed any more", p + at, page);
    verify(what, p, 0, at, 1);
    verify(what, p, at + page, size, 1);

    char text[page];
    memset(text, 'x', sizeof(text));
    const int file = memfd_create("zt-preload-test", MFD_CLOEXEC);
    CHECK(file >= 0 && write(file, text, page) == (ssize_t) page, "memfd: %s", strerror(errno));
    CHECK(mmap(p + at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0) == p + at, "%s: MAP_FIXED: %s", what, strerror(errno));
    close(file);
    CHECK(memcmp(p + at, text, page) == 0, "%s: the page mapped over it is not there", what);
    verify(what, p, 0, at, 1);
    verify(what, p, at + page, size, 1);
    CHECK(mmap(p + at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + at, "%s: MAP_FIXED: %s", what, strerror(errno));
    verify_zero("a page mapped over", p + at, page);
}

static void test_parts() {
    const size_t size = least() + 5 * mib + page;
    char *       p    = (char *) valloc(size);
    check_pages("valloc", p);
    parts("valloc", p, size);
    free(p);
    CHECK(unmapped(p + 3 * mib + 5 * page) && unmapped(p + page) && unmapped(p + size - page), "free left a part of a block behind");

    p = (char *) mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check_pages("mmap", p, true);
    check_pages("mmap", p + size - 1, true);
    CHECK(unmapped(p + size) || !has(flags_at(p + size), "hg"), "mmap mapped more than asked for");
    parts("mmap", p, size);
    const size_t hole = mib + 7 * page;
    CHECK(munmap(p + hole, page) == 0, "munmap of a page: %s", strerror(errno));
    CHECK(unmapped(p + hole) && !unmapped(p + hole - page) && !unmapped(p + hole + page), "munmap did not unmap just its page");
    verify("mmap", p, 0, hole, 1);
    char * moved = (char *) mremap(p + 4 * mib, mib, 3 * mib, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved != p + 4 * mib && unmapped(p + 4 * mib), "mremap of a part: %s", strerror(errno));
    for (size_t i = 0; i < mib / 8; i += 64) {
        CHECK(((uint64_t *) moved)[i] == word(4 * mib / 8 + i, 1), "mremap lost byte %zu", 8 * i);
    }
    verify_zero("what mremap added", moved + mib, 2 * mib);
    CHECK(munmap(moved, 3 * mib) == 0 && munmap(p, size) == 0, "munmap of all: %s", strerror(errno));
    CHECK(unmapped(p) && unmapped(p + size - page), "munmap left something behind");
}

static void test_realloc() {
    char * p    = nullptr;
    size_t have = 0;
    // from small to large in large and small steps, and back
    std::vector<size_t> sizes = { 4 * kib, mib / 2, least() - 8, least(), least() + 8, least() + 64 * kib };
    for (int i = 0; i < 40; i++) {
        sizes.push_back(sizes.back() + 600 * kib);
    }
    for (const size_t size : { 3 * least(), 3 * least() + 8, 6 * least() + mib, 2 * least(), 2 * least() - page, least() + mib, least(), least() - 8, 64 * kib, 4 * least(), size_t(64) }) {
        sizes.push_back(size);
    }
    for (const size_t size : sizes) {
        char * q = (char *) realloc(p, size);
        CHECK(q != nullptr, "realloc from %zu to %zu bytes: %s", have, size, strerror(errno));
        verify("realloc", q, 0, std::min(have, size), 2);
        CHECK(malloc_usable_size(q) >= size, "realloc to %zu bytes gave %zu", size, malloc_usable_size(q));
        fill(q, size, 2);
        p    = q;
        have = size;
    }
    errno = 0;
    CHECK(realloc(p, PTRDIFF_MAX) == nullptr && errno == ENOMEM, "realloc to half of everything");
    verify_all("realloc that failed", p, have, 2);
    p = (char *) realloc(p, 2 * least());
    verify("realloc", p, 0, have, 2);
    errno = 0;
    CHECK(realloc(p, PTRDIFF_MAX) == nullptr && errno == ENOMEM, "realloc of a block to half of everything");
    verify("realloc that failed", p, 0, have, 2);
    CHECK(realloc(p, 0) == nullptr, "realloc to nothing");
    CHECK(unmapped(p), "realloc to nothing left the block");
}

static void test_calloc() {
    const size_t size = least() + mib;
    for (int i = 0; i < 4; i++) {
        char * p = (char *) malloc(size);
        memset(p, 0xaa, size);
        free(p);
        char * q = (char *) calloc(1, size);
        verify_zero("memory of calloc after use by malloc", q, size);
        memset(q, 0xbb, size);
        free(q);
    }
}

// Blocks of random sizes by random functions come, grow, shrink and go, and keep what is in them.
static void cycles(int n, uint64_t seed) {
    std::mt19937_64 random(seed);
    struct block {
        void *   p    = nullptr;
        size_t   size = 0;
        uint64_t seed = 0;
    };
    std::vector<block> blocks(4);
    for (int i = 0; i < n; i++) {
        block &      b    = blocks[random() % blocks.size()];
        const size_t size = 64 + random() % (2 * least()) / 8 * 8;
        if (b.p != nullptr) {
            verify_all("a block", b.p, b.size, b.seed);
        }
        if (b.p != nullptr && random() % 2 == 0) {
            void * p = realloc(b.p, size);
            CHECK(p != nullptr, "realloc to %zu bytes: %s", size, strerror(errno));
            verify("a block after realloc", p, 0, std::min(size, b.size), b.seed);
            b.p = p;
        } else {
            free(b.p);
            b.p = allocate(random() % kinds, (size + 2 * mib - 1) / (2 * mib) * (2 * mib));
            CHECK(b.p != nullptr, "no memory for %zu bytes", size);
        }
        b.size = size;
        b.seed = random();
        fill(b.p, b.size, b.seed);
    }
    for (block & b : blocks) {
        if (b.p != nullptr) {
            verify_all("a block", b.p, b.size, b.seed);
        }
        free(b.p);
    }
}

static void test_stress() {
    for (int i = 0; i < 50; i++) {
        cycles(8, i);
        CHECK(proc_bytes("/proc/self/status", "HugetlbPages") == 0, "after %d cycles the process has pages of the pool", i + 1);
    }
}

static void test_threads() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) {
        threads.emplace_back([i] { cycles(25, 100 + i); });
    }
    for (auto & t : threads) {
        t.join();
    }
}

static void wait_for(pid_t child, const char * what) {
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child, "%s: %s", what, strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s ended with %s %d", what, WIFEXITED(status) ? "status" : "signal",
          WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

// A child sees what its parent wrote before it, neither sees what the other writes later, and both can go on.
static void test_fork() {
    const size_t size = least() + 7 * mib;
    char *       p    = (char *) malloc(size);
    check_pages("malloc", p);
    fill(p, size, 3);
    for (int i = 0; i < 3; i++) {
        const pid_t child = fork();
        if (child == 0) {
            verify_all("a block inherited", p, size, 3);
            fill(p, size, 4);
            verify_all("a block inherited and written", p, size, 4);
            p = (char *) realloc(p, 2 * size);
            verify("a block inherited and enlarged", p, 0, size - 8, 4);
            free(p);
            cycles(4, 5);
            _exit(0);
        }
        wait_for(child, "a child of fork");
        verify_all("a block after a fork", p, size, 3);
    }
    free(p);
}

// fork while other threads are in malloc and free.
static void test_fork_threads() {
    std::atomic<bool>        stop{ false };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) {
        threads.emplace_back([&stop] {
            while (!stop) {
                void * p = malloc(least());
                *(volatile char *) p = 1;
                free(p);
            }
        });
    }
    for (int i = 0; i < 40; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            void * p = malloc(least());
            memset(p, 1, mib);
            free(p);
            _exit(0);
        }
        wait_for(child, "a child of fork among threads");
    }
    stop = true;
    for (auto & t : threads) {
        t.join();
    }
    char        name[] = "true";
    char *      argv[] = { name, nullptr };
    pid_t       child  = 0;
    const int   why    = posix_spawnp(&child, "true", nullptr, nullptr, argv, environ);
    CHECK(why == 0, "posix_spawn: %s", strerror(why));
    wait_for(child, "a child of posix_spawn");
}

// More than a pool of 16 pages has. Go on with what it lacks from elsewhere.
static void test_dry() {
    const size_t        size = 12 * mib;
    std::vector<char *> blocks;
    for (int i = 0; i < 8; i++) {
        blocks.push_back((char *) malloc(size));
        CHECK(blocks.back() != nullptr, "block %d: %s", i, strerror(errno));
        fill(blocks.back(), size, i);
    }
    CHECK(has(flags_at(blocks.front()), "ht"), "the first block is not in pages of the pool");
    CHECK(!has(flags_at(blocks.back()), "ht"), "the last block is in pages of the pool");
    const pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 8; i++) {
            verify_all("a block inherited", blocks[i], size, i);
            fill(blocks[i], size, i + 100);
        }
        _exit(0);
    }
    wait_for(child, "a child without a page in the pool");
    for (int i = 0; i < 8; i++) {
        verify_all("a block", blocks[i], size, i);
        free(blocks[i]);
    }
    CHECK(proc_bytes("/proc/self/status", "HugetlbPages") == 0, "pages of the pool are left");
}

static void test_free_twice() {
    char * p = (char *) malloc(least());
    free(p);
    free(p);
    fail("a block was freed twice");
}

static void test_free_inside() {
    char * p = (char *) malloc(least() + 4 * mib);
    free((char *) (((uintptr_t) p + 4 * mib - 1) & ~(2 * mib - 1)));
    fail("a part of a block was freed");
}

static void test_blas() {
    using sgemm       = void(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
    using dgemm       = void(int, int, int, int, int, int, double, const double *, int, const double *, int, double, double *, int);
    const auto single = (sgemm *) dlsym(RTLD_DEFAULT, "cblas_sgemm");
    const auto twice  = (dgemm *) dlsym(RTLD_DEFAULT, "cblas_dgemm");
    CHECK(single != nullptr && twice != nullptr, "there is no cblas_sgemm");
    // row-major, neither transposed: c = 2 a b + 3 c with a of 2 x 3 in rows of 4, b of 3 x 2 in rows of 3, c in rows of 5
    const float a[8] = { 1, 2, 3, -1, 4, 5, 6, -1 };
    const float b[9] = { 7, 8, -1, 9, 10, -1, 11, 12, -1 };
    float       c[10] = { 1, 2, -1, -1, -1, 3, 4, -1, -1, -1 };
    double      ad[8], bd[9], cd[10];
    std::copy(a, a + 8, ad);
    std::copy(b, b + 9, bd);
    std::copy(c, c + 10, cd);
    single(101, 111, 111, 2, 2, 3, 2.0f, a, 4, b, 3, 3.0f, c, 5);
    twice(101, 111, 111, 2, 2, 3, 2.0, ad, 4, bd, 3, 3.0, cd, 5);
    printf("%g %g %g %g, %g %g %g %g\n", c[0], c[1], c[5], c[6], cd[0], cd[1], cd[5], cd[6]);
}

int main(int argc, char ** argv) {
    static const struct {
        const char * name;
        void (*run)();
    } tests[] = {
        { "functions", test_functions }, { "threshold", test_threshold }, { "parts", test_parts },
        { "realloc", test_realloc }, { "calloc", test_calloc }, { "stress", test_stress },
        { "threads", test_threads }, { "fork", test_fork }, { "fork-threads", test_fork_threads },
        { "dry", test_dry }, { "free-twice", test_free_twice }, { "free-inside", test_free_inside },
        { "blas", test_blas },
    };
    if (argc != 3) {
        fail("give the name of a test, and thp, pool, off or any");
    }
    pages = argv[2];
    for (const auto & test : tests) {
        if (strcmp(test.name, argv[1]) != 0) {
            continue;
        }
        const size_t before = proc_bytes("/proc/self/smaps_rollup", "AnonHugePages");
        test.run();
        const size_t after = proc_bytes("/proc/self/smaps_rollup", "AnonHugePages");
        CHECK(pages == "any" || after <= before, "%zu MiB of transparent huge pages are left", (after - before) / mib);
        CHECK(proc_bytes("/proc/self/status", "HugetlbPages") == 0, "pages of the pool are left");
        return 0;
    }
    fail("there is no test %s", argv[1]);
}
