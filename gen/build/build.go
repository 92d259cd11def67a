// Package build turns the pinned sources into programs: the tuned build of a target, and the stock build it is compared with.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/blas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/catalog"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/generator"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/patch"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/render"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Version is what the programs and release archives call themselves.
const Version = "0.1.0"

// probe is the CMake file that adds zt-probe, which measures stock and tuned builds alike.
const probe = "tools/zt-probe/zt-probe.cmake"

// Where the runtime's files lie in the checkout.
const (
	zen5Dir    = "ggml/src/ggml-cpu/zen5/"
	hostDir    = "ggml/src/ggml-host/"
	preloadDir = "tools/zenturbo-preload/"
)

// Build is a finished build and what it was made with.
type Build struct {
	Variant   workspace.Variant
	Target    target.Target
	Pin       pin.Pin
	Source    pin.Source
	Toolchain toolchain.Toolchain
	BLAS      blas.BLAS         // none in a stock build
	Options   toolchain.Options // beyond the target's flags; none in stock and tuned builds
	Kernels   map[string][]byte
	Bin       string // folder of the programs
	Tests     string // folder of upstream's tests, as far as they were built
}

// header is what templates see.
type header struct {
	Target  target.Target
	Kernels []kernel.Info
	Types   []catalog.Type
	Coding  []catalog.Coded
	Version string
	BLAS    string
}

// Tuned builds every program for t, and the named tests of upstream.
func Tuned(ctx context.Context, w workspace.Workspace, log *progress.Log, t target.Target, tests ...string) (Build, error) {
	return tuned(ctx, w, log, workspace.Variant{Target: t.Name}, t, append([]string{"all"}, tests...)...)
}

// Mutant builds the named programs as Tuned does, in a checkout of their own that the caller may break and mend. What an earlier
// caller has broken there is mended.
func Mutant(ctx context.Context, w workspace.Workspace, log *progress.Log, t target.Target, programs ...string) (Build, error) {
	v := workspace.Variant{Target: t.Name, Mutant: true}
	for _, dir := range []string{zen5Dir, hostDir, preloadDir} {
		if err := os.RemoveAll(filepath.Join(w.Src(v), dir)); err != nil {
			return Build{}, err
		}
	}
	return tuned(ctx, w, log, v, t, programs...)
}

func tuned(ctx context.Context, w workspace.Workspace, log *progress.Log, v workspace.Variant, t target.Target, programs ...string) (Build, error) {
	b := Build{Variant: v, Target: t}
	if err := b.prepare(ctx, w, log); err != nil {
		return b, err
	}
	if err := log.Step(ctx, "blas", func(ctx context.Context, s *progress.Step) (err error) {
		b.BLAS, err = blas.Find(ctx, w, s, b.Toolchain, t, b.Pin)
		s.Did("%s", b.BLAS)
		return err
	}); err != nil {
		return b, err
	}
	if err := log.Step(ctx, "patches", func(ctx context.Context, s *progress.Step) error {
		return b.lay(ctx, w, s)
	}); err != nil {
		return b, err
	}
	cache := b.Toolchain.LlamaCpp(Version)
	maps.Copy(cache, b.BLAS.CMake)
	return b, b.compile(ctx, w, log, cache, programs...)
}

// Otherwise builds the named programs from the sources of b, a tuned build, with other compiler flags and in a folder of its own that is
// called by name.
func (b Build) Otherwise(ctx context.Context, w workspace.Workspace, log *progress.Log, name string, o toolchain.Options, programs ...string) (Build, error) {
	b.Variant.Flags, b.Options = name, o
	cache := b.Toolchain.LlamaCpp(Version)
	maps.Copy(cache, b.BLAS.CMake)
	return b, b.compile(ctx, w, log, cache, programs...)
}

// Install makes folder hold the build's programs and nothing else.
func (b Build) Install(ctx context.Context, log *progress.Log, folder string) error {
	return log.Step(ctx, "install", func(ctx context.Context, s *progress.Step) error {
		n, err := install(b.Bin, folder)
		s.Did("%d programs in %s", n, folder)
		return err
	})
}

// Programs returns the paths of the build's programs, sorted.
func (b Build) Programs() ([]string, error) {
	programs, err := list(b.Bin)
	paths := make([]string, len(programs))
	for i, p := range programs {
		paths[i] = filepath.Join(b.Bin, p.Name())
	}
	return paths, err
}

// list returns the programs in a folder.
func list(folder string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var programs []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			programs = append(programs, info)
		}
	}
	return programs, nil
}

// Stock builds the named programs from the pinned sources as they are, with t's flags. zt-probe is added from outside.
func Stock(ctx context.Context, w workspace.Workspace, log *progress.Log, t target.Target, programs ...string) (Build, error) {
	b := Build{Variant: workspace.Variant{Target: t.Name, Stock: true}, Target: t}
	if err := b.prepare(ctx, w, log); err != nil {
		return b, err
	}
	return b, b.compile(ctx, w, log, b.Toolchain.LlamaCpp(Version), programs...)
}

// prepare finds the tools and checks the sources out.
func (b *Build) prepare(ctx context.Context, w workspace.Workspace, log *progress.Log) (err error) {
	if b.Pin, err = pin.Read(filepath.Join(w.Patches(), "pin.toml")); err != nil {
		return err
	}
	if err := log.Step(ctx, "toolchain", func(ctx context.Context, s *progress.Step) error {
		b.Toolchain, err = toolchain.Find(ctx, w, s, b.Target)
		s.Did("%s, for %s", b.Toolchain, b.Target.Title)
		return err
	}); err != nil {
		return err
	}
	return log.Step(ctx, "sources", func(ctx context.Context, s *progress.Step) error {
		if b.Source, err = b.Pin.Fetch(ctx, w, s); err != nil {
			return err
		}
		s.Did("llama.cpp %s, tree %.12s, %s", b.Pin.LlamaCpp.Tag, b.Source.Tree, b.Source.Route)
		return b.Source.Checkout(ctx, w.Src(b.Variant))
	})
}

// lay applies the patch queue to the checkout and puts templates and generated kernels into it.
func (b *Build) lay(ctx context.Context, w workspace.Workspace, s *progress.Step) (err error) {
	src := w.Src(b.Variant)
	if err := patch.Apply(ctx, src, w.Patches()); err != nil {
		return err
	}
	if b.Kernels, err = generator.GNU(); err != nil {
		return err
	}
	if err := os.MkdirAll(w.Gen(), 0o755); err != nil {
		return err
	}
	for name, text := range b.Kernels {
		if err := os.WriteFile(filepath.Join(w.Gen(), name+".S"), text, 0o644); err != nil {
			return err
		}
	}
	laid, err := render.Lay(ctx, w.Templates(), src, header{
		Target:  b.Target,
		Kernels: catalog.Runtime(),
		Types:   catalog.Types(),
		Coding:  catalog.Coding(),
		Version: Version,
		BLAS:    b.BLAS.Name,
	}, map[string][]byte{zen5Dir + "gemm.S": b.Kernels["gemm"], zen5Dir + "dot.S": b.Kernels["dot"]})
	s.Did("queue applied, %d files laid in (%d changed)", len(laid.Written)+len(laid.Unchanged), len(laid.Written))
	return err
}

// compile configures and builds the named programs. "all" is every program but upstream's tests.
func (b *Build) compile(ctx context.Context, w workspace.Workspace, log *progress.Log, cache map[string]string, programs ...string) error {
	dir := w.Build(b.Variant)
	b.Bin, b.Tests = filepath.Join(dir, "bin"), filepath.Join(dir, "tests")
	cache["CMAKE_PROJECT_llama.cpp_INCLUDE"] = filepath.Join(w.Templates(), probe)
	if err := log.Step(ctx, "configure", func(ctx context.Context, s *progress.Step) error {
		s.Did("%s build in %s", b.Variant, dir)
		return b.Toolchain.Configure(ctx, s, toolchain.Config{Source: w.Src(b.Variant), Build: dir, Flags: b.Target.Flags, Cache: cache, Options: b.Options})
	}); err != nil {
		return err
	}
	return log.Step(ctx, "compile", func(ctx context.Context, s *progress.Step) error {
		n, err := b.Toolchain.Build(ctx, s, dir, programs...)
		if n == 0 {
			s.Did("nothing changed")
		} else {
			s.Did("%d steps", n)
		}
		return err
	})
}

// install makes to hold the programs of from and nothing else, and returns how many there are. A program is replaced in one
// step, so that one that is running or a run that is killed never sees half of it.
func install(from, to string) (n int, err error) {
	programs, err := list(from)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return 0, err
	}
	wanted := map[string]bool{}
	for _, p := range programs {
		wanted[p.Name()] = true
		if have, err := os.Stat(filepath.Join(to, p.Name())); err == nil && have.Size() == p.Size() && have.ModTime().Equal(p.ModTime()) {
			continue
		}
		if err := replace(filepath.Join(from, p.Name()), filepath.Join(to, p.Name()), p.ModTime()); err != nil {
			return 0, err
		}
	}
	old, err := os.ReadDir(to)
	if err != nil {
		return 0, err
	}
	for _, e := range old {
		if !wanted[e.Name()] {
			if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
				return 0, err
			}
		}
	}
	return len(programs), nil
}

// replace copies a program over another in one step.
func replace(from, to string, modified time.Time) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	partial := to + ".partial"
	out, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Chtimes(partial, modified, modified)
	}
	if err == nil {
		err = os.Rename(partial, to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy %s to %s: %w", from, to, err), ignoreMissing(os.Remove(partial)))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
