// Package doctor tells what this machine has and lacks for building and running llama-zen-turbo.
package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/blas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Report writes to out what this machine is, has and lacks. It uses no network and changes nothing. What is missing is part of
// the report; the error is for a report that cannot be made.
func Report(ctx context.Context, w workspace.Workspace, out io.Writer) error {
	f, err := gather(ctx, w)
	if err != nil {
		return err
	}
	return f.write(out)
}

// folder is a place that takes space.
type folder struct {
	name, path string
	bytes      int64 // -1: not there
}

// facts are everything a report says.
type facts struct {
	cpu       target.CPU
	chosen    string // the target that would be built, or why there is none
	topology  string // what built programs make of the CPUs; "" where there are none
	tools     toolchain.Toolchain
	toolsErr  error
	remedy    string // the command that gets what is missing, "" where nothing is
	missing   []string
	blas      string
	pin       pin.Pin
	folders   []folder
	host      report.Environment
	available int64 // bytes of memory
	value     func(string) string
}

func gather(ctx context.Context, w workspace.Workspace) (facts, error) {
	f := facts{cpu: target.Host(), host: report.Host(), available: available(), value: os.Getenv}
	var err error
	if f.pin, err = pin.Read(filepath.Join(w.Patches(), "pin.toml")); err != nil {
		return f, err
	}
	t, err := target.Choose(f.cpu)
	f.chosen = t.Name
	if err != nil {
		f.chosen = "none: " + err.Error()
		t, _ = target.Find("bringup") // which compiler there is can be told all the same
	}
	f.topology = topology(ctx, program.Build{Name: "tuned", Bin: w.Bin()})
	var missing []packages.Need
	err = progress.To(io.Discard).Step(ctx, "look", func(ctx context.Context, s *progress.Step) error {
		f.tools, missing, f.toolsErr = toolchain.Look(ctx, w, s, t)
		var more []packages.Need
		f.blas, more = blas.Forecast(ctx, w, s, f.tools, t, f.pin)
		missing = append(missing, more...)
		return ctx.Err()
	})
	if err != nil {
		return f, err
	}
	for _, n := range missing {
		name := n.Name
		if n.Optional {
			name += " (builds work without)"
		}
		f.missing = append(f.missing, name)
	}
	if missing != nil {
		f.remedy = packages.Host().Remedy(ctx, missing...)
	}
	for _, d := range []folder{
		{name: "built", path: w.Out}, {name: "sources", path: w.Sources()}, {name: "libraries", path: w.Libraries()}, {name: "objects", path: w.CCache()},
	} {
		if d.bytes, err = size(d.path); err != nil {
			return f, err
		}
		f.folders = append(f.folders, d)
	}
	return f, nil
}

// topology asks zt-host, if it is there and runs here.
func topology(ctx context.Context, b program.Build) string {
	if b.Check("zt-host") != nil {
		return ""
	}
	lines, err := program.Run[struct {
		Text    string
		Threads int `json:"default_threads"`
	}](ctx, b, "zt-host", "topology")
	if err != nil {
		return ""
	}
	text := ""
	for _, l := range lines {
		text += l.Text
		if l.Threads > 0 {
			text += fmt.Sprintf("; threads without -t: %d", l.Threads)
		}
	}
	return text
}

// size is the number of bytes in the files below path, -1 where there is nothing. Files that vanish meanwhile do not count.
func size(path string) (int64, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	var sum int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	})
	return sum, err
}

// available is the memory that programs could take now, in bytes, or 0 where the kernel does not say.
func available() int64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// write prints the report.
func (f facts) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	section := func(title string) { fmt.Fprintf(w, "\n%s\n", title) }
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}

	fmt.Fprintln(w, "CPU")
	row("this machine", "%s, %d logical CPUs", f.cpu, f.host.Cores)
	if f.topology != "" {
		row("for programs", "%s", f.topology)
	}
	for _, t := range target.All() {
		if err := t.Accepts(f.cpu); err != nil {
			row(t.Name, "does not run here: %v", err)
		} else {
			row(t.Name, "runs here: %s", t.Title)
		}
	}
	row("mage build", "builds %s", f.chosen)

	section("Tools")
	f.writeTools(row)

	section("BLAS")
	row("would link", "%s", f.blas)
	row("BLIS_ARCH_TYPE", "%s", blas.ArchType(os.Getenv("BLIS_ARCH_TYPE")))

	section("Sources and caches")
	row("llama.cpp", "%s, tree %.12s", f.pin.LlamaCpp.Tag, f.pin.LlamaCpp.Tree)
	row("AOCL-BLAS", "%s, commit %.12s", f.pin.AOCLBLAS.Tag, f.pin.AOCLBLAS.Commit)
	for _, d := range f.folders {
		if d.bytes < 0 {
			row(d.name, "nothing yet in %s", d.path)
		} else {
			row(d.name, "%s in %s", bytes(d.bytes), d.path)
		}
	}

	section("Memory")
	row("memory", "%s, %s available", bytes(f.host.MemoryBytes), bytes(f.available))
	f.writePages(row)

	section("Environment switches")
	fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", "NAME", "READ BY", "VALUES", "DEFAULT", "WHAT IT DOES")
	for _, s := range switches.All() {
		set := ""
		if value := f.value(s.Name); value != "" {
			set = fmt.Sprintf(" (set to %s)", value)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s%s\n", s.Name, s.When, s.Values, s.Default, s.Text, set)
	}
	return w.Flush()
}

func (f facts) writeTools(row func(string, string, ...any)) {
	tc := f.tools
	if f.toolsErr != nil {
		row("compiler", "none: %v", f.toolsErr)
	} else if tc.CC != "" {
		row("compiler", "%s at %s", tc, tc.CC)
		row("cmake", "%s", or(tc.CMakeVersion, "missing"))
		row("ninja", "%s", or(tc.NinjaVersion, "missing"))
		row("ccache", "%s", or(tc.CCacheVersion, "missing"))
		openSSL := "linked statically"
		if !tc.StaticOpenSSL {
			openSSL = "not linked statically: programs will need this machine's libssl.so"
		}
		row("OpenSSL", "%s", openSSL)
	}
	for _, name := range f.missing {
		row("missing", "%s", name)
	}
	if f.remedy != "" {
		row("to get it", "%s", f.remedy)
	}
}

// writePages says which pages packed weights would lie in, and how to get larger ones.
func (f facts) writePages(row func(string, string, ...any)) {
	const mib2 = 2 << 20
	pool := int64(f.host.HugePages) * mib2
	if pool == 0 {
		row("2 MiB pool", "empty; for 8 GiB of weights type: sudo sysctl vm.nr_hugepages=%d", 8<<30/mib2)
	} else {
		row("2 MiB pool", "%s, %s free", bytes(pool), bytes(int64(f.host.HugePagesFree)*mib2))
	}
	switch f.host.TransparentPages {
	case "always", "madvise":
		row("transparent", "%s: used where the pool has no room", f.host.TransparentPages)
	case "never":
		row("transparent", "never; type: echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
	default:
		row("transparent", "this kernel has none")
	}
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// bytes writes a size with the unit that gives it one to four digits.
func bytes(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
