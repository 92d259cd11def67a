#include "code.h"

#include "ggml-host/parallel.h"
#include "ggml-host/switches.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

namespace ggml::cpu::zen5 {

constexpr int      line      = 64;  // bytes; all parts of a coded tensor are whole lines
constexpr int      step_cols = 64;
constexpr int      steps     = code_rows * code_cols / step_cols;  // of a block
constexpr uint32_t magic     = 'Z' | 'T' << 8 | 'C' << 16 | '1' << 24;

struct header {
    uint32_t magic;
    uint32_t type;
    uint64_t bytes;
    uint64_t panels;
    int64_t  rows, cols, matrices;
    uint64_t zeros[2];
};
static_assert(sizeof(header) == line);

// How a code keeps weights.
struct form {
    int palette;  // bytes of it, and of the base that B11 has; plain codes have none
    int entries;  // of the palette, with the mark
    int vectors;  // of indices in a block
    int element;  // bytes of a weight in plain codes
};

constexpr form forms[codes] = {
    { 16, 8,  3, 0 }, // B11
    { 16, 16, 4, 0 }, // B12
    { 0,  0,  0, 2 }, // B16
    { 64, 64, 6, 0 }, // H14
    { 0,  0,  0, 2 }, // H16
    { 0,  0,  0, 4 }, // S32
};

static const form & form_of(code c) {
    return forms[(int) c];
}

static bool is_plain(code c) {
    return form_of(c).palette == 0;
}

static bool is_bf16(code c) {
    return c == code::B11 || c == code::B12 || c == code::B16;
}

// The code that any panel of a tensor of this type can have.
static code plain_code(ggml_type type) {
    return type == GGML_TYPE_BF16 ? code::B16 : type == GGML_TYPE_F16 ? code::H16 : code::S32;
}

// Whether panels of tensors of this type can have code c.
static bool serves(code c, ggml_type type) {
    return is_bf16(c) || type == GGML_TYPE_F32 || (type == GGML_TYPE_F16 && c != code::S32);
}

static int64_t whole_lines(int64_t bytes) {
    return (bytes + line - 1) / line * line;
}

static int64_t block_bytes(code c) {
    const form & f = form_of(c);
    return is_plain(c) ? code_rows * code_cols * f.element : (f.vectors + steps) * line;
}

static int64_t head_bytes(code c, int64_t blocks, int64_t escapes) {
    return is_plain(c) ? 0 : whole_lines(form_of(c).palette + blocks + escapes);
}

// The size of things in a tensor.
struct extent {
    int64_t rows, cols, matrices;
    int64_t each;    // panels of a matrix
    int64_t panels;
    int64_t blocks;  // of a panel

    extent(int64_t rows, int64_t cols, int64_t matrices) :
        rows(rows),
        cols(cols),
        matrices(matrices),
        each((rows + code_rows - 1) / code_rows),
        panels(each * matrices),
        blocks((cols + code_cols - 1) / code_cols) {}

    int64_t directory_bytes() const { return whole_lines((panels + 1) * sizeof(uint64_t)); }

    // Bytes in front of the panels.
    int64_t front() const { return sizeof(header) + directory_bytes(); }
};

constexpr int offset_bits = 48;  // with the code in the lowest 6

static uint64_t make_entry(code c, int64_t offset, int64_t head) {
    return (uint64_t) head / line << offset_bits | (uint64_t) offset | (uint64_t) c;
}

static int64_t offset_of(uint64_t entry) {
    return entry & ((1ull << offset_bits) - line);
}

static int64_t head_of(uint64_t entry) {
    return (entry >> offset_bits) * line;
}

static const uint64_t * directory_of(const void * coded) {
    return (const uint64_t *) ((const uint8_t *) coded + sizeof(header));
}

// Where the weights of a step are in its vectors.
struct order {
    alignas(64) uint8_t low[64], high[64];  // byte p of the low or high bytes, among the 128 of the words
    alignas(64) uint8_t words[2][64];       // a byte of the words, among those of the low and then the high ones

    explicit order(bool widened) {
        for (int p = 0; p < 64; p++) {
            const int i = p / 16;
            const int j = p % 8;
            const int h = p / 8 % 2;
            const int e = widened ? 16 * (2 * h + j % 2) + 4 * i + j / 2 : 32 * h + 8 * i + j;

            low[p]  = 2 * e;
            high[p] = 2 * e + 1;

            words[e / 32][2 * e % 64]     = p;
            words[e / 32][2 * e % 64 + 1] = 64 + p;
        }
    }
};

// BF16 that is widened to F32 has an order of its own.
static const order & order_of(code c, ggml_type type) {
    static const order natural(false);
    static const order widened(true);
    return is_bf16(c) && type != GGML_TYPE_BF16 ? widened : natural;
}

// Parts the index vectors of a block into the indices of its steps.
template <code c> static void get_indices(const uint8_t * block, __m512i (&index)[steps]) {
    const auto q    = [&](int i) { return _mm512_loadu_si512(block + i * line); };
    const auto mask = _mm512_set1_epi8(forms[(int) c].entries - 1);
    // the top bits of three vectors from i on
    const auto top  = [&](int i) {
        const __m512i two = _mm512_set1_epi8(3);
        const __m512i q0  = _mm512_and_si512(_mm512_srli_epi16(q(i), 6), two);
        const __m512i q1  = _mm512_and_si512(_mm512_srli_epi16(q(i + 1), 6), two);
        const __m512i q2  = _mm512_and_si512(_mm512_srli_epi16(q(i + 2), 6), two);
        return _mm512_or_si512(q0, _mm512_or_si512(_mm512_slli_epi16(q1, 2), _mm512_slli_epi16(q2, 4)));
    };
    if constexpr (c == code::B12) {
        for (int s = 0; s < steps; s++) {
            index[s] = _mm512_and_si512(_mm512_srli_epi16(q(s / 2), 4 * (s % 2)), mask);
        }
    } else if constexpr (c == code::B11) {
        for (int s = 0; s < 6; s++) {
            index[s] = _mm512_and_si512(_mm512_srli_epi16(q(s / 2), 3 * (s % 2)), mask);
        }
        index[6] = _mm512_and_si512(top(0), mask);
        index[7] = _mm512_srli_epi16(_mm512_andnot_si512(mask, top(0)), 3);
    } else {
        static_assert(c == code::H14);
        for (int s = 0; s < 6; s++) {
            index[s] = _mm512_and_si512(q(s), mask);
        }
        index[6] = top(0);
        index[7] = top(3);
    }
}

// The inverse.
template <code c> static void put_indices(uint8_t * block, const __m512i (&index)[steps]) {
    const auto put = [&](int i, __m512i q) { _mm512_storeu_si512(block + i * line, q); };
    // bits 2i and 2i+1 of x as top bits
    const auto top = [](__m512i x, int i) {
        return _mm512_slli_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 2 * i), _mm512_set1_epi8(3)), 6);
    };
    if constexpr (c == code::B12) {
        for (int i = 0; i < 4; i++) {
            put(i, _mm512_or_si512(index[2 * i], _mm512_slli_epi16(index[2 * i + 1], 4)));
        }
    } else if constexpr (c == code::B11) {
        const __m512i last = _mm512_or_si512(index[6], _mm512_slli_epi16(index[7], 3));
        for (int i = 0; i < 3; i++) {
            const __m512i two = _mm512_or_si512(index[2 * i], _mm512_slli_epi16(index[2 * i + 1], 3));
            put(i, _mm512_or_si512(two, top(last, i)));
        }
    } else {
        static_assert(c == code::H14);
        for (int i = 0; i < 6; i++) {
            put(i, _mm512_or_si512(index[i], top(index[6 + i / 3], i % 3)));
        }
    }
}

// The weights of a panel, in elements of type T.
template <typename T> struct rows_of {
    const T * row[code_rows];  // nullptr: padding
    int64_t   cols;

    rows_of(const void * first, int n, int64_t cols) : cols(cols) {
        for (int r = 0; r < code_rows; r++) {
            row[r] = r < n ? (const T *) first + r * cols : nullptr;
        }
    }

    // The weights of a step, or nullptr if they are padding.
    const T * step(int64_t block, int s) const {
        const int64_t k = block * code_cols + s / code_rows * step_cols;
        return k < cols && row[s % code_rows] != nullptr ? row[s % code_rows] + k : nullptr;
    }
};

using words  = rows_of<uint16_t>;
using dwords = rows_of<uint32_t>;

using histogram = uint32_t[256];  // of high bytes

constexpr int base_step  = 32;                // a panel's base is a multiple of it
constexpr int bases      = 256 / base_step;   // and smaller than 256
constexpr int fine_shift = 5;                 // of words whose counts tell those of high bytes with any base
constexpr int fine_bins  = 1 << (16 - fine_shift);

// Counts words >> shift in several sets of counters, and meanwhile fetches the `width` bytes for each of these weights that start at `ahead`: hardware
// prefetches no further than a page, and a row is hardly longer.
template <int shift, int sets> static void count(const words & w, uint32_t (&counts)[sets][1 << (16 - shift)], const uint8_t * ahead, int64_t width) {
    for (const uint16_t * row : w.row) {
        for (int64_t k = 0; row != nullptr && k < w.cols; k += step_cols) {
            for (int64_t i = 0; i < step_cols * width; i += line) {
                _mm_prefetch(ahead + i, _MM_HINT_T1);
            }
            ahead += step_cols * width;
            for (int j = 0; j < step_cols; j += 8) {
                uint64_t x[2];
                memcpy(x, row + k + j, sizeof(x));
                for (int i = 0; i < 2; i++) {
                    counts[(4 * i + 0) % sets][(x[i] & 0xffff) >> shift]++;
                    counts[(4 * i + 1) % sets][(x[i] >> 16 & 0xffff) >> shift]++;
                    counts[(4 * i + 2) % sets][(x[i] >> 32 & 0xffff) >> shift]++;
                    counts[(4 * i + 3) % sets][x[i] >> (48 + shift)]++;
                }
            }
        }
    }
}

static void count_high_bytes(const words & w, histogram & counts, const uint8_t * ahead, int64_t width) {
    // Weights have few high bytes, and a counter that was just stored is late to load: each word of a vector has its own.
    alignas(64) uint32_t each[8][256] = {};
    count<8>(w, each, ahead, width);
    for (int b = 0; b < 256; b++) {
        counts[b] = 0;
        for (const auto & e : each) {
            counts[b] += e[b];
        }
    }
}

// Counts of the high bytes of a panel's BF16 words, with every base.
class based_counts {
  public:
    void take(const words & w, const uint8_t * ahead, int64_t width) {
        count<fine_shift>(w, each, ahead, width);

        uint32_t * const fine = memory + line / sizeof(uint32_t);
        uint64_t         here[4] = {};  // bit by bit, the bytes that there are with base 0
        for (int i = 0; i < fine_bins / 16; i++) {
            __m512i sum = _mm512_load_si512(&each[0][16 * i]);
            for (int s = 1; s < sets; s++) {
                sum = _mm512_add_epi32(sum, _mm512_load_si512(&each[s][16 * i]));
            }
            _mm512_store_si512(fine + 16 * i, sum);
            const __mmask16 any = _mm512_test_epi32_mask(sum, sum);
            if (any != 0) {
                here[i / 32] |= (uint64_t) ((any & 0xff) != 0 | (any >> bases != 0) << 1) << 2 * i % 64;
                for (auto & e : each) {
                    _mm512_store_si512(&e[16 * i], _mm512_setzero_si512());
                }
            }
        }
        // words wrap around: the last ones come before the first, too
        memcpy(fine - bases, fine + fine_bins - bases, bases * sizeof(uint32_t));

        // with a base some of a byte's words have the next one
        n = 0;
        for (int i = 0; i < 4; i++) {
            for (uint64_t left = here[i] | here[i] << 1 | here[(i + 3) % 4] >> 63; left != 0; left &= left - 1) {
                const int b   = 64 * i + __builtin_ctzll(left);
                __m256i   sum = _mm256_setzero_si256();
                for (int j = 1; j <= bases; j++) {
                    sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *) (fine + bases * (b - 1) + j)));
                }
                bytes[n]     = b;
                by_base[n++] = sum;
            }
        }
    }

    void get(int base, histogram & counts) const {
        const uint32_t * lane = (const uint32_t *) by_base + bases - 1 - base / base_step;
        memset(counts, 0, sizeof(counts));
        for (int i = 0; i < n; i++) {
            counts[bytes[i]] = lane[bases * i];
        }
    }

    // The base with which the fewest weights have the index of a palette's mark, where none counts if the palette has all bytes there are: of
    // several the smallest.
    template <int entries> int best_base() const {
        __m256i total = _mm256_setzero_si256();
        __m256i largest[entries];
        std::fill_n(largest, entries, total);
        for (int i = 0; i < n; i++) {
            __m256i here = by_base[i];
            total        = _mm256_add_epi32(total, here);
            for (__m256i & l : largest) {
                const __m256i less = _mm256_min_epu32(l, here);
                l                  = _mm256_max_epu32(l, here);
                here               = less;
            }
        }
        __m256i marked = total;
        for (int i = 0; i < entries - 1; i++) {
            marked = _mm256_sub_epi32(marked, largest[i]);
        }
        const __mmask8 missing = _mm256_cmpneq_epi32_mask(marked, largest[entries - 1]);
        uint32_t       escapes[bases];
        _mm256_storeu_si256((__m256i *) escapes, _mm256_maskz_mov_epi32(missing, marked));
        int best = bases - 1;
        for (int i = best; i >= 0; i--) {
            if (escapes[i] < escapes[best]) {
                best = i;
            }
        }
        return (bases - 1 - best) * base_step;
    }

  private:
    static_assert(bases == 8, "of which a vector has a lane each");
    // Two, as neighbours often have the same counter, which is late to load when it was just stored; more take longer to add up.
    static constexpr int sets = 2;

    alignas(64) uint32_t each[sets][fine_bins] = {};  // zeros between panels
    alignas(64) uint32_t memory[line / sizeof(uint32_t) + fine_bins];
    int     n;             // high bytes that there are with any base
    uint8_t bytes[256];    // these
    __m256i by_base[256];  // how often; lane i: with base (7 - i) * base_step
};

// The entries of a code's palette are the most frequent bytes, and the mark is the next one: a block where no weight but those with
// that byte have its index needs no escapes.
//
// Padding has the index `pad` and low bytes of the base, so that it is a word with a low byte of 0 whose high byte is an entry. Best is 0x80, for minus zero times zero added to a sum leaves its bits alone; where the palette
// has it not, another negative number does as well.
struct palette {
    alignas(64) uint8_t entry[64];
    alignas(64) uint8_t index[256];  // of each byte
    int     entries;
    uint8_t pad;
    uint8_t base;
    int64_t least;  // escapes there must be

    // `counts` are of the high bytes of words plus the base.
    palette(const histogram & counts, code c, int base = 0) : entries(form_of(c).entries), pad(0), base(base), least(0) {
        uint64_t by_count[256];
        int      n = 0;
        for (int b = 0; b < 256; b++) {
            if (counts[b] > 0) {
                by_count[n++] = (uint64_t) counts[b] << 8 | (255 - b);  // the lower byte first
            }
        }
        const int mark = entries - 1;
        if (n > mark) {
            std::nth_element(by_count, by_count + mark, by_count + n, std::greater<>());
        }
        uint64_t known[4] = {};  // bit by bit, the bytes that are entries
        for (int i = 0; i < std::min(n, mark); i++) {
            const int b = 255 - (by_count[i] & 0xff);
            known[b / 64] |= 1ull << b % 64;
        }
        for (int i = entries; i < n; i++) {
            least += by_count[i] >> 8;
        }

        memset(index, mark, sizeof(index));
        int at = 0;
        for (int i = 0; i < 4; i++) {
            for (uint64_t left = known[i]; left != 0; left &= left - 1) {
                const int b = 64 * i + __builtin_ctzll(left);
                entry[at]   = b;
                index[b]    = at++;
            }
        }
        memset(entry + at, 0x80, mark - at);
        if (n > mark) {
            entry[mark] = 255 - (by_count[mark] & 0xff);
        } else {
            int b = 0;
            while (index[b] != mark || b == 0x80) {
                b++;
            }
            entry[mark] = b;
        }

        // no word of BF16 with a low byte of 0 is infinite; an F16 is if all bits of its exponent are set
        const auto finite = [&](int i) { return c != code::H14 || (entry[i] & 0x7c) != 0x7c; };
        const auto worse  = [&](int i) { return entry[i] == 0x80 ? 0 : !finite(i) ? 3 : entry[i] < 0x80 ? 2 : 1; };
        for (int i = 1; i < mark; i++) {
            if (worse(i) < worse(pad)) {
                pad = i;
            }
        }
    }
};

// The indices of high bytes: a table of 256.
struct lookup {
    __m512i part[4];

    explicit lookup(const palette & p) {
        for (int i = 0; i < 4; i++) {
            part[i] = _mm512_load_si512(p.index + 64 * i);
        }
    }

    __m512i operator()(__m512i bytes) const {
        const __m512i positive = _mm512_permutex2var_epi8(part[0], bytes, part[1]);
        const __m512i negative = _mm512_permutex2var_epi8(part[2], bytes, part[3]);
        return _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), positive, negative);
    }
};

// Writes the blocks of a panel, their flags and their escapes, with up to 64 bytes behind these; returns how many escapes there are.
template <code c>
static int64_t encode_blocks(const words & w, const palette & p, const order & o, int64_t blocks, uint8_t * flags, uint8_t * escapes,
                             uint8_t * to) {
    const __m512i low_order  = _mm512_load_si512(o.low);
    const __m512i high_order = _mm512_load_si512(o.high);
    const __m512i mark       = _mm512_set1_epi8(p.entries - 1);
    const __m512i mark_byte  = _mm512_set1_epi8(p.entry[p.entries - 1]);
    const __m512i base       = _mm512_set1_epi16(p.base);
    const lookup  index_of(p);

    const uint8_t * const begin = escapes;
    for (int64_t b = 0; b < blocks; b++, to += block_bytes(c)) {
        __m512i   index[steps];
        __m512i   high[steps];
        __mmask64 marked[steps];
        __mmask64 missing = 0;
        for (int s = 0; s < steps; s++) {
            __m512i          low  = _mm512_set1_epi8(p.base);
            const uint16_t * from = w.step(b, s);
            if (from != nullptr) {
                __m512i first  = _mm512_loadu_si512(from);
                __m512i second = _mm512_loadu_si512(from + 32);
                if (c == code::B11) {
                    first  = _mm512_add_epi16(first, base);
                    second = _mm512_add_epi16(second, base);
                }

                low       = _mm512_permutex2var_epi8(first, low_order, second);
                high[s]   = _mm512_permutex2var_epi8(first, high_order, second);
                index[s]  = index_of(high[s]);
                marked[s] = _mm512_cmpeq_epi8_mask(index[s], mark);
                missing |= _mm512_mask_cmpneq_epi8_mask(marked[s], high[s], mark_byte);
            } else {
                high[s]   = _mm512_setzero_si512();
                index[s]  = _mm512_set1_epi8(p.pad);
                marked[s] = 0;
            }
            _mm512_storeu_si512(to + (forms[(int) c].vectors + s) * line, low);
        }
        put_indices<c>(to, index);
        flags[b] = missing != 0;
        if (missing != 0) {
            for (int s = 0; s < steps; s++) {
                _mm512_storeu_si512(escapes, _mm512_maskz_compress_epi8(marked[s], high[s]));
                escapes += __builtin_popcountll(marked[s]);
            }
        }
    }
    return escapes - begin;
}

// Narrows floats to BF16 if all are exactly such numbers. n is a multiple of 64 here and below.
static bool floats_to_bf16(const void * from, uint16_t * to, int64_t n) {
    const __m512i low = _mm512_set1_epi32(0xffff);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512i x = _mm512_loadu_si512((const float *) from + i);
        if (_mm512_test_epi32_mask(x, low) != 0) {
            return false;
        }
        _mm256_storeu_si256((__m256i *) (to + i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16)));
    }
    return true;
}

// The same to F16. A signalling NaN comes back as another one, and so does not pass.
static bool floats_to_f16(const void * from, uint16_t * to, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        const __m512i x = _mm512_loadu_si512((const float *) from + i);
        const __m256i h = _mm512_cvtps_ph(_mm512_castsi512_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (_mm512_cmpneq_epi32_mask(x, _mm512_castps_si512(_mm512_cvtph_ps(h))) != 0) {
            return false;
        }
        _mm256_storeu_si256((__m256i *) (to + i), h);
    }
    return true;
}

// F16 to BF16.
static bool f16_to_bf16(const uint16_t * from, uint16_t * to, int64_t n) {
    const __m512i low = _mm512_set1_epi32(0xffff);
    for (int64_t i = 0; i < n; i += 16) {
        const __m256i h = _mm256_loadu_si256((const __m256i *) (from + i));
        const __m512  x = _mm512_cvtph_ps(h);
        const __m256i y = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (_mm512_test_epi32_mask(_mm512_castps_si512(x), low) != 0 || _mm256_cmpneq_epi16_mask(h, y) != 0) {
            return false;
        }
        _mm256_storeu_si256((__m256i *) (to + i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16)));
    }
    return true;
}

// Writes the blocks of a plain panel. Padding is minus zero, as above.
template <typename T> static void write_plain(const rows_of<T> & w, int64_t blocks, uint8_t * to) {
    constexpr int size = step_cols * sizeof(T);
    for (int64_t b = 0; b < blocks; b++) {
        for (int s = 0; s < steps; s++, to += size) {
            if (const T * from = w.step(b, s)) {
                memcpy(to, from, size);
            } else {
                std::fill_n((T *) to, step_cols, (T) 1 << (8 * sizeof(T) - 1));
            }
        }
    }
}

// Codes panels, one at a time. Each thread has its own.
class panel_encoder {
  public:
    panel_encoder(ggml_type type, const extent & x, host::code_policy policy) :
        type(type),
        x(x),
        b11(policy != host::code_policy::b12),
        bf16(type == GGML_TYPE_BF16 ? 0 : code_rows * x.cols),
        f16(type == GGML_TYPE_F32 ? code_rows * x.cols : 0) {
        for (attempt * a : { &best, &next }) {
            a->memory.resize(whole_lines(sizeof(palette::entry) + x.blocks * (1 + code_rows * code_cols)) + line);
            a->blocks.resize(x.blocks * block_bytes(plain_code(type)));
        }
    }

    // Codes the n rows at `from`, with the code that needs the fewest bytes. Returns the panel's entry in the directory, with an offset
    // of 0, and writes its size.
    uint64_t encode(const uint8_t * from, int n, uint8_t * to, int64_t & bytes) {
        best.c     = plain_code(type);
        best.bytes = x.blocks * block_bytes(best.c);
        best.head  = 0;
        ahead      = from + n * x.cols * ggml_type_size(type);

        const void * as_bf16 = type == GGML_TYPE_BF16 ? from : (const void *) bf16.data();
        const void * as_f16  = type == GGML_TYPE_F16 ? from : (const void *) f16.data();
        if (is_bf16_exactly(from, n)) {
            consider_bf16(words(as_bf16, n, x.cols));
        }
        if (best.bytes > x.blocks * block_bytes(code::H14) && is_f16_exactly(from, n)) {
            consider_f16(words(as_f16, n, x.cols));
        }

        bytes = best.bytes;
        switch (best.c) {
            case code::B16: write_plain(words(as_bf16, n, x.cols), x.blocks, to); break;
            case code::H16: write_plain(words(as_f16, n, x.cols), x.blocks, to); break;
            case code::S32: write_plain(dwords(from, n, x.cols), x.blocks, to); break;
            default:
                memcpy(to, best.memory.data(), best.head);
                memcpy(to + best.head, best.blocks.data(), best.bytes - best.head);
        }
        return make_entry(best.c, 0, best.head);
    }

  private:
    struct attempt {
        code                 c;
        int64_t              bytes;
        int64_t              head;            // bytes of it
        std::vector<uint8_t> memory, blocks;  // of the head, for any number of escapes, and of the blocks
    };

    ggml_type             type;
    extent                x;
    bool                  b11;
    std::vector<uint16_t> bf16, f16;  // the panel in another type
    const uint8_t *       ahead = nullptr;  // the next panel's weights
    attempt               best, next;
    based_counts          all;

    bool is_bf16_exactly(const uint8_t * from, int n) {
        switch (type) {
            case GGML_TYPE_BF16: return true;
            case GGML_TYPE_F16:  return f16_to_bf16((const uint16_t *) from, bf16.data(), n * x.cols);
            default:             return floats_to_bf16(from, bf16.data(), n * x.cols);
        }
    }

    bool is_f16_exactly(const uint8_t * from, int n) {
        switch (type) {
            case GGML_TYPE_BF16: return false;
            case GGML_TYPE_F16:  return true;
            default:             return floats_to_f16(from, f16.data(), n * x.cols);
        }
    }

    void consider_bf16(const words & w) {
        consider_plain(code::B16);
        all.take(w, ahead, ggml_type_size(type));
        histogram     counts;
        const int64_t fewest12 = head_bytes(code::B12, x.blocks, 0) + x.blocks * block_bytes(code::B12);
        if (b11) {
            const int base = all.best_base<forms[(int) code::B11].entries>();
            all.get(base, counts);
            consider<code::B11>(w, palette(counts, code::B11, base));
            if (best.bytes <= fewest12) {
                return;
            }
        }
        all.get(0, counts);
        consider<code::B12>(w, palette(counts, code::B12));
    }

    void consider_f16(const words & w) {
        consider_plain(code::H16);
        histogram counts;
        count_high_bytes(w, counts, ahead, ggml_type_size(type));
        consider<code::H14>(w, palette(counts, code::H14));
    }

    void consider_plain(code c) {
        const int64_t bytes = x.blocks * block_bytes(c);
        if (bytes < best.bytes) {
            best.c     = c;
            best.bytes = bytes;
            best.head  = 0;
        }
    }

    // The fewest bytes that code c needs.
    template <code c> int64_t least(const palette & p) const {
        return head_bytes(c, x.blocks, p.least) + x.blocks * block_bytes(c);
    }

    template <code c> void consider(const words & w, const palette & p) {
        if (least<c>(p) >= best.bytes) {
            return;
        }
        uint8_t * const head    = next.memory.data();
        uint8_t * const flags   = head + form_of(c).palette;
        uint8_t * const escapes = flags + x.blocks;
        const int64_t   n       = encode_blocks<c>(w, p, order_of(c, type), x.blocks, flags, escapes, next.blocks.data());

        next.c     = c;
        next.head  = head_bytes(c, x.blocks, n);
        next.bytes = next.head + x.blocks * block_bytes(c);
        if (next.bytes >= best.bytes || next.head / line >= 1 << (64 - offset_bits)) {
            return;
        }
        memcpy(head, p.entry, p.entries);
        if (c == code::B11) {
            const uint16_t base = p.base;
            memset(head + p.entries, 0, form_of(c).palette - p.entries);
            memcpy(head + p.entries, &base, sizeof(base));
        }
        memset(escapes + n, 0, head + next.head - (escapes + n));
        std::swap(best, next);
    }
};

bool codable(ggml_type type, int64_t rows, int64_t cols) {
    return (type == GGML_TYPE_BF16 || type == GGML_TYPE_F16 || type == GGML_TYPE_F32) && rows >= 16 && cols >= step_cols && cols % step_cols == 0;
}

size_t coded_bound(ggml_type type, int64_t rows, int64_t cols, int64_t matrices) {
    const extent x(rows, cols, matrices);
    return x.front() + x.panels * x.blocks * block_bytes(plain_code(type));
}

size_t encode(void * to, ggml_type type, const void * src, int64_t rows, int64_t cols, int64_t matrices) {
    return encode(to, type, src, rows, cols, matrices, host::get_switches().code);
}

size_t encode(void * to, ggml_type type, const void * src, int64_t rows, int64_t cols, int64_t matrices, host::code_policy policy) {
    GGML_ASSERT(codable(type, rows, cols) && (uintptr_t) to % line == 0);
    const extent  x(rows, cols, matrices);
    const int64_t row_bytes = cols * ggml_type_size(type);
    const int64_t most      = x.blocks * block_bytes(plain_code(type));  // of a panel

    uint64_t * directory = (uint64_t *) ((uint8_t *) to + sizeof(header));
    memset(to, 0, x.front());

    // A thread codes a run of panels into memory of its own, so that weights are read from memory once, and knows where they go when
    // the run before has its end. Runs are taken in order, so the one before is never left waiting for a thread.
    constexpr int64_t    run_bytes = 256 * 1024;
    const int64_t        run       = std::max<int64_t>(1, run_bytes / (code_rows * row_bytes));  // panels
    const int64_t        runs      = (x.panels + run - 1) / run;
    std::atomic<int64_t> next{ 0 };   // run to take
    std::atomic<int64_t> turn{ 0 };   // run to be placed
    int64_t              end = x.front();  // of those that are; belongs to whose turn it is

    host::parallel_for(0, runs, 1, [&](int64_t, int64_t) {
        int64_t mine = next++;
        if (mine >= runs) {
            return;
        }
        panel_encoder        encoder(type, x, policy);
        std::vector<uint8_t> coded(run * most);
        std::vector<int64_t> sizes(run);
        for (; mine < runs; mine = next++) {
            const int64_t first = mine * run;
            const int64_t last  = std::min(first + run, x.panels);
            int64_t       bytes = 0;
            for (int64_t p = first; p < last; p++) {
                const int64_t row = p % x.each * code_rows;
                const int64_t n   = std::min<int64_t>(code_rows, rows - row);
                directory[p]      = encoder.encode((const uint8_t *) src + (p / x.each * rows + row) * row_bytes, n, &coded[bytes], sizes[p - first]);
                bytes += sizes[p - first];
            }
            while (turn.load(std::memory_order_acquire) != mine) {
                std::this_thread::yield();
            }
            int64_t at = end;
            end += bytes;
            turn.store(mine + 1, std::memory_order_release);

            memcpy((uint8_t *) to + at, coded.data(), bytes);
            for (int64_t p = first; p < last; p++) {
                directory[p] += at;
                at += sizes[p - first];
            }
        }
    });
    directory[x.panels] = end;

    const header h = { magic, (uint32_t) type, (uint64_t) end, (uint64_t) x.panels, rows, cols, matrices, {} };
    memcpy(to, &h, sizeof(h));
    return end;
}

static header header_of(const void * coded) {
    header h;
    memcpy(&h, coded, sizeof(h));
    return h;
}

size_t coded_size(const void * coded) {
    return header_of(coded).bytes;
}

coded_panel panel_of(const void * coded, int64_t panel) {
    const uint64_t  entry = directory_of(coded)[panel];
    const uint8_t * head  = (const uint8_t *) coded + offset_of(entry);
    return { (code) (entry % line), head, head + head_of(entry) };
}

// How many escapes a panel's blocks take from its head, or -1 if one takes none although it is said to.
template <code c> static int64_t count_escapes(const coded_panel & p, int64_t blocks) {
    const uint8_t * flags = p.head + forms[(int) c].palette;
    const __m512i   mark  = _mm512_set1_epi8(forms[(int) c].entries - 1);
    int64_t         n     = 0;
    for (int64_t b = 0; b < blocks; b++) {
        if (flags[b] != 0) {
            __m512i index[steps];
            get_indices<c>(p.blocks + b * block_bytes(c), index);
            int64_t here = 0;
            for (const __m512i & i : index) {
                here += __builtin_popcountll(_mm512_cmpeq_epi8_mask(i, mark));
            }
            if (here == 0) {
                return -1;
            }
            n += here;
        }
    }
    return n;
}

// What was added to the words of a panel of B11.
static uint16_t base_of(const coded_panel & p) {
    uint16_t base;
    memcpy(&base, p.head + form_of(code::B11).entries, sizeof(base));
    return base;
}

// What is wrong with the head of a panel whose entry is right, or nullptr.
static const char * head_fault(const coded_panel & p, const extent & x) {
    if (is_plain(p.c)) {
        return nullptr;
    }
    const form & f = form_of(p.c);
    for (int i = 0; i < f.entries - 1; i++) {
        if (p.head[i] == p.head[f.entries - 1]) {
            return "a mark that is a byte of its palette, too";
        }
    }
    if (p.c == code::B11) {
        const int base = base_of(p);
        if (base % base_step != 0 || base / base_step >= bases) {
            return "a base that none has";
        }
        if (std::any_of(p.head + f.entries + sizeof(uint16_t), p.head + f.palette, [](uint8_t zero) { return zero != 0; })) {
            return "a base that is not followed by zeros";
        }
    }
    const uint8_t * flags = p.head + f.palette;
    for (int64_t b = 0; b < x.blocks; b++) {
        if (flags[b] > 1) {
            return "a flag that is neither 0 nor 1";
        }
    }
    const int64_t escapes = p.c == code::B11 ? count_escapes<code::B11>(p, x.blocks) :
                            p.c == code::B12 ? count_escapes<code::B12>(p, x.blocks) :
                                               count_escapes<code::H14>(p, x.blocks);
    if (escapes < 0) {
        return "a block that is said to have escapes and has none";
    }
    if (head_bytes(p.c, x.blocks, escapes) != p.blocks - p.head) {
        return "other escapes than its blocks need";
    }
    for (const uint8_t * at = flags + x.blocks + escapes; at < p.blocks; at++) {
        if (*at != 0) {
            return "padding that is not zero";
        }
    }
    return nullptr;
}

#ifdef __GNUC__
__attribute__((format(printf, 1, 2)))
#endif
static const char * fault(const char * format, ...) {
    static thread_local char text[160];
    va_list                  args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return text;
}

const char * coded_fault(const void * coded, size_t size, ggml_type type, int64_t rows, int64_t cols, int64_t matrices) {
    if (!codable(type, rows, cols) || matrices < 1) {
        return "no tensor of this type and shape is coded";
    }
    if (size < sizeof(header)) {
        return "shorter than a header";
    }
    const header h = header_of(coded);
    if (h.magic != magic) {
        return "does not start as coded weights do";
    }
    if (h.type != (uint32_t) type) {
        return fault("coded from type %" PRIu32 ", not from %s", h.type, ggml_type_name(type));
    }
    if (h.rows != rows || h.cols != cols || h.matrices != matrices) {
        return fault("coded from %" PRId64 " x %" PRId64 " x %" PRId64 " weights, not from %" PRId64 " x %" PRId64 " x %" PRId64, h.cols, h.rows,
                     h.matrices, cols, rows, matrices);
    }
    const extent x(rows, cols, matrices);
    if (h.panels != (uint64_t) x.panels) {
        return fault("%" PRIu64 " panels, not %" PRId64, h.panels, x.panels);
    }
    if (h.zeros[0] != 0 || h.zeros[1] != 0) {
        return "a header that does not end in zeros";
    }
    if (h.bytes != size) {
        return fault("%" PRIu64 " bytes by its header, %zu in fact", h.bytes, size);
    }
    if (size < (size_t) x.front()) {
        return "shorter than its directory";
    }
    const uint64_t * directory = directory_of(coded);
    const uint64_t * front_end = (const uint64_t *) ((const uint8_t *) coded + x.front());
    if (directory[x.panels] != size) {
        return "a directory that does not end where the panels do";
    }
    if (std::any_of(directory + x.panels + 1, front_end, [](uint64_t zero) { return zero != 0; })) {
        return "a directory that does not end in zeros";
    }
    uint64_t at = x.front();
    for (int64_t p = 0; p < x.panels; p++) {
        const uint64_t entry = directory[p];
        const code     c     = (code) (entry % line);
        if (entry % line >= codes || !serves(c, type)) {
            return fault("panel %" PRId64 " has code %d, which %s has not", p, (int) (entry % line), ggml_type_name(type));
        }
        if ((uint64_t) offset_of(entry) != at) {
            return fault("panel %" PRId64 " is not behind the one before", p);
        }
        if (is_plain(c) ? head_of(entry) != 0 : head_of(entry) < head_bytes(c, x.blocks, 0)) {
            return fault("panel %" PRId64 " has a head of %" PRId64 " bytes", p, head_of(entry));
        }
        at += head_of(entry) + x.blocks * block_bytes(c);
    }
    if (at != size) {
        return "other bytes than its panels have";
    }

    std::atomic<int64_t> first{ x.panels };
    host::parallel_for(0, x.panels, 64, [&](int64_t p, int64_t end) {
        for (; p < end && p < first.load(std::memory_order_relaxed); p++) {
            if (head_fault(panel_of(coded, p), x) != nullptr) {
                int64_t lowest = first;
                while (p < lowest && !first.compare_exchange_weak(lowest, p)) {
                }
            }
        }
    });
    if (first < x.panels) {
        return fault("panel %" PRId64 " has %s", first.load(), head_fault(panel_of(coded, first), x));
    }
    return nullptr;
}

// Writes 64 words of a code as weights of a tensor's type.
static void put_weights(ggml_type type, bool bf16, __m512i first, __m512i second, uint8_t * to) {
    if (type == GGML_TYPE_BF16 || (type == GGML_TYPE_F16 && !bf16)) {
        _mm512_storeu_si512(to, first);
        _mm512_storeu_si512(to + 64, second);
        return;
    }
    for (int i = 0; i < 4; i++) {
        const __m512i half = i < 2 ? first : second;
        const __m256i w    = i % 2 == 0 ? _mm512_castsi512_si256(half) : _mm512_extracti64x4_epi64(half, 1);
        const __m512i wide = bf16 ? _mm512_slli_epi32(_mm512_cvtepu16_epi32(w), 16) : _mm512_castps_si512(_mm512_cvtph_ps(w));
        if (type == GGML_TYPE_F32) {
            _mm512_storeu_si512(to + 64 * i, wide);
        } else {
            const auto rounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            _mm256_storeu_si256((__m256i *) (to + 32 * i), _mm512_cvtps_ph(_mm512_castsi512_ps(wide), rounding));
        }
    }
}

// A tensor's rows, and where they are to go.
struct target {
    ggml_type type;
    int64_t   cols;
    int64_t   size;      // of a weight
    int       first, n;  // rows of the panel
    uint8_t * to;        // the first of them

    // Where a step goes, or nullptr if it is not wanted.
    uint8_t * step(int64_t block, int s) const {
        const int64_t k = block * code_cols + s / code_rows * step_cols;
        const int     r = s % code_rows - first;
        return r >= 0 && r < n && k < cols ? to + (r * cols + k) * size : nullptr;
    }
};

template <code c> static void decode_coded(const coded_panel & p, const target & t, int64_t blocks) {
    constexpr form f = forms[(int) c];
    alignas(64) uint8_t entries[64] = {};
    memcpy(entries, p.head, f.entries);

    const order &   o       = order_of(c, t.type);
    const __m512i   first   = _mm512_load_si512(o.words[0]);
    const __m512i   second  = _mm512_load_si512(o.words[1]);
    const __m512i   bytes   = _mm512_load_si512(entries);
    const __m512i   mark    = _mm512_set1_epi8(f.entries - 1);
    const __m512i   base    = _mm512_set1_epi16(c == code::B11 ? base_of(p) : 0);
    const uint8_t * flags   = p.head + f.palette;
    const uint8_t * escapes = flags + blocks;
    const uint8_t * from    = p.blocks;
    for (int64_t b = 0; b < blocks; b++, from += block_bytes(c)) {
        __m512i index[steps];
        get_indices<c>(from, index);
        for (int s = 0; s < steps; s++) {
            __m512i high = _mm512_permutexvar_epi8(index[s], bytes);
            if (flags[b] != 0) {
                // the blocks follow the escapes, so that 64 bytes can be read
                const __mmask64 marked = _mm512_cmpeq_epi8_mask(index[s], mark);
                high = _mm512_mask_expand_epi8(high, marked, _mm512_loadu_si512(escapes));
                escapes += __builtin_popcountll(marked);
            }
            if (uint8_t * to = t.step(b, s)) {
                const __m512i low = _mm512_loadu_si512(from + (f.vectors + s) * line);
                put_weights(t.type, is_bf16(c), _mm512_sub_epi16(_mm512_permutex2var_epi8(low, first, high), base),
                            _mm512_sub_epi16(_mm512_permutex2var_epi8(low, second, high), base), to);
            }
        }
    }
}

static void decode_plain(const coded_panel & p, const target & t, int64_t blocks) {
    const int64_t   bytes = step_cols * form_of(p.c).element;
    const uint8_t * from  = p.blocks;
    for (int64_t b = 0; b < blocks; b++) {
        for (int s = 0; s < steps; s++, from += bytes) {
            uint8_t * to = t.step(b, s);
            if (to == nullptr) {
                continue;
            }
            if (p.c == code::S32) {
                memcpy(to, from, bytes);
            } else {
                put_weights(t.type, is_bf16(p.c), _mm512_loadu_si512(from), _mm512_loadu_si512(from + line), to);
            }
        }
    }
}

void decode_rows(const void * coded, void * to, int64_t first, int64_t n) {
    const header  h    = header_of(coded);
    const extent  x(h.rows, h.cols, h.matrices);
    const int64_t size = ggml_type_size((ggml_type) h.type);

    constexpr int64_t part_bytes = 1024 * 1024;  // worth a thread
    const int64_t     grain      = (part_bytes / (x.cols * size) / code_rows + 1) * code_rows;
    host::parallel_for(first, first + n, grain, [&](int64_t row, int64_t end) {
        while (row < end) {
            const int64_t     matrix = row / x.rows;
            const int64_t     within = row % x.rows;
            const int         r      = within % code_rows;
            const int         n_rows = (int) std::min({ end - row, x.rows - within, (int64_t) code_rows - r });
            const coded_panel p      = panel_of(coded, matrix * x.each + within / code_rows);
            const target      t      = { (ggml_type) h.type, x.cols, size, r, n_rows, (uint8_t *) to + (row - first) * x.cols * size };
            switch (p.c) {
                case code::B11: decode_coded<code::B11>(p, t, x.blocks); break;
                case code::B12: decode_coded<code::B12>(p, t, x.blocks); break;
                case code::H14: decode_coded<code::H14>(p, t, x.blocks); break;
                default:        decode_plain(p, t, x.blocks);
            }
            row += n_rows;
        }
    });
}

code_use coded_use(const void * coded) {
    const uint64_t * directory = directory_of(coded);
    code_use         use       = {};
    for (uint64_t p = 0; p < header_of(coded).panels; p++) {
        use.panels[directory[p] % line]++;
    }
    return use;
}

}  // namespace ggml::cpu::zen5
