// Package pin fetches the upstream sources named in patches/pin.toml, by whatever route reaches them, and proves by git hash
// that they are the pinned ones.
package pin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Pin is the content of pin.toml. Every key is required.
type Pin struct {
	LlamaCpp LlamaCpp `toml:"llama_cpp"`
	AOCLBLAS AOCLBLAS `toml:"aocl_blas"`
}

// LlamaCpp pins llama.cpp by its git tree hash, so that a route with another history, such as the squashed one in the npm
// package, is as good as the public repository.
type LlamaCpp struct {
	Repository string `toml:"repository"` // URL of the public git repository
	Tag        string `toml:"tag"`
	Tree       string `toml:"tree"` // 40 hex digits
	NPM        NPM    `toml:"npm"`
}

// NPM names a package that carries the tree as a git bundle.
type NPM struct {
	Package string `toml:"package"`
	Version string `toml:"version"`
	Bundle  string `toml:"bundle"` // path of the bundle in the package's archive
}

// AOCLBLAS pins AOCL-BLAS by its git commit.
type AOCLBLAS struct {
	Repository string `toml:"repository"`
	Tag        string `toml:"tag"`
	Commit     string `toml:"commit"` // 40 hex digits
}

var hash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Read reads pin.toml. A key that is unknown, missing or malformed is an error that names it.
func Read(path string) (Pin, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Pin{}, err
	}
	var p Pin
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&p)
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		e := strict.Errors[0]
		line, _ := e.Position()
		return Pin{}, fmt.Errorf("%s:%d: unknown key %s", path, line, strings.Join(e.Key(), "."))
	case errors.As(err, &decode):
		line, column := decode.Position()
		if key := decode.Key(); len(key) > 0 {
			err = fmt.Errorf("key %s: %w", strings.Join(key, "."), err)
		}
		return Pin{}, fmt.Errorf("%s:%d:%d: %w", path, line, column, err)
	case err != nil:
		return Pin{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, k := range []struct{ key, value string }{
		{"llama_cpp.repository", p.LlamaCpp.Repository},
		{"llama_cpp.tag", p.LlamaCpp.Tag},
		{"llama_cpp.tree", p.LlamaCpp.Tree},
		{"llama_cpp.npm.package", p.LlamaCpp.NPM.Package},
		{"llama_cpp.npm.version", p.LlamaCpp.NPM.Version},
		{"llama_cpp.npm.bundle", p.LlamaCpp.NPM.Bundle},
		{"aocl_blas.repository", p.AOCLBLAS.Repository},
		{"aocl_blas.tag", p.AOCLBLAS.Tag},
		{"aocl_blas.commit", p.AOCLBLAS.Commit},
	} {
		if k.value == "" {
			return Pin{}, fmt.Errorf("%s: key %s is missing", path, k.key)
		}
		if (k.key == "llama_cpp.tree" || k.key == "aocl_blas.commit") && !hash.MatchString(k.value) {
			return Pin{}, fmt.Errorf("%s: key %s: %q is not a git hash of 40 lower-case hex digits", path, k.key, k.value)
		}
	}
	return p, nil
}
