#pragma once

#ifndef __cplusplus
#error "This header is for C++ only"
#endif

#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// A model that llama-zen-pack has stored: a GGUF whose float matrices are coded, so that they are used where they are mapped. No other
// reader of GGUFs takes it for one. Errors are std::runtime_error, each a line that names the file, what is wrong, and the remedy.
class ggml_zen5_stored {
  public:
    struct tensor {
        std::string name;
        ggml_type   type;
        int64_t     ne[GGML_MAX_DIMS];
        size_t      at;     // where the GGUF has it
        size_t      bytes;  // there
        size_t      gap;    // bytes there up to the next tensor, or the end
        size_t      offset; // where this file has it, a multiple of 64
        size_t      size;   // here
        bool        coded;  // else as it is in the GGUF

        int64_t rows() const { return ne[1] * ne[2] * ne[3]; }
    };

    // nullptr if the file is not of this kind, or cannot be opened at all.
    static std::unique_ptr<ggml_zen5_stored> open(const std::string & path);

    // The file's bytes in the caller's memory, aligned to 64 bytes, which must outlive this; name is for messages.
    ggml_zen5_stored(const std::string & name, const void * data, size_t size);

    ~ggml_zen5_stored();
    ggml_zen5_stored(const ggml_zen5_stored &)             = delete;
    ggml_zen5_stored & operator=(const ggml_zen5_stored &) = delete;

    // Everything but the tensors' data was verified when this was made. verify() reads all that, on all CPUs, and nothing may be used before.
    // It reads from mapping where that is one of the whole file; pages that are mapped twice count twice as resident.
    void verify(const void * mapping = nullptr) const;

    // What gguf_init_from_file gives for the GGUF.
    gguf_context * metadata(gguf_init_params params) const;

    const std::vector<tensor> & tensors() const { return list; }

    // The tensor as it is stored.
    const uint8_t * data(const tensor & t) const { return base + t.offset; }

    // Whether tensors in buffers of this type are used as they are stored coded.
    static bool used_by(ggml_backend_buffer_type_t buft);

    // Gives a tensor of this name and size, which has memory in whatever buffer, its data: coded where its buffer is for that.
    void load(const tensor & from, ggml_tensor * to) const;

    // Says in the log how a tensor that has its data is coded, if it is.
    static void note(const ggml_tensor * t);

    // Throws if t holds numbers that no weight may be.
    void validate(const tensor & t) const;

    // The tensor as the GGUF has it: t.bytes bytes.
    void restore(const tensor & t, void * to) const;

    // Gives the memory behind the mapped file back.
    void drop() const;

    size_t size() const { return bytes; }
    size_t original_size() const { return original; }

    // The GGUF's bytes before the data of its first tensor, and those in all gaps one behind the other.
    const uint8_t * before() const;
    const uint8_t * gaps() const;
    size_t          before_size() const;

  private:
    std::string         name;
    const uint8_t *     base;
    size_t              bytes;
    size_t              original = 0;
    bool                mapped   = false;
    std::vector<tensor> list;
};

// gguf_init_from_file for a GGUF or what llama-zen-pack has stored.
gguf_context * ggml_zen5_gguf_init_from_file(const char * path, gguf_init_params params);
