// A BLAS with just the products that libzenturbo-preload.so passes on, for rows one after the other and nothing transposed. What it
// multiplies it multiplies by FACTOR too, which tells one such library from another.

#define PRODUCT(NAME, T)                                                                                                           \
    void NAME(int order, int trans_a, int trans_b, int m, int n, int k, T alpha, const T * a, int lda, const T * b, int ldb, T beta, \
              T * c, int ldc);                                                                                                     \
    void NAME(int order, int trans_a, int trans_b, int m, int n, int k, T alpha, const T * a, int lda, const T * b, int ldb, T beta, \
              T * c, int ldc) {                                                                                                    \
        if (order != 101 || trans_a != 111 || trans_b != 111) {                                                                    \
            return;                                                                                                                \
        }                                                                                                                          \
        for (int i = 0; i < m; i++) {                                                                                              \
            for (int j = 0; j < n; j++) {                                                                                          \
                T sum = 0;                                                                                                         \
                for (int l = 0; l < k; l++) {                                                                                      \
                    sum += a[i * lda + l] * b[l * ldb + j];                                                                        \
                }                                                                                                                  \
                c[i * ldc + j] = FACTOR * alpha * sum + beta * c[i * ldc + j];                                                     \
            }                                                                                                                      \
        }                                                                                                                          \
    }

PRODUCT(cblas_sgemm, float)
PRODUCT(cblas_dgemm, double)
