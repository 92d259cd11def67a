# Adds libzenturbo-preload.so to the programs. Every program that it is preloaded into has to carry it, on any CPU until the guard has
# run: plain x86-64, its own C++ runtime inside, and no symbols but those that it is there for.

set(preload "${CMAKE_SOURCE_DIR}/tools/zenturbo-preload")
set(preload_host "${CMAKE_SOURCE_DIR}/ggml/src/ggml-host")

add_library(zenturbo-preload MODULE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/zen5/guard.c")
foreach (part affinity pages parallel switches topology)
    target_sources(zenturbo-preload PRIVATE "${preload_host}/${part}.cpp")
endforeach()
foreach (part blas log maps memory next preload)
    target_sources(zenturbo-preload PRIVATE "${preload}/${part}.cpp")
endforeach()
# malloc must not become a call of calloc because memory is cleared behind it
set_source_files_properties("${preload}/memory.cpp" "${preload}/next.cpp" PROPERTIES COMPILE_OPTIONS "-fno-builtin")
set_source_files_properties("${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/zen5/guard.c" PROPERTIES COMPILE_OPTIONS "-mgeneral-regs-only")
target_include_directories(zenturbo-preload PRIVATE "${preload_host}")
target_compile_definitions(zenturbo-preload PRIVATE ZT_GUARD_LIBRARY)
target_compile_features(zenturbo-preload PRIVATE cxx_std_17)
target_compile_options(zenturbo-preload PRIVATE -march=x86-64 -mno-bmi -mno-bmi2 -fno-lto -ffunction-sections
    -ftls-model=initial-exec -Wall -Wextra -Wpedantic -Wshadow)
target_link_options(zenturbo-preload PRIVATE -static-libstdc++ -static-libgcc -Wl,-z,now -Wl,--gc-sections -Wl,--no-undefined
    "-Wl,--version-script=${preload}/libzenturbo-preload.map")
target_link_libraries(zenturbo-preload PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(zenturbo-preload PROPERTIES
    CXX_VISIBILITY_PRESET hidden
    C_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    INTERPROCEDURAL_OPTIMIZATION OFF
    LINK_DEPENDS "${preload}/libzenturbo-preload.map"
    LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

# What tests of it need is built when asked for by name, and away from the programs.
add_executable(zt-preload-test EXCLUDE_FROM_ALL "${preload}/zt-preload-test.cpp")
target_compile_features(zt-preload-test PRIVATE cxx_std_17)
target_compile_options(zt-preload-test PRIVATE -fno-builtin -Wall -Wextra -Wpedantic -Wshadow)
target_link_libraries(zt-preload-test PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(zt-preload-test PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
foreach (factor 1 2)
    add_library(zt-blas-${factor} MODULE EXCLUDE_FROM_ALL "${preload}/blas-of-test.c")
    target_compile_definitions(zt-blas-${factor} PRIVATE FACTOR=${factor})
    target_compile_options(zt-blas-${factor} PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
    set_target_properties(zt-blas-${factor} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    add_dependencies(zt-preload-test zt-blas-${factor})
endforeach()
