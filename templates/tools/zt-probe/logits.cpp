// zt-probe logits

#include "zt-probe.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

// A file that appears under its name only when it is complete.
struct out_file {
    std::string path;
    std::string part;
    FILE *      file;

    explicit out_file(const std::string & path) : path(path), part(path + ".part"), file(fopen(part.c_str(), "wb")) {
        if (!file) {
            fail("create %s: %s", part.c_str(), strerror(errno));
        }
    }

    ~out_file() {
        if (file) {
            fclose(file);
            unlink(part.c_str());
        }
    }

    void write(const void * data, size_t size) {
        if (fwrite(data, 1, size, file) != size) {
            fail("write %s: %s", part.c_str(), strerror(errno));
        }
    }

    void finish() {
        FILE * f = file;
        file = nullptr;
        if (fclose(f) != 0 || rename(part.c_str(), path.c_str()) != 0) {
            const int err = errno;
            unlink(part.c_str());
            fail("write %s: %s", path.c_str(), strerror(err));
        }
    }
};

// Writes, little endian: "ZTLOGIT1", uint32 n, uint32 n_vocab, int32 tokens[n], float32 logits[n][n_vocab]. Row i holds
// the logits after token i.
void cmd_logits(const probe_params & p) {
    if (p.out.empty()) {
        fail("logits wants a file to write: -o FILE");
    }
    if (p.n < 0 && p.tokens.empty()) {
        fail("logits wants tokens: -n N or --tokens FILE");
    }
    out_file out(p.out);

    model_ptr model   = load_model(p);
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
    const auto tokens = input_tokens(p, p.n, n_vocab);
    const int n       = (int) tokens.size();

    const uint32_t header[2] = { (uint32_t) n, (uint32_t) n_vocab };
    out.write("ZTLOGIT1", 8);
    out.write(header, sizeof(header));
    out.write(tokens.data(), n*sizeof(tokens[0]));

    if (p.mode == "batch") {
        std::vector<std::vector<llama_token>> seqs;
        for (int s = 0; s < p.n_seqs; s++) {
            seqs.push_back(s == p.slot ? tokens : seeded_tokens(p.seed + 1000003u*(s + 1), n, n_vocab));
        }
        session s(p, model.get(), n*p.n_seqs, p.n_seqs, p.n_seqs);
        batch_buf batch(p.n_seqs);
        for (int i = 0; i < n; i++) {
            batch.clear();
            for (int j = 0; j < p.n_seqs; j++) {
                batch.add(seqs[j][i], i, j, j == p.slot);
            }
            s.decode(batch.b);
            out.write(s.logits(p.slot), n_vocab*sizeof(float));
        }
    } else {
        const int n_chunk = p.n_chunk > 0 ? std::min(p.n_chunk, n) : n;
        const int n_batch = p.mode == "decode" ? 1 : p.n_batch > 0 ? std::min(p.n_batch, n_chunk) : n_chunk;
        session s(p, model.get(), n_chunk, n_batch, 1);
        batch_buf batch(n_batch);
        for (int i = 0, n_step; i < n; i += n_step) {
            const int pos = i % n_chunk;
            n_step = std::min({ n_batch, n_chunk - pos, n - i });
            if (pos == 0 && i > 0) {
                s.forget();
            }
            batch.clear();
            for (int j = 0; j < n_step; j++) {
                batch.add(tokens[i + j], pos + j, 0, true);
            }
            s.decode(batch.b);
            for (int j = 0; j < batch.b.n_tokens; j++) {
                out.write(s.logits(j), n_vocab*sizeof(float));
            }
        }
    }
    out.finish();
    printf("{\"command\":\"logits\",\"mode\":\"%s\",\"n\":%d,\"vocab\":%d}\n", p.mode.c_str(), n, n_vocab);
}
