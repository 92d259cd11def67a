// llama-zen-pack: stores a GGUF with its float matrices coded, which the programs of this build load without coding them anew, and gives the
// GGUF back as it was.

#include "code.h"
#include "crc32c.h"
#include "stored.h"

#include "ggml-cpp.h"
#include "ggml-host/parallel.h"
#include "ggml-zen5-stored.h"
#include "ggml-zen5.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace ggml::cpu::zen5;
namespace host = ggml::host;

static const char * const usage =
    "llama-zen-pack - store a GGUF with its float weights coded, and get it back\n"
    "\n"
    "usage: llama-zen-pack [-f] [--json] GGUF STORED       code\n"
    "       llama-zen-pack -d [-f] STORED GGUF             decode\n"
    "       llama-zen-pack --info [--json] STORED          list what is in it\n"
    "       llama-zen-pack --check [--flips N] STORED      read it and verify all checksums\n"
    "\n"
    "Codes the BF16, F16 and F32 matrices of a model in fewer bits without loss and keeps everything else as it is. The programs\n"
    "of llama-zen-turbo (llama-server, llama-cli, llama-bench, ...) take the stored model in place of the GGUF: they map the coded weights\n"
    "and use them there, where with the GGUF they code them at every start and keep them beside the file. Answers are the same, bit for\n"
    "bit. No other program reads a stored model: give them, llama-quantize and converters the GGUF, which -d restores, every\n"
    "byte of it.\n"
    "\n"
    "Results are written under a temporary name beside the target and renamed at the end; an error leaves no file. Every tensor is decoded\n"
    "and compared, and what is stored is read back. Takes as much memory as the largest tensor. Of a split model (-00001-of-00003.gguf)\n"
    "each part is stored by itself, under names that are numbered in the same way; parts may be stored or not.\n"
    "\n"
    "Checksums cover every byte of a stored model. Programs verify them, all threads at work, before they use any of it, and refuse a\n"
    "file that was cut off or altered.\n"
    "\n"
    "options\n"
    "  -d, --decode     restore the GGUF\n"
    "  -f, --force      replace a file that is there\n"
    "  --info           list tensors, codes and bits a weight\n"
    "  --check          verify a stored model as programs do before they load it\n"
    "  --flips N        then change bytes in memory, one at a time: all of the preface, the first and the last of every section and\n"
    "                   tensor, and N others, and count what goes unnoticed; each costs as much as the check\n"
    "  --json           say what was done in JSON, on stdout\n"
    "  -h, --help       this\n"
    "  --version        what build this is\n"
    "\n"
    "environment\n"
    "  ZT_CODE=CODE     code of BF16 weights and of others that are exactly BF16: auto, the one of fewest bytes for each panel (default),\n"
    "                   11, which is the same, or 12: never the one of 11 bits\n"
    "\n"
    "exit status: 0, or 1 after one line on stderr that says what is wrong\n"
    "\n"
    "example\n"
    "  llama-zen-pack model-bf16.gguf model-bf16.zen\n"
    "  llama-server -m model-bf16.zen\n"
    "  llama-zen-pack -d model-bf16.zen again.gguf && cmp model-bf16.gguf again.gguf\n";

[[noreturn]] __attribute__((format(printf, 1, 2))) static void fail(const char * format, ...) {
    char    text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    throw std::runtime_error(text);
}

static const char * const code_names[codes] = { "B11", "B12", "B16", "H14", "H16", "S32" };

static double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void progress(size_t done, size_t total) {
    static double last = 0;
    if (isatty(STDERR_FILENO) && (done == total || seconds() - last > 0.2)) {
        fprintf(stderr, "\r%3.0f %%%s", 100.0 * done / total, done == total ? "\r     \r" : "");
        last = seconds();
    }
}

// What ggml has to say about a file that it cannot read.
static std::string first_error;

static void on_log(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
        first_error = text;
        first_error.erase(first_error.find_last_not_of(" \n") + 1);
    }
}

//
// files
//

// The name of a file that is being written, for whoever is told to end meanwhile.
static char temporary[4096];

static void on_signal(int signal) {
    unlink(temporary);
    _exit(128 + signal);
}

// A file that appears under its name whole, or not at all.
class output {
  public:
    output(const std::string & path, bool replace, const std::string & source) : path(path) {
        struct stat to, from;
        if (stat(path.c_str(), &to) == 0) {
            if (stat(source.c_str(), &from) == 0 && to.st_dev == from.st_dev && to.st_ino == from.st_ino) {
                fail("%s is the input itself; name another file for the result", path.c_str());
            }
            if (!S_ISREG(to.st_mode)) {
                fail("%s is no regular file; name another one for the result", path.c_str());
            }
            if (!replace) {
                fail("%s is there already; -f replaces it", path.c_str());
            }
        }
        if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path.c_str()) >= (int) sizeof(temporary)) {
            fail("the name %s is too long", path.c_str());
        }
        file = mkstemp(temporary);
        if (file < 0) {
            const int error = errno;
            temporary[0]    = '\0';
            fail("%s cannot be written: %s", path.c_str(), strerror(error));
        }
        for (int s : { SIGINT, SIGTERM, SIGHUP }) {
            signal(s, on_signal);
        }
        signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is an error of write
    }

    ~output() {
        if (file >= 0) {
            close(file);
            unlink(temporary);
        }
    }

    void write(const void * data, size_t size) {
        write_at(data, size, end);
        end += size;
    }

    void write_at(const void * data, size_t size, size_t at) {
        while (size > 0) {
            const ssize_t n = pwrite(file, data, std::min(size, size_t(1) << 30), at);
            if (n < 0 && errno != EINTR) {
                refuse(errno);
            }
            if (n > 0) {
                data = (const char *) data + n;
                size -= n;
                at += n;
            }
        }
    }

    // Writes a section of a stored model and its padding.
    void section(const span & s) {
        static const char zeros[stored_align] = {};
        write(s.data, s.size);
        write(zeros, stored_padded(end) - end);
    }

    size_t tell() const { return end; }

    // Brings all that was written to the disk, out of the page cache, and returns the name under which it can be read there. The cache that
    // reading fills is of huge pages, where the file system has them, which that of writing is not.
    const char * settle() {
        if (fsync(file) != 0) {
            refuse(errno);
        }
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        return temporary;
    }

    void finish() {
        const mode_t mask = umask(0);
        umask(mask);
        if (fchmod(file, 0666 & ~mask) != 0 || fsync(file) != 0) {
            refuse(errno);
        }
        if (rename(temporary, path.c_str()) != 0) {
            refuse(errno);
        }
        close(file);
        file = -1;
    }

  private:
    std::string path;
    int         file = -1;
    size_t      end  = 0;

    [[noreturn]] void refuse(int error) {
        if (error == ENOSPC) {
            fail("disk full after %.1f MB of %s; make room there, or name a file elsewhere", end / 1e6, path.c_str());
        }
        fail("%s cannot be written: %s", path.c_str(), strerror(error));
    }
};

// A GGUF, mapped.
class input {
  public:
    explicit input(const std::string & path) {
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            fail("%s cannot be read: %s", path.c_str(), strerror(errno));
        }
        struct stat st;
        const bool  regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
        size                = regular ? st.st_size : 0;
        base                = size > 0 ? (uint8_t *) mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : (uint8_t *) MAP_FAILED;
        close(fd);
        if (base == MAP_FAILED) {
            fail("%s is no GGUF: %s", path.c_str(), !regular ? "not a regular file" : size == 0 ? "it is empty" : strerror(errno));
        }
        if (size >= sizeof(stored_magic) && memcmp(base, stored_magic, sizeof(stored_magic)) == 0) {
            fail("%s was stored by llama-zen-pack already; -d restores its GGUF", path.c_str());
        }
        gguf_init_params params = { /*.no_alloc =*/ true, /*.ctx =*/ nullptr };
        gguf.reset(gguf_init_from_file(path.c_str(), params));
        if (gguf == nullptr) {
            fail("%s is no GGUF that can be read: %s", path.c_str(), first_error.c_str());
        }
        first = gguf_get_data_offset(gguf.get());
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            if (at(i) > size || bytes(i) > size - at(i)) {
                fail("%s is cut off: tensor %s ends behind its %zu bytes", path.c_str(), gguf_get_tensor_name(gguf.get(), i), size);
            }
        }
    }

    ~input() {
        if (base != MAP_FAILED) {
            munmap(base, size);
        }
    }

    input(const input &) = delete;

    size_t at(int64_t i) const { return first + gguf_get_tensor_offset(gguf.get(), i); }
    size_t bytes(int64_t i) const { return gguf_get_tensor_size(gguf.get(), i); }

    gguf_context_ptr gguf;
    uint8_t *        base  = (uint8_t *) MAP_FAILED;
    size_t           size  = 0;
    size_t           first = 0;  // tensor's data, where it starts
};

//
// reports
//

// What became of a model's tensors.
struct summary {
    size_t   original = 0, stored = 0;           // bytes of files
    size_t   tensors = 0, coded = 0;             // how many
    uint64_t weights = 0, plain_bytes = 0, coded_bytes = 0;  // of coded tensors
    int64_t  panels[codes] = {};

    void add(int64_t elements, size_t plain, size_t size, const void * data) {
        coded++;
        weights += elements;
        plain_bytes += plain;
        coded_bytes += size;
        const code_use use = coded_use(data);
        for (int c = 0; c < codes; c++) {
            panels[c] += use.panels[c];
        }
    }
};

// The share of each code, as "B11 99.8 %, B12 0.2 %".
static std::string shares(const int64_t * panels) {
    int64_t all = 0;
    for (int c = 0; c < codes; c++) {
        all += panels[c];
    }
    std::string text;
    for (int c = 0; c < codes; c++) {
        if (panels[c] > 0) {
            char share[64];
            snprintf(share, sizeof(share), "%s%s %.4g %%", text.empty() ? "" : ", ", code_names[c], 100.0 * panels[c] / all);
            text += share;
        }
    }
    return text;
}

static std::string quoted(const std::string & text) {
    std::string q = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') {
            q += '\\';
        }
        if ((unsigned char) c < ' ') {
            char escape[8];
            snprintf(escape, sizeof(escape), "\\u%04x", c);
            q += escape;
        } else {
            q += c;
        }
    }
    return q + "\"";
}

static std::string json_panels(const int64_t * panels) {
    std::string text = "{";
    for (int c = 0; c < codes; c++) {
        if (panels[c] > 0) {
            text += (text.size() > 1 ? ", " : "") + quoted(code_names[c]) + ": " + std::to_string(panels[c]);
        }
    }
    return text + "}";
}

static void print(const summary & s, const std::string & path, double took, bool json) {
    const double bits = s.weights > 0 ? 8.0 * s.coded_bytes / s.weights : 0;
    if (json) {
        printf("{\"file\": %s, \"bytes\": %zu, \"gguf_bytes\": %zu, \"tensors\": %zu, \"coded\": %zu, \"coded_weights\": %" PRIu64
               ", \"plain_bytes\": %" PRIu64 ", \"coded_bytes\": %" PRIu64 ", \"bits_per_weight\": %.4f, \"panels\": %s, \"seconds\": %.6f}\n",
               quoted(path).c_str(), s.stored, s.original, s.tensors, s.coded, s.weights, s.plain_bytes, s.coded_bytes, bits,
               json_panels(s.panels).c_str(), took);
        return;
    }
    printf("%s: %.1f MB, %.1f %% of the %.1f MB of the GGUF\n", path.c_str(), s.stored / 1e6, 100.0 * s.stored / s.original, s.original / 1e6);
    printf("%zu of %zu tensors are coded, in %.2f bits a weight where they had %.2f: panels in %s\n", s.coded, s.tensors, bits,
           8.0 * s.plain_bytes / s.weights, shares(s.panels).c_str());
}

//
// commands
//

struct options {
    bool        force = false;
    bool        json  = false;
    int64_t     flips = -1;
    std::string from, to;
};

// A part of all rows of a tensor that is worth a thread's while.
static int64_t rows_at_a_time(size_t row) {
    return std::max<size_t>(1, (size_t(1) << 20) / row);
}

// Whether a coded tensor comes out as src. Takes little memory beside it.
static bool comes_out(const void * coded, const uint8_t * src, size_t row, int64_t rows) {
    std::atomic<bool> same{ true };
    host::parallel_for(0, rows, rows_at_a_time(row), [&](int64_t begin, int64_t end) {
        std::unique_ptr<uint8_t[]> decoded(new uint8_t[(end - begin) * row]);
        decode_rows(coded, decoded.get(), begin, end - begin);
        if (memcmp(decoded.get(), src + begin * row, (end - begin) * row) != 0) {
            same = false;
        }
    });
    return same;
}

static void pack(const options & o) {
    const double         start = seconds();
    const input          in(o.from);
    const gguf_context * gguf    = in.gguf.get();
    const int64_t        tensors = gguf_get_n_tensors(gguf);

    size_t room = 0;
    for (int64_t i = 0; i < tensors; i++) {
        const int64_t * ne = gguf_get_tensor_ne(gguf, i);
        if (codable(gguf_get_tensor_type(gguf, i), ne[1], ne[0])) {
            room = std::max(room, coded_bound(gguf_get_tensor_type(gguf, i), ne[1], ne[0], ne[2] * ne[3]));
        }
    }
    if (room == 0) {
        fail("%s has no matrix of BF16, F16 or F32 weights, 16 rows of a multiple of 64 or more, to code; use it as it is", o.from.c_str());
    }
    std::unique_ptr<uint8_t, void (*)(void *)> work((uint8_t *) aligned_alloc(stored_align, stored_padded(room)), free);
    if (work == nullptr) {
        fail("no memory for the %.1f MB of the largest tensor of %s", room / 1e6, o.from.c_str());
    }

    std::vector<uint8_t> gaps;
    for (int64_t i = 0; i < tensors; i++) {
        gaps.insert(gaps.end(), in.base + in.at(i) + in.bytes(i), in.base + (i + 1 < tensors ? in.at(i + 1) : in.size));
    }

    stored_preface preface = {};
    memcpy(preface.magic, stored_magic, sizeof(preface.magic));
    snprintf(preface.text, sizeof(preface.text),
             "\nThis is a GGUF with its float weights coded, which only the programs of llama-zen-turbo read.\n"
             "To get the GGUF back: llama-zen-pack -d THIS GGUF\n");
    preface.version  = stored_version;
    preface.tensors  = tensors;
    preface.original = in.size;
    preface.before   = in.first;
    preface.gaps     = gaps.size();

    // The preface and the table are known last, and have their places already.
    output                     out(o.to, o.force, o.from);
    std::vector<stored_tensor> table(tensors);
    const span                 before = { in.base, in.first };
    const span                 between = { gaps.data(), gaps.size() };
    const span                 entries = { table.data(), tensors * sizeof(stored_tensor) };
    out.write(&preface, sizeof(preface));
    out.section(before);
    out.section(between);
    const size_t table_at = out.tell();
    out.section(entries);

    summary s;
    s.original = in.size;
    s.tensors  = tensors;
    for (int64_t i = 0; i < tensors; i++) {
        const ggml_type type  = gguf_get_tensor_type(gguf, i);
        const int64_t * ne    = gguf_get_tensor_ne(gguf, i);
        const int64_t   rows  = ne[1] * ne[2] * ne[3];
        const uint8_t * src   = in.base + in.at(i);
        const size_t    bytes = in.bytes(i);

        span data      = { src, bytes };
        table[i].offset   = out.tell();
        table[i].original = checksums({ data })[0];
        if (codable(type, ne[1], ne[0])) {
            const size_t size = encode(work.get(), type, src, ne[1], ne[0], ne[2] * ne[3]);
            if (size < bytes) {
                if (!comes_out(work.get(), src, bytes / rows, rows)) {
                    fail("tensor %s does not come out of its code as it went in; this is a fault of llama-zen-turbo or of this machine, please "
                         "report it", gguf_get_tensor_name(gguf, i));
                }
                data           = { work.get(), size };
                table[i].coded = 1;
                s.add(ne[0] * rows, bytes, size, work.get());
            }
        }
        table[i].size = data.size;
        table[i].sum  = checksums({ data })[0];
        out.section(data);
        ggml_zen5_drop_mapped(src, bytes);
        progress(in.at(i) + bytes, in.size);
    }
    if (s.coded == 0) {
        fail("%s would not become smaller; use it as it is", o.from.c_str());
    }

    const auto sums    = checksums({ before, between, entries });
    preface.before_sum = sums[0];
    preface.gaps_sum   = sums[1];
    preface.table_sum  = sums[2];
    preface.size       = out.tell();
    preface.crc        = crc32c(&preface, offsetof(stored_preface, crc));
    out.write_at(&preface, sizeof(preface), 0);
    out.write_at(entries.data, entries.size, table_at);

    const auto written = ggml_zen5_stored::open(out.settle());
    if (written == nullptr) {
        fail("%s cannot be read back: %s", o.to.c_str(), strerror(errno));
    }
    written->verify();
    out.finish();
    s.stored = out.tell();
    print(s, o.to, seconds() - start, o.json);
}

static std::unique_ptr<ggml_zen5_stored> open_stored(const std::string & path) {
    auto stored = ggml_zen5_stored::open(path);
    if (stored == nullptr) {
        struct stat st;
        fail("%s %s", path.c_str(), stat(path.c_str(), &st) != 0 ? strerror(errno) : "is no model that llama-zen-pack has stored");
    }
    return stored;
}

static void unpack(const options & o) {
    const double start  = seconds();
    const auto   stored = open_stored(o.from);
    stored->verify();

    size_t room = 0;
    for (const auto & t : stored->tensors()) {
        room = std::max(room, t.bytes);
    }
    std::unique_ptr<uint8_t[]> work(new (std::nothrow) uint8_t[room]);
    if (work == nullptr) {
        fail("no memory for the %.1f MB of the largest tensor of %s", room / 1e6, o.from.c_str());
    }

    output out(o.to, o.force, o.from);
    out.write(stored->before(), stored->before_size());
    const uint8_t * gap = stored->gaps();
    for (const auto & t : stored->tensors()) {
        stored->restore(t, work.get());
        out.write(work.get(), t.bytes);
        out.write(gap, t.gap);
        gap += t.gap;
        ggml_zen5_drop_mapped(stored->data(t), t.size);
        progress(t.at + t.bytes, stored->original_size());
    }
    if (out.tell() != stored->original_size()) {
        fail("%s: %zu bytes came out where the GGUF had %zu", o.from.c_str(), out.tell(), stored->original_size());
    }
    out.finish();
    if (o.json) {
        printf("{\"file\": %s, \"bytes\": %zu, \"seconds\": %.6f}\n", quoted(o.to).c_str(), out.tell(), seconds() - start);
    } else {
        printf("%s: %.1f MB, every tensor as it was\n", o.to.c_str(), out.tell() / 1e6);
    }
}

static void info(const options & o) {
    const double start  = seconds();
    const auto   stored = open_stored(o.from);
    stored->verify();

    summary s;
    s.original = stored->original_size();
    s.stored   = stored->size();
    s.tensors  = stored->tensors().size();
    for (const auto & t : stored->tensors()) {
        int64_t panels[codes] = {};
        if (t.coded) {
            s.add(t.ne[0] * t.rows(), t.bytes, t.size, stored->data(t));
            const code_use use = coded_use(stored->data(t));
            std::copy(use.panels, use.panels + codes, panels);
        }
        if (!o.json) {
            char shape[128];
            snprintf(shape, sizeof(shape), "%" PRId64 " x %" PRId64 " x %" PRId64, t.ne[2] * t.ne[3], t.ne[1], t.ne[0]);
            printf("%-40s %-8s %-22s %6.2f bits a weight  %s\n", t.name.c_str(), ggml_type_name(t.type), shape,
                   8.0 * t.size / std::max<double>(1, (double) t.ne[0] * t.rows()), t.coded ? shares(panels).c_str() : "as it was");
        }
    }
    print(s, o.from, seconds() - start, o.json);
}

// Changes bytes of a sound model and counts the changes that nobody would notice.
static void flip(const options & o, const ggml_zen5_stored & stored) {
    const int fd = open(o.from.c_str(), O_RDONLY | O_CLOEXEC);
    auto *    base = fd < 0 ? (uint8_t *) MAP_FAILED
                            : (uint8_t *) mmap(nullptr, stored.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (fd >= 0) {
        close(fd);
    }
    if (base == MAP_FAILED) {
        fail("%s cannot be mapped: %s", o.from.c_str(), strerror(errno));
    }

    std::vector<size_t> places;
    for (size_t at = 0; at < sizeof(stored_preface); at++) {
        places.push_back(at);
    }
    std::vector<size_t> starts = { sizeof(stored_preface), (size_t) (stored.gaps() - stored.before()) + sizeof(stored_preface) };
    for (const auto & t : stored.tensors()) {
        starts.push_back(t.offset);
        if (t.size > 0) {
            places.push_back(t.offset + t.size - 1);
        }
    }
    starts.push_back(stored.size());
    for (size_t at : starts) {
        places.push_back(at - 1);
        if (at < stored.size()) {
            places.push_back(at);
        }
    }
    std::mt19937_64 random(1);
    for (int64_t i = 0; i < o.flips; i++) {
        places.push_back(random() % stored.size());
    }

    size_t unnoticed = 0;
    for (size_t i = 0; i < places.size(); i++) {
        const uint8_t change = 1 + random() % 255;
        base[places[i]] ^= change;
        try {
            ggml_zen5_stored(o.from, base, stored.size()).verify();
            unnoticed++;
            fprintf(stderr, "%s: byte %zu changed by 0x%02x goes unnoticed\n", o.from.c_str(), places[i], change);
        } catch (const std::runtime_error &) {
        }
        base[places[i]] ^= change;
        progress(i + 1, places.size());
    }
    munmap(base, stored.size());
    if (o.json) {
        printf("{\"file\": %s, \"flips\": %zu, \"unnoticed\": %zu}\n", quoted(o.from).c_str(), places.size(), unnoticed);
    } else {
        printf("%s: %zu changes of a byte, %zu of them unnoticed\n", o.from.c_str(), places.size(), unnoticed);
    }
    if (unnoticed > 0) {
        fail("%s: %zu of %zu changes of a byte go unnoticed", o.from.c_str(), unnoticed, places.size());
    }
}

static void check(const options & o) {
    const double start  = seconds();
    const auto   stored = open_stored(o.from);
    stored->verify();
    const double took = seconds() - start;
    if (o.flips >= 0) {
        flip(o, *stored);
    } else if (o.json) {
        printf("{\"file\": %s, \"bytes\": %zu, \"seconds\": %.6f}\n", quoted(o.from).c_str(), stored->size(), took);
    } else {
        printf("%s: sound, %.1f MB in %.3f s\n", o.from.c_str(), stored->size() / 1e6, took);
    }
}

int main(int argc, char ** argv) {
    ggml_log_set(on_log, nullptr);
    try {
        options o;
        void (*command)(const options &) = pack;
        size_t                   names   = 2;
        std::vector<std::string> files;
        for (int i = 1; i < argc; i++) {
            const std::string arg = argv[i];
            if (arg == "-h" || arg == "--help") {
                fputs(usage, stdout);
                return 0;
            } else if (arg == "--version") {
                puts(ggml_zen5_description());
                return 0;
            } else if (arg == "-d" || arg == "--decode") {
                command = unpack;
            } else if (arg == "--info") {
                command = info;
                names   = 1;
            } else if (arg == "--check") {
                command = check;
                names   = 1;
            } else if (arg == "--flips") {
                const char * number = i + 1 < argc ? argv[++i] : "";
                char *       end    = nullptr;
                o.flips             = strtoll(number, &end, 10);
                if (o.flips < 0 || *number == '\0' || *end != '\0') {
                    fail("--flips wants a number, not \"%s\"", number);
                }
            } else if (arg == "-f" || arg == "--force") {
                o.force = true;
            } else if (arg == "--json") {
                o.json = true;
            } else if (arg.size() > 1 && arg[0] == '-') {
                fail("no option %s; llama-zen-pack --help lists them", arg.c_str());
            } else {
                files.push_back(arg);
            }
        }
        if (files.size() != names) {
            fail("%zu files are named where %zu are needed; llama-zen-pack --help says which", files.size(), names);
        }
        o.from = files[0];
        o.to   = names > 1 ? files[1] : "";
        command(o);
        if (fflush(stdout) != 0) {
            fail("the result cannot be printed: %s", strerror(errno));
        }
        return 0;
    } catch (const std::exception & e) {
        fprintf(stderr, "llama-zen-pack: %s\n", e.what());
        return 1;
    }
}
