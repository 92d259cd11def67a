package blas

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Forecast says in one line what Find would come to, without network, installation or a build of AOCL-BLAS, and what it would
// miss.
func Forecast(ctx context.Context, w workspace.Workspace, s *progress.Step, tc toolchain.Toolchain, t target.Target, p pin.Pin) (string, []packages.Need) {
	var missing []packages.Need
	f := finder{w: w, s: s, tc: tc, t: t, pin: p.AOCLBLAS, distribution: "/usr"}
	f.ensure = func(_ context.Context, _ *progress.Step, needs ...packages.Need) error {
		for _, n := range needs {
			if !n.Have() {
				missing = append(missing, n)
			}
		}
		if missing != nil {
			return fmt.Errorf("missing %s", missing[0].Name)
		}
		return nil
	}
	return f.forecast(ctx), missing
}

func (f finder) forecast(ctx context.Context) string {
	if f.tc.CC == "" {
		return "not known without a compiler"
	}
	if root := os.Getenv("AOCL_ROOT"); root != "" {
		return said(f.find(ctx))
	}
	name := "AOCL-BLAS " + f.pin.Tag
	if path := os.Getenv("ZT_AOCL_SRC"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return fmt.Sprintf("none: ZT_AOCL_SRC=%s: there is no such file or folder", path)
		}
		return fmt.Sprintf("%s, from ZT_AOCL_SRC=%s if it is the pinned commit", name, path)
	}
	if cached, _ := filepath.Glob(filepath.Join(f.w.Sources(), "aocl-blas-"+f.pin.Commit+".git")); cached != nil {
		return name + ", from the sources in the cache"
	}
	otherwise := said(f.fallback(ctx))
	if info, err := os.Stat(f.unreachable()); err == nil && fresh(info) {
		return fmt.Sprintf("%s; AOCL-BLAS was out of reach when last tried (%s)", otherwise, info.ModTime().Format(time.DateTime))
	}
	return fmt.Sprintf("%s if %s can be reached, otherwise %s", name, f.pin.Repository, otherwise)
}

// fresh reports whether the file that info is of was written less than retry ago.
func fresh(info fs.FileInfo) bool { return time.Since(info.ModTime()).Abs() < retry }

func said(b BLAS, err error) string {
	if err != nil {
		return "none: " + err.Error()
	}
	return b.String()
}

// ArchType says what a value of BLIS_ARCH_TYPE does: it was seen to in AOCL-BLAS 5.1 of both kinds, and in upstream's BLIS 0.9.
func ArchType(value string) string {
	if value == "" {
		return "not set: BLIS takes the kernels that suit the CPU; upstream's, those for AVX-512"
	}
	return value + ": ignored by an AOCL-BLAS for one family, such as mage build makes; one configured as amdzen takes the kernels of that family, " +
		"or ends the program where it has none; upstream's BLIS reads a number, and a name as 0, which is AVX-512"
}
