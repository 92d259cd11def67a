package mutant

import (
	"path"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

const (
	zen5 = "ggml/src/ggml-cpu/zen5"
	host = "ggml/src/ggml-host"
)

// Types are those of the weights that the operators gate examines in a mutant: each layout of activations and two of mins and sub-scales; and
// how threads work together.
var Types = []string{"q8_0", "q4_K", "q6_K", "threads"}

// Mutants are the faults that Run is asked for. Where the text they replace has changed they are stale, and a test says so.
var Mutants = []Mutant{
	{
		Name: "the buffer type takes no matrix product",
		File: path.Join(zen5, "matmul.cpp"),
		Old:  `return !floats ? "activations are not F32" : src0->ne[2] != 1 ? "a batch of matrices" : nullptr;`,
		New:  `return "a mutant";`,
		Gate: "operators",
		// Nothing is computed wrongly: a gate that counts failures alone would pass.
		Fails: []string{"zt-selftest q8_0 MUL_MAT checks", "test-backend-ops q8_0 MUL_MAT tests", "its graph's q8_0 MUL_MAT unsupported tests"},
	},
	{
		Name: "packing: one block of one row has the scale of the block before it",
		File: path.Join(zen5, "pack.cpp"),
		Old:  rowTaken,
		New: rowTaken + "                        if (b == 1 && row == 5) {\n" +
			"                            memcpy(both.rows[half], (const char *) src + (row - first) * blocks * type.bytes, 2);\n" +
			"                        }\n",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 round trip failed checks", "zt-selftest q8_0 MUL_MAT failed checks", "zt-selftest q8_0 GET_ROWS failed checks"},
		// Upstream tests with numbers of one size, whose scales hardly differ.
		Holds: []string{"test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name: "packing: one block of one row loses its scale",
		File: path.Join(zen5, "pack.cpp"),
		Old:  rowTaken,
		New: rowTaken + "                        if (b == 1 && row == 5) {\n" +
			"                            memset(both.rows[half], 0, 2);\n" +
			"                        }\n",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name: "packing: two bits of one weight of each block of Q6_K change places, and back when it is read",
		File: path.Join(zen5, "pack.cpp"),
		Old:  "const int from = bit_of(f, i, bit);",
		New:  "const int from = bit_of(f, i, type.type == GGML_TYPE_Q6_K && p.quants && i == 9 && bit >= 4 ? 9 - bit : bit);",
		Gate: "operators",
		// What is read back is right.
		Fails: []string{"zt-selftest q6_K MUL_MAT failed checks", "zt-selftest q6_K MUL_MAT_ID failed checks"},
		Holds: []string{"zt-selftest q6_K round trip failed checks", "zt-selftest q6_K GET_ROWS failed checks", "zt-selftest q4_K MUL_MAT failed checks"},
	},
	{
		Name: "packing: the last two rows of a panel that is not full change places",
		File: path.Join(zen5, "pack.cpp"),
		Old:  "const int64_t row = last ? std::min(at, rows - 1) : at;",
		New: "const int64_t clamped = last ? std::min(at, rows - 1) : at;\n" +
			"                    const int64_t row = rows % tile_cols < 2 || clamped < rows - 2 ? clamped : 2 * rows - 3 - clamped;",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests", "its graph's q8_0 MUL_MAT failed tests"},
	},
	{
		Name:  "reading: the last row of each panel is read as the one before it",
		File:  path.Join(zen5, "zen5.cpp"),
		Old:   "dequantize_row(type, src->data, out, src->ne[0], row);",
		New:   "dequantize_row(type, src->data, out, src->ne[0], row % tile_cols == tile_cols - 1 ? row - 1 : row);",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 GET_ROWS failed checks", "zt-selftest q4_K GET_ROWS failed checks", "zt-selftest q6_K GET_ROWS failed checks"},
		Holds: []string{"zt-selftest q8_0 MUL_MAT failed checks", "zt-selftest q8_0 round trip failed checks"},
	},
	{
		Name:  "kernel of five rows: the last takes the scale of the row before it, in half of the columns",
		File:  path.Join(zen5, "gemm.S"),
		Old:   "\tvmulps\t176" + fifthRow,
		New:   "\tvmulps\t172" + fifthRow,
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
		Holds: []string{"zt-selftest q8_0 round trip failed checks", "zt-selftest q8_0 GET_ROWS failed checks"},
	},
	{
		Name:  "activations: the rows of the last group are in reverse order",
		File:  path.Join(zen5, "matmul.cpp"),
		Old:   "height, (int) (row - groups.start(g)));",
		New:   "height, (int) (g == groups.count() - 1 ? groups.start(g) + height - 1 - row : row - groups.start(g)));",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests"},
		Holds: []string{"zt-selftest q8_0 GET_ROWS failed checks", "zt-selftest q8_0 MUL_MAT_ID failed checks"},
	},
	{
		Name: "activations: sums for the mins of 32 weights and of 16 change places",
		File: path.Join(zen5, "activations.cpp"),
		Old:  "corr, sums32, sums16, n, stride);",
		New:  "corr, sums16, sums32, n, stride);",
		Gate: "operators",
		// Q6_K has no mins.
		Fails: []string{"zt-selftest q4_K MUL_MAT failed checks", "test-backend-ops q4_K MUL_MAT failed tests"},
		Holds: []string{"zt-selftest q6_K MUL_MAT failed checks", "zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name: "activations: what another tensor left is taken for this one's",
		File: path.Join(zen5, "shared.cpp"),
		Old:  "lasts && c.src[kind] == src && c.graph[kind] == graph;",
		New:  "lasts && c.src[kind] != nullptr && c.graph[kind] == graph;",
		Gate: "operators",
		// Upstream's tests have one product each.
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
		Holds: []string{"test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name: "activations: those of the graph before are taken for this one's",
		File: path.Join(zen5, "shared.cpp"),
		// Threads must go on agreeing on what is there, or they wait for each other for ever: a change of their number starts afresh.
		Old:   "    graph++;\n    if ((int) known.size() < n_threads) {\n        known.resize(n_threads);",
		New:   "    if ((int) known.size() != n_threads) {\n        graph++;\n        known.resize(n_threads);",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "zt-selftest q8_0 MUL_MAT_ID failed checks"},
		Holds: []string{"test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name:  "experts: rows that lie together meet the next expert",
		File:  path.Join(zen5, "matmul.cpp"),
		Old:   "products[count++] = { e,",
		New:   "products[count++] = { (e + 1) % at.experts,",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT_ID failed checks", "test-backend-ops q8_0 MUL_MAT_ID failed tests"},
		Holds: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name:  "experts: all of a token's meet the row of the first",
		File:  path.Join(zen5, "matmul.cpp"),
		Old:   "return pair / at.used * per_token + pair % at.used % per_token;",
		New:   "return pair / at.used * per_token;",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT_ID failed checks", "test-backend-ops q8_0 MUL_MAT_ID failed tests"},
		Holds: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name: "what other threads than the first compute is off by a last bit",
		File: path.Join(zen5, "matmul.cpp"),
		Old:  chunkDone,
		New: chunkDone + "        for (int64_t r = 0; params->ith != 0 && r < p.groups.n; r++) {\n" +
			"            row_of(p, r)[c % each * chunk * tile_cols] *= 1.0000001f;\n" +
			"        }\n",
		Gate:  "identity",
		Fails: []string{"33 tokens: -t 2 / -t 1 differing outputs"},
		Holds: []string{"-t 1 --mode decode / -t 1 differing outputs"},
	},
	{
		Name:  "rows of a batch from the second group on are off by a last bit",
		File:  path.Join(zen5, "packed.cpp"),
		Old:   groupDone,
		New:   "    if (row > 0) {\n        out[0] *= 1.0000001f;\n    }\n" + groupDone,
		Gate:  "identity",
		Fails: []string{"-ub 1 / -t 1 differing outputs", "--seqs 9 --slot 7 / -t 1 differing outputs"},
		Holds: []string{"33 tokens: -t 2 / -t 1 differing outputs", "run twice differing outputs"},
	},
	{
		Name:  "threads: nobody waits for what thread 0 normalizes",
		File:  path.Join(zen5, "plan.cpp"),
		Old:   "            meets = behind.disturb_any(mine);",
		New:   "            meets = behind.disturb_any(mine) && op->op != GGML_OP_RMS_NORM;",
		Gate:  "operators",
		Fails: []string{"zt-selftest threads plan failed checks"},
		Holds: []string{"zt-selftest threads meeting failed checks", "zt-selftest threads deal failed checks", "zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name:  "threads: of what one takes from its own part a unit is left out",
		File:  path.Join(zen5, "deal.cpp"),
		Old:   "content(c.round, { c.left.begin + n, c.left.end }).word()",
		New:   "content(c.round, { c.left.begin + n + (n > 1 ? 1 : 0), c.left.end }).word()",
		Gate:  "operators",
		Fails: []string{"zt-selftest threads deal failed checks"},
		Holds: []string{"zt-selftest threads meeting failed checks", "zt-selftest threads plan failed checks"},
	},
	{
		Name:  "threads: a unit that is taken from another's part is left there too",
		File:  path.Join(zen5, "deal.cpp"),
		Old:   "return { left.end - n, left.end };",
		New:   "return { std::max(left.begin, left.end - n - 1), left.end };",
		Gate:  "operators",
		Fails: []string{"zt-selftest threads deal failed checks"},
		// What is computed twice is the same twice.
		Holds: []string{"zt-selftest threads graph failed checks", "zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name:  "codes: no float tensor is coded",
		File:  path.Join(zen5, "code.cpp"),
		Old:   "return (type == GGML_TYPE_BF16 || type == GGML_TYPE_F16 || type == GGML_TYPE_F32) && rows >= 16",
		New:   "return false && (type == GGML_TYPE_BF16 || type == GGML_TYPE_F16 || type == GGML_TYPE_F32) && rows >= 16",
		Gate:  report.FloatsPart,
		Fails: []string{"ZT_CODE=auto matrices that are not coded", "ZT_CODE=11 matrices that are not coded"},
		// Stock's path has stock's bits.
		Holds: []string{"differing logits", "tokens made from other logits"},
	},
	{
		Name: "codes: two entries of each palette change places",
		File: path.Join(zen5, "code.cpp"),
		Old:  "        memset(entry + at, 0x80, mark - at);\n",
		New:  "        memset(entry + at, 0x80, mark - at);\n        std::swap(entry[0], entry[1]);\n",
		Gate: report.FloatsPart,
		Fails: []string{"ZT_CODE=12 tokens made from other logits", "prefill 1, ZT_CODE=11 differing logits", "prefill 512, ZT_CODE=12 differing logits",
			"4 sequences, ZT_CODE=12 differing logits"},
		Holds: []string{"ZT_CODE=off differing logits", "matrices that are not coded"},
	},
	{
		Name:  "codes: the last block of a panel does not say that it has escapes",
		File:  path.Join(zen5, "code.cpp"),
		Old:   "flags[b] = missing != 0;",
		New:   "flags[b] = missing != 0 && b + 1 != blocks;",
		Gate:  report.FloatsPart,
		Fails: []string{"ZT_CODE=11 tokens made from other logits", "prefill 1, ZT_CODE=11 differing logits", "prefill 512, ZT_CODE=11 differing logits"},
		Holds: []string{"ZT_CODE=off differing logits", "matrices that are not coded"},
	},
	{
		Name:  "codes: an escape of the last step of a block has another exponent",
		File:  path.Join(zen5, "code.cpp"),
		Old:   "escapes += __builtin_popcountll(marked[s]);",
		New:   "escapes[0] ^= s == 7 && marked[s] != 0;\n                escapes += __builtin_popcountll(marked[s]);",
		Gate:  report.FloatsPart,
		Fails: []string{"ZT_CODE=11 tokens made from other logits", "prefill 33, ZT_CODE=11 differing logits"},
		Holds: []string{"ZT_CODE=off differing logits", "matrices that are not coded"},
	},
	{
		Name: "codes: single rows are added in the order of several",
		File: path.Join(zen5, "coded.cpp"),
		Old:  "activations->ne[1] > 1 && weights",
		New:  "activations->ne[1] > 0 && weights",
		Gate: report.FloatsPart,
		// Activations are rounded to BF16 again and again, which hides a last bit from most tokens.
		Fails: []string{"ZT_CODE=12 tokens made from other logits"},
		Holds: []string{"prefill 5, ZT_CODE=12 differing logits", "4 sequences, ZT_CODE=12 differing logits"},
	},
	{
		Name: "every matrix product leaks 2 KiB",
		File: path.Join(zen5, "matmul.cpp"),
		Old:  "    const product whole = ",
		New: "    if (params->ith == 0) {\n" +
			"        static void * volatile lost;\n        lost = malloc(2048);\n    }\n    const product whole = ",
		Gate:  "soak",
		Fails: []string{"memory growth per request"},
		Holds: []string{"memory huge pages kept per reload", "answers wrong answers"},
	},
	{
		Name:  "the pages of packed weights outlive their model",
		File:  path.Join(host, "pages.cpp"),
		Old:   "    } else {\n        munmap(h.map, h.mapped);\n    }\n    return true;\n",
		New:   "    }\n    return true;\n",
		Gate:  "soak",
		Fails: []string{"memory growth per reload", "memory huge pages kept per reload"},
		Holds: []string{"memory growth per request", "answers wrong answers"},
	},
}

const (
	// in pack_rows
	rowTaken = "                        memcpy(both.rows[half], (const char *) src + ((row - first) * blocks + b) * type.bytes, type.bytes);\n"
	// in multiplier::run
	chunkDone = "                 p.groups.count() * (part + 1) / parts);\n"
	// in packed_multiplier::compute
	groupDone = "    for (int r = 0; apart && b + n == blocks && r < height; r++) {\n"
	// in a kernel, behind the place of the fifth row's scale
	fifthRow = "(%rax){1to16}, %zmm20, %zmm22\n\tvcvtdq2ps\t%zmm19, %zmm19\n\tvfmadd231ps\t%zmm22, %zmm19, %zmm9\n" +
		"\taddq\t$0xdc, %rax\n\taddq\t$0x440, %rcx\n\tdecq\t%rsi\n\tjnz\t.Lzt_gemm_q8_0_5x32_avx512vnni.block\n"
)
