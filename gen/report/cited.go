package report

// citation is a speed that others measured and published.
type citation struct {
	Engine   string // and version
	Model    string
	Machine  string
	Workload string
	Rate     float64 // t/s
	Date     string  // of publication
	Source   string
	URL      string
}

const (
	ik164     = "ikawrakow/ik_llama.cpp, discussion 164, by its author"
	ik164URL  = "https://github.com/ikawrakow/ik_llama.cpp/discussions/164"
	ik533     = "ikawrakow/ik_llama.cpp, pull request 533, by its author"
	ik533URL  = "https://github.com/ikawrakow/ik_llama.cpp/pull/533"
	zendnn    = "ggml-org/llama.cpp, pull request 23414, by its author"
	zendnnURL = "https://github.com/ggml-org/llama.cpp/pull/23414"

	ryzen = "Ryzen 7950X, 16 threads"
	two   = "Ryzen 7950X, 2 threads"
	epyc  = "96 threads; the source names no CPU"

	llama31 = "Llama-3.1-8B-Instruct "
)

// cited are the numbers of other engines that the page lists apart from what was measured. Each was read in its source; what
// could not be found there is not listed.
var cited = []citation{
	{"llama.cpp 14b699ec (4384)", llama31 + "Q8_0", ryzen, "pp512", 147.92, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp, -rtr 1", llama31 + "Q8_0", ryzen, "pp512", 268.19, "2024-12-24", ik164, ik164URL},
	{"llama.cpp 14b699ec (4384)", llama31 + "Q4_0", ryzen, "pp512", 153.52, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp, -rtr 1", llama31 + "Q4_0", ryzen, "pp512", 273.54, "2024-12-24", ik164, ik164URL},
	{"llama.cpp 14b699ec (4384)", llama31 + "BF16", ryzen, "pp512", 78.58, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp, -rtr 1", llama31 + "BF16", ryzen, "pp512", 256.90, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp", llama31 + "Q8_K_R8", ryzen, "pp512", 370.11, "2024-12-24", ik164, ik164URL},
	{"llama.cpp 14b699ec (4384)", llama31 + "Q8_0", two, "tg128", 4.95, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp, -rtr 1", llama31 + "Q8_0", two, "tg128", 7.63, "2024-12-24", ik164, ik164URL},
	{"ik_llama.cpp", llama31 + "IQ4_KS", "Ryzen 7950X", "pp512", 362.81, "2025-06-17", ik533, ik533URL},
	{"llama.cpp 860a9e4ee (5688)", llama31 + "Q4_0", "Ryzen 7950X", "pp512", 170, "2025-06-17", ik533, ik533URL},
	{"llama.cpp, CPU backend", llama31 + "Q8_0", epyc, "pp512", 450.86, "2026-05-20", zendnn, zendnnURL},
	{"llama.cpp, ZenDNN backend", llama31 + "Q8_0", epyc, "pp512", 832.48, "2026-05-20", zendnn, zendnnURL},
	{"llama.cpp, CPU backend", llama31 + "Q8_0", epyc, "tg128", 33.08, "2026-05-20", zendnn, zendnnURL},
	{"llama.cpp, ZenDNN backend", llama31 + "Q8_0", epyc, "tg128", 33.14, "2026-05-20", zendnn, zendnnURL},
}
