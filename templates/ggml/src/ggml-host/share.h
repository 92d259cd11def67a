#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

// Memory of one content that several processes of one user map, so that only the first of them has to make it, and it is there once.
//
// The memory is a memfd. Who fills it listens on a socket named by user and content in the abstract namespace of AF_UNIX, which leaves
// nothing behind when a process dies, and passes the sealed memfd to processes of the same user that ask. Each of these waits for the end
// of the one it asked, and then tries to listen in its place: the content lasts as long as any process has it. Network namespaces
// (containers) do not see each other's sockets and share nothing.

namespace ggml::host {

class shared_memory {
    // a file descriptor
    class handle {
        int fd = -1;

      public:
        handle() = default;
        explicit handle(int fd) : fd(fd) {}
        handle(handle && other) noexcept : fd(other.fd) { other.fd = -1; }
        handle & operator=(handle && other) noexcept;
        ~handle();

        explicit operator bool() const { return fd >= 0; }
        int      get() const { return fd; }
    };

    const std::string key;
    const size_t      size;

    void *       start  = nullptr;
    size_t       mapped = 0;      // bytes at start
    const char * pages  = "";
    bool         pooled = false;  // pages are from the huge page pool
    bool         sealed = false;
    handle       memory;          // of the content, even where start is a copy by now
    handle       listener;        // if others come to this process
    handle       owner;           // else: a connection to that one to which they do
    handle       stop;            // an eventfd that ends keep()
    std::thread  keeper;

    shared_memory(const std::string & key, size_t size);

    handle connect_to_owner() const;
    handle receive(const handle & from, int patience_ms) const;
    bool   create();
    bool   create_in(unsigned flags);
    bool   attach();
    bool   map(int protection);
    bool   bind_name();
    void   start_keeper();
    void   keep();
    bool   serve();
    bool   succeed();
    void   pass_to(const handle & client) const;

  public:
    // Memory of size bytes for the content that key (anything) names: what another process has filled, read-only; or zeroed memory to be
    // filled. While another process fills it this waits, the longer the larger it is. nullptr if sharing does not work, which has been
    // noted, and memory must come from elsewhere.
    static std::unique_ptr<shared_memory> open(const std::string & key, size_t size);

    // Unmaps it. Other processes keep it.
    ~shared_memory();
    shared_memory(const shared_memory &)             = delete;
    shared_memory & operator=(const shared_memory &) = delete;

    void * base() const { return start; }  // a multiple of 2 MiB

    // What it is in, for the log.
    const char * kind() const { return pages; }

    // Whether pages are from the huge page pool, which is never swapped out.
    bool pool() const { return pooled; }

    // Whether it has been filled, here or elsewhere, and may not be written.
    bool filled() const { return sealed; }

    // Whoever wants the content gets it from now on, as it is.
    void offer();

    // Makes memory that has been filled this process' own, at the same address, and writable: others keep what is there now. False if there
    // is no memory for a copy.
    bool detach();
};

}  // namespace ggml::host
