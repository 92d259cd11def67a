# Adds what the runtime knows of the machine, and nothing of tensors, to ggml-base. Included by ggml/src/CMakeLists.txt once that
# library is there.

target_sources(ggml-base PRIVATE
    ggml-host/affinity.cpp
    ggml-host/affinity.h
    ggml-host/hooks.cpp
    ggml-host/bandwidth.cpp
    ggml-host/bandwidth.h
    ggml-host/governor.cpp
    ggml-host/governor.h
    ggml-host/log.cpp
    ggml-host/log.h
    ggml-host/pages.cpp
    ggml-host/pages.h
    ggml-host/parallel.cpp
    ggml-host/parallel.h
    ggml-host/share.cpp
    ggml-host/share.h
    ggml-host/switches.cpp
    ggml-host/switches.h
    ggml-host/threads.cpp
    ggml-host/threads.h
    ggml-host/topology.cpp
    ggml-host/topology.h)
