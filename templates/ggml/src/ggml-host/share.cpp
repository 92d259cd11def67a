#include "share.h"

#include "log.h"
#include "parallel.h"
#include "switches.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstddef>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#    define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_HUGE_2MB
#    define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#    define MADV_POPULATE_WRITE 23
#endif

namespace ggml::host {

static constexpr size_t huge = size_t(2) << 20;

// No one can change the content, or cut it off, any more; the process that has filled it has a mapping it could still write through.
static constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

// What comes with the memfd.
struct greeting {
    char     magic[8];
    uint64_t size;
};

static constexpr char magic[8] = { 'Z', 'T', 's', 'h', 'a', 'r', 'e', '1' };

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

shared_memory::handle & shared_memory::handle::operator=(handle && other) noexcept {
    std::swap(fd, other.fd);
    return *this;
}

shared_memory::handle::~handle() {
    if (fd >= 0) {
        close(fd);
    }
}

// FNV-1a of 128 bits (Fowler, Noll, Vo): names that differ by accident do not meet, and who wants them to is of the same user.
static std::string digest(const std::string & text) {
    unsigned __int128       hash  = (unsigned __int128) 0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;
    const unsigned __int128 prime = (unsigned __int128) 1 << 88 | 0x13b;
    for (const char c : text) {
        hash = (hash ^ (uint8_t) c) * prime;
    }
    char hex[33];
    snprintf(hex, sizeof(hex), "%016llx%016llx", (unsigned long long) (hash >> 64), (unsigned long long) hash);
    return hex;
}

// The name in the abstract namespace, which has a zero in front and none behind.
static socklen_t name_of(const std::string & key, sockaddr_un & name) {
    name            = {};
    name.sun_family = AF_UNIX;
    const int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "llama-zen-turbo/%u/%s", geteuid(), digest(key).c_str());
    return offsetof(sockaddr_un, sun_path) + 1 + n;
}

static int new_socket(int flags) {
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
}

// Whether the other end is a process of the user who runs this one. Anybody may take any name, or ask.
static bool same_user(int socket, pid_t & pid) {
    ucred     peer = {};
    socklen_t n    = sizeof(peer);
    const bool known = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0;
    pid              = peer.pid;
    return known && peer.uid == geteuid();
}

shared_memory::shared_memory(const std::string & key, size_t size) : key(key), size(size), stop(eventfd(0, EFD_CLOEXEC)) {}

// A connection to the process that listens; none if no one does, or a stranger.
shared_memory::handle shared_memory::connect_to_owner() const {
    sockaddr_un     name;
    const socklen_t length = name_of(key, name);
    handle          s(new_socket(0));
    if (!s || connect(s.get(), (const sockaddr *) &name, length) != 0) {
        return handle();
    }
    pid_t pid;
    if (!same_user(s.get(), pid)) {
        warn("process %d of another user has the name under which packed weights are shared; they are packed here", pid);
        errno = EPERM;
        return handle();
    }
    return s;
}

// The memfd that the other end sends as soon as it has filled it; none if it does not in time or ends, or sends anything else.
shared_memory::handle shared_memory::receive(const handle & from, int patience_ms) const {
    pollfd p = { from.get(), POLLIN, 0 };
    int    n;
    do {
        n = poll(&p, 1, patience_ms);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        errno = ETIMEDOUT;
        return handle();
    }
    greeting hello = {};
    iovec    data  = { &hello, sizeof(hello) };
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr   message       = {};
    message.msg_iov        = &data;
    message.msg_iovlen     = 1;
    message.msg_control    = control;
    message.msg_controllen = sizeof(control);
    const ssize_t   got    = recvmsg(from.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    const cmsghdr * header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) {
        errno = ECONNRESET;
        return handle();
    }
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    handle      received(fd);
    struct stat st;
    const int   has = fcntl(fd, F_GET_SEALS);
    if (got != sizeof(hello) || memcmp(hello.magic, magic, sizeof(magic)) != 0 || hello.size != size || fstat(fd, &st) != 0 ||
        (size_t) st.st_size < size || has < 0 || (has & seals) != seals) {
        warn("a process offers packed weights that are not those it should have; they are packed here");
        errno = EPROTO;
        return handle();
    }
    return received;
}

// Maps the memfd at a multiple of 2 MiB.
bool shared_memory::map(int protection) {
    struct stat st;
    if (fstat(memory.get(), &st) != 0) {
        return false;
    }
    mapped       = st.st_size;
    char * space = (char *) mmap(nullptr, mapped + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) {
        return false;
    }
    char * at = (char *) round_up((uintptr_t) space, huge);
    if (at > space) {
        munmap(space, at - space);
    }
    munmap(at + mapped, space + huge - at);
    if (mmap(at, mapped, protection, MAP_SHARED | MAP_FIXED, memory.get(), 0) == MAP_FAILED) {
        const int why = errno;
        munmap(at, mapped);
        errno = why;
        return false;
    }
    start = at;
    return true;
}

// Whether the kernel gives huge pages of ordinary memory to memfds of those who ask with madvise; most are set up not to.
static bool huge_memfds() {
    for (const char * path : { "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled", "/sys/kernel/mm/transparent_hugepage/shmem_enabled" }) {
        FILE * f = fopen(path, "r");
        char   line[128] = {};
        const bool read  = f != nullptr && fgets(line, sizeof(line), f) != nullptr;
        if (f != nullptr) {
            fclose(f);
        }
        if (read && strstr(line, "[inherit]") == nullptr) {
            return strstr(line, "[never]") == nullptr && strstr(line, "[deny]") == nullptr;
        }
    }
    return false;
}

// Memory with these flags of memfd_create, all of it there: of a memfd what is lacking would be a bus error later.
bool shared_memory::create_in(unsigned flags) {
    memory = handle(memfd_create("llama-zen-turbo", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
    if (!memory || ftruncate(memory.get(), round_up(size, huge)) != 0 || !map(PROT_READ | PROT_WRITE)) {
        return false;
    }
    pooled = flags != 0;
    if (!pooled && get_switches().pages.pages != huge_pages::off) {
        madvise(start, mapped, MADV_HUGEPAGE);
    }
    std::atomic<int> error{ 0 };
    parallel_for(0, mapped / huge, 1, [&](int64_t begin, int64_t end) {
        if (madvise((char *) start + begin * huge, (end - begin) * huge, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
            error = errno;
        }
    });
    if (error != 0) {
        munmap(start, mapped);
        start = nullptr;
        errno = error;
    }
    return error == 0;
}

bool shared_memory::create() {
    const huge_pages want = get_switches().pages.pages;
    if (want != huge_pages::transparent && want != huge_pages::off && create_in(MFD_HUGETLB | MFD_HUGE_2MB)) {
        pages = "shared 2 MiB pages from the huge page pool";
        return true;
    }
    if (create_in(0)) {
        pages = want != huge_pages::off && huge_memfds() ? "shared 2 MiB transparent huge pages" :
                                                           "shared 4 KiB pages (transparent_hugepage/shmem_enabled allows no huge ones)";
        return true;
    }
    note("packed weights are not shared: no memory for a memfd of %zu MiB: %s", size >> 20, strerror(errno));
    return false;
}

// Waits for the process that has the name to have filled its memory, and maps that. False, with errno, if it does not: ECONNRESET if it has ended.
bool shared_memory::attach() {
    owner = connect_to_owner();
    if (!owner) {
        return false;
    }
    memory = receive(owner, 0);
    if (!memory && errno == ETIMEDOUT) {
        pid_t pid;
        same_user(owner.get(), pid);
        note("process %d is packing the same weights; waiting for it", pid);
        memory = receive(owner, (int) std::min<size_t>(2000 + (size >> 17), 600000));  // 128 MB/s, a slow disk's speed
    }
    if (!memory || !map(PROT_READ)) {
        return false;
    }
    madvise(start, mapped, MADV_HUGEPAGE);
    pages  = "pages of another process";
    sealed = true;
    return true;
}

// Listens under the name if no one does.
bool shared_memory::bind_name() {
    sockaddr_un     name;
    const socklen_t length = name_of(key, name);
    handle          s(new_socket(SOCK_NONBLOCK));
    if (!s || bind(s.get(), (const sockaddr *) &name, length) != 0 || listen(s.get(), 64) != 0) {
        return false;
    }
    listener = std::move(s);
    return true;
}

std::unique_ptr<shared_memory> shared_memory::open(const std::string & key, size_t size) {
    std::unique_ptr<shared_memory> m(new shared_memory(key, size));
    // a few times, as whoever has the name may be just about to end, or another may be faster to take it
    for (int i = 0; i < 10 && m->stop; i++) {
        if (m->bind_name()) {
            return m->create() ? std::move(m) : nullptr;
        }
        if (errno != EADDRINUSE) {
            break;
        }
        if (m->attach()) {
            m->start_keeper();
            return m;
        }
        if (errno != ECONNREFUSED && errno != ECONNRESET) {
            break;
        }
        usleep(10000);
    }
    note("packed weights are not shared: %s", strerror(errno));
    return nullptr;
}

shared_memory::~shared_memory() {
    if (keeper.joinable()) {
        const uint64_t one = 1;
        if (write(stop.get(), &one, sizeof(one)) == sizeof(one)) {
            keeper.join();
        } else {
            keeper.detach();
        }
    }
    if (start != nullptr) {
        munmap(start, mapped);
    }
}

void shared_memory::offer() {
    if (!listener || keeper.joinable() || fcntl(memory.get(), F_ADD_SEALS, seals) != 0 || mprotect(start, mapped, PROT_READ) != 0) {
        return;
    }
    sealed = true;
    start_keeper();
}

void shared_memory::start_keeper() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for threads that know what to do
    try {
        keeper = std::thread([this] { keep(); });
    } catch (const std::system_error &) {
        note("packed weights are not offered to other processes: no thread for it");
        listener = handle();
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void shared_memory::pass_to(const handle & client) const {
    greeting hello = { {}, size };
    memcpy(hello.magic, magic, sizeof(magic));
    iovec  data = { &hello, sizeof(hello) };
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message         = {};
    message.msg_iov        = &data;
    message.msg_iovlen     = 1;
    message.msg_control    = control;
    message.msg_controllen = sizeof(control);
    cmsghdr * header       = CMSG_FIRSTHDR(&message);
    header->cmsg_level     = SOL_SOCKET;
    header->cmsg_type      = SCM_RIGHTS;
    header->cmsg_len       = CMSG_LEN(sizeof(int));
    const int fd           = memory.get();
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    sendmsg(client.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);  // who is gone or does not read has no need of it
}

// Passes the memory to all who come, and keeps their connections, by whose end they learn of ours. False: it is to stop.
bool shared_memory::serve() {
    std::vector<handle> clients;
    for (;;) {
        std::vector<pollfd> events = { { stop.get(), POLLIN, 0 }, { listener.get(), POLLIN, 0 } };
        for (const handle & c : clients) {
            events.push_back({ c.get(), POLLIN, 0 });
        }
        if (poll(events.data(), events.size(), -1) < 0) {
            continue;
        }
        if (events[0].revents != 0) {
            return false;
        }
        for (size_t i = clients.size(); i-- > 0;) {
            if (events[i + 2].revents != 0) {  // they have nothing to say, so they are gone
                clients.erase(clients.begin() + i);
            }
        }
        if (events[1].revents == 0) {
            continue;
        }
        handle client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        pid_t  pid;
        if (!client) {
            usleep(10000);  // no descriptor is free, say
        } else if (same_user(client.get(), pid)) {
            pass_to(client);
            clients.push_back(std::move(client));
        } else {
            note("process %d of another user has asked for packed weights and got nothing", pid);
        }
    }
}

// Waits for the end of the process that others ask, and takes its place, or finds who has. False: it is to stop, or no one can be found.
bool shared_memory::succeed() {
    for (int i = 0; i < 100; i++) {
        pollfd events[] = { { stop.get(), POLLIN, 0 }, { owner.get(), POLLIN, 0 } };
        if (owner && (poll(events, 2, -1) < 0 || (events[0].revents | events[1].revents) == 0)) {
            continue;
        }
        if (events[0].revents != 0) {
            return false;
        }
        owner = handle();
        if (bind_name()) {
            return true;
        }
        owner = connect_to_owner();
        if (owner && !receive(owner, 1000)) {  // it has the same: what counts is that it lives
            owner = handle();
        }
        if (owner) {
            i = 0;
        } else if (poll(events, 1, 10 + i) != 0) {
            return false;
        }
    }
    return false;
}

void shared_memory::keep() {
    if (listener || succeed()) {
        serve();
    }
}

bool shared_memory::detach() {
    const size_t space = mapped + huge;
    char *       copy  = (char *) mmap(nullptr, space, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) {
        return false;
    }
    char * at = (char *) round_up((uintptr_t) copy, huge);
    madvise(at, mapped, MADV_HUGEPAGE);
    parallel_for(0, mapped / huge, 1, [&](int64_t begin, int64_t end) {
        memcpy(at + begin * huge, (char *) start + begin * huge, (end - begin) * huge);
    });
    const bool moved = mremap(at, mapped, mapped, MREMAP_MAYMOVE | MREMAP_FIXED, start) != MAP_FAILED;
    if (moved) {
        munmap(copy, at - copy);
        munmap(at + mapped, copy + space - (at + mapped));
        sealed = false;
    } else {
        munmap(copy, space);
    }
    return moved;
}

}  // namespace ggml::host
