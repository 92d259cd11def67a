package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/release"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// Release builds the product and packages it with what the gates found.
func Release(ctx context.Context, r Run) error {
	t, err := target.Find(or(os.Getenv("ZT_TARGET"), "zen5"))
	if err != nil {
		return fmt.Errorf("ZT_TARGET: %w", err)
	}
	if err := release.Releasable(t); err != nil {
		return err
	}
	return r.locked(func() error {
		b, err := build.Tuned(ctx, r.Workspace, r.Log, t)
		if err != nil {
			return err
		}
		return r.Log.Step(ctx, "release", func(ctx context.Context, s *progress.Step) error {
			o, err := r.releaseOptions(ctx, b)
			if err != nil {
				return err
			}
			path, err := release.Write(ctx, s, o)
			s.Did("%s", path)
			return err
		})
	})
}

// unreleased are the programs of a build that an archive has no use for: zt-probe, zt-selftest and zt-host examine builds, and the others only print
// that llama-mtmd-cli has replaced them.
var unreleased = map[string]bool{
	"zt-probe": true, "zt-selftest": true, "zt-host": true, "llama-gemma3-cli": true, "llama-llava-cli": true, "llama-minicpmv-cli": true, "llama-qwen2vl-cli": true,
}

func (r Run) releaseOptions(ctx context.Context, b build.Build) (release.Options, error) {
	epoch, err := r.epoch(ctx)
	if err != nil {
		return release.Options{}, err
	}
	programs, err := b.Programs()
	if err != nil {
		return release.Options{}, err
	}
	programs = slices.DeleteFunc(programs, func(p string) bool { return unreleased[filepath.Base(p)] })
	licenses, err := release.Licenses(r.Workspace.Root, r.Workspace.Src(b.Variant))
	if err != nil {
		return release.Options{}, err
	}
	if b.BLAS.License != "" {
		licenses["blas"] = b.BLAS.License
	}
	if b.Toolchain.StaticOpenSSL {
		licenses["openssl"] = "/usr/share/doc/libssl-dev/copyright"
	}
	return release.Options{
		Workspace: r.Workspace, Target: b.Target, Version: build.Version, Epoch: epoch,
		Programs: programs, Licenses: licenses, Patches: r.Workspace.Patches(), Kernels: b.Kernels,
		Compiler: b.Toolchain.String(), BLAS: b.BLAS.String(), Pin: b.Pin, Report: r.Workspace.Report(),
	}, nil
}

// epoch is the time that files in an archive carry: SOURCE_DATE_EPOCH, or when the checked out commit was made.
func (r Run) epoch(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := git.Repo{Dir: r.Workspace.Root}.Run(ctx, "log", "-1", "--format=%ct")
		if err != nil {
			return time.Time{}, fmt.Errorf("no commit to take the archive's time from (set SOURCE_DATE_EPOCH): %w", err)
		}
		text = strings.TrimSpace(out)
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
