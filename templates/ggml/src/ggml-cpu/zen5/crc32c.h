#pragma once

#include <cstddef>
#include <cstdint>

namespace ggml::cpu::zen5 {

// The CRC-32C of size bytes: polynomial 0x1edc6f41, reflected, starting at and inverted with all ones (RFC 3720, B.4). It finds every
// error of up to 32 neighbouring bits.
uint32_t crc32c(const void * data, size_t size);

}  // namespace ggml::cpu::zen5
