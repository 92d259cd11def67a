#include "crc32c.h"

#include <immintrin.h>

#include <cstring>

namespace ggml::cpu::zen5 {

// Polynomials over GF(2) modulo that of the CRC, in the order of bits of the register: x^0 is the highest bit, x^31 the lowest.
constexpr uint32_t modulus = 0x82f63b78;  // less x^32
constexpr uint32_t one     = uint32_t(1) << 31;

static uint32_t times(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t power = one; power != 0; power >>= 1) {
        product ^= a & power ? b : 0;
        b = b >> 1 ^ (b & 1 ? modulus : 0);
    }
    return product;
}

// x^(8 * bytes): what a register is multiplied by when so many bytes follow.
static uint32_t shift(size_t bytes) {
    uint32_t result = one;
    for (uint32_t square = one >> 8; bytes != 0; bytes >>= 1) {
        if (bytes & 1) {
            result = times(result, square);
        }
        square = times(square, square);
    }
    return result;
}

static uint64_t load(const uint8_t * p) {
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

uint32_t crc32c(const void * data, size_t size) {
    const uint8_t * p = (const uint8_t *) data;

    uint64_t a = 0xffffffff;
    // The instruction takes 8 bytes a cycle and answers after three: three independent streams keep it busy. A register is linear in what it
    // started from and in what it has read, so that those of neighbouring streams add up to that of both.
    const size_t lane = size / 24 * 8;
    if (lane >= 1024) {
        uint64_t b = 0;
        uint64_t c = 0;
        for (const uint8_t * end = p + lane; p < end; p += 8) {
            a = _mm_crc32_u64(a, load(p));
            b = _mm_crc32_u64(b, load(p + lane));
            c = _mm_crc32_u64(c, load(p + 2 * lane));
        }
        const uint32_t by = shift(lane);
        a = times(times((uint32_t) a, by) ^ (uint32_t) b, by) ^ c;
        p += 2 * lane;
        size -= 3 * lane;
    }
    for (; size >= 8; p += 8, size -= 8) {
        a = _mm_crc32_u64(a, load(p));
    }
    for (; size > 0; p++, size--) {
        a = _mm_crc32_u8((uint32_t) a, *p);
    }
    return ~(uint32_t) a;
}

}  // namespace ggml::cpu::zen5
