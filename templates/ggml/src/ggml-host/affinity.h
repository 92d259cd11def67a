#pragma once

#include <vector>

namespace ggml::host {

// CPUs that a thread may run on, as the kernel has them: a bit each, of as many CPUs as this kernel can have.
class affinity {
  public:
    // Of the calling thread; none if the kernel does not say.
    static affinity of_thread();

    static affinity of(const std::vector<int> & cpu_ids);

    std::vector<int> cpu_ids() const;  // ascending

    int count() const;

    // Moves the calling thread there; false if the kernel refuses, because there is none of them that it may use.
    bool apply() const;

  private:
    std::vector<unsigned long> words;
};

}  // namespace ggml::host
