// Package workspace names every place the toolchain reads and writes. No other package joins a path below the
// repository root or the cache by itself.
package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Workspace is a checkout of this project together with its download cache.
type Workspace struct {
	Root  string // repository root: the folder with go.mod and patches/pin.toml
	Out   string // everything built; Root/out unless ZT_OUT names another folder
	Cache string // downloads and compiled objects, kept across `mage clean`
}

// Find returns the workspace whose root is the nearest folder at or above the current one that holds patches/pin.toml.
// ZT_OUT moves out/ and ZT_CACHE moves the cache, which is otherwise llama-zen-turbo under the user's cache folder.
func Find() (Workspace, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Workspace{}, err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "patches", "pin.toml")); err == nil {
			return At(dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return Workspace{}, err
		}
		if dir == filepath.Dir(dir) {
			return Workspace{}, fmt.Errorf("%s is not inside a llama-zen-turbo checkout: no patches/pin.toml at or above it", start)
		}
	}
}

// At returns the workspace rooted at root, honouring ZT_OUT and ZT_CACHE.
func At(root string) (Workspace, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return Workspace{}, err
	}
	w := Workspace{Root: root, Out: filepath.Join(root, "out")}
	if dir := os.Getenv("ZT_OUT"); dir != "" {
		if w.Out, err = filepath.Abs(dir); err != nil {
			return Workspace{}, err
		}
	}
	if w.Cache = os.Getenv("ZT_CACHE"); w.Cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return Workspace{}, fmt.Errorf("no cache folder (set ZT_CACHE to one): %w", err)
		}
		w.Cache = filepath.Join(base, "llama-zen-turbo")
	}
	w.Cache, err = filepath.Abs(w.Cache)
	return w, err
}

// Variant names one build of llama.cpp. Stock is the pinned tree untouched, compiled with the flags of a target so that a
// comparison measures our code and not the compiler's.
type Variant struct {
	Target string // a name from gen/target
	Stock  bool
	Mutant bool   // the tuned tree, broken on purpose by gen/mutant
	Flags  string // the tuned tree, compiled as this choice of gen/flags says; "" for the default
}

func (v Variant) String() string { return v.prefix("-") + v.folder() }

// folder is the name of a variant's build folder: the target, and what it is compiled with.
func (v Variant) folder() string {
	if v.Flags == "" {
		return v.Target
	}
	return v.Target + "+" + v.Flags
}

// prefix is what sets a variant's name and folder apart from those of the tuned build.
func (v Variant) prefix(separator string) string {
	switch {
	case v.Stock:
		return "stock" + separator
	case v.Mutant:
		return "mutant" + separator
	}
	return ""
}

// Patches is the patch queue with its pin.toml.
func (w Workspace) Patches() string { return filepath.Join(w.Root, "patches") }

// Templates holds the files laid into the llama.cpp checkout.
func (w Workspace) Templates() string { return filepath.Join(w.Root, "templates") }

// Tune is the committed page of what `mage tune` measured for a target.
func (w Workspace) Tune(target string) string {
	return filepath.Join(w.Root, "gen", "target", "tune", target+".md")
}

// Entropy is the committed page of what `mage entropy` measured.
func (w Workspace) Entropy() string { return filepath.Join(w.Root, "avo", "code", "ENTROPY.md") }

// Gen receives the generated assembly and the data rendered into templates.
func (w Workspace) Gen() string { return filepath.Join(w.Out, "gen") }

// Src is the llama.cpp checkout of a variant. The tuned checkout is shared by all targets. Stock and mutants live one level deeper,
// each with its own build folder beside it, so that all see their sources at ../../src and share compiled objects in ccache.
func (w Workspace) Src(v Variant) string { return filepath.Join(w.Out, v.prefix(""), "src") }

// Build is the CMake build folder of a variant.
func (w Workspace) Build(v Variant) string {
	return filepath.Join(w.Out, v.prefix(""), "build", v.folder())
}

// Bin receives the tuned programs of the last `mage build`.
func (w Workspace) Bin() string { return filepath.Join(w.Out, "bin") }

// Models holds the synthetic models that gates run.
func (w Workspace) Models() string { return filepath.Join(w.Out, "models") }

// Mutants receives what the gates of `mage mutants` write.
func (w Workspace) Mutants() string { return filepath.Join(w.Out, "mutant", "report") }

// Report receives what `mage verify` found.
func (w Workspace) Report() string { return filepath.Join(w.Out, "report") }

// Bench receives what `mage bench` found.
func (w Workspace) Bench() string { return filepath.Join(w.Report(), "bench") }

// Profile receives what instrumented programs of a choice of compiler flags count.
func (w Workspace) Profile(v Variant) string { return filepath.Join(w.Build(v), "profile") }

// Journal keeps what an interrupted run, `mage verify` or `mage bench` by name, has measured.
func (w Workspace) Journal(run string) string { return filepath.Join(w.Report(), run+".journal") }

// Dist receives release archives.
func (w Workspace) Dist() string { return filepath.Join(w.Out, "dist") }

// Sources caches downloaded source trees.
func (w Workspace) Sources() string { return filepath.Join(w.Cache, "sources") }

// Libraries caches libraries built from fetched sources.
func (w Workspace) Libraries() string { return filepath.Join(w.Cache, "libraries") }

// CCache caches compiled objects.
func (w Workspace) CCache() string { return filepath.Join(w.Cache, "ccache") }

// Lock takes the workspace for one run and returns its release. A second run fails at once, naming the holder; the kernel
// drops the lock when its process dies, so a killed run leaves nothing to clean up.
func (w Workspace) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(w.Out, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(w.Out, ".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another run (process %s) is working in %s; wait for it to end", holder, w.Out)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d", os.Getpid())
	}
	return func() { f.Close() }, nil
}
