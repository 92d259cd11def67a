package blas

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
)

// family is the configuration of AOCL-BLAS for a target. A build for one family, unlike "amdzen", holds the kernels of that
// CPU alone and does not let BLIS_ARCH_TYPE choose others.
func (f finder) family() string {
	if f.t.Name == "zen5" {
		return "zen5"
	}
	return "zen4"
}

// built returns AOCL-BLAS built from src, from the cache if it was built there before with the same compiler.
func (f finder) built(ctx context.Context, src pin.Source) (BLAS, error) {
	options := []string{"-t", "pthreads", "--enable-cblas", "--enable-static", "--enable-shared"} // shared: for mage blas
	// Everything that decides what comes out; sources by tree, because an unpacked folder has no upstream commit.
	key := sha256.Sum256(fmt.Appendln(nil, src.Tree, f.tc, options, f.family()))
	prefix := filepath.Join(f.w.Libraries(), fmt.Sprintf("aocl-blas-%s-%s-%x", f.pin.Tag, f.family(), key[:6]))
	archive := filepath.Join(prefix, "lib", "libblis-mt.a")
	if !exists(archive) {
		if err := f.build(ctx, src, options, prefix); err != nil {
			return BLAS{}, fmt.Errorf("AOCL-BLAS %s (%s): %w", f.pin.Tag, src.Route, err)
		}
	}
	b, err := f.link(ctx, filepath.Join(prefix, "include", "blis"), archive, false)
	if err != nil {
		return BLAS{}, err
	}
	b.License = first(filepath.Join(prefix, "LICENSE"))
	b.Route = src.Route
	if !src.Checked {
		b.Route += ", an unpacked folder whose commit is not known"
	}
	return b, nil
}

// build compiles src and installs it to prefix, which appears in one step when all is done.
func (f finder) build(ctx context.Context, src pin.Source, options []string, prefix string) (err error) {
	if err := f.ensure(ctx, f.s,
		packages.Command("make", []string{"make"}, "make", "gmake"),
		packages.Command("python3, which AOCL-BLAS builds with", []string{"python3"}, "python3"),
		packages.Command("perl, which AOCL-BLAS builds with", []string{"perl"}, "perl"),
	); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(prefix), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(prefix), ".building-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tree, installed := filepath.Join(dir, "src"), filepath.Join(dir, "installed")
	if err := src.Checkout(ctx, tree); err != nil {
		return err
	}
	// configure would put the day into the version string, and with it into every program.
	version, err := os.ReadFile(filepath.Join(tree, "version"))
	if err != nil {
		return fmt.Errorf("the sources are not AOCL-BLAS: %w", err)
	}
	options = append(options, "--force-version=AOCL-BLAS "+strings.TrimSpace(string(version)))
	f.s.Say("building AOCL-BLAS %s for %s from %s", f.pin.Tag, f.family(), src.Route)
	configure := append(append([]string{"-p", installed}, options...), "CC="+f.tc.CC, "CXX="+f.tc.CXX, f.family())
	if _, err := f.step(ctx, tree, io.Discard, "./configure", configure...); err != nil {
		return err
	}
	plan, err := f.step(ctx, tree, io.Discard, "make", "--dry-run", "libs")
	if err != nil {
		return err
	}
	compiled := &compilations{f: f, total: strings.Count(plan, "Compiling ")}
	if _, err := f.step(ctx, tree, compiled, "make", fmt.Sprintf("-j%d", runtime.NumCPU()), "libs"); err != nil {
		return err
	}
	if _, err := f.step(ctx, tree, io.Discard, "make", "install"); err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(tree, "LICENSE"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(installed, "LICENSE"), license, 0o644); err != nil {
		return err
	}
	if err := os.Rename(installed, prefix); err != nil && !exists(filepath.Join(prefix, "lib", "libblis-mt.a")) {
		return err // no other run has put the same there meanwhile
	}
	return nil
}

// step runs one command of the build and returns its output. The error carries the end of it.
func (f finder) step(ctx context.Context, dir string, watch io.Writer, command string, args ...string) (string, error) {
	var output bytes.Buffer
	cmd := child.Command(ctx, command, args...)
	cmd.Dir = dir
	both := io.MultiWriter(&output, watch)
	cmd.Stdout, cmd.Stderr = both, both // one writer, which exec then calls from one goroutine
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return "", fmt.Errorf("%s: %w\n%s", command, err, strings.Join(lines[max(0, len(lines)-12):], "\n"))
	}
	return output.String(), nil
}

// compilations counts make's "Compiling ..." lines.
type compilations struct {
	f           finder
	done, total int
}

func (c *compilations) Write(p []byte) (int, error) {
	if n := bytes.Count(p, []byte("Compiling ")); n > 0 {
		c.done += n
		c.f.s.Count(c.done, max(c.done, c.total), "AOCL-BLAS")
	}
	return len(p), nil
}
