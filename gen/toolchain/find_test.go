package toolchain

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/packages"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

const (
	clang19 = "Debian clang version 19.1.7 (3~deb12u1)"
	clang14 = "Debian clang version 14.0.6"
	gcc12   = "gcc (Debian 12.2.0-14+deb12u1) 12.2.0"
	gcc14   = "gcc-14 (Ubuntu 14.2.0-4ubuntu2) 14.2.0"
)

// fakePath is a PATH of shell scripts alone.
type fakePath string

func newPath(t *testing.T) fakePath {
	t.Helper()
	t.Setenv("CC", "")
	t.Setenv("CXX", "")
	dir := fakePath(t.TempDir())
	t.Setenv("PATH", string(dir))
	dir.script(t, "cmake", `echo "cmake version 3.25.1"`)
	dir.script(t, "ninja", `echo 1.11.1`)
	dir.script(t, "apt-get", `echo "apt-get was called" >&2; exit 1`)
	dir.script(t, "apt-cache", `for p; do case $p in clang-19|cmake|ninja-build|libssl-dev) echo "$p:"; echo "  Candidate: 1";; esac; done`)
	return dir
}

func (dir fakePath) script(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(string(dir), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// compiler lays a pair of compilers that compile everything except with an argument that matches refuses.
func (dir fakePath) compiler(t *testing.T, cc, cxx, banner, refuses string) {
	t.Helper()
	for _, name := range []string{cc, cxx} {
		dir.script(t, name, fmt.Sprintf(`case "$*" in
--version) echo '%s'; exit 0;;
*%s*) echo "probe.c:1:1: error: no %s for you"; exit 1;;
esac`, banner, refuses, refuses))
	}
}

// unprivileged answers a missing package as on Debian without root.
func unprivileged(ctx context.Context, s *progress.Step, needs ...packages.Need) error {
	return packages.System{OSRelease: "ID=debian\n"}.Ensure(ctx, s, needs...)
}

func findIn(t *testing.T, ensure ensurer) (Toolchain, error) {
	t.Helper()
	zen5, err := target.Find("zen5")
	if err != nil {
		t.Fatal(err)
	}
	var tc Toolchain
	err = progress.To(&bytes.Buffer{}).Step(t.Context(), "tools", func(ctx context.Context, s *progress.Step) (err error) {
		tc, err = find(ctx, workspace.Workspace{Out: t.TempDir(), Cache: t.TempDir()}, s, zen5, ensure)
		return err
	})
	return tc, err
}

func TestPrefersClang(t *testing.T) {
	dir := newPath(t)
	dir.compiler(t, "gcc-14", "g++-14", gcc14, "never")
	dir.compiler(t, "clang-19", "clang++-19", clang19, "never")
	dir.compiler(t, "clang", "clang++", clang14, "znver5")
	tc, err := findIn(t, unprivileged)
	if err != nil {
		t.Fatal(err)
	}
	if tc.Family != "clang" || tc.Version != "19.1.7" || filepath.Base(tc.CXX) != "clang++-19" {
		t.Errorf("found %+v", tc)
	}
	if want := "clang 19.1.7 (" + clang19 + ")"; tc.String() != want {
		t.Errorf("%s, want %s", tc, want)
	}
	if strings.Join(tc.LinkFlags, " ") != "-fuse-ld=lld -static-libstdc++ -static-libgcc" || !tc.StaticOpenSSL {
		t.Errorf("link flags %q, static OpenSSL %v", tc.LinkFlags, tc.StaticOpenSSL)
	}
	if tc.CMakeVersion != "3.25.1" || tc.NinjaVersion != "1.11.1" || tc.CCache != "" {
		t.Errorf("cmake %q ninja %q ccache %q", tc.CMakeVersion, tc.NinjaVersion, tc.CCache)
	}
}

func TestPassesOverOldCompilers(t *testing.T) {
	dir := newPath(t)
	dir.compiler(t, "clang", "clang++", clang14, "znver5")
	dir.compiler(t, "gcc-14", "g++-14", gcc14, "-fuse-ld=lld")
	dir.compiler(t, "gcc", "g++", gcc12, "znver5")
	tc, err := findIn(t, unprivileged)
	if err != nil {
		t.Fatal(err)
	}
	if tc.Family != "gcc" || tc.Version != "14.2.0" || strings.Contains(strings.Join(tc.LinkFlags, " "), "lld") {
		t.Errorf("found %+v", tc)
	}
}

func TestLinkerAndOpenSSLFallBack(t *testing.T) {
	dir := newPath(t)
	dir.compiler(t, "clang-19", "clang++-19", clang19, "-fuse-ld=lld")
	if tc, err := findIn(t, unprivileged); err != nil || strings.Contains(strings.Join(tc.LinkFlags, " "), "lld") {
		t.Errorf("without lld: %v, %q", err, tc.LinkFlags)
	}
	dir.compiler(t, "clang-19", "clang++-19", clang19, "-l:libssl.a")
	if tc, err := findIn(t, unprivileged); err != nil || tc.StaticOpenSSL || tc.LlamaCpp("v1")["OPENSSL_USE_STATIC_LIBS"] != "OFF" {
		t.Errorf("without libssl.a: %v, %+v", err, tc)
	}
}

func TestWithoutRootNamesTheCommand(t *testing.T) {
	const command = "type: sudo apt-get install -y --no-install-recommends "
	for _, c := range []struct {
		name   string
		remove []string
		lay    func(fakePath)
		want   []string
	}{
		{"nothing but an old gcc", nil, func(dir fakePath) { dir.compiler(t, "gcc", "g++", gcc12, "znver5") },
			[]string{"gcc 12.2.0) refuses -march=znver5", command + "clang-19 libssl-dev"}},
		{"no compiler at all", nil, func(fakePath) {}, []string{"missing a compiler for Zen 5", command + "clang-19 libssl-dev"}},
		{"no build tools", []string{"cmake", "ninja"}, func(dir fakePath) { dir.compiler(t, "clang-19", "clang++-19", clang19, "never") },
			[]string{"missing cmake >= 3.18, ninja;", command + "cmake ninja-build"}},
		{"an old cmake", nil, func(dir fakePath) {
			dir.compiler(t, "clang-19", "clang++-19", clang19, "never")
			dir.script(t, "cmake", `echo "cmake version 3.16.3"`)
		}, []string{"cmake >= 3.18"}},
		{"no OpenSSL", nil, func(dir fakePath) { dir.compiler(t, "clang-19", "clang++-19", clang19, "-lssl") },
			[]string{"missing OpenSSL's headers", command + "libssl-dev"}},
		{"a C compiler without C++", nil, func(dir fakePath) {
			dir.compiler(t, "clang-19", "clang++-19", clang19, "never")
			if err := os.Remove(filepath.Join(string(dir), "clang++-19")); err != nil {
				t.Fatal(err)
			}
		}, []string{"no clang++-19 beside it"}},
	} {
		dir := newPath(t)
		for _, name := range c.remove {
			if err := os.Remove(filepath.Join(string(dir), name)); err != nil {
				t.Fatal(err)
			}
		}
		c.lay(dir)
		_, err := findIn(t, unprivileged)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v\nwant one line with %q", c.name, err, want)
			}
		}
	}
}

func TestInstallsAMissingCompiler(t *testing.T) {
	dir := newPath(t)
	dir.compiler(t, "gcc", "g++", gcc12, "znver5")
	install := func(ctx context.Context, s *progress.Step, needs ...packages.Need) error {
		for _, n := range needs {
			if n.Packages[0] == "clang-19" && !n.Have() {
				dir.compiler(t, "clang-19", "clang++-19", clang19, "never")
			}
			if !n.Optional && !n.Have() {
				return fmt.Errorf("%s is still missing", n.Name)
			}
		}
		return nil
	}
	if tc, err := findIn(t, install); err != nil || tc.Version != "19.1.7" {
		t.Errorf("%v, %+v", err, tc)
	}
}

func TestCCAndCXX(t *testing.T) {
	dir := newPath(t)
	dir.compiler(t, "clang-19", "clang++-19", clang19, "never")
	dir.compiler(t, "gcc-14", "g++-14", gcc14, "never")
	dir.compiler(t, "gcc", "g++", gcc12, "znver5")
	dir.compiler(t, "broken", "broken++", clang19, "-std=c++17")
	dir.compiler(t, "tcc", "t++", "tcc version 0.9.27 (x86_64 Linux)", "never")
	dir.script(t, "lonely-gcc", `echo 'gcc (GCC) 14.1.0'`)
	for _, c := range []struct{ cc, cxx, want, wantErr string }{
		{"gcc-14", "", "g++-14", ""},
		{"", "g++-14", "g++-14", ""},
		{"gcc-14", "g++-14", "g++-14", ""},
		{"ccache gcc-14", "ccache g++-14", "g++-14", ""},
		{"gcc", "", "", "gcc 12.2.0) refuses -march=znver5; set CC and CXX to clang >= 19 or gcc >= 14, or unset them"},
		{"", "g++", "", "refuses -march=znver5"},
		{"gcc-14", "clang++-19", "", "is gcc 14.2.0 but "},
		{"gcc-99", "", "", "CC=gcc-99: there is no such program"},
		{"gcc-14 -m32", "", "", "name the compiler alone"},
		{"lonely-gcc", "", "", "CC is set and CXX is not"},
		{"broken", "broken++", "", "cannot build a C++ program with -march=znver5: probe.c:1:1: error: no -std=c++17 for you"},
		{"tcc", "t++", "", "is neither clang nor gcc"},
	} {
		t.Setenv("CC", c.cc)
		t.Setenv("CXX", c.cxx)
		tc, err := findIn(t, unprivileged)
		switch {
		case c.wantErr == "" && (err != nil || filepath.Base(tc.CXX) != c.want):
			t.Errorf("CC=%q CXX=%q: %v, %s; want %s", c.cc, c.cxx, err, tc.CXX, c.want)
		case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
			t.Errorf("CC=%q CXX=%q: %v, want %q", c.cc, c.cxx, err, c.wantErr)
		}
	}
}
