// Package switches is the table of environment variables that change what this project's tools and programs do.
package switches

// When says which step reads a switch.
type When string

// The steps, in the order a newcomer meets them.
const (
	Build  When = "build"  // mage build, release, doctor
	Run    When = "run"    // the built programs
	Verify When = "verify" // mage verify, bench, types, features, scaling and model
	Test   When = "test"   // go test
)

// Switch is one environment variable. Unset and empty mean the same.
type Switch struct {
	Name    string
	Values  string // what it takes: choices, or a word for what to write
	Default string // what holds where it is unset
	Text    string
	When    When
}

var table = []Switch{
	{"ZT_DISABLE", "0|1", "0", "leave every tensor on stock llama.cpp's path", Run},
	{"ZT_LOG", "0|1", "0", "print one line for each decision of the runtime on stderr; mage verify: every result", Run},
	{"ZT_HUGEPAGES", "auto|1g|hugetlb|thp|off", "auto", "pages of weights, KV caches and compute buffers: the 1 GiB pool (weights only), the 2 MiB pool, transparent huge pages, 4 KiB; auto tries them in this order, the others start there; under libzenturbo-preload.so auto is thp", Run},
	{"ZT_HUGEPAGES_MIN", "MiB", "8", "smallest KV cache or compute buffer in huge pages; weights are from 2 MiB on; under libzenturbo-preload.so all large memory, from 32 MiB on where this is not set", Run},
	{"ZT_PREFETCH", "auto|0|1", "auto", "prefetch weights in software where memory is the limit; auto: on Intel, where it won, not on AMD, where it did not", Run},
	{"ZT_CODE", "auto|11|12|off", "auto", "code float weights (BF16, F16, F32) without loss; auto: each panel in the fewest bytes, 11: the same, 12: BF16 never in 11 bits, off: leave them on stock's path", Run},
	{"ZT_THREADS", "auto|stock", "auto", "threads where -t does not say; auto: one for each physical core that the process may use, and no more than control groups allow the time of", Run},
	{"ZT_SHARE", "0|1", "0", "1: processes of one user that load the same model have its packed weights in memory once, and only the first one packs them", Run},
	{"ZT_PIN", "auto|0|1", "auto", "where threads run if neither -C nor --numa say; auto: each within one L3, where they use several and the whole machine is ours; 1: each on a CPU of its own; 0: anywhere", Run},
	{"ZT_GOVERNOR", "auto|0|1", "auto", "generate with as many threads as memory keeps busy, which takes a second to measure, once for each machine; auto: where -t and -tb are not given and there are more than 4; 0: with all", Run},
	{"ZT_GRAPH", "0|1", "1", "0: threads meet behind every operation of a graph, as upstream's do, not only where they must", Run},
	{"ZT_BARRIER", "auto|flat|tree", "auto", "how threads meet: flat: all in one place; tree: those of an L3 first; auto: tree where each thread stays on its L3 and there are several", Run},
	{"ZT_STEAL", "0|1", "1", "0: each thread does its own part of a product of few rows, and none of the others'", Run},
	{"ZT_AHEAD", "off|wait|layer|copy", "wait", "who brings weights nearer before they are read: wait: a thread that waits for others, the start of its own next ones; layer: a thread more, what comes next; copy: one more that copies the next weights into a buffer; off: nobody", Run},
	{"ZT_WAITS", "0|1", "0", "count how often and how long threads wait for each other, for zt-probe speed", Run},
	{"ZT_SYSFS", "path", "/sys", "folder to read the topology of CPUs, caches and NUMA nodes from: a simulated machine, for tests", Run},
	{"ZT_BLAS", "0|1|slices", "0", "1: let ggml hand large products to BLAS and its threads; slices: our threads call BLAS for slices of float weights, in shapes that were measured to gain; no longer stock's bits", Run},
	{"ZT_PRELOAD_BLAS", "library", "the program's own", "what libzenturbo-preload.so passes cblas_sgemm and cblas_dgemm on to: AOCL's libblis.so; its threads are up to its own settings", Run},

	{"ZT_TARGET", "zen5|bringup", "what this CPU runs", "CPU to build for; bringup is for development and cannot be released", Build},
	{"ZT_LLAMA_SRC", "path", "cache, git, npm", "checkout, mirror, bundle or folder to take the pinned llama.cpp from", Build},
	{"ZT_AOCL_SRC", "path", "cache, git", "checkout, mirror, bundle or folder to take the pinned AOCL-BLAS from", Build},
	{"AOCL_ROOT", "path", "none", "installed AOCL to link instead of building one", Build},
	{"ZT_OUT", "path", "out", "folder of everything built", Build},
	{"ZT_CACHE", "path", "~/.cache/llama-zen-turbo", "folder of downloads and compiled objects", Build},
	{"CC", "program", "first found", "C compiler: clang >= 19 or gcc >= 14", Build},
	{"CXX", "program", "beside CC", "C++ compiler of the same kind and version", Build},

	{"ZT_MODEL", "file.gguf", "synthetic models", "model to verify or soak with", Verify},
	{"ZT_ACCURACY_ONLY", "0|1", "0", "skip the speed gates", Verify},
	{"ZT_ROUNDS", "number", "4 to 6; bench: 12; types, features, scaling: 2", "how often builds take turns at each speed, 3 or more; types, features and scaling: 2 or more", Verify},
	{"ZT_TYPES", "q4_K,moe64-q8_0,...", "all", "which weights mage types measures: a type, moe64 or moe8 with q4_K or q8_0, bf16, f16, f16-of-bf16, f32-of-bf16, with @11 behind bf16 or f32-of-bf16 for ZT_CODE=11, or trained-bf16", Verify},
	{"ZT_FEATURES", "pages,plan,...", "all", "which features mage features measures; a name that is none of them gets the list", Verify},
	{"ZT_BUILDS", "stock,tuned", "build them", "folders of programs that mage features and scaling measure instead, for a machine that cannot build", Verify},
	{"ZT_FLAGS", "o2,thinlto,...", "all", "which compiler choices mage flags measures: o2, no-interposition, shared, thinlto, pgo, pgo-thinlto", Verify},
	{"ZT_BLAS_LIBS", "name=file,...", "AOCL, BLIS and OpenBLAS as far as they are found", "shared libraries that mage blas compares", Verify},
	{"ZT_PEERS", "name=folder,...", "none", "builds of other engines with llama-bench, to measure beside stock and tuned", Verify},
	{"ZT_WATTS", "watts", "none", "what the machine draws under load, for the cost of a token in the report", Verify},
	{"ZT_PRICE_KWH", "price", "none", "what a kWh costs, for the same", Verify},
	{"ZT_CURRENCY", "word", "none", "what that price is counted in", Verify},
	{"ZT_SHAPE", "1b|0.5b|moe64|moe8|tiny|tiny64|tiny256|tiny-moe|tiny-bert", "1b", "shape of the synthetic model: moe64 has 8 of 64 experts, moe8 2 of 8, tiny-moe 4 of 16, tiny-bert embeds and ranks; rows of tiny and 0.5b do not fill blocks of 256; with -trained behind it rows and columns scatter as in a trained model", Verify},
	{"ZT_TYPE", "type or mix", "q8_0", "weights of the synthetic model: f32, f16, bf16, f16-of-bf16, f32-of-bf16, f32-of-f16, a quantized type from iq1_s to q8_0, or q3_k_m, q3_k_l, q4_k_m, q5_k_m, mxfp4_moe; or lora for an adapter", Verify},

	{"ZT_SEED", "number", "random", "seed of a randomized test, as its failure prints it", Test},
}

// All returns every switch, grouped by When.
func All() []Switch { return append([]Switch(nil), table...) }
