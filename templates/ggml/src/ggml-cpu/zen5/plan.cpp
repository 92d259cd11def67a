#include "plan.h"

#include "matmul.h"
#include "products.h"
#include "zen5.h"

#include "ggml-backend-impl.h"
#include "ggml-host/log.h"
#include "ggml-host/switches.h"
#include "ggml-impl.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>

namespace ggml::cpu::zen5 {

// So many elements cost one thread about as much as it costs many to meet and share them.
constexpr int64_t small_op = 8192;

namespace {

// A part of memory that is read or written behind the last meeting: by all threads, each its share, or by thread 0 alone.
struct access {
    const uint8_t * begin;
    const uint8_t * end;
    bool            write;
    bool            alone;
    bool            scratch;  // each thread's own, and all of one size

    bool disturbs(const access & o) const {
        return !(alone && o.alone) && !(scratch && o.scratch) && (write || o.write) && begin < o.end && o.begin < end;
    }
};

// What threads do behind their last meeting.
class pending {
    std::vector<access> list;

  public:
    void clear() { list.clear(); }

    void add(const std::vector<access> & more) { list.insert(list.end(), more.begin(), more.end()); }

    // Nothing is known of an operation but that it is there.
    void add_opaque() { list.push_back({ nullptr, (const uint8_t *) UINTPTR_MAX, true, false, false }); }

    bool any() const { return !list.empty(); }

    // Whether anything there and anything in `more` would meet in memory.
    bool disturb_any(const std::vector<access> & more) const {
        return std::any_of(list.begin(), list.end(), [&](const access & p) {
            return std::any_of(more.begin(), more.end(), [&](const access & a) { return p.disturbs(a); });
        });
    }
};

}  // namespace

static access of_tensor(const ggml_tensor * t, bool write, bool alone) {
    const uint8_t * data = (const uint8_t *) t->data;
    return { data, data + ggml_nbytes(t), write, alone, false };
}

// Operations that thread 0 can do alone with the result that all threads together have: whose elements or rows depend on nobody's place, and
// that do not meet inside.
static bool divisible(const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_DUP:
        case GGML_OP_CPY:
        case GGML_OP_CONT:
        case GGML_OP_ADD:
        case GGML_OP_ADD_ID:
        case GGML_OP_SUB:
        case GGML_OP_MUL:
        case GGML_OP_DIV:
        case GGML_OP_SQR:
        case GGML_OP_SQRT:
        case GGML_OP_SCALE:
        case GGML_OP_CLAMP:
        case GGML_OP_SUM_ROWS:
        case GGML_OP_REPEAT:
        case GGML_OP_CONCAT:
        case GGML_OP_UNARY:
        case GGML_OP_GLU:
        case GGML_OP_NORM:
        case GGML_OP_RMS_NORM:
        case GGML_OP_L2_NORM:
        case GGML_OP_ROPE:
        case GGML_OP_SOFT_MAX:
        case GGML_OP_ARGSORT:
        case GGML_OP_TOP_K:
        case GGML_OP_GET_ROWS:
        case GGML_OP_SET_ROWS:
            return true;
        default:
            return false;
    }
}

// Whether such an operation may use the graph's work memory.
static bool uses_work(const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_ADD:
        case GGML_OP_SUB:
        case GGML_OP_MUL:
        case GGML_OP_DIV:
        case GGML_OP_SCALE:
        case GGML_OP_UNARY:
        case GGML_OP_GLU:
        case GGML_OP_NORM:
        case GGML_OP_RMS_NORM:
            return op->src[0]->type != GGML_TYPE_F32;
        default:
            return true;
    }
}

// Operations of which upstream hands out rows, where there is but one: thread 0 does it in any case.
static bool has_one_row(const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_ADD:
        case GGML_OP_SUB:
        case GGML_OP_MUL:
        case GGML_OP_DIV:
        case GGML_OP_SCALE:
        case GGML_OP_UNARY:
        case GGML_OP_GLU:
        case GGML_OP_NORM:
        case GGML_OP_RMS_NORM:
            return ggml_nrows(op) == 1;
        default:
            return false;
    }
}

// Elements that an operation goes through.
static int64_t work_of(const ggml_tensor * op) {
    // rows are set in a tensor of which most stays as it is
    return op->op == GGML_OP_SET_ROWS ? ggml_nelements(op->src[0]) : std::max(ggml_nelements(op), ggml_nelements(op->src[0]));
}

static bool done_alone(const ggml_tensor * op) {
    return divisible(op) && op->src[0] != nullptr && (work_of(op) <= small_op || has_one_row(op));
}

// A product of few rows: its threads need not agree who does what before they begin.
static bool is_few(const ggml_tensor * op) {
    const int64_t n = op->op == GGML_OP_MUL_MAT ? ggml_nrows(op->src[1]) : op->op == GGML_OP_MUL_MAT_ID ? op->src[2]->ne[1] : 0;
    return n > 0 && (op->op == GGML_OP_MUL_MAT ? multiplier::few(n) : n == 1) && with_multiplier(op, [](const multiplier &, auto) {});
}

// Which of the shared buffers a product's activations are in.
static int kind_of(const ggml_tensor * op, const multiplier & m) {
    return shared_activations::kind_of(m.format, op->op == GGML_OP_MUL_MAT_ID || m.tall == 1);
}

bool plan::identity::operator==(const identity & o) const {
    return uid == o.uid && nodes == o.nodes && n_nodes == o.n_nodes && work == o.work && size == o.size && threads == o.threads &&
           buffers == o.buffers;
}

void plan::make(const ggml_cgraph * cgraph, const ggml_cplan * cplan, int n_threads, const shared_activations & activations) {
    const identity now = { cgraph->uid, cgraph->nodes, cgraph->n_nodes, cplan->work_data, cplan->work_size, n_threads, activations.layout() };
    if (now.uid != 0 && now == of) {
        return;
    }
    of = now;
    steps.assign(cgraph->n_nodes, { true, false, false, false, 0 });
    products.clear();
    scratch_bytes = 0;
    n_operations  = 0;

    const uint8_t *     work = (const uint8_t *) cplan->work_data;
    const ggml_tensor * held[shared_activations::kinds] = {};  // what the buffers of activations hold
    pending             behind;
    int                 last = -1;  // node before this one

    for (int i = 0; i < cgraph->n_nodes; i++) {
        const ggml_tensor * op = cgraph->nodes[i];
        step &              s  = steps[i];

        if (ggml_op_is_empty(op->op) || (op->flags & GGML_TENSOR_FLAG_COMPUTE) == 0) {
            s.barrier = false;
            continue;
        }
        bool meets;  // before this node
        if (done_alone(op)) {
            s.alone                  = true;
            std::vector<access> mine = { of_tensor(op, true, true) };
            for (const ggml_tensor * src : op->src) {
                if (src != nullptr) {
                    mine.push_back(of_tensor(src, false, true));
                }
            }
            if (uses_work(op)) {
                mine.push_back({ work, work + cplan->work_size, true, true, false });
            }
            meets = behind.disturb_any(mine);
            if (meets) {
                behind.clear();
            }
            behind.add(mine);
        } else if (is_few(op)) {
            with_multiplier(op, [&](const multiplier & m, auto at) {
                const ggml_tensor * src1    = op->src[1];
                const int           kind    = kind_of(op, m);
                const auto &        buffer  = activations.at(kind);
                const bool          experts = op->op == GGML_OP_MUL_MAT_ID;
                const bool          ready   = held[kind] == src1;
                const bool          alone   = !ready && ggml_nelements(src1) <= small_op;

                const access in      = of_tensor(src1, false, alone);
                const access into    = { buffer.base, buffer.base + buffer.size, true, alone, false };
                const access held_in = { buffer.base, buffer.base + buffer.size, false, false, false };
                const access out     = of_tensor(op, true, false);
                const access scratch = { work, work + cplan->work_size, true, false, !experts };

                // Activations that are there are multiplied at once. Else all threads meet inside, behind their quantization, or when thread 0 has
                // looked up the experts; only what comes before that can be disturbed.
                const bool          meets_inside = !ready || experts;
                std::vector<access> early;
                if (!ready) {
                    early = { in, into };
                }
                if (experts) {
                    early.push_back(of_tensor(op->src[2], false, true));
                    early.push_back({ work, work + cplan->work_size, true, true, false });
                }
                meets = behind.disturb_any(meets_inside ? early : std::vector<access>{ held_in, out, scratch });
                if (meets || meets_inside) {
                    behind.clear();
                }
                behind.add({ held_in, out, scratch });

                s.quantizes_alone = alone;
                held[kind]        = shared_activations::steady(src1) ? src1 : nullptr;
                if (!experts) {  // which ones are read nobody knows before
                    s.is_product = true;
                    const bool    packed = at == packed_panel;
                    const int64_t last   = m.panel_count() - (packed ? 0 : 1);  // coded panels are of many sizes
                    products.push_back({ op->src[0], m.panel_count(), at, (size_t) (at(op->src[0], last) - at(op->src[0], 0)), packed });
                    scratch_bytes = std::max(scratch_bytes, m.scratch_size());
                }
            });
        } else {
            with_multiplier(op, [&](const multiplier & m, auto) {
                held[kind_of(op, m)] = shared_activations::steady(op->src[1]) ? op->src[1] : nullptr;
            });
            meets = behind.any();
            behind.clear();
            behind.add_opaque();
        }
        n_operations++;
        s.upcoming = (int) products.size();
        if (last >= 0) {
            steps[last].barrier = meets;
        }
        last = i;
    }
    if (last >= 0) {
        steps[last].barrier = false;  // they meet at the end of the graph anyway
    }
    say(products.size());
}

// Graphs of one kind are made again and again.
void plan::say(size_t n_products) const {
    static std::atomic<size_t> said{ 0 };

    const auto   met   = [](const step & s) { return s.barrier; };
    const size_t least = std::count_if(steps.begin(), steps.end(), met);
    if (n_products > 0 && said.exchange(least) != least) {
        host::note("graph of %d operations: threads meet %zu times between them", n_operations, least + 1);
    }
}

void plan::drop() {
    of = {};
    steps.clear();
    products.clear();
    scratch_bytes = 0;
}

int plan::next_meeting(int node) const {
    if (planned()) {
        while (node + 1 < (int) steps.size() && !steps[node].barrier) {
            node++;
        }
    }
    return node + 1;
}

// Whether a tensor's memory is written under another name between two nodes.
static bool written_between(const ggml_cgraph * cgraph, const ggml_tensor * t, int first, int last) {
    const ggml_tensor * owner = t->view_src != nullptr ? t->view_src : t;
    return std::any_of(cgraph->nodes + first, cgraph->nodes + last,
                       [&](const ggml_tensor * n) { return n->view_src == owner && !ggml_op_is_empty(n->op); });
}

}  // namespace ggml::cpu::zen5

// Products that read the same activations follow each other: between Q, K and V nobody has to wait then.
void ggml_zen5_order_graph(ggml_backend_t backend, ggml_cgraph * cgraph, ggml_backend_graph_optimize_params * params) {
    using namespace ggml::cpu::zen5;

    if (!ggml::host::get_switches().graph) {
        return;
    }
    auto product = [](const ggml_tensor * t) { return t->op == GGML_OP_MUL_MAT && t->src[0]->op == GGML_OP_NONE && t->view_src == nullptr; };

    std::unordered_map<const ggml_tensor *, int> last;  // where the last product of each activations is
    for (int i = 0; i < cgraph->n_nodes; i++) {
        ggml_tensor * node = cgraph->nodes[i];
        if (!product(node)) {
            continue;
        }
        const auto before = last.find(node->src[1]);
        if (before == last.end()) {
            last[node->src[1]] = i;
            continue;
        }
        const int to = before->second + 1;
        if (to < i && !written_between(cgraph, node->src[1], to, i)) {
            std::rotate(cgraph->nodes + to, cgraph->nodes + i, cgraph->nodes + i + 1);
            for (auto & entry : last) {
                entry.second += entry.second >= to ? 1 : 0;
            }
            before->second = to;
        } else {
            before->second = i;
        }
    }

    GGML_UNUSED(backend);
    GGML_UNUSED(params);
}
