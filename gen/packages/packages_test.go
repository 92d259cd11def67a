package packages

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

const (
	debian = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"
	mint   = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"
	fedora = "ID=fedora\nID_LIKE=\"rhel centos\"\n"
)

// machine is a PATH of shell scripts that play apt. What apt-get was asked is appended to log, and installing a package makes
// a program of its name.
type machine struct{ bin, log string }

func fake(t *testing.T, aptGet, aptCache string) machine {
	t.Helper()
	m := machine{bin: t.TempDir(), log: filepath.Join(t.TempDir(), "log")}
	m.script(t, "apt-get", "echo \"$*\" >> "+m.log+"\n"+aptGet)
	m.script(t, "apt-cache", aptCache)
	t.Setenv("PATH", m.bin+":/bin:/usr/bin")
	t.Setenv("BIN", m.bin)
	return m
}

func (m machine) script(t *testing.T, name, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m machine) asked(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(m.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// ensure runs Ensure in a step and returns what was printed.
func ensure(t *testing.T, ctx context.Context, sys System, needs ...Need) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := progress.To(&out).Step(ctx, "tools", func(ctx context.Context, s *progress.Step) error {
		return sys.Ensure(ctx, s, needs...)
	})
	return out.String(), err
}

const (
	// installs makes a program of the last word of the command line.
	installs = `for p; do :; done; case "$*" in *install*) printf '#!/bin/sh\n' > "$BIN/$p"; chmod +x "$BIN/$p";; esac`
	// knows carries zt-tool-2 alone.
	knows = `for p; do
case $p in
zt-tool-2) printf '%s:\n  Installed: (none)\n  Candidate: 1.0\n' $p;;
zt-tool-3) printf '%s:\n  Installed: (none)\n  Candidate: (none)\n' $p;;
esac; done`
)

func tool() Need {
	return Command("zt-tool", []string{"zt-tool-3", "zt-tool-2"}, "zt-tool-2", "zt-tool-3")
}

func TestRootInstallsTheCandidateThatExists(t *testing.T) {
	m := fake(t, installs, knows)
	out, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "installing zt-tool-2 with apt-get") {
		t.Errorf("the installation was not announced:\n%s", out)
	}
	if asked := m.asked(t); !strings.Contains(asked, "install -y --no-install-recommends zt-tool-2") || strings.Contains(asked, "update") {
		t.Errorf("apt-get was asked\n%s", asked)
	}
}

func TestNothingMissingAsksNothing(t *testing.T) {
	m := fake(t, installs, knows)
	m.script(t, "zt-tool-3", "")
	if out, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool()); err != nil || m.asked(t) != "" {
		t.Errorf("%v, asked %q, printed %q", err, m.asked(t), out)
	}
}

func TestNonRootGetsTheCommand(t *testing.T) {
	m := fake(t, installs, knows)
	for _, release := range []string{debian, mint} {
		_, err := ensure(t, t.Context(), System{OSRelease: release}, tool())
		want := "missing zt-tool; type: sudo apt-get install -y --no-install-recommends zt-tool-2"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if m.asked(t) != "" {
		t.Errorf("apt-get was asked %q without root", m.asked(t))
	}
}

func TestOtherDistributionGetsNames(t *testing.T) {
	fake(t, installs, knows)
	_, err := ensure(t, t.Context(), System{Root: true, OSRelease: fedora}, tool())
	if err == nil || !strings.Contains(err.Error(), "install zt-tool-3") || strings.Contains(err.Error(), "apt-get") {
		t.Errorf("%v, want package names and no apt-get", err)
	}
}

func TestOptionalNeedNeverStopsABuild(t *testing.T) {
	optional := tool()
	optional.Optional = true
	m := fake(t, installs, knows)
	if _, err := ensure(t, t.Context(), System{OSRelease: debian}, optional); err != nil {
		t.Error(err)
	}
	if _, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, optional); err != nil {
		t.Error(err)
	}
	if !strings.Contains(m.asked(t), "zt-tool-2") {
		t.Error("root did not install the optional package")
	}
}

// On a fresh machine the lists are empty: `apt-cache policy` prints nothing until they are fetched.
func TestEmptyListsAreRefreshed(t *testing.T) {
	m := fake(t, `case "$*" in *update*) touch "$BIN/updated";; esac; `+installs, `[ -e "$BIN/updated" ] || exit 0; `+knows)
	out, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool())
	if err != nil {
		t.Fatal(err)
	}
	if asked := m.asked(t); strings.Index(asked, "update") > strings.Index(asked, "install") || !strings.Contains(asked, "zt-tool-2") {
		t.Errorf("apt-get was asked\n%s\nprinted\n%s", asked, out)
	}
	_, err = ensure(t, t.Context(), System{OSRelease: debian}, Command("other", []string{"zt-other"}, "zt-other"))
	if want := "sudo apt-get update && sudo apt-get install -y --no-install-recommends zt-other"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// A mirror drops old versions: the first installation fails until the lists are fetched again.
func TestStaleListsAreRefreshed(t *testing.T) {
	m := fake(t, `case "$*" in *update*) touch "$BIN/updated"; exit 0;; esac
[ -e "$BIN/updated" ] || { echo "E: Failed to fetch zt-tool-2_1.0.deb  404  Not Found" >&2; exit 100; }
`+installs, knows)
	out, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool())
	if err != nil || strings.Count(m.asked(t), "install -y") != 2 {
		t.Errorf("%v, asked\n%s\nprinted\n%s", err, m.asked(t), out)
	}
}

func TestAptsOwnWordsReachTheError(t *testing.T) {
	fake(t, `echo "E: You don't have enough free space in /var/cache/apt/archives/." >&2; exit 100`, knows)
	_, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool())
	if err == nil || !strings.Contains(err.Error(), "enough free space") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want apt's reason in one line", err)
	}
}

func TestInstalledButUseless(t *testing.T) {
	fake(t, "exit 0", knows)
	_, err := ensure(t, t.Context(), System{Root: true, OSRelease: debian}, tool())
	if err == nil || !strings.Contains(err.Error(), "still missing") {
		t.Errorf("%v, want that zt-tool is still missing", err)
	}
}

func TestWaitsForAnotherApt(t *testing.T) {
	m := fake(t, `[ -e "$BIN/waited" ] || { touch "$BIN/waited"; echo "E: Could not get lock /var/cache/apt/archives/lock" >&2; exit 100; }
`+installs, knows)
	sys := System{Root: true, OSRelease: debian, LockWait: time.Minute}
	out, err := ensure(t, t.Context(), sys, tool())
	if err != nil || !strings.Contains(out, "waiting for another apt") {
		t.Errorf("%v, asked\n%s\nprinted\n%s", err, m.asked(t), out)
	}
}

// An interrupt reaches apt-get, which ends in its own time; Ensure returns only then.
func TestInterruptIsPassedOnAndWaitedFor(t *testing.T) {
	m := fake(t, `trap 'sleep 0.3; touch "$BIN/ended"; exit 130' INT; touch "$BIN/started"; i=0; while [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done`, knows)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(m.bin, "started")); err == nil {
				cancel()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	_, err := ensure(t, ctx, System{Root: true, OSRelease: debian}, tool())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the run was cancelled", err)
	}
	if _, err := os.Stat(filepath.Join(m.bin, "ended")); err != nil {
		t.Error("Ensure returned before apt-get had ended")
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	n := File("header", []string{"zt-dev"}, filepath.Join(dir, "*", "zt.h"))
	if n.Have() {
		t.Error("found in an empty folder")
	}
	if err := os.MkdirAll(filepath.Join(dir, "x86_64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x86_64", "zt.h"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !n.Have() {
		t.Error("not found")
	}
}
