// What the model loader does with models that llama-zen-pack has stored.

#include "ggml-zen5.h"
#include "llama-model-loader.h"

#include <algorithm>
#include <cerrno>
#include <sstream>

#include <sys/stat.h>
#include <unistd.h>

gguf_context * llama_model_loader::open_gguf(const char * fname, gguf_init_params params) {
    stored.push_back(ggml_zen5_stored::open(fname));
    return stored.back() != nullptr ? stored.back()->metadata(params) : gguf_init_from_file(fname, params);
}

void llama_model_loader::verify_stored() const {
    for (size_t idx = 0; idx < stored.size(); idx++) {
        const auto & file = stored[idx];
        if (file != nullptr) {
            const int64_t start = ggml_time_us();
            file->verify(use_mmap ? mappings.at(idx)->addr() : nullptr);
            LLAMA_LOG_INFO("%s: %.2f MiB stored by llama-zen-pack verified in %.3f s\n", __func__, file->size() / 1024.0 / 1024.0,
                           (ggml_time_us() - start) / 1e6);
            file->drop();
        }
    }
}

void llama_model_loader::refuse_stored() const {
    for (const auto & file : stored) {
        if (file != nullptr) {
            throw std::runtime_error("the model was stored by llama-zen-pack, and its weights are coded; restore the GGUF first with "
                                     "llama-zen-pack -d STORED GGUF");
        }
    }
}

bool llama_model_loader::has_coded(ggml_context * ctx) const {
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
        const auto * w = get_weight(ggml_get_name(t));
        if (w != nullptr && w->coded != nullptr) {
            return true;
        }
    }
    return false;
}

// Whether a tensor without memory is to be used where its coded form is mapped.
static bool used_in_place(const llama_model_loader & ml, const ggml_tensor * t, uint32_t idx) {
    const auto * w = ml.get_weight(ggml_get_name(t));
    return w != nullptr && w->idx == idx && w->coded != nullptr && t->data == nullptr && ggml_are_same_shape(t, w->tensor);
}

// What the tensors of ctx will hold, in words: the files, by what changes when they do, and where each tensor lies in them. Empty if that is
// not all in files, or if they are to be checked.
std::string llama_model_loader::content_of(ggml_context * ctx) const {
    std::ostringstream text;
    for (const auto & file : files) {
        struct stat st;
        if (check_tensors || fstat(file->file_id(), &st) != 0) {
            return "";
        }
        text << st.st_dev << ' ' << st.st_ino << ' ' << st.st_size << ' ' << st.st_mtim.tv_sec << '.' << st.st_mtim.tv_nsec << ';';
    }
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
        const auto * w = get_weight(ggml_get_name(t));
        if (w == nullptr || w->coded != nullptr) {
            return "";
        }
        text << ggml_get_name(t) << ' ' << t->type << ' ' << t->ne[0] << ' ' << t->ne[1] << ' ' << t->ne[2] << ' ' << w->idx << ' ' << w->offs << ';';
    }
    return text.str();
}

ggml_backend_buffer_t llama_model_loader::alloc_ctx_tensors(ggml_context * ctx, ggml_backend_buffer_type_t buft,
                                                            std::vector<ggml_backend_buffer_ptr> & others) const {
    std::vector<ggml_backend_buffer_ptr> mapped;
    for (uint32_t idx = 0; use_mmap && idx < stored.size(); idx++) {
        if (stored[idx] == nullptr || !ggml_zen5_stored::used_by(buft)) {
            continue;
        }
        std::vector<ggml_tensor *> tensors;
        size_t                     first = SIZE_MAX;
        size_t                     last  = 0;
        for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
            if (used_in_place(*this, t, idx)) {
                const size_t offs = get_weight(ggml_get_name(t))->offs;
                first = std::min(first, offs);
                last  = std::max(last, offs + ggml_backend_buft_get_alloc_size(buft, t)); // not its size: what a tensor could need
                tensors.push_back(t);
            }
        }
        if (tensors.empty()) {
            continue;
        }
        uint8_t * addr = (uint8_t *) mappings.at(idx)->addr();
        mapped.emplace_back(ggml_zen5_coded_buffer_from_ptr(addr + first, last - first));
        for (ggml_tensor * t : tensors) {
            ggml_backend_tensor_alloc(mapped.back().get(), t, addr + get_weight(ggml_get_name(t))->offs);
        }
    }

    bool rest = false;
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
        rest = rest || t->data == nullptr;
    }
    ggml_backend_buffer_t buf = nullptr;
    if (rest || mapped.empty()) {
        ggml_zen5_share_as(content_of(ctx).c_str());
        buf = ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft);
        ggml_zen5_share_as(nullptr);
    } else {
        buf = mapped.back().release();
        mapped.pop_back();
    }
    std::move(mapped.begin(), mapped.end(), std::back_inserter(others));
    return buf;
}

void llama_model_loader::load_coded(const llama_tensor_weight & w, ggml_tensor * cur, llama_mlocks * lmlocks) {
    if (check_tensors) {
        stored.at(w.idx)->validate(*w.coded);
    }
    if (use_mmap && cur->data == (uint8_t *) mappings.at(w.idx)->addr() + w.offs) {
        auto & used = mmaps_used.at(w.idx);
        used.first  = std::min(used.first, w.offs);
        used.second = std::max(used.second, w.offs + w.coded->size);
        if (lmlocks != nullptr) {
            lmlocks->at(w.idx)->grow_to(w.offs + w.coded->size);
        }
    } else {
        stored.at(w.idx)->load(*w.coded, cur);
    }
    ggml_zen5_stored::note(cur);
}

// Where in a file a tensor's data begin.
struct place {
    int    fd;
    size_t offs;
};

static bool read_at(void * context, void * to, size_t offset, size_t size) {
    const place & at = *(const place *) context;
    while (size > 0) {
        const ssize_t n = pread(at.fd, to, size, at.offs + offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        to = (uint8_t *) to + n;
        offset += n;
        size -= n;
    }
    return true;
}

bool llama_model_loader::load_packed(const llama_tensor_weight & w, ggml_tensor * cur) const {
    const auto & file = files.at(w.idx);
    if (ggml_zen5_is_filled(cur)) {
        if (use_mmap) {
            ggml_zen5_drop_mapped((const uint8_t *) mappings.at(w.idx)->addr() + w.offs, ggml_nbytes(cur));
        }
        return true;
    }
    if (use_mmap || check_tensors || file->has_direct_io()) {
        return false;
    }
    place at = { file->file_id(), w.offs };
    return ggml_zen5_set_from(cur, read_at, &at);
}

void llama_model_loader::offer(ggml_context * ctx) const {
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
        if (t->buffer != nullptr) {
            ggml_zen5_offer(t->buffer);
        }
    }
}
