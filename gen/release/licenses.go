package release

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-].*)?$`)

// Licenses returns Options.Licenses for what is compiled from source: this project's text in root, and those of llama.cpp and
// its vendored libraries in checkout. The texts of libraries that are only linked, BLAS and OpenSSL, are the caller's to add.
func Licenses(root, checkout string) (map[string]string, error) {
	all := map[string]string{
		"llama-zen-turbo/LICENSE": filepath.Join(root, "LICENSE"),
		"llama.cpp/LICENSE":       filepath.Join(checkout, "LICENSE"),
		// Mozilla's matrix multiplication states its license in its own head and nowhere else.
		"llama.cpp/ggml/src/ggml-cpu/llamafile/sgemm.cpp": filepath.Join(checkout, "ggml/src/ggml-cpu/llamafile/sgemm.cpp"),
	}
	for _, p := range all {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("license text: %w", err)
		}
	}
	for _, dir := range []string{"licenses", "vendor"} {
		err := filepath.WalkDir(filepath.Join(checkout, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !licenseName.MatchString(d.Name()) {
				return err
			}
			rel, err := filepath.Rel(checkout, p)
			all["llama.cpp/"+filepath.ToSlash(rel)] = p
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("license texts: %w", err)
		}
	}
	return all, nil
}
