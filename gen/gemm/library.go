package gemm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/blas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// Library is a shared library that has cblas_sgemm and is BLIS or OpenBLAS.
type Library struct{ Name, Path string }

var libraryForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)=([^,]+)$`)

// Named reads the value of ZT_BLAS_LIBS: NAME=FILE,NAME=FILE ...
func Named(text string) ([]Library, error) {
	if text == "" {
		return nil, nil
	}
	var list []Library
	for item := range strings.SplitSeq(text, ",") {
		m := libraryForm.FindStringSubmatch(strings.TrimSpace(item))
		if m == nil {
			return nil, fmt.Errorf("ZT_BLAS_LIBS: %q is not NAME=FILE", item)
		}
		path, err := filepath.Abs(m[2])
		if err != nil {
			return nil, fmt.Errorf("ZT_BLAS_LIBS: %w", err)
		}
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("ZT_BLAS_LIBS: %s: %w", m[1], err)
		}
		for _, l := range list {
			if l.Name == m[1] {
				return nil, fmt.Errorf("ZT_BLAS_LIBS: there are two libraries called %s", m[1])
			}
		}
		list = append(list, Library{m[1], path})
	}
	return list, nil
}

// distributed are the libraries of the distribution, which are installed for the measurement.
var distributed = []struct {
	name     string
	packages []string
	files    []string // patterns
}{
	{"blis", []string{"libblis4-pthread"}, []string{"/usr/lib/*/blis-pthread/libblis.so.*", "/usr/lib*/libblis.so.*"}},
	{"openblas", []string{"libopenblas0-pthread"}, []string{"/usr/lib/*/openblas-pthread/libopenblas.so.*", "/usr/lib*/libopenblas.so.*"}},
}

// Found are the libraries that a measurement can have without being told: the AOCL-BLAS that the tuned build is linked with, if it has a shared
// library beside it, and the distribution's upstream BLIS and OpenBLAS, installed where they are missing and that takes no one's hands.
func Found(ctx context.Context, s *progress.Step, linked blas.BLAS) ([]Library, error) {
	var list []Library
	for _, archive := range linked.Archives {
		shared := strings.TrimSuffix(archive, ".a") + ".so"
		if _, err := os.Stat(shared); err == nil && strings.HasPrefix(linked.Name, "AOCL") {
			list = append(list, Library{"aocl", shared})
		}
	}
	if list == nil {
		s.Say("no shared AOCL-BLAS beside what is linked (%s): ZT_BLAS_LIBS=aocl=FILE names one", linked)
	}
	for _, d := range distributed {
		need := packages.File(d.name, d.packages, d.files...)
		need.Optional = true
		if err := packages.Ensure(ctx, s, need); err != nil {
			return nil, err
		}
		if path := first(d.files); path != "" {
			list = append(list, Library{d.name, path})
		} else {
			s.Say("no %s here: its column is left out", d.name)
		}
	}
	return list, nil
}

func first(patterns []string) string {
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}
