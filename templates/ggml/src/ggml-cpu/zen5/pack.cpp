#include "pack.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace ggml::cpu::zen5 {

size_t packed_size(const weight_type & type, int64_t rows, int64_t cols) {
    const int64_t panels = (rows + tile_cols - 1) / tile_cols;
    return panels * (cols / type.block) * type.panel_bytes();
}

// Bytes of a panel share bits of rows r and r+16 at most, which form a pair: lane r of the panel. The pair's bytes of a panel block, in
// order of address, are its strip.
constexpr int lanes     = tile_cols / 2;
constexpr int max_block = 256;            // bytes of a GGUF block, rounded up to vectors
constexpr int max_strip = 2 * max_block;

// Where in a panel block a pair's words lie: `count` of them, `width` bytes each, lanes*width apart. The first is at `at` for lane 0.
struct run {
    size_t at;
    int    width;
    int    count;
};

// Moves bits of 128 bytes into 64: VPERMI2B brings each byte its source, VPMULTISHIFTQB shifts it, which drags in bits of its neighbours in
// the qword, and the mask leaves what belongs there.
struct move {
    alignas(64) uint8_t index[64];
    alignas(64) uint8_t shift[64];  // the bit of the qword that becomes the byte's first
    alignas(64) uint8_t mask[64];
    int from;  // byte of the source where the 128 start
    int to;    // byte of the target where the 64 start
};

// The permutation of a type: how a GGUF block of either row of a pair moves into a strip, and out of it.
struct permutation {
    std::vector<run>                 runs;
    std::array<std::vector<move>, 2> in, out;
    alignas(64) uint8_t invert[max_strip] = {};  // of a strip

    explicit permutation(const weight_type & type);
};

// Adds the move of one bit to a list.
static void add_bit(std::vector<move> & moves, int from, int to) {
    const int source = from / 8;
    const int target = to / 8;
    const int shift  = from % 8 - to % 8;
    const int base   = source / 128 * 128;
    const int lane   = target % 64;
    const int at     = (8 * (lane % 8) + shift) & 63;

    auto takes = [&](const move & m) {
        return m.from == base && m.to == target - lane &&
               (m.mask[lane] == 0 || (m.index[lane] == source - base && m.shift[lane] == at));
    };
    auto m = std::find_if(moves.begin(), moves.end(), takes);
    if (m == moves.end()) {
        m       = moves.insert(m, move{});
        m->from = base;
        m->to   = target - lane;
    }
    m->index[lane] = source - base;
    m->shift[lane] = at;
    m->mask[lane] |= 1 << to % 8;
}

// Where bit `bit` of element `e` lies in a GGUF block.
static int bit_of(const field & f, int e, int bit) {
    for (const part & p : f.parts) {
        if (bit < p.bits) {
            int at = p.base + bit;
            for (const digit & d : p.digits) {
                at += e % d.n * d.step;
                e /= d.n;
            }
            return at;
        }
        bit -= p.bits;
    }
    return -1;
}

static int length_of(const field & f) {
    int n = 1;
    for (const digit & d : f.parts[0].digits) {
        n *= d.n;
    }
    return n;
}

permutation::permutation(const weight_type & type) {
    size_t at    = 0;  // of the plane in a panel block
    int    strip = 0;  // byte of the strip where the plane starts
    for (const plane & p : type.planes) {
        int elements = 0;
        for (const field & f : p.fields) {
            elements += length_of(f);
        }
        const int repeats = (int) p.values.size();
        const int words   = elements / repeats * p.words;  // of a row
        // a pair has two words where each row has its own, and as many dwords where rows 16 apart share a vector
        const int width = p.quants ? 4 : p.width;
        const int count = p.quants ? 2 * words / 4 : 2 * words;
        runs.push_back({ at, width, count });

        int e = 0;
        for (const field & f : p.fields) {
            for (int i = 0; i < length_of(f); i++, e++) {
                for (int half = 0; half < 2; half++) {
                    // the value's number among those that words spell one after the other, and its byte in a dword of 4 of k
                    const int value = p.quants ? 2 * (e / 4) + half : e;
                    const int byte  = p.quants ? e % 4 : 0;
                    int       bit   = 0;
                    for (const piece & piece : p.values[value % repeats]) {
                        const int word = value / repeats * p.words + piece.word;
                        const int unit = p.quants ? word : 2 * word + half;
                        for (int b = 0; b < piece.bits; b++, bit++) {
                            const int to   = 8 * (strip + unit * width + byte) + piece.shift + b;
                            const int from = bit_of(f, i, bit);
                            add_bit(in[half], from, to);
                            add_bit(out[half], to, from);
                            if (p.invert >> bit & 1) {
                                invert[to / 8] |= 1 << to % 8;
                            }
                        }
                    }
                }
            }
        }
        at += (size_t) lanes * width * count;
        strip += width * count;
    }
}

static const permutation & get_permutation(const weight_type & type) {
    static std::mutex                                        mutex;
    static std::map<ggml_type, std::unique_ptr<permutation>> made;

    std::lock_guard<std::mutex> lock(mutex);
    auto &                      p = made[type.type];
    if (p == nullptr) {
        p = std::make_unique<permutation>(type);
    }
    return *p;
}

// Adds, bit by bit modulo 2, what the moves bring.
static void apply(const std::vector<move> & moves, const uint8_t * from, uint8_t * to) {
    for (const move & m : moves) {
        const __m512i low   = _mm512_load_si512(from + m.from);
        const __m512i high  = _mm512_load_si512(from + m.from + 64);
        const __m512i bytes = _mm512_permutex2var_epi8(low, _mm512_load_si512(m.index), high);
        const __m512i bits  = _mm512_multishift_epi64_epi8(_mm512_load_si512(m.shift), bytes);
        const __m512i sum   = _mm512_load_si512(to + m.to);
        _mm512_store_si512(to + m.to, _mm512_ternarylogic_epi32(sum, bits, _mm512_load_si512(m.mask), 0x78));
    }
}

template <int width> static void scatter(uint8_t * block, const uint8_t * strip, int count) {
    for (int i = 0; i < count; i++) {
        memcpy(block + (size_t) i * lanes * width, strip + i * width, width);
    }
}

template <int width> static void gather(const uint8_t * block, uint8_t * strip, int count) {
    for (int i = 0; i < count; i++) {
        memcpy(strip + i * width, block + (size_t) i * lanes * width, width);
    }
}

// A pair's GGUF blocks, and its strip.
struct pair {
    alignas(64) uint8_t rows[2][max_block];
    alignas(64) uint8_t strip[max_strip];

    // writes both rows
    void pack(const permutation & p, uint8_t * block, int lane) {
        memcpy(strip, p.invert, sizeof(strip));
        apply(p.in[0], rows[0], strip);
        apply(p.in[1], rows[1], strip);
        const uint8_t * from = strip;
        for (const run & r : p.runs) {
            uint8_t * to = block + r.at + lane * r.width;
            switch (r.width) {
                case 1: scatter<1>(to, from, r.count); break;
                case 2: scatter<2>(to, from, r.count); break;
                default: scatter<4>(to, from, r.count); break;
            }
            from += r.width * r.count;
        }
    }

    // reads one row
    void unpack(const permutation & p, const uint8_t * block, int lane, int half) {
        uint8_t * to = strip;
        for (const run & r : p.runs) {
            const uint8_t * from = block + r.at + lane * r.width;
            switch (r.width) {
                case 1: gather<1>(from, to, r.count); break;
                case 2: gather<2>(from, to, r.count); break;
                default: gather<4>(from, to, r.count); break;
            }
            to += r.width * r.count;
        }
        for (int i = 0; i < max_strip; i++) {
            strip[i] ^= p.invert[i];
        }
        memset(rows[half], 0, max_block);
        apply(p.out[half], strip, rows[half]);
    }
};

void pack_rows(const weight_type & type, void * packed, const void * src, int64_t rows, int64_t cols, int64_t first, int64_t n) {
    const permutation & perm   = get_permutation(type);
    const int64_t       blocks = cols / type.block;
    const bool          last   = first + n == rows;

    pair both = {};
    for (int64_t panel = first / tile_cols; panel * tile_cols < first + n; panel++) {
        // block by block, so that writes are one stream
        for (int64_t b = 0; b < blocks; b++) {
            uint8_t * block = (uint8_t *) packed + (panel * blocks + b) * type.panel_bytes();
            for (int lane = 0; lane < lanes; lane++) {
                bool changed = false;
                for (int half = 0; half < 2; half++) {
                    // Padding repeats the last row: zeros would be denormal scales in MXFP4, and each of their products an assist.
                    const int64_t at  = panel * tile_cols + lanes * half + lane;
                    const int64_t row = last ? std::min(at, rows - 1) : at;
                    if (row >= first && row < first + n) {
                        memcpy(both.rows[half], (const char *) src + ((row - first) * blocks + b) * type.bytes, type.bytes);
                        changed = true;
                    } else {
                        both.unpack(perm, block, lane, half);
                    }
                }
                if (changed) {
                    both.pack(perm, block, lane);
                }
            }
        }
    }
}

void unpack_rows(const weight_type & type, const void * packed, void * dst, int64_t cols, int64_t first, int64_t n) {
    const permutation & perm   = get_permutation(type);
    const int64_t       blocks = cols / type.block;

    pair both;
    for (int64_t row = first; row < first + n; row++) {
        for (int64_t b = 0; b < blocks; b++) {
            const uint8_t * block = (const uint8_t *) packed + (row / tile_cols * blocks + b) * type.panel_bytes();
            const int       half  = row % tile_cols / lanes;
            both.unpack(perm, block, row % lanes, half);
            memcpy((char *) dst + ((row - first) * blocks + b) * type.bytes, both.rows[half], type.bytes);
        }
    }
}

void dequantize_row(const weight_type & type, const void * packed, float * dst, int64_t cols, int64_t row) {
    const permutation & perm   = get_permutation(type);
    const int64_t       blocks = cols / type.block;
    const int           half   = row % tile_cols / lanes;
    const auto          floats = ggml_get_type_traits(type.type)->to_float;

    pair both;
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t * block = (const uint8_t *) packed + (row / tile_cols * blocks + b) * type.panel_bytes();
        both.unpack(perm, block, row % lanes, half);
        floats(both.rows[half], dst + b * type.block, type.block);
    }
}

}  // namespace ggml::cpu::zen5
