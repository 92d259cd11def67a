# Adds the zen5 buffer type to the CPU backend. Included by ggml-cpu/CMakeLists.txt once GGML_CPU_SOURCES is listed.

list(APPEND GGML_CPU_SOURCES
    ggml-cpu/zen5/zen5.cpp
    ggml-cpu/zen5/zen5.h
    ggml-cpu/zen5/activations.cpp
    ggml-cpu/zen5/activations.h
    ggml-cpu/zen5/barrier.cpp
    ggml-cpu/zen5/barrier.h
    ggml-cpu/zen5/blas.cpp
    ggml-cpu/zen5/blas.h
    ggml-cpu/zen5/code.cpp
    ggml-cpu/zen5/code.h
    ggml-cpu/zen5/coded.cpp
    ggml-cpu/zen5/coded.h
    ggml-cpu/zen5/coded_buffer.cpp
    ggml-cpu/zen5/crc32c.cpp
    ggml-cpu/zen5/crc32c.h
    ggml-cpu/zen5/crew.cpp
    ggml-cpu/zen5/crew.h
    ggml-cpu/zen5/deal.cpp
    ggml-cpu/zen5/deal.h
    ggml-cpu/zen5/dots.cpp
    ggml-cpu/zen5/dots.h
    ggml-cpu/zen5/generation.cpp
    ggml-cpu/zen5/generation.h
    ggml-cpu/zen5/matmul.cpp
    ggml-cpu/zen5/matmul.h
    ggml-cpu/zen5/pack.cpp
    ggml-cpu/zen5/pack.h
    ggml-cpu/zen5/packed.cpp
    ggml-cpu/zen5/packed.h
    ggml-cpu/zen5/plan.cpp
    ggml-cpu/zen5/plan.h
    ggml-cpu/zen5/products.h
    ggml-cpu/zen5/runner.cpp
    ggml-cpu/zen5/runner.h
    ggml-cpu/zen5/seats.cpp
    ggml-cpu/zen5/seats.h
    ggml-cpu/zen5/shared.cpp
    ggml-cpu/zen5/shared.h
    ggml-cpu/zen5/stored.cpp
    ggml-cpu/zen5/stored.h
    ggml-cpu/zen5/types.cpp
    ggml-cpu/zen5/types.h
    ggml-cpu/zen5/kernels.h
    ggml-cpu/zen5/dot.S
    ggml-cpu/zen5/gemm.S
    ggml-cpu/zen5/guard.c)

# The guard runs on CPUs that the rest of the program does not: no instruction beyond the base of x86-64 may get into it.
set_source_files_properties(ggml-cpu/zen5/guard.c PROPERTIES
    COMPILE_OPTIONS "-march=x86-64;-mgeneral-regs-only;-mno-bmi;-mno-bmi2;-fno-lto")

# ZT_BLAS=slices calls the BLIS that ggml's BLAS backend is linked with.
if (GGML_BLAS AND GGML_BLAS_VENDOR STREQUAL "FLAME")
    set_property(SOURCE ggml-cpu/zen5/blas.cpp APPEND PROPERTY COMPILE_DEFINITIONS GGML_ZEN5_BLIS)
    target_include_directories(${GGML_CPU_NAME} SYSTEM PRIVATE ${BLAS_INCLUDE_DIRS})
    target_link_libraries(${GGML_CPU_NAME} PRIVATE ${BLAS_LIBRARIES})
endif()
