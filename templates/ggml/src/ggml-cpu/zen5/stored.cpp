#include "stored.h"

#include "code.h"
#include "coded.h"
#include "crc32c.h"
#include "zen5.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-host/parallel.h"
#include "ggml-impl.h"
#include "ggml-zen5-stored.h"
#include "ggml-zen5.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ggml::cpu::zen5 {

constexpr size_t piece_size = size_t(1) << 20;

static size_t pieces_of(const span & s) {
    return (s.size + piece_size - 1) / piece_size;
}

std::vector<uint32_t> checksums(const std::vector<span> & spans) {
    std::vector<size_t> first = { 0 };  // number of a span's first piece
    for (const span & s : spans) {
        first.push_back(first.back() + pieces_of(s));
    }
    std::vector<uint32_t> crcs(first.back());
    host::parallel_for(0, crcs.size(), 1, [&](int64_t begin, int64_t end) {
        for (size_t i = begin; i < (size_t) end; i++) {
            const size_t  n  = std::upper_bound(first.begin(), first.end(), i) - first.begin() - 1;
            const size_t  at = (i - first[n]) * piece_size;
            const uint8_t * data = (const uint8_t *) spans[n].data + at;
            crcs[i] = crc32c(data, std::min(piece_size, spans[n].size - at));
        }
    });
    std::vector<uint32_t> sums;
    for (size_t n = 0; n < spans.size(); n++) {
        sums.push_back(crc32c(crcs.data() + first[n], (first[n + 1] - first[n]) * sizeof(uint32_t)));
    }
    return sums;
}

[[noreturn]] __attribute__((format(printf, 1, 2))) static void fail(const char * format, ...) {
    char    text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    throw std::runtime_error(text);
}

static const char * const remedy = "copy the file again, or make it again from its GGUF with llama-zen-pack";

static const stored_preface & preface_of(const uint8_t * base) {
    return *(const stored_preface *) base;
}

// Where a section starts.
static size_t before_at() {
    return sizeof(stored_preface);
}

static size_t gaps_at(const stored_preface & p) {
    return before_at() + stored_padded(p.before);
}

static size_t table_at(const stored_preface & p) {
    return gaps_at(p) + stored_padded(p.gaps);
}

static size_t tensors_at(const stored_preface & p) {
    return table_at(p) + stored_padded(p.tensors * sizeof(stored_tensor));
}

// Verifies the preface, and that sections lie within the file.
static void check_preface(const char * name, const uint8_t * base, size_t size) {
    if (size < sizeof(stored_preface)) {
        fail("%s is cut off after %zu bytes; %s", name, size, remedy);
    }
    const stored_preface & p = preface_of(base);
    if (memcmp(p.magic, stored_magic, sizeof(p.magic)) != 0) {
        fail("%s is no model that llama-zen-pack has stored", name);
    }
    if (p.crc != crc32c(&p, offsetof(stored_preface, crc))) {
        fail("%s is damaged: its first %zu bytes do not match their checksum; %s", name, sizeof(p), remedy);
    }
    if (p.version != stored_version) {
        fail("%s has version %u of the form of stored models, this program knows %u; use the llama-zen-turbo that made it, or a newer one", name,
             p.version, stored_version);
    }
    if (p.size > size) {
        fail("%s is cut off: %zu of its %zu bytes are there; %s", name, size, (size_t) p.size, remedy);
    }
    if (p.size < size) {
        fail("%s is damaged: %zu bytes follow its %zu; %s", name, size - (size_t) p.size, (size_t) p.size, remedy);
    }
    // sizes of sections are below that of the file, so that no sum of a few of them overflows
    if (p.before > size || p.gaps > size || p.tensors > size / sizeof(stored_tensor) || tensors_at(p) > size) {
        fail("%s is damaged: its sections do not fit into it; %s", name, remedy);
    }
}

// Whether what follows a span up to the next multiple of stored_align is as it was written.
static bool padding_is_sound(const span & s) {
    const uint8_t * end = (const uint8_t *) s.data + s.size;
    return std::all_of(end, end + stored_padded(s.size) - s.size, [](uint8_t byte) { return byte == 0; });
}

static void check_sections(const char * name, const uint8_t * base) {
    const stored_preface &  p     = preface_of(base);
    const std::vector<span> spans = {
        { base + before_at(), p.before },
        { base + gaps_at(p), p.gaps },
        { base + table_at(p), p.tensors * sizeof(stored_tensor) },
    };
    const uint32_t     expected[] = { p.before_sum, p.gaps_sum, p.table_sum };
    const char * const names[]    = { "metadata", "bytes between tensors", "table of tensors" };
    const auto         sums       = checksums(spans);
    for (size_t i = 0; i < spans.size(); i++) {
        if (sums[i] != expected[i] || !padding_is_sound(spans[i])) {
            fail("%s is damaged: the checksum of its %s does not match; %s", name, names[i], remedy);
        }
    }
}

// A part of all rows that is worth a thread's while.
static int64_t rows_at_a_time(const ggml_zen5_stored::tensor & t) {
    return std::max<int64_t>(1, piece_size / (t.bytes / t.rows()));
}

}  // namespace ggml::cpu::zen5

using namespace ggml::cpu::zen5;

ggml_zen5_stored::ggml_zen5_stored(const std::string & name, const void * data, size_t size) :
    name(name),
    base((const uint8_t *) data),
    bytes(size) {
    check_preface(name.c_str(), base, size);
    check_sections(name.c_str(), base);

    // What follows has passed its checksums. It is looked at all the same: a file may have been made to mislead.
    const stored_preface & p = preface_of(base);
    gguf_init_params       params = { /*.no_alloc =*/ true, /*.ctx =*/ nullptr };
    gguf_context_ptr       gguf(metadata(params));
    if (gguf == nullptr || gguf_get_n_tensors(gguf.get()) != p.tensors || gguf_get_data_offset(gguf.get()) != p.before) {
        fail("%s is damaged: its metadata are not those of %u tensors; %s", name.c_str(), p.tensors, remedy);
    }
    original = p.original;

    const auto * table = (const stored_tensor *) (base + table_at(p));
    size_t       next  = tensors_at(p);
    size_t       gaps  = 0;
    for (uint32_t i = 0; i < p.tensors; i++) {
        const stored_tensor & e = table[i];
        tensor                t;
        t.name = gguf_get_tensor_name(gguf.get(), i);
        t.type = gguf_get_tensor_type(gguf.get(), i);
        std::copy_n(gguf_get_tensor_ne(gguf.get(), i), GGML_MAX_DIMS, t.ne);
        t.at     = p.before + gguf_get_tensor_offset(gguf.get(), i);
        t.bytes  = gguf_get_tensor_size(gguf.get(), i);
        t.offset = e.offset;
        t.size   = e.size;
        t.coded  = e.coded == 1;

        const size_t end = i + 1 < p.tensors ? p.before + gguf_get_tensor_offset(gguf.get(), i + 1) : p.original;
        if (t.at + t.bytes > end || end > p.original) {
            fail("%s is damaged: tensor %s does not fit into its GGUF; %s", name.c_str(), t.name.c_str(), remedy);
        }
        t.gap = end - t.at - t.bytes;
        gaps += t.gap;

        const bool fits = t.coded ? codable(t.type, t.ne[1], t.ne[0]) && t.size <= coded_bound(t.type, t.ne[1], t.ne[0], t.ne[2] * t.ne[3])
                                  : t.size == t.bytes;
        if (t.offset != next || stored_padded(t.size) > size - next || e.coded > 1 || e.zero != 0 || !fits) {
            fail("%s is damaged: the table's entry of tensor %s does not fit it; %s", name.c_str(), t.name.c_str(), remedy);
        }
        next += stored_padded(t.size);
        list.push_back(t);
    }
    if (next != size || gaps != p.gaps) {
        fail("%s is damaged: its tensors do not fill it; %s", name.c_str(), remedy);
    }
}

ggml_zen5_stored::~ggml_zen5_stored() {
    if (mapped) {
        munmap((void *) base, bytes);
    }
}

std::unique_ptr<ggml_zen5_stored> ggml_zen5_stored::open(const std::string & path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return nullptr;
    }
    char        magic[4];
    struct stat st;
    void *      map = MAP_FAILED;
    const bool  is  = pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && memcmp(magic, stored_magic, sizeof(magic)) == 0 && fstat(fd, &st) == 0;
    if (is) {
        map = mmap(nullptr, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (!is) {
        return nullptr;
    }
    if (map == MAP_FAILED) {
        fail("%s cannot be mapped: %s", path.c_str(), strerror(errno));
    }
    madvise(map, st.st_size, MADV_HUGEPAGE);  // of the page cache, if it is filled here
    try {
        std::unique_ptr<ggml_zen5_stored> stored(new ggml_zen5_stored(path, map, st.st_size));
        stored->mapped = true;
        return stored;
    } catch (...) {
        munmap(map, st.st_size);
        throw;
    }
}

void ggml_zen5_stored::verify(const void * mapping) const {
    const auto *    table = (const stored_tensor *) (base + table_at(preface_of(base)));
    const uint8_t * from  = mapping != nullptr ? (const uint8_t *) mapping : base;

    std::vector<span> spans;
    for (const tensor & t : list) {
        spans.push_back({ from + t.offset, t.size });
    }
    const auto sums = checksums(spans);
    for (size_t i = 0; i < list.size(); i++) {
        const tensor & t = list[i];
        if (sums[i] != table[i].sum || !padding_is_sound(spans[i])) {
            fail("%s is damaged: the checksum of tensor %s does not match; %s", name.c_str(), t.name.c_str(), remedy);
        }
        const char * fault = t.coded ? coded_fault(spans[i].data, t.size, t.type, t.ne[1], t.ne[0], t.ne[2] * t.ne[3]) : nullptr;
        if (fault != nullptr) {
            fail("%s is damaged: tensor %s: %s; %s", name.c_str(), t.name.c_str(), fault, remedy);
        }
    }
}

bool ggml_zen5_stored::used_by(ggml_backend_buffer_type_t buft) {
    return buft == ggml_backend_cpu_zen5_coded_buffer_type();
}

void ggml_zen5_stored::load(const tensor & from, ggml_tensor * to) const {
    GGML_ASSERT(from.coded && ggml_nbytes(to) == from.bytes);
    if (ggml_zen5_is_coded(to) && std::equal(from.ne, from.ne + GGML_MAX_DIMS, to->ne)) {
        ggml::host::parallel_for(0, from.size, piece_size, [&](int64_t begin, int64_t end) {
            memcpy((uint8_t *) to->data + begin, data(from) + begin, end - begin);
        });
    } else if (ggml_backend_buffer_is_host(to->buffer)) {
        decode_rows(data(from), to->data, 0, from.rows());
    } else {
        std::unique_ptr<uint8_t[]> plain(new uint8_t[from.bytes]);
        decode_rows(data(from), plain.get(), 0, from.rows());
        ggml_backend_tensor_set(to, plain.get(), 0, from.bytes);
    }
    ggml_zen5_drop_mapped(data(from), from.size);
}

void ggml_zen5_stored::note(const ggml_tensor * t) {
    if (ggml_zen5_is_coded(t)) {
        describe(t);
    }
}

gguf_context * ggml_zen5_stored::metadata(gguf_init_params params) const {
    return params.no_alloc ? gguf_init_from_buffer(before(), before_size(), params) : nullptr;
}

void ggml_zen5_stored::restore(const tensor & t, void * to) const {
    if (t.coded) {
        decode_rows(data(t), to, 0, t.rows());
    } else {
        memcpy(to, data(t), t.bytes);
    }
    const stored_preface & p = preface_of(base);
    if (checksums({ { to, t.bytes } })[0] != ((const stored_tensor *) (base + table_at(p)))[&t - list.data()].original) {
        fail("%s: tensor %s does not come out as it was; this is a fault of llama-zen-turbo or of this machine, keep the file and report it",
             name.c_str(), t.name.c_str());
    }
}

void ggml_zen5_stored::validate(const tensor & t) const {
    const size_t row = t.bytes / t.rows();
    const int64_t grain = rows_at_a_time(t);
    std::atomic<bool> valid{ true };
    ggml::host::parallel_for(0, t.rows(), grain, [&](int64_t begin, int64_t end) {
        std::vector<uint8_t> rows((end - begin) * row);
        decode_rows(data(t), rows.data(), begin, end - begin);
        if (!ggml_validate_row_data(t.type, rows.data(), rows.size())) {
            valid = false;
        }
    });
    if (!valid) {
        fail("%s: tensor %s has invalid data", name.c_str(), t.name.c_str());
    }
}

void ggml_zen5_stored::drop() const {
    if (mapped) {
        madvise((void *) base, bytes, MADV_DONTNEED);
    }
}

const uint8_t * ggml_zen5_stored::before() const {
    return base + before_at();
}

const uint8_t * ggml_zen5_stored::gaps() const {
    return base + gaps_at(preface_of(base));
}

size_t ggml_zen5_stored::before_size() const {
    return preface_of(base).before;
}

gguf_context * ggml_zen5_gguf_init_from_file(const char * path, gguf_init_params params) {
    try {
        if (const auto stored = ggml_zen5_stored::open(path)) {
            return stored->metadata(params);
        }
    } catch (const std::exception & e) {
        GGML_LOG_ERROR("%s: %s\n", __func__, e.what());
        return nullptr;
    }
    return gguf_init_from_file(path, params);
}
