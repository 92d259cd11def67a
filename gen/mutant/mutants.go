package mutant

import "path"

const zen5 = "ggml/src/ggml-cpu/zen5"

// Mutants are the faults that Run is asked for. Where the text they replace has changed they are stale, and a test says so.
var Mutants = []Mutant{
	{
		Name: "the buffer type takes no matrix product",
		File: path.Join(zen5, "zen5.cpp"),
		Old:  "return src1->type == GGML_TYPE_F32 && src1->nb[0] == sizeof(float) && op->type == GGML_TYPE_F32;",
		New:  "return false;",
		Gate: "operators",
		// Nothing is computed wrongly: a gate that counts failures alone would pass.
		Fails: []string{"test-backend-ops q8_0 MUL_MAT tests", "its graph's q8_0 MUL_MAT unsupported tests"},
		Holds: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
	},
	{
		Name: "packing: one block of one row has the scale of the block before it",
		File: path.Join(zen5, "pack.cpp"),
		Old:  "                memcpy(out + scales_offset + 2 * c, &w.d, sizeof(w.d));\n            }\n            if (last) {",
		New: "                const bool wrong = b == 1 && row0 - c0 + c == 5;\n" +
			"                memcpy(out + scales_offset + 2 * c, wrong ? &(&w)[-1].d : &w.d, sizeof(w.d));\n            }\n            if (last) {",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 round trip failed checks", "zt-selftest q8_0 MUL_MAT failed checks", "zt-selftest q8_0 GET_ROWS failed checks"},
		// Upstream tests with numbers of one size, whose scales hardly differ.
		Holds: []string{"test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name: "packing: one block of one row loses its scale",
		File: path.Join(zen5, "pack.cpp"),
		Old:  "                memcpy(out + scales_offset + 2 * c, &w.d, sizeof(w.d));\n            }\n            if (last) {",
		New: "                memcpy(out + scales_offset + 2 * c, &w.d, sizeof(w.d));\n" +
			"                if (b == 1 && row0 - c0 + c == 5) {\n" +
			"                    memset(out + scales_offset + 2 * c, 0, sizeof(w.d));\n" +
			"                }\n            }\n            if (last) {",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests"},
	},
	{
		Name: "kernel of five rows: the last takes the scale of the row before it, in half of the columns",
		File: path.Join(zen5, "gemm.S"),
		Old: "\tvmulps\t176(%rdx){1to16}, %zmm21, %zmm10\n\tvcvtdq2ps\t%zmm19, %zmm19\n\tvfmadd231ps\t%zmm10, %zmm19, %zmm9\n" +
			"\taddq\t$0xc8, %rdx\n\taddq\t$0x440, %rbx\n\tdecq\t%rsi\n\tjnz\t.Lzt_gemm_q8_0_5x32_avx512vnni.block\n",
		New: "\tvmulps\t172(%rdx){1to16}, %zmm21, %zmm10\n\tvcvtdq2ps\t%zmm19, %zmm19\n\tvfmadd231ps\t%zmm10, %zmm19, %zmm9\n" +
			"\taddq\t$0xc8, %rdx\n\taddq\t$0x440, %rbx\n\tdecq\t%rsi\n\tjnz\t.Lzt_gemm_q8_0_5x32_avx512vnni.block\n",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks"},
		Holds: []string{"zt-selftest q8_0 round trip failed checks", "zt-selftest q8_0 GET_ROWS failed checks"},
	},
	{
		Name: "packing: the last two rows of a panel that is not full change places",
		File: path.Join(zen5, "pack.cpp"),
		Old:  "const block_q8_0 & w = in[(row0 - first + c - c0) * blocks + b];",
		New: "const int64_t end = take == tile_cols || take < 2 ? 0 : c0 + take;\n" +
			"                const block_q8_0 & w = in[(row0 - first + (c == end - 1 ? c - 1 : c == end - 2 ? c + 1 : c) - c0) * blocks + b];",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests", "its graph's q8_0 MUL_MAT failed tests"},
	},
	{
		Name:  "activations: the rows of the last group are in reverse order",
		File:  path.Join(zen5, "zen5.cpp"),
		Old:   "const int     r      = (int) (row - groups.start(g));",
		New:   "const int     r      = (int) (g == groups.count() - 1 ? groups.start(g) + height - 1 - row : row - groups.start(g));",
		Gate:  "operators",
		Fails: []string{"zt-selftest q8_0 MUL_MAT failed checks", "test-backend-ops q8_0 MUL_MAT failed tests"},
		Holds: []string{"zt-selftest q8_0 GET_ROWS failed checks"},
	},
	{
		Name:  "what other threads than the first compute is off by a last bit",
		File:  path.Join(zen5, "zen5.cpp"),
		Old:   kernelCall,
		New:   kernelCall + "                    if (params->ith != 0) {\n                        out[col] *= 1.0000001f;\n                    }\n",
		Gate:  "identity",
		Fails: []string{"33 tokens: -t 2 / -t 1 differing outputs"},
		Holds: []string{"-t 1 --mode decode / -t 1 differing outputs"},
	},
	{
		Name:  "rows of a batch from the second group on are off by a last bit",
		File:  path.Join(zen5, "zen5.cpp"),
		Old:   kernelCall,
		New:   kernelCall + "                    if (row > 0) {\n                        out[col] *= 1.0000001f;\n                    }\n",
		Gate:  "identity",
		Fails: []string{"-ub 1 / -t 1 differing outputs", "--seqs 9 --slot 7 / -t 1 differing outputs"},
		Holds: []string{"33 tokens: -t 2 / -t 1 differing outputs", "run twice differing outputs"},
	},
	{
		Name: "every matrix product leaks 2 KiB",
		File: path.Join(zen5, "zen5.cpp"),
		Old:  "        quantize();\n        if (params->ith == 0) {\n",
		New: "        quantize();\n        if (params->ith == 0) {\n" +
			"            static void * volatile lost;\n            lost = malloc(2048);\n",
		Gate:  "soak",
		Fails: []string{"memory growth per request"},
		Holds: []string{"memory huge pages kept per reload", "answers wrong answers"},
	},
	{
		Name:  "the pages of packed weights outlive their model",
		File:  path.Join(zen5, "pages.cpp"),
		Old:   "    if (block.base != nullptr) {\n        munmap(block.map, block.mapped);\n    }\n",
		New:   "    (void) block;\n",
		Gate:  "soak",
		Fails: []string{"memory growth per reload", "memory huge pages kept per reload"},
		Holds: []string{"memory growth per request", "answers wrong answers"},
	},
}

const kernelCall = "                    kernels[height - 1](out + col, stride, a, weights + p * panel_bytes + b * panel_block_bytes, n, mask, b > 0);\n"
