package flags

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// measured is the program that is built of a choice. It has what computes and little else, so that six choices are built in the time of
// one whole build.
const measured = "zt-probe"

// builder builds choices beside one tuned build.
type builder struct {
	w       workspace.Workspace
	log     *progress.Log
	base    build.Build
	train   []string // models that a profile is made of
	threads int
	profile string // once it is there
}

// errClang is why a choice cannot be made with another compiler.
var errClang = errors.New("it takes clang with LLVM's tools of the same version")

// build returns the programs of a choice.
func (b *builder) build(ctx context.Context, c Choice) (program.Build, error) {
	o := c.Options
	if c.Clang {
		tools, err := b.llvm(ctx)
		if err != nil {
			return program.Build{}, err
		}
		o = with(o, toolchain.Options{More: tools})
	}
	if c.Shared {
		// one C++ runtime for all of them
		link := slices.DeleteFunc(slices.Clone(b.base.Toolchain.LinkFlags), func(f string) bool { return strings.HasPrefix(f, "-static-") })
		o = with(o, toolchain.Options{More: map[string]string{
			"BUILD_SHARED_LIBS": "ON", "CMAKE_EXE_LINKER_FLAGS": strings.Join(link, " "), "CMAKE_SHARED_LINKER_FLAGS": strings.Join(link, " "),
		}})
	}
	if c.Trained {
		if err := b.trained(ctx); err != nil {
			return program.Build{}, err
		}
		o = with(o, toolchain.Options{Compile: []string{"-fprofile-use=" + b.profile, "-Wno-profile-instr-unprofiled", "-Wno-profile-instr-out-of-date", "-Wno-backend-plugin"}})
	}
	built, err := b.base.Otherwise(ctx, b.w, b.log, c.Name, o, measured)
	return program.Build{Name: c.Name, Bin: built.Bin}, err
}

// with is a and what b adds to it.
func with(a, b toolchain.Options) toolchain.Options {
	more := map[string]string{}
	maps.Copy(more, a.More)
	maps.Copy(more, b.More)
	return toolchain.Options{Compile: slices.Concat(a.Compile, b.Compile), Link: slices.Concat(a.Link, b.Link), More: more}
}

// tool is a program of LLVM in the version of the compiler: Debian calls it llvm-ar-19, LLVM's own installations llvm-ar beside clang.
func (b *builder) tool(name string) (string, error) {
	major, _, _ := strings.Cut(b.base.Toolchain.Version, ".")
	for _, candidate := range []string{name + "-" + major, filepath.Join(filepath.Dir(b.base.Toolchain.CC), name)} {
		if path, err := exec.LookPath(candidate); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("there is no %s-%s", name, major)
}

// llvm installs LLVM's tools where they are missing and returns the entries of cmake's cache that name those for archives: ar without a
// plugin sees no symbols in objects that are yet to be compiled.
func (b *builder) llvm(ctx context.Context) (map[string]string, error) {
	if b.base.Toolchain.Family != "clang" {
		return nil, errClang
	}
	major, _, _ := strings.Cut(b.base.Toolchain.Version, ".")
	wanted := map[string]string{"CMAKE_AR": "llvm-ar", "CMAKE_RANLIB": "llvm-ranlib", "": "llvm-profdata"}
	need := packages.Need{Name: "LLVM's tools", Packages: []string{"llvm-" + major, "llvm"}, Have: func() bool {
		for _, name := range wanted {
			if _, err := b.tool(name); err != nil {
				return false
			}
		}
		return true
	}}
	if err := b.log.Step(ctx, "llvm", func(ctx context.Context, s *progress.Step) error { return packages.Ensure(ctx, s, need) }); err != nil {
		return nil, fmt.Errorf("%w: %w", errClang, err)
	}
	entries := map[string]string{}
	for key, name := range wanted {
		path, err := b.tool(name)
		if err != nil {
			return nil, err
		}
		if key != "" {
			entries[key] = path
		}
	}
	return entries, nil
}

// instrumented is the name of the build that counts what it does.
const instrumented = "pgo-training"

// trained makes the profile, once: an instrumented build runs the workload on each model, and what it counted is merged.
func (b *builder) trained(ctx context.Context) error {
	if b.profile != "" {
		return nil
	}
	if len(b.train) == 0 {
		return errors.New("there is no model to make a profile of")
	}
	counting, err := b.base.Otherwise(ctx, b.w, b.log, instrumented, toolchain.Options{Compile: []string{"-fprofile-generate"}, Link: []string{"-fprofile-generate"}}, measured)
	if err != nil {
		return err
	}
	raw := b.w.Profile(counting.Variant)
	if err := os.RemoveAll(raw); err != nil {
		return err
	}
	if err := os.MkdirAll(raw, 0o755); err != nil {
		return err
	}
	return b.log.Step(ctx, "train", func(ctx context.Context, s *progress.Step) error {
		p := program.Build{Name: instrumented, Bin: counting.Bin}.With("LLVM_PROFILE_FILE=" + filepath.Join(raw, "%m-%p.profraw"))
		runs := 0
		for i, m := range b.train {
			s.Count(i, len(b.train), filepath.Base(m))
			// a long prompt and short ones, single tokens after each, then several sequences at once
			for _, run := range [][]string{
				{"chat", "-m", m, "-t", strconv.Itoa(b.threads), "--turns", "512+16,64+16,7+16"},
				{"logits", "-m", m, "-t", strconv.Itoa(b.threads), "-n", "16", "--mode", "batch", "--seqs", "4", "-o", filepath.Join(raw, "logits")},
			} {
				if _, _, err := p.Output(ctx, measured, run...); err != nil {
					return err
				}
				runs++
			}
		}
		files, err := filepath.Glob(filepath.Join(raw, "*.profraw"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("%d instrumented runs wrote no profile into %s", runs, raw)
		}
		merge, err := b.tool("llvm-profdata")
		if err != nil {
			return err
		}
		merged := filepath.Join(raw, "merged.profdata")
		cmd := child.Command(ctx, merge, append([]string{"merge", "-o", merged}, files...)...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", merge, err, strings.TrimSpace(said.String()))
		}
		st, err := os.Stat(merged)
		if err != nil {
			return err
		}
		b.profile = merged
		s.Did("%d runs, a profile of %.1f MiB", runs, float64(st.Size())/(1<<20))
		return nil
	})
}

// size is how many bytes the program of a build takes, with the libraries of its own beside it.
func size(bin, name string) (int64, error) {
	st, err := os.Stat(filepath.Join(bin, name))
	if err != nil {
		return 0, err
	}
	total := st.Size()
	libraries, err := filepath.Glob(filepath.Join(bin, "*.so"))
	if err != nil {
		return 0, err
	}
	for _, path := range libraries {
		st, err := os.Stat(path) // a link to the library
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, err
		}
		total += st.Size()
	}
	return total, nil
}
