// The encoder of float weights: every bit comes back, the layout is the one that avo/code/DESIGN.md of llama-zen-turbo lays down, read here by
// a loop of its own, each panel has the code that serves it best, and damage that kernels could not bear is seen.

#include "codes.h"

#include "code.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <sched.h>

using namespace ggml::cpu::zen5;
namespace host = ggml::host;

static const char * const code_names[codes] = { "B11", "B12", "B16", "H14", "H16", "S32" };

static const struct {
    host::code_policy  policy;
    const char * name;
} policies[] = {
    { host::code_policy::automatic, "auto" },
    { host::code_policy::b11,       "11"   },
    { host::code_policy::b12,       "12"   },
};

// Memory in whole lines.
struct lines {
    size_t                                   size;
    std::unique_ptr<uint8_t, void (*)(void *)> memory;

    explicit lines(size_t size) : size(size), memory((uint8_t *) aligned_alloc(64, (size + 63) / 64 * 64), free) {
        if (memory == nullptr) {
            fprintf(stderr, "zt-selftest: no memory for %zu bytes\n", size);
            exit(1);
        }
    }

    uint8_t * data() const { return memory.get(); }
};

static float widen(ggml_type type, uint32_t bits) {
    if (type == GGML_TYPE_F16) {
        return ggml_fp16_to_fp32((ggml_fp16_t) bits);
    }
    bits <<= type == GGML_TYPE_BF16 ? 16 : 0;
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

// As VCVTPS2PH rounds, NaNs of all payloads included; to BF16 as ggml does, but for a signalling NaN that is one.
static uint32_t narrow(ggml_type type, float v) {
    const uint32_t bits = bits_of(v);
    switch (type) {
        case GGML_TYPE_BF16:
            return (bits & 0xffff) == 0 ? bits >> 16 : ggml_fp32_to_bf16(v).bits;
        case GGML_TYPE_F16:
            return std::isnan(v) ? (bits >> 16 & 0x8000) | 0x7e00 | (bits >> 13 & 0x1ff) : ggml_fp32_to_fp16(v);
        default:
            return bits;
    }
}

// The number v of type `from` as one of type `to`.
static uint32_t convert(ggml_type from, ggml_type to, uint32_t bits) {
    return from == to ? bits : narrow(to, widen(from, bits));
}

// Weights of a kind: the bits of the next one.
struct kind {
    const char *              name;
    int                       best;  // the code that panels of 4 x 2048 such weights get, or -1 where it is a matter of chance
    std::function<uint32_t()> next;
};

// A number of which the 16-bit type `from` knows the high byte.
static uint32_t with_high_byte(ggml_type from, ggml_type to, int high, std::mt19937 & random) {
    return convert(from, to, (uint32_t) high << 8 | (random() & 0xff));
}

static std::vector<kind> kinds_of(ggml_type type, bool b11, std::mt19937 & random) {
    const auto normal = std::make_shared<std::normal_distribution<float>>(0.0f, 0.02f);
    const auto gauss  = [=, &random](ggml_type from) {
        return [=, &random]() { return convert(from, type, narrow(from, (*normal)(random))); };
    };
    const auto any = [&random](uint32_t mask, uint32_t set) { return [=, &random]() { return ((uint32_t) random() & mask) | set; }; };

    const bool     wide     = type == GGML_TYPE_F32;
    const uint32_t exponent = wide ? 0x7f800000 : type == GGML_TYPE_F16 ? 0x7c00 : 0x7f80;
    const uint32_t sign     = wide ? 0x80000000 : 0x8000;
    const uint32_t mantissa = ~(exponent | sign) & (wide ? 0xffffffff : 0xffff);
    const int      few      = (int) (b11 ? code::B11 : code::B12);  // for weights with few high bytes
    const int      plain    = (int) (wide ? code::S32 : type == GGML_TYPE_F16 ? code::H16 : code::B16);

    std::vector<kind> kinds = {
        { "any bits",     plain, any(0xffffffff, 0) },
        { "Gaussian",     type == GGML_TYPE_BF16 ? few : type == GGML_TYPE_F16 ? (int) code::H14 : (int) code::S32, gauss(type) },
        { "BF16's",       few, gauss(GGML_TYPE_BF16) },
        { "ones",         few, [=]() { return narrow(type, 1.0f); } },
        { "zeros",        few, []() { return 0u; } },
        { "minus zeros",  few, [=]() { return sign; } },
        { "infinities",   few, any(sign, exponent) },
        { "denormals",    -1, any(sign | mantissa, 0) },
        { "NaNs",         -1, any(sign | mantissa, exponent | 1) },  // of all payloads, signalling or not
        { "quiet NaNs",   -1, any(sign | mantissa, exponent | (mantissa + 1) >> 1) },
    };
    if (type == GGML_TYPE_F16) {
        kinds.push_back({ "signalling NaNs of BF16", -1, [&random]() { return 0x7c00u | (uint32_t) (random() % 63 + 1) << 3; } });
    }
    if (type != GGML_TYPE_BF16) {
        // a palette of F16 in which no negative byte but infinity's is left for padding
        kinds.push_back({ "62 positive bytes and infinity", (int) code::H14, [=, &random]() {
                             const uint32_t high = random() % 63;
                             return convert(GGML_TYPE_F16, type, high == 0 ? 0xfc00 : high << 8 | (random() & 0xff));
                         } });
    }
    if (wide) {
        kinds.push_back({ "F16's", (int) code::H14, gauss(GGML_TYPE_F16) });
        kinds.push_back({ "F16's NaNs", -1, [&random]() { return 0x7f800000u | (uint32_t) (random() % 1023 + 1) << 13; } });
        kinds.push_back({ "one that is no BF16", (int) code::S32, [=, at = 0]() mutable { return at++ % 8192 == 8191 ? 0x3f800001u : 0x3f800000u; } });
    }
    // each high byte as often as the others: those of the 16-bit type that panels are coded from
    for (ggml_type from : { GGML_TYPE_BF16, GGML_TYPE_F16 }) {
        if (type == (from == GGML_TYPE_BF16 ? GGML_TYPE_F16 : GGML_TYPE_BF16)) {
            continue;
        }
        static std::vector<std::string> names;  // outlives all
        for (int n : { 7, 8, 9, 15, 16, 17, 63, 64, 65, 240 }) {
            names.reserve(64);
            // without those that infinities and NaNs have
            std::vector<int> bytes;
            for (int b = 0; b < 256; b++) {
                if (from == GGML_TYPE_BF16 ? (b & 0x7f) != 0x7f : (b & 0x7c) != 0x7c) {
                    bytes.push_back(b);
                }
            }
            std::shuffle(bytes.begin(), bytes.end(), random);
            bytes.resize(std::min<size_t>(bytes.size(), n));
            int best = -1;
            if (from == GGML_TYPE_BF16) {
                // 8 of 9: 1/9 of weights are escapes, of 8 bits, and so is the mark: 11 + 2*8/9 bits against 12
                best = n <= 8 ? few : n <= 17 ? (int) code::B12 : n >= 63 ? (int) code::B16 : -1;
            } else {
                best = n <= 65 ? (int) code::H14 : (int) code::H16;
            }
            names.push_back(std::to_string(n) + " high bytes of " + ggml_type_name(from));
            kinds.push_back({ names.back().c_str(), best, [=, &random, at = 0]() mutable {
                                 return with_high_byte(from, type, bytes[at++ % bytes.size()], random);
                             } });
        }
    }
    return kinds;
}

// Weights as they are in a GGUF.
struct tensor {
    ggml_type            type;
    int64_t              rows, cols, matrices;
    std::vector<uint8_t> bytes;

    tensor(ggml_type type, int64_t rows, int64_t cols, int64_t matrices) :
        type(type),
        rows(rows),
        cols(cols),
        matrices(matrices),
        bytes(rows * cols * matrices * ggml_type_size(type)) {}

    size_t size() const { return ggml_type_size(type); }

    int64_t count() const { return rows * cols * matrices; }

    void set(int64_t i, uint32_t bits) { memcpy(&bytes[i * size()], &bits, size()); }

    uint32_t get(int64_t i) const {
        uint32_t bits = 0;
        memcpy(&bits, &bytes[i * size()], size());
        return bits;
    }

    const char * fault(const lines & coded, size_t n) const { return coded_fault(coded.data(), n, type, rows, cols, matrices); }

    std::string name() const { return std::to_string(matrices) + " x " + std::to_string(rows) + " x " + std::to_string(cols); }
};

static uint64_t u64_at(const uint8_t * at) {
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

// Reads a panel's weights out of its coded form, bit by bit as the document says; false where it breaks what that says. Weights of
// padding are read as well, and must be finite. `escapes` counts them.
static bool read_panel(ggml_type type, code c, const uint8_t * head, const uint8_t * blocks, int64_t cols, uint32_t * to, int64_t & escapes) {
    const int     entries   = c == code::B11 ? 8 : c == code::B12 ? 16 : c == code::H14 ? 64 : 0;
    const int     vectors   = c == code::B11 ? 3 : c == code::B12 ? 4 : 6;
    const bool    wide      = c == code::S32;
    const int64_t n         = (cols + code_cols - 1) / code_cols;
    const bool    bf16      = c == code::B11 || c == code::B12 || c == code::B16;
    const auto    container = bf16 ? GGML_TYPE_BF16 : wide ? GGML_TYPE_F32 : GGML_TYPE_F16;

    const int       base  = c == code::B11 ? head[8] | head[9] << 8 : 0;
    const uint8_t * flags = head + std::max(16, entries);
    const uint8_t * list  = flags + n;
    for (int64_t b = 0; b < n; b++) {
        bool any = false;
        for (int s = 0; s < 8; s++) {
            for (int p = 0; p < 64; p++) {
                uint32_t bits = 0;
                int      e    = p;
                if (wide) {
                    memcpy(&bits, blocks + 4 * (512 * b + 64 * s + p), 4);
                } else if (entries == 0) {
                    memcpy(&bits, blocks + 2 * (512 * b + 64 * s + p), 2);
                } else {
                    const uint8_t * block = blocks + b * 64 * (vectors + 8);
                    const auto      q     = [&](int v) { return (int) block[64 * v + p]; };
                    const auto      top   = [&](int v) { return q(v) >> 6 | q(v + 1) >> 6 << 2 | q(v + 2) >> 6 << 4; };
                    int             index = 0;
                    switch (c) {
                        case code::B12: index = q(s / 2) >> 4 * (s % 2) & 15; break;
                        case code::B11: index = s < 6 ? q(s / 2) >> 3 * (s % 2) & 7 : s == 6 ? top(0) & 7 : top(0) >> 3; break;
                        default:        index = s < 6 ? q(s) & 63 : s == 6 ? top(0) : top(3); break;
                    }
                    int high = head[index];
                    if (flags[b] != 0 && index == entries - 1) {
                        high = *list++;
                        any  = true;
                        escapes++;
                    }
                    bits = ((high << 8 | block[64 * (vectors + s) + p]) - base) & 0xffff;
                    if (bf16 && type != GGML_TYPE_BF16) {
                        const int i = p / 16, h = p / 8 % 2, d = p / 2 % 4, w = p % 2;
                        e = 16 * (2 * h + w) + 4 * i + d;
                    } else {
                        const int i = p / 16, j = p % 8;
                        e = p % 16 < 8 ? 8 * i + j : 32 + 8 * i + j;
                    }
                }
                const int64_t k = 128 * b + 64 * (s / 4) + e;
                if (k < cols) {
                    to[s % 4 * cols + k] = convert(container, type, bits);
                } else if (!std::isfinite(widen(container, bits))) {
                    return false;
                }
            }
        }
        if (entries > 0 && flags[b] != (any ? 1 : 0)) {
            return false;
        }
    }
    if (c == code::B11 && (base % 32 != 0 || base >= 256 || !std::all_of(head + 10, head + 16, [](uint8_t b) { return b == 0; }))) {
        return false;
    }
    if (entries > 0) {
        for (; list < blocks; list++) {
            if (*list != 0) {
                return false;
            }
        }
        for (int i = 0; i + 1 < entries; i++) {
            if (head[i] == head[entries - 1]) {
                return false;
            }
        }
    }
    return true;
}

// The fewest bytes that a panel of n rows needs: of all codes that serve it, by the document's count of escapes.
static int64_t fewest_bytes(const tensor & t, int64_t row, int64_t n, host::code_policy policy) {
    static const struct {
        code      c;
        ggml_type container;
        int       entries, bytes;
    } all[] = {
        { code::B11, GGML_TYPE_BF16, 8,  704  }, { code::B12, GGML_TYPE_BF16, 16, 768  }, { code::B16, GGML_TYPE_BF16, 0, 1024 },
        { code::H14, GGML_TYPE_F16,  64, 896  }, { code::H16, GGML_TYPE_F16,  0,  1024 }, { code::S32, GGML_TYPE_F32,  0, 2048 },
    };
    const int64_t blocks = (t.cols + 127) / 128;
    int64_t       fewest = INT64_MAX;
    for (const auto & a : all) {
        if (a.c == code::B11 && policy == host::code_policy::b12) {
            continue;
        }
        std::vector<uint32_t> words(n * t.cols);
        bool                  exact = true;
        for (int64_t i = 0; i < n * t.cols; i++) {
            const uint32_t bits = t.get(row * t.cols + i);
            words[i]            = convert(t.type, a.container, bits);
            exact               = exact && convert(a.container, t.type, words[i]) == bits;
        }
        if (!exact) {
            continue;
        }
        int64_t bytes = blocks * a.bytes;
        if (a.entries > 0) {
            // of all bases that with which the fewest weights have the mark's index, none if that has one byte; the first of several
            std::vector<int> rank(256);
            int              base = 0;
            int64_t          best = INT64_MAX;
            for (int i = 0; i < (a.c == code::B11 ? 256 : 1); i += 32) {
                std::vector<std::pair<int64_t, int>> counts(256);  // how often, and minus the byte
                for (int b = 0; b < 256; b++) {
                    counts[b].second = -b;
                }
                for (uint32_t w : words) {
                    counts[(w + i) >> 8 & 0xff].first++;
                }
                std::sort(counts.rbegin(), counts.rend());
                int64_t marked = 0, rare = 0;
                for (int b = a.entries - 1; b < 256; b++) {
                    marked += counts[b].first;
                    rare += b == a.entries - 1 ? 0 : counts[b].first;
                }
                if ((rare > 0 ? marked : 0) < best) {
                    best = rare > 0 ? marked : 0;
                    base = i;
                    for (int b = 0; b < 256; b++) {
                        rank[-counts[b].second] = b;
                    }
                }
            }
            int64_t escapes = 0;
            for (int64_t b = 0; b < blocks; b++) {
                int64_t marked  = 0;
                bool    lacking = false;
                for (int64_t r = 0; r < n; r++) {
                    for (int64_t k = 128 * b; k < std::min(128 * b + 128, t.cols); k++) {
                        const int place = rank[(words[r * t.cols + k] + base) >> 8 & 0xff];
                        marked += place >= a.entries - 1;
                        lacking = lacking || place >= a.entries;
                    }
                }
                escapes += lacking ? marked : 0;
            }
            bytes += (std::max(16, a.entries) + blocks + escapes + 63) / 64 * 64;
        }
        fewest = std::min(fewest, bytes);
    }
    return fewest;
}

// Whether the coded form is the document's, holds these weights, and is as small as can be.
static bool is_layout(const tensor & t, const uint8_t * coded, host::code_policy policy) {
    const int64_t each   = (t.rows + 3) / 4;
    const int64_t panels = each * t.matrices;
    int64_t       at     = 64 + (8 * (panels + 1) + 63) / 64 * 64;
    const char    tag[4] = { 'Z', 'T', 'C', '1' };
    int64_t       shape[3];
    memcpy(shape, coded + 24, sizeof(shape));
    if (memcmp(coded, tag, 4) != 0 || coded[4] != t.type || u64_at(coded + 16) != (uint64_t) panels || shape[0] != t.rows || shape[1] != t.cols ||
        shape[2] != t.matrices) {
        return false;
    }
    std::vector<uint32_t> got(4 * t.cols);
    for (int64_t p = 0; p < panels; p++) {
        const uint64_t entry = u64_at(coded + 64 + 8 * p);
        const int      bytes[codes] = { 704, 768, 1024, 896, 1024, 2048 };
        const int      c = entry & 63;
        const int64_t  head = (entry >> 48) * 64;
        if (c >= codes || (int64_t) (entry & 0xffffffffffc0) != at) {
            return false;
        }
        int64_t escapes = 0;
        if (!read_panel(t.type, (code) c, coded + at, coded + at + head, t.cols, got.data(), escapes)) {
            return false;
        }
        const int64_t row = p / each * t.rows + p % each * 4;
        const int64_t n   = std::min<int64_t>(4, t.rows - p % each * 4);
        for (int64_t i = 0; i < n * t.cols; i++) {
            if (got[i] != t.get(row * t.cols + i)) {
                return false;
            }
        }
        const int64_t size = head + (t.cols + 127) / 128 * bytes[c];
        if (size != fewest_bytes(t, row, n, policy)) {
            return false;
        }
        at += size;
    }
    return u64_at(coded + 64 + 8 * panels) == (uint64_t) at && u64_at(coded + 8) == (uint64_t) at;
}

// Runs f on one CPU.
static void on_one_cpu(const std::function<void()> & f) {
    cpu_set_t before, one;
    sched_getaffinity(0, sizeof(before), &before);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
    f();
    sched_setaffinity(0, sizeof(before), &before);
}

static void round_trip(const tensor & t, host::code_policy policy, const std::string & where, std::mt19937 & random) {
    constexpr int guard = 64;
    const size_t  bound = coded_bound(t.type, t.rows, t.cols, t.matrices);
    lines         coded(bound + guard), again(bound + guard);

    memset(coded.data(), 0xff, coded.size);
    memset(again.data(), 0x00, again.size);
    const size_t size = encode(coded.data(), t.type, t.bytes.data(), t.rows, t.cols, t.matrices, policy);
    check(size <= bound && size == coded_size(coded.data()), t.type, "coded size", where);
    check(std::all_of(coded.data() + size, coded.data() + coded.size, [](uint8_t b) { return b == 0xff; }), t.type, "coded size", where + ", behind it");

    size_t size_again = 0;
    on_one_cpu([&]() { size_again = encode(again.data(), t.type, t.bytes.data(), t.rows, t.cols, t.matrices, policy); });
    check(size == size_again && memcmp(coded.data(), again.data(), size) == 0, t.type, "coded twice", where);

    const char * fault = t.fault(coded, size);
    check(fault == nullptr, t.type, "coded faults", where + ": " + (fault ? fault : ""));
    check(is_layout(t, coded.data(), policy), t.type, "coded layout", where);

    const size_t         row_bytes = t.cols * t.size();
    std::vector<uint8_t> back(t.bytes.size() + guard, 0xee);
    decode_rows(coded.data(), back.data(), 0, t.rows * t.matrices);
    check(memcmp(back.data(), t.bytes.data(), t.bytes.size()) == 0, t.type, "coded round trip", where);
    for (int i = 0; i < 3; i++) {
        const int64_t first = random() % (t.rows * t.matrices);
        const int64_t n     = 1 + random() % std::min<int64_t>(t.rows * t.matrices - first, 9);
        std::fill(back.begin(), back.end(), 0xee);
        decode_rows(coded.data(), back.data(), first, n);
        const bool same   = memcmp(back.data(), &t.bytes[first * row_bytes], n * row_bytes) == 0;
        const bool behind = std::all_of(back.begin() + n * row_bytes, back.end(), [](uint8_t b) { return b == 0xee; });
        check(same && behind, t.type, "coded round trip", where + ", rows from " + std::to_string(first));
    }
}

static double bits_a_weight(const tensor & t, size_t size) { return 8.0 * size / t.count(); }

// Where the best code of a kind is known every panel has it, and its bits are.
static void examine_choice(ggml_type type, const kind & k, host::code_policy policy, const std::string & where) {
    tensor t(type, 64, 2048, 1);
    for (int64_t i = 0; i < t.count(); i++) {
        t.set(i, k.next());
    }
    lines        coded(coded_bound(type, t.rows, t.cols, 1));
    const size_t size = encode(coded.data(), type, t.bytes.data(), t.rows, t.cols, 1, policy);
    const auto   use  = coded_use(coded.data());
    int64_t      sum  = 0;
    for (int64_t n : use.panels) {
        sum += n;
    }
    check(sum == t.rows / 4, type, "coded choice", where + ": panels");
    check(use.panels[k.best] == t.rows / 4, type, "coded choice", where + ": panels of " + code_names[k.best]);

    // a head of 64 bytes, and 10 % of its bits for escapes, where they are few
    const double head   = 8.0 * 128 / (4 * 2048);
    const double most[] = { 11.2 + 0.1 + head, 12 + head, 16, 14 + 0.1 + head, 16, 32 };
    const bool   few    = strstr(k.name, "high bytes") == nullptr;
    check(!few || bits_a_weight(t, size) <= most[k.best] + head, type, "coded bits", where + ": " + std::to_string(bits_a_weight(t, size)));
}

// All patterns of 16 bits, as often as each other.
static void examine_all_words(ggml_type type, host::code_policy policy, const std::string & where, std::mt19937 & random) {
    tensor t(type, 32, 2048, 1);
    for (int64_t i = 0; i < t.count(); i++) {
        // in F32 as BF16
        t.set(i, (uint32_t) i << (type == GGML_TYPE_F32 ? 16 : 0));
    }
    round_trip(t, policy, where + ", in order", random);
    for (int64_t i = t.count() - 1; i > 0; i--) {
        const int64_t  j = random() % (i + 1);
        const uint32_t v = t.get(i);
        t.set(i, t.get(j));
        t.set(j, v);
    }
    round_trip(t, policy, where + ", shuffled", random);
}

// Coded weights to damage.
struct victim {
    tensor               t;
    std::vector<uint8_t> before;
    lines                coded;
    size_t               size;

    victim(const tensor & t, host::code_policy policy) :
        t(t), coded(coded_bound(t.type, t.rows, t.cols, t.matrices) + 64),
        size(encode(coded.data(), t.type, t.bytes.data(), t.rows, t.cols, t.matrices, policy)) {
        before.assign(coded.data(), coded.data() + size);
        check(fault() == nullptr, t.type, "coded faults", "none");
    }

    const char * fault() const { return t.fault(coded, size); }

    // Expects a fault, and repairs all.
    void expect_fault(const std::string & where) {
        check(fault() != nullptr, t.type, "coded faults", where);
        size = before.size();
        memcpy(coded.data(), before.data(), size);
    }

    size_t panels() const { return (t.rows + 3) / 4 * t.matrices; }

    uint8_t * entry(size_t panel) { return coded.data() + 64 + 8 * panel; }

    void add(uint8_t * to, int64_t n) {
        n += (int64_t) u64_at(to);
        memcpy(to, &n, sizeof(n));
    }

    // Gives the last panel's head n lines more than it has, of zeros, and says so wherever that is said.
    void grow_head(int n) {
        const coded_panel p = panel_of(coded.data(), panels() - 1);
        memmove(coded.data() + (p.blocks - coded.data()) + 64 * n, p.blocks, size - (p.blocks - coded.data()));
        if (n > 0) {
            memset(coded.data() + (p.blocks - coded.data()), 0, 64 * n);
        }
        size += 64 * n;
        add(entry(panels() - 1), n * ((int64_t) 1 << 48));
        add(entry(panels()), 64 * n);
        add(coded.data() + 8, 64 * n);
    }
};

// Damage of a coded tensor is seen: of each bit of the header and the directory, of sizes, and where blocks take escapes that are not there.
static void examine_faults(ggml_type type, std::mt19937 & random) {
    tensor     t(type, 18, 320, 2);
    const auto kinds = kinds_of(type, true, random);
    for (int64_t i = 0; i < t.count(); i++) {
        t.set(i, kinds[i / (4 * t.cols) % kinds.size()].next());
    }
    victim       v(t, host::code_policy::b11);
    uint8_t *    bytes = v.coded.data();
    const size_t front = 64 + (8 * (v.panels() + 1) + 63) / 64 * 64;

    for (size_t bit = 0; bit < 8 * front; bit++) {
        bytes[bit / 8] ^= 1 << bit % 8;
        v.expect_fault("bit " + std::to_string(bit));
    }
    for (size_t p = 0; p < v.panels(); p++) {
        for (int c = 0; c < 64; c++) {
            const int  was  = *v.entry(p) & 63;
            const bool both = type != GGML_TYPE_BF16 && was + c == (int) code::B16 + (int) code::H16 && (c == (int) code::B16 || c == (int) code::H16);
            if (c != was && !both) {  // these two say as much of weights of other sizes
                *v.entry(p) ^= was ^ c;
                v.expect_fault("panel " + std::to_string(p) + " with code " + std::to_string(c));
            }
        }
    }
    for (size_t shorter : { (size_t) 0, (size_t) 1, (size_t) 63, (size_t) 64, front - 1, front, v.size - 64, v.size - 1 }) {
        v.size = shorter;
        v.expect_fault("cut to " + std::to_string(shorter));
        v.size = shorter;
        v.add(bytes + 8, (int64_t) shorter - (int64_t) v.before.size());
        v.expect_fault("cut to " + std::to_string(shorter) + ", as its header says");
    }
    for (ggml_type other : { GGML_TYPE_BF16, GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_Q8_0 }) {
        const bool ok = coded_fault(bytes, v.size, other, t.rows, t.cols, t.matrices) == nullptr;
        check(ok == (other == type), type, "coded faults", std::string("taken for ") + ggml_type_name(other));
    }
    check(coded_fault(bytes, v.size, type, t.rows - 1, t.cols, t.matrices) != nullptr, type, "coded faults", "fewer rows");
    check(coded_fault(bytes, v.size, type, t.rows, t.cols + 64, t.matrices) != nullptr, type, "coded faults", "more columns");
    check(coded_fault(bytes, v.size, type, t.rows * t.matrices, t.cols, 1) != nullptr, type, "coded faults", "one matrix");

    for (int64_t i = 0; i < t.count(); i++) {
        t.set(i, random());
    }
    victim plain(t, host::code_policy::b12);
    check(panel_of(plain.coded.data(), 0).head == panel_of(plain.coded.data(), 0).blocks, type, "coded faults", "plain panels have no heads");
    plain.grow_head(1);
    plain.expect_fault("a plain panel with a head");

    // a tenth of all weights have high bytes of which no palette holds all, or else all have one byte
    for (bool escapes : { true, false }) {
        for (host::code_policy policy : { host::code_policy::b11, host::code_policy::b12 }) {
            const ggml_type from = type == GGML_TYPE_F16 ? GGML_TYPE_F16 : GGML_TYPE_BF16;
            for (int64_t i = 0; i < t.count(); i++) {
                t.set(i, with_high_byte(from, type, escapes && i % 10 == 0 ? 1 + i / 10 % 100 : 0x30, random));
            }
            victim            w(t, policy);
            const coded_panel p       = panel_of(w.coded.data(), 1);
            const size_t      palette = p.c == code::H14 ? 64 : 16;
            uint8_t *         head    = w.coded.data() + (p.head - w.coded.data());
            uint8_t *         flags   = head + palette;
            uint8_t *         vectors = w.coded.data() + (p.blocks - w.coded.data());
            check(flags[0] == escapes, type, "coded faults", "whether a block has escapes");

            flags[0] = 2;
            w.expect_fault("a flag of 2");
            head[0] = head[p.c == code::B11 ? 7 : palette - 1];
            w.expect_fault("an entry is the mark");
            for (int i = 8; p.c == code::B11 && i < 16; i++) {
                head[i] ^= 1;
                w.expect_fault("a base that none has, or no zeros behind it: byte " + std::to_string(i));
            }
            if (escapes) {
                memset(vectors, 0xff, 64);
                w.expect_fault("more escapes than there are");
                memset(vectors, 0x00, 64);
                w.expect_fault("fewer escapes than there are");
            } else {
                flags[0] = 1;
                w.expect_fault("a flag of a block without escapes");
            }
            w.grow_head(1);
            w.expect_fault("a head longer than it need be");
            w.grow_head(-1);
            w.expect_fault("a head shorter than it must be");
            w.grow_head(0);
            check(w.fault() == nullptr, type, "coded faults", "all repaired");
        }
    }
}

void examine_codes(ggml_type type, std::mt19937 & random) {
    check(codable(type, 16, 64) && !codable(type, 15, 64) && !codable(type, 16, 96) && !codable(type, 16, 0), type, "coded size", "what can be coded");

    const struct {
        int64_t rows, cols, matrices;
    } shapes[] = {
        { 16, 64, 1 }, { 17, 192, 1 }, { 18, 576, 3 }, { 19, 128, 2 }, { 21, 2048, 1 }, { 300, 512, 2 },
    };
    for (const auto & p : policies) {
        const auto kinds = kinds_of(type, p.policy != host::code_policy::b12, random);
        const auto with  = std::string(", ZT_CODE=") + p.name;
        for (const auto & s : shapes) {
            tensor t(type, s.rows, s.cols, s.matrices);
            for (const kind & k : kinds) {
                for (int64_t i = 0; i < t.count(); i++) {
                    t.set(i, k.next());
                }
                round_trip(t, p.policy, t.name() + " " + k.name + with, random);
            }
            // each row of another kind, and rare weights among them
            for (int64_t i = 0; i < t.count(); i++) {
                t.set(i, kinds[random() % 512 == 0 ? random() % kinds.size() : i / t.cols % kinds.size()].next());
            }
            round_trip(t, p.policy, t.name() + " of all kinds" + with, random);
        }
        for (const kind & k : kinds) {
            if (k.best >= 0) {
                examine_choice(type, k, p.policy, k.name + with);
            }
        }
        examine_all_words(type, p.policy, "all words" + with, random);
    }
    examine_faults(type, random);
}

static double seconds(const std::function<void()> & f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void measure_codes(ggml_type type, int64_t rows, int64_t cols, std::mt19937 & random) {
    if (!codable(type, rows, cols)) {
        fprintf(stderr, "zt-selftest: %" PRId64 " x %" PRId64 " weights are not coded; give 16 rows or more of a multiple of 64 columns\n", rows, cols);
        exit(1);
    }
    const struct {
        const char * name;
        ggml_type    from;
    } sources[] = { { "Gaussian", type }, { "BF16's", GGML_TYPE_BF16 }, { "F16's", GGML_TYPE_F16 } };

    // a small part is drawn and repeated: what it costs to code weights does not depend on those far away
    std::normal_distribution<float> normal(0.0f, 0.02f);
    tensor                          t(type, rows, cols, 1);
    lines                           coded(coded_bound(type, rows, cols, 1));
    std::vector<uint8_t>            back(t.bytes.size());
    for (const auto & source : sources) {
        if ((source.from == type && source.name != sources[0].name) || (source.from == GGML_TYPE_F16 && type == GGML_TYPE_BF16)) {
            continue;
        }
        const int64_t drawn = std::min<int64_t>(t.count(), 1 << 22);
        for (int64_t i = 0; i < drawn; i++) {
            t.set(i, convert(source.from, type, narrow(source.from, normal(random))));
        }
        for (int64_t i = drawn; i < t.count(); i += drawn) {
            memcpy(&t.bytes[i * t.size()], t.bytes.data(), std::min(drawn, t.count() - i) * t.size());
        }
        for (const auto & p : policies) {
            size_t     size = 0;
            double     best[3][2];
            const auto once = [&](int threads) {
                for (int round = 0; round < 3; round++) {
                    const double s[3] = {
                        seconds([&]() { size = encode(coded.data(), type, t.bytes.data(), rows, cols, 1, p.policy); }),
                        seconds([&]() { decode_rows(coded.data(), back.data(), 0, rows); }),
                        seconds([&]() { check(t.fault(coded, size) == nullptr, type, "coded faults", "measured"); }),
                    };
                    for (int i = 0; i < 3; i++) {
                        best[i][threads] = round == 0 ? s[i] : std::min(best[i][threads], s[i]);
                    }
                }
            };
            on_one_cpu([&]() { once(0); });
            once(1);
            check(back == t.bytes, type, "coded round trip", "measured");
            const double gb  = 1e-9 * t.bytes.size();
            const auto   use = coded_use(coded.data());
            printf("{\"type\":\"%s\",\"weights\":\"%s\",\"rows\":%" PRId64 ",\"cols\":%" PRId64 ",\"ZT_CODE\":\"%s\",\"panels\":{", ggml_type_name(type),
                   source.name, rows, cols, p.name);
            const char * comma = "";
            for (int c = 0; c < codes; c++) {
                if (use.panels[c] > 0) {
                    printf("%s\"%s\":%" PRId64, comma, code_names[c], use.panels[c]);
                    comma = ",";
                }
            }
            printf("},\"bits\":%.3f,\"encode_gb_s\":{\"one_cpu\":%.2f,\"all\":%.2f},\"decode_gb_s\":{\"one_cpu\":%.2f,\"all\":%.2f},\"fault_gb_s\":{\"one_cpu\":%.2f,\"all\":%.2f}}\n",
                   bits_a_weight(t, size), gb / best[0][0], gb / best[0][1], gb / best[1][0], gb / best[1][1], gb / best[2][0], gb / best[2][1]);
        }
    }
}
