// How the threads of a pool work together: zen5/barrier.h, deal.h and plan.h.

#include "threads.h"

#include "codes.h"

#include "barrier.h"
#include "deal.h"
#include "plan.h"
#include "shared.h"
#include "zen5.h"

#include "ggml-alloc.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>

using namespace ggml::cpu::zen5;

static const char * const type = "threads";

// Runs f(ith) on n threads, the caller among them.
template <class F> static void on_threads(int n, F f) {
    std::vector<std::thread> others;
    for (int i = 1; i < n; i++) {
        others.emplace_back(f, i);
    }
    f(0);
    for (std::thread & t : others) {
        t.join();
    }
}

// Nobody leaves a meeting before all have come, whatever the domains, and again when others are expected.
static void examine_meetings(const std::vector<int> & domains, const std::string & where) {
    constexpr int phases = 200;

    const int        n = (int) domains.size();
    barrier          b(domains);
    std::atomic<int> early{ 0 };
    for (const int members : { n, (n + 1) / 2, n }) {
        b.expect(members);
        std::vector<std::atomic<int>> come(members);
        on_threads(members, [&](int ith) {
            for (int p = 1; p <= phases; p++) {
                come[ith] = p;
                b.meet(ith, [] { sched_yield(); });
                for (const auto & c : come) {
                    early += c < p ? 1 : 0;
                }
                b.meet(ith, [] { sched_yield(); });
            }
        });
    }
    check(early == 0, type, "meeting", where + ": " + std::to_string(early) + " threads had not come");
}

// Every unit of every round is taken once, by whomever, also where threads go on to the next rounds at their own pace.
static void examine_deals(const std::vector<int> & domains, const std::string & where, std::mt19937 & random) {
    constexpr int rounds = 300, together = 3;

    const int            n = (int) domains.size();
    std::vector<int64_t> totals(rounds);
    for (int64_t & t : totals) {
        t = std::uniform_int_distribution<int>(0, 5)(random) == 0 ? (int64_t) (random() % 3) : (int64_t) (random() % 400);
    }
    std::vector<std::vector<std::atomic<int>>> taken(rounds);
    for (int r = 0; r < rounds; r++) {
        taken[r] = std::vector<std::atomic<int>>(totals[r]);
    }
    deal             d(domains);
    barrier          b(domains);
    std::atomic<int> strangers{ 0 };
    const unsigned   seed = (unsigned) random();
    on_threads(n, [&](int ith) {
        std::mt19937 mine(seed + ith);
        for (int r = 0; r < rounds; r++) {
            d.enter(ith, n, totals[r]);
            const units own = share(totals[r], ith, n);
            for (units u; !(u = d.take(ith, n, totals[r], 1 + r % 7)).empty();) {
                for (int64_t i = u.begin; i < u.end; i++) {
                    taken[r][i]++;
                }
                strangers += u.begin < own.begin || u.begin >= own.end ? 1 : 0;
                if (mine() % 8 == 0) {
                    sched_yield();
                }
            }
            if (r % together == together - 1) {
                b.meet(ith, [] { sched_yield(); });
            }
        }
    });
    int64_t wrong = 0;
    for (const auto & units_of_round : taken) {
        for (const auto & times : units_of_round) {
            wrong += times != 1 ? 1 : 0;
        }
    }
    check(wrong == 0, type, "deal", where + ": " + std::to_string(wrong) + " units not taken once");
    check(n == 1 || strangers > 0, type, "deal", where + ": nobody took anything from another");
}

namespace {

// A graph of random operations on rows of a few widths, with memory that is used again and again.
struct random_graph {
    static constexpr int widths[] = { 64, 128, 256 };

    ggml_context_ptr        weights_ctx, ctx;
    ggml_backend_buffer_ptr weights_buffer, inputs_buffer;
    ggml_gallocr_ptr        allocator;
    ggml_cgraph *           graph = nullptr;

    std::vector<std::pair<ggml_tensor *, std::vector<float>>> inputs;

    random_graph(ggml_backend_t backend, ggml_backend_buffer_type_t buft, std::mt19937 & random) {
        auto one_of = [&](auto & list) { return list[random() % std::size(list)]; };

        weights_ctx.reset(ggml_init({ ggml_tensor_overhead() * 64, nullptr, true }));
        std::map<std::pair<int, int>, ggml_tensor *> matrices;
        for (const int k : widths) {
            for (const int m : widths) {
                matrices[{ k, m }] = ggml_new_tensor_2d(weights_ctx.get(), GGML_TYPE_Q8_0, k, m);
            }
        }
        weights_buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(weights_ctx.get(), buft));
        std::normal_distribution<float> normal;
        for (const auto & entry : matrices) {
            ggml_tensor *        w = entry.second;
            std::vector<float>   plain(ggml_nelements(w));
            std::vector<uint8_t> bytes(ggml_nbytes(w));
            for (float & x : plain) {
                x = normal(random);
            }
            ggml_quantize_chunk(w->type, plain.data(), bytes.data(), 0, w->ne[1], w->ne[0], nullptr);
            ggml_backend_tensor_set(w, bytes.data(), 0, bytes.size());
        }

        const int n = 1 + (int) (random() % 4);
        ctx.reset(ggml_init({ ggml_tensor_overhead() * 256 + ggml_graph_overhead(), nullptr, true }));
        std::map<int, std::vector<ggml_tensor *>> rows;  // by width
        for (const int k : widths) {
            for (int i = 0; i < 2; i++) {
                ggml_tensor * x = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, k, n);
                ggml_set_input(x);
                std::vector<float> values(ggml_nelements(x));
                for (float & v : values) {
                    v = normal(random);
                }
                inputs.push_back({ x, values });
                rows[k].push_back(x);
            }
        }
        for (int i = 0; i < 40; i++) {
            auto &        list = rows[one_of(widths)];
            auto          last = [&] { return list[list.size() - 1 - random() % std::min<size_t>(3, list.size())]; };
            ggml_tensor * x    = last();
            ggml_tensor * y    = nullptr;
            switch (random() % 8) {
                case 0:
                case 1:
                case 2: {
                    const int m = one_of(widths);
                    rows[m].push_back(ggml_mul_mat(ctx.get(), matrices[{ (int) x->ne[0], m }], x));
                    continue;
                }
                case 3: y = ggml_add(ctx.get(), x, last()); break;
                case 4: y = ggml_rms_norm(ctx.get(), x, 1e-5f); break;
                case 5: y = ggml_swiglu_split(ctx.get(), x, last()); break;
                case 6: y = ggml_soft_max(ctx.get(), x); break;
                case 7: y = ggml_cont(ctx.get(), ggml_scale(ctx.get(), x, 0.5f)); break;
            }
            list.push_back(y);
        }
        graph = ggml_new_graph(ctx.get());
        for (auto & entry : rows) {
            for (ggml_tensor * x : entry.second) {
                if (x->op != GGML_OP_NONE && random() % 3 == 0) {
                    ggml_set_output(x);
                    ggml_build_forward_expand(graph, x);
                }
            }
        }
        ggml_zen5_order_graph(nullptr, graph, nullptr);
        allocator.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend)));
        ggml_gallocr_alloc_graph(allocator.get(), graph);
    }

    // Inputs that nobody reads any more give their memory to others.
    std::vector<uint8_t> compute(ggml_backend_t backend) const {
        for (const auto & input : inputs) {
            if (input.first->buffer != nullptr) {
                ggml_backend_tensor_set(input.first, input.second.data(), 0, ggml_nbytes(input.first));
            }
        }
        ggml_backend_graph_compute(backend, graph);
        return outputs();
    }

  private:
    std::vector<uint8_t> outputs() const {
        std::vector<uint8_t> all;
        for (int i = 0; i < graph->n_nodes; i++) {
            const ggml_tensor * t = graph->nodes[i];
            if (t->flags & GGML_TENSOR_FLAG_OUTPUT) {
                const size_t at = all.size();
                all.resize(at + ggml_nbytes(t));
                ggml_backend_tensor_get(t, all.data() + at, 0, ggml_nbytes(t));
            }
        }
        return all;
    }
};

}  // namespace

static bool overlap(const ggml_tensor * a, const ggml_tensor * b) {
    const char * x = (const char *) a->data;
    const char * y = (const char *) b->data;
    return x < y + ggml_nbytes(b) && y < x + ggml_nbytes(a);
}

// Goes through a plan as threads do and looks for two operations that none of their meetings keeps apart although one writes what the other
// uses, unless thread 0 does both. Activations are quantized into one buffer, since all weights are of one type.
static void examine_plan(const random_graph & g, const std::string & where) {
    constexpr int threads = 2;

    const ggml_cplan   cplan = ggml_graph_plan(g.graph, threads, nullptr);
    shared_activations activations;
    activations.start(threads);
    plan p;
    p.make(g.graph, &cplan, threads, activations);

    struct act {
        const ggml_tensor *              writes;
        std::vector<const ggml_tensor *> reads;
        bool                             alone, quantizes, uses_quantized;
    };

    std::vector<act>    since;  // the last meeting
    const ggml_tensor * quantized = nullptr;
    int                 behind = 0, operations = 0;
    std::string         fault;

    auto add = [&](const act & a, const ggml_tensor * op) {
        for (const act & b : since) {
            bool clash = (a.quantizes && (b.quantizes || b.uses_quantized)) || (b.quantizes && a.uses_quantized);
            clash      = clash || (a.writes != nullptr && b.writes != nullptr && overlap(a.writes, b.writes));
            for (const ggml_tensor * r : a.reads) {
                clash = clash || (b.writes != nullptr && overlap(r, b.writes));
            }
            for (const ggml_tensor * r : b.reads) {
                clash = clash || (a.writes != nullptr && overlap(r, a.writes));
            }
            if (clash && !(a.alone && b.alone)) {
                fault = std::string(op->name) + " " + ggml_op_name(op->op);
            }
        }
        since.push_back(a);
    };
    auto meet = [&] { since.clear(); };

    for (int i = 0; i < g.graph->n_nodes; i++) {
        const ggml_tensor * op = g.graph->nodes[i];
        if (ggml_op_is_empty(op->op)) {
            continue;
        }
        operations++;
        const plan::step & s = p.at(i);
        if (op->op == GGML_OP_MUL_MAT) {
            const ggml_tensor * x = op->src[1];
            if (quantized != x || x->op == GGML_OP_NONE) {
                add({ nullptr, { x }, s.quantizes_alone, true, false }, op);
                meet();
                quantized = x;
            }
            add({ op, {}, false, false, true }, op);
        } else {
            act a = { op, {}, s.alone, false, false };
            for (const ggml_tensor * src : op->src) {
                if (src != nullptr) {
                    a.reads.push_back(src);
                }
            }
            add(a, op);
        }
        if (s.barrier) {
            meet();
            behind++;
        }
    }
    check(fault.empty(), type, "plan", where + ": nothing keeps " + fault + " from what other threads do");
    check(behind < operations, type, "plan", where + ": threads meet behind each of " + std::to_string(operations) + " operations");
}

static void examine_results(ggml_backend_t backend, const random_graph & g, const std::string & where) {
    ggml_backend_cpu_set_threadpool(backend, nullptr);
    ggml_backend_cpu_set_n_threads(backend, 1);
    const auto alone = g.compute(backend);
    for (const int threads : { 2, 3 }) {
        ggml_threadpool_params params = ggml_threadpool_params_default(threads);
        ggml_threadpool_t      pool   = ggml_threadpool_new(&params);
        ggml_backend_cpu_set_threadpool(backend, pool);
        ggml_backend_cpu_set_n_threads(backend, threads);
        for (int again = 0; again < 3; again++) {
            check(g.compute(backend) == alone, type, "graph", where + ": other results with " + std::to_string(threads) + " threads");
        }
        ggml_backend_cpu_set_threadpool(backend, nullptr);
        ggml_threadpool_free(pool);
    }
}

void examine_threads(ggml_backend_t backend, ggml_backend_buffer_type_t buft, std::mt19937 & random) {
    for (const std::vector<int> & domains : { std::vector<int>{ 0 }, { 0, 0 }, { 0, 0, 0 }, { 0, 1 }, { 0, 0, 1, 1 }, { 0, 1, 0, 2, 1 } }) {
        std::string where = "domains";
        for (const int d : domains) {
            where += " " + std::to_string(d);
        }
        examine_meetings(domains, where);
        examine_deals(domains, where, random);
    }
    for (int i = 0; i < 80; i++) {
        const std::string  where = "random graph " + std::to_string(i);
        const random_graph g(backend, buft, random);
        if (g.graph->n_nodes == 0) {
            continue;
        }
        examine_plan(g, where);
        if (i < 8) {
            examine_results(backend, g, where);
        }
    }
}
