package toolchain

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// Config is one configuration of a CMake project.
type Config struct {
	Source, Build string            // absolute folders
	Flags         []string          // compiler flags of C, C++ and assembler sources: a target's
	Cache         map[string]string // cmake's -D entries
	Options
}

// Options change how a project is compiled from what the toolchain does by itself.
type Options struct {
	Compile []string          // more flags of C and C++ sources, behind a target's and in front of the build type's
	Link    []string          // more flags for linking programs and shared libraries
	More    map[string]string // -D entries that replace those of Config.Cache
}

// stamp records in a build folder what it was configured with. Arguments is empty while a configuration is under way.
type stamp struct {
	Compiler  string `json:"compiler"`
	Arguments string `json:"arguments"` // SHA-256 of everything given to cmake
}

const stampName = ".zt-configured.json"

// Configure runs cmake unless the build folder was configured with just this before. Another compiler empties the folder first;
// anything else that changed configures it afresh and keeps the objects, which ninja compiles again where their command changed.
func (tc Toolchain) Configure(ctx context.Context, s *progress.Step, c Config) error {
	args, err := tc.arguments(c)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(strings.Join(append([]string{tc.CMakeVersion}, args...), "\x00")))
	want := stamp{Compiler: tc.CC + " " + tc.Banner, Arguments: hex.EncodeToString(hash[:])}
	have, err := readStamp(c.Build)
	if err != nil {
		return err
	}
	if have == want {
		if _, err := os.Stat(filepath.Join(c.Build, "build.ninja")); err == nil {
			return nil
		}
	}
	if have.Compiler != "" && have.Compiler != want.Compiler {
		s.Say("the compiler is %s and was %s: starting over", want.Compiler, have.Compiler)
		if err := os.RemoveAll(c.Build); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.Build, 0o755); err != nil {
		return tc.diskFull(err, "", c.Build)
	}
	// cmake keeps entries of its cache that are no longer given.
	if err := os.Remove(filepath.Join(c.Build, "CMakeCache.txt")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeStamp(c.Build, stamp{Compiler: want.Compiler}); err != nil {
		return tc.diskFull(err, "", c.Build)
	}
	var output strings.Builder
	err = tc.run(ctx, tc.CMake, args, func(line string) { output.WriteString(line) })
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed := fmt.Errorf("cmake cannot configure %s in %s: %w\n%s", c.Source, c.Build, err, output.String())
		return tc.diskFull(failed, output.String(), c.Build)
	}
	if err := writeStamp(c.Build, want); err != nil {
		return tc.diskFull(err, "", c.Build)
	}
	return nil
}

// arguments is cmake's command line, in an order that depends on c alone.
func (tc Toolchain) arguments(c Config) ([]string, error) {
	relative, err := filepath.Rel(c.Build, c.Source)
	if err != nil {
		return nil, err
	}
	// __FILE__ must not depend on where the checkout is, nor on ccache, which makes absolute paths below its base relative.
	flags := slices.Clone(c.Flags)
	for _, prefix := range []string{c.Source, relative, c.Build} {
		flags = append(flags, "-ffile-prefix-map="+prefix+"/=")
	}
	cache := map[string]string{
		"CMAKE_BUILD_TYPE":       "Release",
		"CMAKE_MAKE_PROGRAM":     tc.Ninja,
		"CMAKE_EXE_LINKER_FLAGS": quote(slices.Concat(tc.LinkFlags, c.Link)),
	}
	for language, compiler := range map[string]string{"C": tc.CC, "CXX": tc.CXX, "ASM": tc.CC} {
		cache["CMAKE_"+language+"_COMPILER"] = compiler
		cache["CMAKE_"+language+"_FLAGS"] = quote(flags)
		if language != "ASM" { // cmake knows no launcher for it
			cache["CMAKE_"+language+"_FLAGS"] = quote(slices.Concat(flags, c.Compile))
			cache["CMAKE_"+language+"_COMPILER_LAUNCHER"] = tc.CCache
		}
	}
	maps.Copy(cache, c.Cache)
	maps.Copy(cache, c.More)
	args := []string{"-G", "Ninja", "-S", c.Source, "-B", c.Build, "--no-warn-unused-cli"}
	for _, key := range slices.Sorted(maps.Keys(cache)) {
		args = append(args, "-D"+key+"="+cache[key])
	}
	return args, nil
}

// quote joins compiler flags as the shell that ninja runs commands with reads them.
func quote(flags []string) string {
	var words []string
	for _, f := range flags {
		if strings.ContainsAny(f, " '&();<>|*?[]#~\"") {
			f = "'" + strings.ReplaceAll(f, "'", `'\''`) + "'"
		}
		words = append(words, f)
	}
	return strings.Join(words, " ")
}

// readStamp returns the stamp of a build folder, or a zero one for a folder that is missing or empty. A folder with anything
// else in it is not ours to build in.
func readStamp(build string) (stamp, error) {
	var have stamp
	text, err := os.ReadFile(filepath.Join(build, stampName))
	if err == nil {
		// A stamp that a full disk cut short is an unfinished configuration.
		if json.Unmarshal(text, &have) != nil {
			have = stamp{Compiler: "unknown"}
		}
		return have, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return stamp{}, err
	}
	entries, err := os.ReadDir(build)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stamp{}, err
	}
	if len(entries) > 0 {
		return stamp{}, fmt.Errorf("the build folder %s holds files of something else; remove it or choose another with ZT_OUT", build)
	}
	return stamp{}, nil
}

func writeStamp(build string, st stamp) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	path := filepath.Join(build, stampName)
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// BuildError is a build that stopped at a command that failed.
type BuildError struct {
	Build  string   // folder
	Failed []string // outputs that could not be made, relative to Build
	Output string   // what the failed commands printed
}

func (e *BuildError) Error() string {
	what := strings.Join(e.Failed, ", ")
	if what == "" {
		what = "the build"
	}
	return fmt.Sprintf("%s failed in %s:\n%s", what, e.Build, e.Output)
}

// Build brings targets (all of them if none is named) up to date and returns how many sources it compiled, whether or not
// ccache had their objects. It counts on s. A cancelled or killed build leaves a folder that the next one completes.
func (tc Toolchain) Build(ctx context.Context, s *progress.Step, build string, targets ...string) (compiled int, err error) {
	n := ninjaOutput{step: s}
	args := append([]string{"-C", build, "-j", strconv.Itoa(jobs())}, targets...)
	err = tc.run(ctx, tc.Ninja, args, n.line)
	if err == nil {
		return n.compiled, nil
	}
	if ctx.Err() != nil {
		return n.compiled, context.Cause(ctx)
	}
	failed := &BuildError{Build: build, Failed: n.failed, Output: n.errors.String()}
	if failed.Output == "" {
		failed.Output = err.Error()
	}
	return n.compiled, tc.diskFull(failed, failed.Output, build)
}

// ninjaStatus starts a status line with what no compiler prints, and says "finished of total".
const ninjaStatus = "\x01%f %t\x01"

// ninjaOutput reads ninja's output where it is no terminal: a status line as each command ends, behind it "FAILED: output", the
// command and what it printed if it failed, or what it printed (warnings) if it did not.
type ninjaOutput struct {
	step     *progress.Step
	compiled int
	failed   []string
	errors   strings.Builder
	inFailed bool
	skip     bool // the next line is a failed command's own text
}

func (n *ninjaOutput) line(line string) {
	text := strings.TrimRight(line, "\n")
	if rest, ok := strings.CutPrefix(text, "\x01"); ok {
		counts, doing, _ := strings.Cut(rest, "\x01")
		var done, total int
		if _, err := fmt.Sscan(counts, &done, &total); err == nil {
			if strings.HasPrefix(doing, "Building ") {
				n.compiled++
			}
			n.step.Count(done, total, shorten(doing))
		}
		n.inFailed = false
		return
	}
	switch {
	case n.skip:
		n.skip = false
	case strings.HasPrefix(text, "FAILED: "):
		// Newer ninjas put the exit code before the output: "FAILED: [code=1] a.o".
		what := strings.TrimPrefix(text, "FAILED: ")
		if strings.HasPrefix(what, "[code=") {
			_, what, _ = strings.Cut(what, "] ")
		}
		n.failed = append(n.failed, strings.TrimSpace(what))
		n.inFailed, n.skip = true, true
	case strings.HasPrefix(text, "ninja: build stopped"):
		n.inFailed = false
	case n.inFailed, strings.HasPrefix(text, "ninja: error: "), strings.HasPrefix(text, "ninja: fatal: "):
		n.errors.WriteString(text + "\n")
	}
}

// shorten turns "Building CXX object common/CMakeFiles/llama-common.dir/arg.cpp.o" into "common/arg.cpp".
func shorten(doing string) string {
	words := strings.Fields(doing)
	if len(words) == 0 {
		return ""
	}
	var kept []string
	for part := range strings.SplitSeq(strings.TrimSuffix(words[len(words)-1], ".o"), "/") {
		if part != "CMakeFiles" && !strings.HasSuffix(part, ".dir") {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "/")
}

// jobs is how many compilers run at once: as many as there are CPUs, but no more than 1 GiB of free memory each allows.
func jobs() int {
	n := runtime.GOMAXPROCS(0)
	if free, err := availableMemory(); err == nil {
		n = min(n, int(free>>30))
	}
	return max(n, 1)
}

// availableMemory is the kernel's own estimate, in bytes.
func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no MemAvailable in /proc/meminfo")
}

// grace is what an interrupted cmake or ninja gets to end its commands before it is killed.
const grace = 10 * time.Second

// run runs a program of the toolchain, hands each line it prints to each, and returns when it has ended. Cancelling ctx
// interrupts its process group; ninja passes that on to the commands it runs, each of which is a group of its own, and waits
// for them. Should this process be killed, the kernel sends the program SIGTERM, which ninja treats alike: no compiler is left
// writing into a folder that the next run believes its own.
func (tc Toolchain) run(ctx context.Context, program string, args []string, each func(line string)) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = tc.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = grace
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	// The parent's death is that of the thread that started the program (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewReader(read)
		for {
			line, err := lines.ReadString('\n')
			if line != "" {
				each(line)
			}
			if err != nil {
				return
			}
		}
	}()
	err = cmd.Wait()
	// Something that outlives the program may hold the pipe open.
	select {
	case <-drained:
	case <-time.After(grace):
		read.Close()
		<-drained
	}
	return err
}

// environ is the environment that compilers and build tools run in. Flags in it would change what is built, and messages are
// searched for English words.
func environ() []string {
	drop := []string{"CC", "CXX", "CFLAGS", "CXXFLAGS", "ASMFLAGS", "CPPFLAGS", "LDFLAGS", "NINJA_STATUS", "LC_ALL", "MAKEFLAGS"}
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		key, _, _ := strings.Cut(entry, "=")
		return slices.Contains(drop, key)
	})
	return append(env, "LC_ALL=C.UTF-8")
}

func (tc Toolchain) environ() []string {
	return append(environ(),
		"NINJA_STATUS="+ninjaStatus,
		"CCACHE_DIR="+tc.objects,
		"CCACHE_BASEDIR="+tc.base,
		"CCACHE_NOHASHDIR=1",
		"CCACHE_MAXSIZE=4G",
	)
}

// diskFull returns an error that says so if err or a tool's output come from a full disk, naming the folder, and err if not.
func (tc Toolchain) diskFull(err error, output, build string) error {
	return diskFull(err, output, build, tc.objects, os.TempDir())
}

func diskFull(err error, output string, folders ...string) error {
	said := errors.Is(err, syscall.ENOSPC) || strings.Contains(output, "No space left on device")
	for _, folder := range folders {
		if free, e := freeSpace(folder); e == nil && free < 1<<20 {
			return fmt.Errorf("disk full: no space left in %s; free some, or set ZT_OUT, ZT_CACHE or TMPDIR to folders on another disk", folder)
		}
	}
	if said {
		return fmt.Errorf("disk full while building in %s; free some space, or set ZT_OUT, ZT_CACHE or TMPDIR to folders on another disk", folders[0])
	}
	return err
}

// freeSpace is what a user may still write to the file system of folder, in bytes.
func freeSpace(folder string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
