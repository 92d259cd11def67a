#pragma once

#include "coded.h"
#include "packed.h"

#include "ggml-zen5.h"

// The products that are done here, whatever form their weights have.

namespace ggml::cpu::zen5 {

// Calls f with the multiplier of a MUL_MAT or MUL_MAT_ID, and with a function that tells where a panel of its weights begins: packed_panel
// or coded_panel_start. False, and no call, if op is none or its weights are not in a buffer of ours.
template <class F> bool with_multiplier(const ggml_tensor * op, F f) {
    if (op->op != GGML_OP_MUL_MAT && op->op != GGML_OP_MUL_MAT_ID) {
        return false;
    }
    if (const weight_type * type = packed_type(op->src[0])) {
        f(packed_multiplier(*type, (ggml_tensor *) op), packed_panel);
        return true;
    }
    if (ggml_zen5_is_coded(op->src[0])) {
        f(coded_multiplier((ggml_tensor *) op), coded_panel_start);
        return true;
    }
    return false;
}

}  // namespace ggml::cpu::zen5
