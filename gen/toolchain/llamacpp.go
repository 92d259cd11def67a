package toolchain

// LlamaCpp is the configuration that every llama.cpp of this project is built with, stock and tuned alike, so that a
// comparison of the two compares sources. version is what programs print behind "commit".
func (tc Toolchain) LlamaCpp(version string) map[string]string {
	openSSL := "OFF"
	if tc.StaticOpenSSL {
		openSSL = "ON"
	}
	return map[string]string{
		// Programs of one file each, which a release can carry to another machine.
		"BUILD_SHARED_LIBS":       "OFF",
		"LLAMA_OPENSSL":           "ON", // downloads of models with -hf
		"OPENSSL_USE_STATIC_LIBS": openSSL,

		"LLAMA_BUILD_TESTS":    "OFF",
		"LLAMA_BUILD_EXAMPLES": "OFF",

		// The target's flags say what to compile for.
		"GGML_NATIVE": "OFF",
		// With OpenMP ggml ignores --poll and sets thread affinity anew for every graph, and OpenMP switches itself on wherever
		// the compiler happens to have it.
		"GGML_OPENMP": "OFF",
		// The toolchain launches ccache itself.
		"GGML_CCACHE": "OFF",

		// The web page of llama-server is either built with npm or downloaded while compiling; a build that works offline and
		// the same everywhere can do neither.
		"LLAMA_BUILD_UI":        "OFF",
		"LLAMA_USE_PREBUILT_UI": "OFF",

		// Otherwise these come from whatever git repository the build happens to be in. ggml asks git by itself, unless it
		// believes that there is none; then it takes LLAMA_BUILD_COMMIT.
		"LLAMA_BUILD_IS_DEV": "OFF", // the pin is a release tag
		"LLAMA_BUILD_NUMBER": "0",
		"LLAMA_BUILD_COMMIT": version,
		"GIT_EXE":            "OFF",
	}
}
