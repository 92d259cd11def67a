#pragma once

#include "matmul.h"
#include "types.h"

// Products of packed weights with quantized activations.

namespace ggml::cpu::zen5 {

// The type of weights in a buffer of packed ones, or nullptr.
const weight_type * packed_type(const ggml_tensor * weights);

// Where a panel of packed weights begins; panels of all matrices are counted through.
const uint8_t * packed_panel(const ggml_tensor * weights, int64_t panel);

class packed_multiplier : public multiplier {
    const weight_type & type;
    const uint8_t *     weights;
    int64_t             blocks;  // along k

    // this thread's
    uint8_t * work     = nullptr;
    float *   tile     = nullptr;
    uint8_t * expanded = nullptr;  // panels

  public:
    packed_multiplier(const weight_type & type, ggml_tensor * op);

    size_t scratch_size() const override;
    void   set_scratch(uint8_t * scratch) override;
    void   read_from(const uint8_t * copy) override { weights = copy; }

  private:
    void multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const override;

    void stream(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1, int64_t part) const;
    void expand_blocks(const product & p, int64_t first, int64_t last, int64_t g) const;
    void expand_panels(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const;

    int64_t         expanded_panels() const;
    const uint8_t * packed(const product & p, int64_t panel, int64_t block) const;

    void compute(const product & p, int64_t g, int64_t panel, const uint8_t * w, int64_t b, int64_t n, const gemm_kernel * kernels,
                 const uint8_t * next = nullptr, int64_t step = 0) const;
};

}  // namespace ggml::cpu::zen5
