#include "parallel.h"

#include "affinity.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include <unistd.h>

namespace ggml::host {

// A loop, until its caller has seen the last part done.
struct job {
    std::function<void(int64_t)> part;
    int64_t                      last;
    std::atomic<int64_t>         next;
    int                          helping = 0;  // threads other than the caller that are in work(); crew::mutex

    void work() {
        for (int64_t i = next++; i < last; i = next++) {
            part(i);
        }
    }

    bool waits() const { return next < last; }
};

// Threads that help with loops. Between two of them they sleep, and after a while end: a load asks for help hundreds of times, each
// time for less than starting so many threads would take, and after it nothing shall stay.
class crew {
    static constexpr auto patience = std::chrono::milliseconds(200);

    const pid_t             pid = getpid();
    std::mutex              mutex;
    std::condition_variable called;  // jobs has a new one
    std::condition_variable left;    // helping has become 0
    std::deque<job *>       jobs;
    int                     free = 0;  // threads that help with none, or have yet to begin

    void help() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            if (!called.wait_for(lock, patience, [&] { return !jobs.empty(); })) {
                free--;
                return;
            }
            job & j = *jobs.front();
            if (!j.waits()) {
                jobs.pop_front();
                continue;
            }
            j.helping++;
            free--;
            lock.unlock();
            j.work();
            lock.lock();
            free++;
            if (--j.helping == 0) {
                left.notify_all();
            }
        }
    }

    // Has so many threads look at jobs. A limit on threads or memory may leave it with fewer: those that run do all the work.
    void call(int helpers) {
        while (free < helpers) {
            try {
                std::thread([this] { help(); }).detach();
                free++;
            } catch (const std::system_error &) {
                break;
            }
        }
        called.notify_all();
    }

  public:
    void run(job & j, int helpers) {
        std::unique_lock<std::mutex> lock(mutex);
        jobs.push_back(&j);
        call(helpers);
        lock.unlock();
        j.work();
        lock.lock();
        jobs.erase(std::remove(jobs.begin(), jobs.end(), &j), jobs.end());
        left.wait(lock, [&] { return j.helping == 0; });
    }

    // This process' one, never destroyed: threads may still sleep in it when static objects go. One that fork has copied has no threads,
    // and nobody knows who held its mutex.
    static crew & get() {
        static std::atomic<crew *> current{ nullptr };
        crew *                     c = current;
        if (c == nullptr || c->pid != getpid()) {
            crew * fresh = new crew;
            if (current.compare_exchange_strong(c, fresh)) {
                c = fresh;
            } else {
                delete fresh;  // another thread was first
            }
        }
        return *c;
    }
};

void parallel_for(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)> & f) {
    const int64_t first   = begin / grain;
    const int64_t last    = (end + grain - 1) / grain;
    const int     threads = (int) std::min<int64_t>(std::max(1, affinity::of_thread().count()), last - first);

    job j{ [&](int64_t i) { f(std::max(begin, i * grain), std::min(end, (i + 1) * grain)); }, last, { first } };
    if (threads > 1) {
        crew::get().run(j, threads - 1);
    } else {
        j.work();
    }
}

}  // namespace ggml::host
