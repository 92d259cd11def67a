// Package blas finds the BLAS that ggml's BLAS backend is linked with: AOCL-BLAS where it can be had, else the distribution's
// BLIS, which is then named as what it is. Only static archives are taken, so that programs run on machines without it.
package blas

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// BLAS is a library that a program was seen to link with and compute the right product.
type BLAS struct {
	Name     string            // "AOCL-BLAS 5.1" or "upstream BLIS 0.9.0, not AOCL"
	Version  string            // "5.1"
	CMake    map[string]string // what ggml's configuration needs to take just this library
	Archives []string          // absolute paths
	License  string            // path of its licence text, "" where there is none beside it
	Route    string            // how it got here, for people
}

// String is the library as logs and manifests name it: "AOCL-BLAS 5.1 (AOCL_ROOT=/opt/aocl)".
func (b BLAS) String() string {
	if b.Name == "" {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", b.Name, b.Route)
}

// Find returns the BLAS to link: the installed AOCL that $AOCL_ROOT names; AOCL-BLAS built from the pinned sources; and only
// where those cannot be had, the distribution's BLIS. AOCL_ROOT and ZT_AOCL_SRC are errors if they are set and of no use, and
// so are pinned sources that do not build.
func Find(ctx context.Context, w workspace.Workspace, s *progress.Step, tc toolchain.Toolchain, t target.Target, p pin.Pin) (BLAS, error) {
	return finder{w: w, s: s, tc: tc, t: t, ensure: packages.Ensure, fetch: p.FetchAOCL, pin: p.AOCLBLAS, distribution: "/usr"}.find(ctx)
}

// finder is Find with what tests replace.
type finder struct {
	w      workspace.Workspace
	s      *progress.Step
	tc     toolchain.Toolchain
	t      target.Target
	pin    pin.AOCLBLAS
	ensure func(context.Context, *progress.Step, ...packages.Need) error
	fetch  func(context.Context, workspace.Workspace, *progress.Step) (pin.Source, error)

	distribution string // prefix that the distribution installs to
}

func (f finder) find(ctx context.Context) (BLAS, error) {
	if root := os.Getenv("AOCL_ROOT"); root != "" {
		b, err := f.installed(ctx, root)
		if err != nil {
			return BLAS{}, fmt.Errorf("AOCL_ROOT=%s: %w; point it at an installed AOCL or unset it", root, err)
		}
		return b, nil
	}
	src, err := f.source(ctx)
	if err == nil {
		return f.built(ctx, src)
	}
	if !errors.Is(err, pin.ErrNoRoute) {
		return BLAS{}, err
	}
	return f.fallback(ctx)
}

// retry is how long an unreachable repository is not asked again.
const retry = 24 * time.Hour

// source fetches AOCL-BLAS. That it cannot be had is remembered for a day, so that builds on a machine without network do not
// wait for it each time; a source that ZT_AOCL_SRC names is always looked at.
func (f finder) source(ctx context.Context) (pin.Source, error) {
	remembered := f.unreachable()
	if os.Getenv("ZT_AOCL_SRC") == "" {
		if text, err := os.ReadFile(remembered); err == nil {
			if info, err := os.Stat(remembered); err == nil && fresh(info) {
				return pin.Source{}, fmt.Errorf("%w, as found less than a day ago (delete %s to try again): %s", pin.ErrNoRoute, remembered, text)
			}
		}
	}
	src, err := f.fetch(ctx, f.w, f.s)
	switch {
	case err == nil:
		if err := os.Remove(remembered); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pin.Source{}, err
		}
	case errors.Is(err, pin.ErrNoRoute) && ctx.Err() == nil:
		f.s.Say("AOCL-BLAS cannot be fetched: %v", err)
		if err := os.MkdirAll(filepath.Dir(remembered), 0o755); err != nil {
			return pin.Source{}, err
		}
		if err := os.WriteFile(remembered, []byte(err.Error()+"\n"), 0o644); err != nil {
			return pin.Source{}, err
		}
	}
	return src, err
}

// unreachable is the file whose age says when AOCL-BLAS was last found out of reach.
func (f finder) unreachable() string {
	return filepath.Join(f.w.Sources(), "aocl-blas-"+f.pin.Commit+".unreachable")
}

// layouts are the pairs of header and archive folders, in the order of preference, of an installed AOCL (32-bit integers
// before the default choice, which may have 64-bit ones), of AOCL-BLAS alone, and of what its own build installs.
var layouts = [][2]string{
	{"include_LP64", "lib_LP64"},
	{"include/LP64", "lib/LP64"},
	{"amd-blis/include/LP64", "amd-blis/lib/LP64"},
	{"include", "lib"},
	{"include/blis", "lib"},
}

// installed takes the AOCL below root.
func (f finder) installed(ctx context.Context, root string) (BLAS, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return BLAS{}, err
	}
	var why error
	for _, layout := range layouts {
		include, lib := filepath.Join(root, layout[0]), filepath.Join(root, layout[1])
		if !exists(filepath.Join(include, "blis.h")) || !exists(filepath.Join(include, "cblas.h")) {
			continue
		}
		for _, name := range []string{"libblis-mt.a", "libblis.a"} {
			archive := filepath.Join(lib, name)
			if !exists(archive) {
				continue
			}
			b, err := f.link(ctx, include, archive, false)
			if err != nil {
				why = errors.Join(why, err)
				continue
			}
			b.License = first(filepath.Join(root, "LICENSE*"), filepath.Join(root, "*", "LICENSE*"), filepath.Join(root, "share", "doc", "*", "LICENSE*"))
			b.Route = "AOCL_ROOT=" + root
			return b, nil
		}
	}
	if why != nil {
		return BLAS{}, why
	}
	return BLAS{}, errors.New("it has no include/ (or include_LP64/) with blis.h and cblas.h beside a lib/ (or lib_LP64/) with libblis-mt.a or libblis.a")
}

// flavours of Debian's BLIS, best first: the OpenMP one brings a second thread pool of its own kind along.
var flavours = []string{"pthread", "serial", "openmp"}

// fallback takes the distribution's BLIS, installing it where it is missing.
func (f finder) fallback(ctx context.Context) (BLAS, error) {
	var archives []string
	for _, flavour := range flavours {
		archives = append(archives, filepath.Join(f.distribution, "lib", "*", "blis-"+flavour, "libblis.a"))
	}
	for _, lib := range []string{"lib", "lib64", "local/lib"} {
		archives = append(archives, filepath.Join(f.distribution, lib, "libblis.a"))
	}
	need := packages.File("BLIS, which stands in where AOCL-BLAS cannot be had (set AOCL_ROOT to an installed AOCL or ZT_AOCL_SRC to its sources)",
		[]string{"libblis-pthread-dev", "libblis-serial-dev"}, archives...)
	if err := f.ensure(ctx, f.s, need); err != nil {
		return BLAS{}, err
	}
	archive := first(archives...)
	if archive == "" {
		return BLAS{}, errors.New("BLIS is missing although it was installed: no static archive below " + f.distribution)
	}
	// Debian keeps headers of a flavour at include/<triplet>/blis-<flavour>, others at include/blis.
	lib := filepath.Dir(archive)
	prefix, _, _ := strings.Cut(archive, "/lib/")
	header := first(
		filepath.Join(strings.Replace(lib, "/lib/", "/include/", 1), "blis.h"),
		filepath.Join(prefix, "include", "blis", "blis.h"),
		filepath.Join(f.distribution, "include", "blis", "blis.h"),
	)
	if header == "" {
		return BLAS{}, fmt.Errorf("%s has no blis.h that belongs to it; reinstall libblis-pthread-dev", archive)
	}
	b, err := f.link(ctx, filepath.Dir(header), archive, true)
	if err != nil {
		return BLAS{}, err
	}
	b.License = first(filepath.Join(f.distribution, "share", "doc", "lib"+filepath.Base(lib)+"-dev", "copyright"),
		filepath.Join(f.distribution, "share", "licenses", "blis*", "LICENSE*"), filepath.Join(f.distribution, "share", "doc", "blis*", "LICENSE*"))
	b.Route = archive
	return b, nil
}

// threading is what an archive may need beside itself: nothing but threads, or the OpenMP it was compiled with.
var threading = [][]string{
	{"-lpthread", "-lm"},
	{"-l:libgomp.a", "-ldl", "-lpthread", "-lm"},
	{"-l:libomp.a", "-ldl", "-lpthread", "-lm"},
}

// link makes a program with the archive and runs it. An archive for one CPU only (portable false) is asked to multiply only
// where this machine has the target's CPU.
func (f finder) link(ctx context.Context, include, archive string, portable bool) (BLAS, error) {
	dir, err := os.MkdirTemp("", "zt-blas")
	if err != nil {
		return BLAS{}, err
	}
	defer os.RemoveAll(dir)
	var refusal error
	for _, libraries := range threading {
		p := program{dir: dir, cc: f.tc.CC, include: include, link: append([]string{archive}, libraries...)}
		if err := p.build(ctx); err != nil {
			if refusal == nil {
				refusal = err // the plainest attempt says most
			}
			continue
		}
		version, err := p.run(ctx, portable || f.t.Accepts(target.Host()) == nil)
		if err != nil {
			return BLAS{}, fmt.Errorf("%s: %w", archive, err)
		}
		b := BLAS{
			Archives: []string{archive},
			CMake: map[string]string{
				"GGML_BLAS":         "ON",
				"GGML_BLAS_VENDOR":  "FLAME", // ggml then sets the number of BLIS's threads
				"BLAS_LIBRARIES":    strings.Join(p.link, ";"),
				"BLAS_INCLUDE_DIRS": include,
			},
		}
		b.Name, b.Version = name(version)
		return b, nil
	}
	if ctx.Err() != nil {
		return BLAS{}, context.Cause(ctx)
	}
	return BLAS{}, fmt.Errorf("no program links with %s: %w", archive, refusal)
}

var aocl = regexp.MustCompile(`AOCL[-_ ]?(?:BLAS|BLIS)? *(\d+(?:\.\d+)*)`)

// name tells AOCL-BLAS from upstream by what the library calls itself: "AOCL-BLAS 5.1.0 Build 20241028" or "0.9.0".
func name(self string) (name, version string) {
	if m := aocl.FindStringSubmatch(self); m != nil {
		return "AOCL-BLAS " + m[1], m[1]
	}
	return fmt.Sprintf("upstream BLIS %s, not AOCL", self), self
}

// first returns the first file that matches one of the patterns, or "".
func first(patterns ...string) string {
	for _, p := range patterns {
		found, _ := filepath.Glob(p)
		for _, file := range found {
			if exists(file) {
				return file
			}
		}
	}
	return ""
}

// exists reports whether path leads to a regular file.
func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
