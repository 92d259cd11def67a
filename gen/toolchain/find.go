// Package toolchain finds the compiler and the build tools, and builds CMake projects with them: llama.cpp in every variant and
// AOCL-BLAS. A tool that is missing is installed where package packages can, and otherwise named with the command to type.
package toolchain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Toolchain is a compiler that was seen to build for Zen 5, and the tools around it. Paths are absolute.
type Toolchain struct {
	CC, CXX string
	Family  string // "clang" or "gcc"
	Version string // "19.1.7"
	Banner  string // the first line of --version, which names the vendor's build as well

	LinkFlags     []string // for programs: the linker, and the C++ runtime linked into them
	StaticOpenSSL bool     // libssl.a and libcrypto.a are there and link

	CMake, CMakeVersion   string
	Ninja, NinjaVersion   string
	CCache, CCacheVersion string // "" where there is none

	objects string // ccache's folder
	base    string // below it ccache takes equal relative paths for the same file
}

// String is the compiler as manifests and reports name it: "clang 19.1.7 (Debian clang version 19.1.7 (3~deb12u1))".
func (tc Toolchain) String() string {
	return fmt.Sprintf("%s %s (%s)", tc.Family, tc.Version, tc.Banner)
}

// zen5Flag is what makes a compiler new enough: clang has it since 19, GCC since 14.
const zen5Flag = "-march=znver5"

// names are the C compilers looked for, in the order of preference. Kernels and ratios were measured with clang 19.
var names = []string{
	"clang-19", "clang-20", "clang-21", "clang-22", "clang-23", "clang",
	"gcc-14", "gcc-15", "gcc-16", "gcc-17", "gcc",
}

// compilerPackages bring a compiler that is new enough.
var compilerPackages = []string{"clang-19", "clang-20", "clang-21", "clang-22", "clang-23", "g++-14", "g++-15", "g++-16"}

// ensurer is packages.Ensure, which tests replace.
type ensurer func(context.Context, *progress.Step, ...packages.Need) error

// Find returns the toolchain that builds for t. CC and CXX are used if set, and it is an error if they cannot build for Zen 5;
// otherwise the first compiler on PATH that can is taken, and clang is installed where there is none. w says where compiled
// objects are cached.
func Find(ctx context.Context, w workspace.Workspace, s *progress.Step, t target.Target) (Toolchain, error) {
	return find(ctx, w, s, t, packages.Ensure)
}

func find(ctx context.Context, w workspace.Workspace, s *progress.Step, t target.Target, ensure ensurer) (Toolchain, error) {
	tmp, err := os.MkdirTemp("", "zt-probe")
	if err != nil {
		return Toolchain{}, diskFull(err, "", os.TempDir())
	}
	defer os.RemoveAll(tmp)
	p := prober{dir: tmp, flags: t.Flags}

	tc := Toolchain{objects: w.CCache(), base: w.Out}
	needs := []packages.Need{
		{Name: "cmake >= 3.18", Packages: []string{"cmake"}, Have: func() bool { return tc.findCMake(ctx) }},
		{Name: "ninja", Packages: []string{"ninja-build"}, Have: func() bool { return tc.findNinja(ctx) }},
		{Name: "ccache", Packages: []string{"ccache"}, Have: func() bool { return tc.findCCache(ctx) }, Optional: true},
	}
	if os.Getenv("CC") != "" || os.Getenv("CXX") != "" {
		c, err := p.chosen(ctx)
		if err != nil {
			return Toolchain{}, err
		}
		c.into(&tc)
	} else {
		var refused []string
		have := func() bool {
			c, why := p.search(ctx)
			refused = why
			if c == nil {
				return false
			}
			c.into(&tc)
			return true
		}
		if !have() {
			name := "a compiler for Zen 5 (clang >= 19 or gcc >= 14)"
			if refused != nil {
				name += ", for " + strings.Join(refused, " and ")
			}
			needs = append(needs, packages.Need{Name: name, Packages: compilerPackages, Have: have},
				packages.Need{Name: "lld", Packages: lldPackages("19"), Have: func() bool { return p.lld(ctx, tc) }, Optional: true})
		}
	}
	needs = append(needs, packages.Need{Name: "OpenSSL's headers", Packages: []string{"libssl-dev"},
		// The compiler knows best, once there is one.
		Have: func() bool { return tc.CC != "" && p.openSSL(ctx, tc, "-lssl", "-lcrypto") }})
	if err := ensure(ctx, s, needs...); err != nil {
		return Toolchain{}, err
	}

	tc.LinkFlags = []string{"-static-libstdc++", "-static-libgcc"}
	if tc.Family == "clang" {
		major, _, _ := strings.Cut(tc.Version, ".")
		lld := packages.Need{Name: "lld", Packages: lldPackages(major), Have: func() bool { return p.lld(ctx, tc) }, Optional: true}
		if err := ensure(ctx, s, lld); err != nil {
			return Toolchain{}, err
		}
		if lld.Have() {
			tc.LinkFlags = append([]string{"-fuse-ld=lld"}, tc.LinkFlags...)
		}
	}
	tc.StaticOpenSSL = p.openSSL(ctx, tc, "-l:libssl.a", "-l:libcrypto.a", "-ldl", "-pthread")
	if !tc.StaticOpenSSL {
		s.Say("libssl.a does not link by itself: programs will need this machine's libssl.so to run")
	}
	return tc, nil
}

func lldPackages(major string) []string { return []string{"lld-" + major, "lld"} }

// compiler is a pair of C and C++ compilers before and after it was probed.
type compiler struct {
	cc, cxx                 string
	family, version, banner string
}

func (c compiler) into(tc *Toolchain) {
	tc.CC, tc.CXX, tc.Family, tc.Version, tc.Banner = c.cc, c.cxx, c.family, c.version, c.banner
}

// prober compiles small programs in dir.
type prober struct {
	dir   string
	flags []string // of the target
}

// chosen returns the compiler that CC and CXX name. One may be left to be derived from the other.
func (p prober) chosen(ctx context.Context) (*compiler, error) {
	cc, err := command("CC")
	if err != nil {
		return nil, err
	}
	cxx, err := command("CXX")
	if err != nil {
		return nil, err
	}
	from := "CC=" + cc
	if cc == "" {
		from = "CXX=" + cxx
		if cc, err = twin(cxx, plusToC); err != nil {
			return nil, fmt.Errorf("CXX is set and CC is not: %w; set CC", err)
		}
	} else if cxx == "" {
		if cxx, err = twin(cc, cToPlus); err != nil {
			return nil, fmt.Errorf("CC is set and CXX is not: %w; set CXX", err)
		}
	} else {
		from += " CXX=" + cxx
	}
	c := &compiler{cc: cc, cxx: cxx}
	if err := p.check(ctx, c); err != nil {
		return nil, fmt.Errorf("%s: %w; set CC and CXX to clang >= 19 or gcc >= 14, or unset them and one is looked for", from, err)
	}
	return c, nil
}

// command reads the compiler in an environment variable and returns its absolute path. "ccache" in front is dropped: it is
// used anyway.
func command(variable string) (string, error) {
	words := strings.Fields(os.Getenv(variable))
	if len(words) > 1 && filepath.Base(words[0]) == "ccache" {
		words = words[1:]
	}
	switch len(words) {
	case 0:
		return "", nil
	case 1:
		path, err := lookPath(words[0])
		if err != nil {
			return "", fmt.Errorf("%s=%s: there is no such program", variable, words[0])
		}
		return path, nil
	}
	return "", fmt.Errorf("%s=%q holds arguments; name the compiler alone", variable, os.Getenv(variable))
}

var (
	cToPlus = strings.NewReplacer("clang", "clang++", "gcc", "g++")
	plusToC = strings.NewReplacer("clang++", "clang", "g++", "gcc", "c++", "cc")
)

// twin returns the compiler of the other language beside path: g++-14 for gcc-14.
func twin(path string, rename *strings.Replacer) (string, error) {
	dir, base := filepath.Split(path)
	other := rename.Replace(base)
	if base == "cc" {
		other = "c++"
	}
	if other == base {
		return "", fmt.Errorf("the other compiler cannot be told from the name %s", base)
	}
	found, err := lookPath(filepath.Join(dir, other))
	if err != nil {
		return "", fmt.Errorf("there is no %s beside it in %s", other, dir)
	}
	return found, nil
}

// search returns the first compiler on PATH that builds for Zen 5, or why those found do not.
func (p prober) search(ctx context.Context) (*compiler, []string) {
	var refused []string
	for _, name := range names {
		cc, err := lookPath(name)
		if err != nil {
			continue
		}
		cxx, err := twin(cc, cToPlus)
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s has no C++ compiler (%v)", cc, err))
			continue
		}
		c := &compiler{cc: cc, cxx: cxx}
		if err := p.check(ctx, c); err != nil {
			refused = append(refused, err.Error())
			continue
		}
		return c, nil
	}
	return nil, refused
}

// probe is a C++ program that is of use only if the compiler, the headers, the C++ library and the linker are all there.
const probe = `#include <immintrin.h>
#include <cstdio>
#include <string>
#include <thread>
int main(int argc, char ** argv) {
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(argc), _mm512_set1_epi32(argc));
    std::string text = argv[0] + std::to_string(_mm512_reduce_add_epi32(sum));
    std::thread([&] { std::puts(text.c_str()); }).join();
}
`

// probeAsm is assembler of the kind that gen/gas prints.
const probeAsm = `.text
.globl zt_probe
zt_probe:
	vpdpbusd 64(%rdi){1to16}, %zmm1, %zmm2
	vdpbf16ps %zmm3, %zmm4, %zmm5
	ret
`

// check fills in what the compiler calls itself and says what it cannot do, if anything.
func (p prober) check(ctx context.Context, c *compiler) error {
	family, version, banner, err := identify(ctx, c.cc)
	if err != nil {
		return err
	}
	if f, v, _, err := identify(ctx, c.cxx); err != nil {
		return err
	} else if f != family || v != version {
		return fmt.Errorf("%s is %s %s but %s is %s %s", c.cc, family, version, c.cxx, f, v)
	}
	c.family, c.version, c.banner = family, version, banner
	title := fmt.Sprintf("%s (%s %s)", c.cc, family, version)
	if _, err := p.compile(ctx, c.cc, "c", "int zt_probe;\n", zen5Flag, "-c"); err != nil {
		return fmt.Errorf("%s refuses %s", title, zen5Flag)
	}
	if out, err := p.compile(ctx, c.cc, "S", probeAsm, append(slices.Clone(p.flags), "-c")...); err != nil {
		return fmt.Errorf("%s cannot assemble AVX-512 VNNI: %s", title, gist(out, err))
	}
	args := append(slices.Clone(p.flags), "-std=c++17", "-O1", "-static-libstdc++", "-static-libgcc", "-pthread")
	if out, err := p.compile(ctx, c.cxx, "cpp", probe, args...); err != nil {
		return fmt.Errorf("%s cannot build a C++ program with %s: %s", title, strings.Join(p.flags, " "), gist(out, err))
	}
	return nil
}

// lld reports whether the compiler links with lld.
func (p prober) lld(ctx context.Context, tc Toolchain) bool {
	if tc.CC == "" {
		return false
	}
	_, err := p.compile(ctx, tc.CC, "c", "int main(void) { return 0; }\n", "-fuse-ld=lld")
	return err == nil
}

func (p prober) openSSL(ctx context.Context, tc Toolchain, libraries ...string) bool {
	const program = "#include <openssl/ssl.h>\nint main(void) { return SSL_CTX_new(TLS_client_method()) == 0; }\n"
	_, err := p.compile(ctx, tc.CC, "c", program, libraries...)
	return err == nil
}

// compile runs a compiler on a source of the given extension, libraries and flags behind it, and returns what it printed.
func (p prober) compile(ctx context.Context, compiler, extension, source string, args ...string) (string, error) {
	file := filepath.Join(p.dir, "probe."+extension)
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		return "", diskFull(err, "", p.dir)
	}
	cmd := exec.CommandContext(ctx, compiler, append([]string{file, "-o", filepath.Join(p.dir, "probe.out")}, args...)...)
	cmd.Env = environ()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var (
	clangVersion = regexp.MustCompile(`clang version (\d+(?:\.\d+)*)`)
	gccVersion   = regexp.MustCompile(`^\S+ \(.*\) (\d+(?:\.\d+)*)`)
)

// identify reads a compiler's family and version off its --version.
func identify(ctx context.Context, path string) (family, version, banner string, err error) {
	banner, err = firstLine(ctx, path, "--version")
	if err != nil {
		return "", "", "", fmt.Errorf("%s --version fails: %w", path, err)
	}
	if m := clangVersion.FindStringSubmatch(banner); m != nil {
		return "clang", m[1], banner, nil
	}
	if m := gccVersion.FindStringSubmatch(banner); m != nil {
		return "gcc", m[1], banner, nil
	}
	return "", "", "", fmt.Errorf("%s is neither clang nor gcc: it calls itself %q", path, banner)
}

func firstLine(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environ()
	out, err := cmd.Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), err
}

// gist is the line of a failed compiler run that a person should see.
func gist(output string, err error) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, "error") {
			return strings.TrimSpace(line)
		}
	}
	if line := strings.TrimSpace(output); line != "" {
		return line[strings.LastIndexByte(line, '\n')+1:]
	}
	return err.Error()
}

// findCMake takes the cmake on PATH if it is one that we and AOCL-BLAS can use.
func (tc *Toolchain) findCMake(ctx context.Context) bool {
	path, version := tool(ctx, "cmake")
	part := strings.SplitN(version, ".", 3)
	if len(part) < 2 {
		return false
	}
	major, _ := strconv.Atoi(part[0])
	minor, _ := strconv.Atoi(part[1])
	if major < 3 || major == 3 && minor < 18 {
		return false
	}
	tc.CMake, tc.CMakeVersion = path, version
	return true
}

func (tc *Toolchain) findNinja(ctx context.Context) bool {
	for _, name := range []string{"ninja", "ninja-build"} {
		if tc.Ninja, tc.NinjaVersion = tool(ctx, name); tc.Ninja != "" {
			return true
		}
	}
	return false
}

func (tc *Toolchain) findCCache(ctx context.Context) bool {
	tc.CCache, tc.CCacheVersion = tool(ctx, "ccache")
	return tc.CCache != ""
}

// tool returns where a program is and the version on the first line of its --version, or nothing.
func tool(ctx context.Context, name string) (path, version string) {
	path, err := lookPath(name)
	if err != nil {
		return "", ""
	}
	line, err := firstLine(ctx, path, "--version")
	if err != nil {
		return "", ""
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", ""
	}
	return path, words[len(words)-1]
}

// lookPath is exec.LookPath with an absolute result.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return "", err
	}
	return filepath.Abs(path)
}

// Look is Find that installs nothing: it returns what is there, and the needs that are not met. err is for CC and CXX that
// cannot be used.
func Look(ctx context.Context, w workspace.Workspace, s *progress.Step, t target.Target) (tc Toolchain, missing []packages.Need, err error) {
	tc, err = find(ctx, w, s, t, func(_ context.Context, _ *progress.Step, needs ...packages.Need) error {
		for _, n := range needs {
			if !n.Have() {
				missing = append(missing, n)
			}
		}
		return nil
	})
	return tc, missing, err
}
