#pragma once

#include "code.h"
#include "matmul.h"

// Products of coded float weights with float activations, in the orders of sums that stock has for these types (avo/code of
// llama-zen-turbo).

namespace ggml::cpu::zen5 {

// Where the blocks of a panel of coded weights begin; panels of all matrices are counted through.
const uint8_t * coded_panel_start(const ggml_tensor * weights, int64_t panel);

class coded_multiplier : public multiplier {
    const uint8_t * coded;   // the tensor
    bool            wide;    // products are of F32, else of BF16
    int64_t         blocks;  // along k
    uint8_t *       expanded = nullptr;

  public:
    explicit coded_multiplier(ggml_tensor * op);

    size_t scratch_size() const override;
    void   set_scratch(uint8_t * scratch) override { expanded = scratch; }

  private:
    void multiply(const product & p, int64_t first, int64_t last, int64_t g0, int64_t g1) const override;
    void compute(const product & p, int64_t g, int64_t panel, code c, const uint8_t * head, const uint8_t * at) const;

    int64_t         expanded_panels() const;
    coded_panel     panel_at(const product & p, int64_t panel) const;
};

// Says in the log how a tensor in a buffer of coded weights is coded.
void describe(const ggml_tensor * t);

// Bytes of scratch memory that read_row and read_rows need.
size_t row_scratch_size(const ggml_tensor * weights);

// A row of coded weights as floats.
void read_row(const ggml_tensor * weights, int64_t row, float * out, uint8_t * scratch);

// Rows first .. first+n-1 of a single coded matrix as floats, one behind the other. first is a multiple of code_rows.
void read_rows(const ggml_tensor * weights, int64_t first, int64_t n, float * out, uint8_t * scratch);

}  // namespace ggml::cpu::zen5
