# Adds zt-probe, and some of upstream's tests, to a llama.cpp build without touching its sources, so that stock and tuned builds carry the
# same programs:
#
#   cmake ... -DCMAKE_PROJECT_llama.cpp_INCLUDE=<this file>
#   ninja zt-probe
#
# CMake reads this file at upstream's project("llama.cpp"). The library it links does not exist yet; CMake looks link
# names up when it generates, after all of upstream's files were read.
find_package(Threads REQUIRED)

add_executable(zt-probe)
foreach (part zt-probe model logits greedy speed chat load products shapes gemm)
    target_sources(zt-probe PRIVATE "${CMAKE_CURRENT_LIST_DIR}/${part}.cpp")
endforeach()
target_link_libraries(zt-probe PRIVATE llama Threads::Threads ${CMAKE_DL_LIBS})
target_compile_features(zt-probe PRIVATE cxx_std_17)
target_compile_options(zt-probe PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
set_target_properties(zt-probe PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

# The self test needs the zen5 buffer type, which stock has not.
if (EXISTS "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/zen5")
    add_executable(zt-selftest)
    foreach (part zt-selftest codes floats pages threads)
        target_sources(zt-selftest PRIVATE "${CMAKE_CURRENT_LIST_DIR}/../zt-selftest/${part}.cpp")
    endforeach()
    target_include_directories(zt-selftest PRIVATE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/zen5" "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu" "${CMAKE_SOURCE_DIR}/ggml/src")
    target_link_libraries(zt-selftest PRIVATE ggml ggml-cpu)
    target_compile_features(zt-selftest PRIVATE cxx_std_17)
    target_compile_options(zt-selftest PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
    set_target_properties(zt-selftest PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

    # Nor does it know the machine.
    add_executable(zt-host "${CMAKE_CURRENT_LIST_DIR}/../zt-host/zt-host.cpp")
    target_include_directories(zt-host PRIVATE "${CMAKE_SOURCE_DIR}/ggml/src")
    target_link_libraries(zt-host PRIVATE ggml ggml-cpu)
    target_compile_features(zt-host PRIVATE cxx_std_17)
    target_compile_options(zt-host PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
    set_target_properties(zt-host PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

    # Neither has it coded weights, of which stored models are.
    add_executable(llama-zen-pack "${CMAKE_CURRENT_LIST_DIR}/../llama-zen-pack/llama-zen-pack.cpp")
    target_include_directories(llama-zen-pack PRIVATE "${CMAKE_SOURCE_DIR}/ggml/src/ggml-cpu/zen5" "${CMAKE_SOURCE_DIR}/ggml/src")
    target_link_libraries(llama-zen-pack PRIVATE ggml ggml-cpu)
    target_compile_features(llama-zen-pack PRIVATE cxx_std_17)
    target_compile_options(llama-zen-pack PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
    set_target_properties(llama-zen-pack PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

    include("${CMAKE_CURRENT_LIST_DIR}/../zenturbo-preload/zenturbo-preload.cmake")
endif()

# Upstream's own tests, of which gates run some. They are built when asked for by name, and away from the programs: what is in bin/ is
# installed and released.
foreach (test test-backend-ops test-export-graph-ops test-llama-archs)
    add_executable(${test} EXCLUDE_FROM_ALL "${CMAKE_SOURCE_DIR}/tests/${test}.cpp")
    target_link_libraries(${test} PRIVATE llama llama-common)
    target_compile_features(${test} PRIVATE cxx_std_17)
    set_target_properties(${test} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
endforeach()
