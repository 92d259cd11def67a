// cblas_sgemm and cblas_dgemm of a program that is linked to a shared BLAS, passed on to the library that ZT_PRELOAD_BLAS names. How many
// threads that has is up to the program's own settings of it (BLIS_NUM_THREADS, OMP_NUM_THREADS).

#include "log.h"
#include "preload.h"
#include "stop.h"
#include "switches.h"

#include <dlfcn.h>

using namespace zenturbo;
using namespace ggml::host;

// The library that the user wants, or nullptr.
static void * chosen_library() {
    static void * const library = []() -> void * {
        const std::string & path = get_switches().preload_blas;
        if (path.empty()) {
            return nullptr;
        }
        void * l = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (l == nullptr) {
            warn("ZT_PRELOAD_BLAS cannot be loaded: %s; using the program's own BLAS", dlerror());
        }
        return l;
    }();
    return library;
}

// The function of that name that calls go to.
static void * find(const char * name, void * self) {
    void * library  = chosen_library();
    void * function = library ? dlsym(library, name) : nullptr;
    if (function == self) {
        function = nullptr;
    }
    if (library != nullptr && function == nullptr) {
        warn("%s of ZT_PRELOAD_BLAS has no %s; using the program's own BLAS", get_switches().preload_blas.c_str(), name);
    }
    if (function == nullptr) {
        function = dlsym(RTLD_NEXT, name);
    }
    if (function == nullptr) {
        stop("%s is called and there is none: set ZT_PRELOAD_BLAS to a BLAS library, such as AOCL's libblis.so", name);
    }
    Dl_info from;
    note("%s: from %s", name, dladdr(function, &from) != 0 && from.dli_fname != nullptr ? from.dli_fname : "somewhere");
    return function;
}

// Integers are as wide as registers, to pass on those of libraries with 32 bits (LP64) and with 64 (ILP64) alike.
template <typename T>
using gemm = void(intptr_t order, intptr_t trans_a, intptr_t trans_b, intptr_t m, intptr_t n, intptr_t k, T alpha, const T * a, intptr_t lda,
                  const T * b, intptr_t ldb, T beta, T * c, intptr_t ldc);

ZT_EXPORT void cblas_sgemm(intptr_t order, intptr_t trans_a, intptr_t trans_b, intptr_t m, intptr_t n, intptr_t k, float alpha, const float * a,
                           intptr_t lda, const float * b, intptr_t ldb, float beta, float * c, intptr_t ldc) {
    static gemm<float> * const function = (gemm<float> *) find("cblas_sgemm", (void *) cblas_sgemm);
    count.products++;
    function(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

ZT_EXPORT void cblas_dgemm(intptr_t order, intptr_t trans_a, intptr_t trans_b, intptr_t m, intptr_t n, intptr_t k, double alpha, const double * a,
                           intptr_t lda, const double * b, intptr_t ldb, double beta, double * c, intptr_t ldc) {
    static gemm<double> * const function = (gemm<double> *) find("cblas_dgemm", (void *) cblas_dgemm);
    count.products++;
    function(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
