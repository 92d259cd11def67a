// Package command is what the mage targets do, as ordinary functions.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/doctor"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/generator"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/patch"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Run is what every command works with.
type Run struct {
	Workspace workspace.Workspace
	Log       *progress.Log
}

// Do runs f in the workspace around the current folder.
func Do(ctx context.Context, f func(context.Context, Run) error) error {
	w, err := workspace.Find()
	if err != nil {
		return err
	}
	return f(ctx, Run{Workspace: w, Log: progress.New(os.Stdout)})
}

// locked runs f as the only run in the workspace.
func (r Run) locked(f func() error) error {
	unlock, err := r.Workspace.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// Build makes the tuned programs of the chosen target.
func Build(ctx context.Context, r Run) error {
	return r.locked(func() error {
		b, err := r.tuned(ctx)
		if err != nil {
			return err
		}
		return b.Install(ctx, r.Log, r.Workspace.Bin())
	})
}

// tuned builds the chosen target, with the named tests of upstream, and says so where it is not the product.
func (r Run) tuned(ctx context.Context, tests ...string) (build.Build, error) {
	host := target.Host()
	t, err := target.Choose(host)
	if err != nil {
		return build.Build{}, err
	}
	if !t.Releasable {
		fmt.Printf("This is no Zen 5 but %s: building the development target %q, which runs here.\n"+
			"ZT_TARGET=zen5 builds the product, for another machine.\n", host, t.Name)
	}
	return build.Tuned(ctx, r.Workspace, r.Log, t, tests...)
}

// runsHere says why programs of t cannot run on this machine; doing is what is to be done with them elsewhere.
func runsHere(t target.Target, doing string) error {
	if err := t.Accepts(target.Host()); err != nil {
		return fmt.Errorf("cannot run the %s build: %w; %s on such a machine, or ZT_TARGET=bringup here", t.Name, err, doing)
	}
	return nil
}

// describe adds to e what a report says of a tuned build.
func describe(b build.Build, e report.Environment) report.Environment {
	e.Target, e.Compiler, e.BLAS, e.Toolchain = b.Target.Name, b.Toolchain.String(), b.BLAS.String(), build.Version
	e.Pins = map[string]string{"llama.cpp " + b.Pin.LlamaCpp.Tag: b.Pin.LlamaCpp.Tree}
	return e
}

// Test runs the project's own tests and checks.
func Test(ctx context.Context, r Run) error {
	for _, args := range [][]string{
		{"go", "vet", "./..."},
		{"go", "tool", "staticcheck", "./..."},
		{"go", "test", "./..."},
	} {
		cmd := child.Command(ctx, args[0], args[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = r.Workspace.Root, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%v: %w", args, errors.Join(err, context.Cause(ctx)))
		}
	}
	return nil
}

// Generate remakes the committed generated files.
func Generate(ctx context.Context, r Run) error {
	return r.Log.Step(ctx, "generate", func(_ context.Context, s *progress.Step) error {
		n, err := generator.Write(r.Workspace.Root)
		s.Did("%d files changed", n)
		return err
	})
}

// Model writes the synthetic model that ZT_SHAPE and ZT_TYPE name, 1b and q8_0 if they are unset, or with lora for a type an adapter for
// models of the shape.
func Model(ctx context.Context, r Run) error {
	shape, weights := or(os.Getenv("ZT_SHAPE"), "1b"), or(os.Getenv("ZT_TYPE"), "q8_0")
	return r.locked(func() error {
		if weights == "lora" {
			_, err := model.MakeAdapter(ctx, r.Log, r.Workspace, shape)
			return err
		}
		src, err := r.checkout(ctx)
		if err != nil {
			return err
		}
		_, err = model.Make(ctx, r.Log, r.Workspace, src, shape, weights)
		return err
	})
}

// Reference trains the reference model again and compares it with the committed one.
func Reference(ctx context.Context, r Run) error {
	return r.locked(func() error {
		var source pin.Source
		err := r.Log.Step(ctx, "sources", func(ctx context.Context, s *progress.Step) (err error) {
			source, err = r.source(ctx, s)
			s.Did("llama.cpp, tree %.12s", source.Tree)
			return err
		})
		if err != nil {
			return err
		}
		return reference.Retrain(ctx, r.Log, r.Workspace, source)
	})
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// checkout makes sure that out/src is there and returns it.
func (r Run) checkout(ctx context.Context) (string, error) {
	src := r.Workspace.Src(workspace.Variant{})
	return src, r.Log.Step(ctx, "sources", func(ctx context.Context, s *progress.Step) error {
		source, err := r.source(ctx, s)
		if err != nil {
			return err
		}
		s.Did("llama.cpp in %s", src)
		return source.Checkout(ctx, src)
	})
}

func (r Run) source(ctx context.Context, s *progress.Step) (pin.Source, error) {
	p, err := pin.Read(filepath.Join(r.Workspace.Patches(), "pin.toml"))
	if err != nil {
		return pin.Source{}, err
	}
	return p.Fetch(ctx, r.Workspace, s)
}

// Doctor reports on this machine.
func Doctor(ctx context.Context, r Run) error { return doctor.Report(ctx, r.Workspace, os.Stdout) }

// Clean removes everything built.
func Clean(ctx context.Context, r Run) error {
	return r.Log.Step(ctx, "clean", func(context.Context, *progress.Step) error {
		unlock, err := r.Workspace.Lock()
		if err != nil {
			return err
		}
		defer unlock()
		return os.RemoveAll(r.Workspace.Out)
	})
}

// PatchApply makes out/src the pinned tree plus the queue.
func PatchApply(ctx context.Context, r Run) error {
	return r.locked(func() error {
		src, err := r.checkout(ctx)
		if err != nil {
			return err
		}
		return r.Log.Step(ctx, "patches", func(ctx context.Context, s *progress.Step) error {
			s.Did("queue applied to %s", src)
			return patch.Apply(ctx, src, r.Workspace.Patches())
		})
	})
}

// PatchExtract rewrites the queue from the commits in out/src.
func PatchExtract(ctx context.Context, r Run) error {
	return r.locked(func() error {
		return r.Log.Step(ctx, "patches", func(ctx context.Context, s *progress.Step) error {
			s.Did("extracted into %s", r.Workspace.Patches())
			return patch.Extract(ctx, r.Workspace.Src(workspace.Variant{}), r.Workspace.Patches())
		})
	})
}

// PatchCheck proves that the queue applies to the pinned tree and is what extracting it again would write.
func PatchCheck(ctx context.Context, r Run) error {
	return r.Log.Step(ctx, "patches", func(ctx context.Context, s *progress.Step) error {
		source, err := r.source(ctx, s)
		if err != nil {
			return err
		}
		s.Did("the queue applies and extracts to itself")
		return patch.Check(ctx, source.Dir, source.Commit, r.Workspace.Patches())
	})
}
