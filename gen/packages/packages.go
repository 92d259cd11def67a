// Package packages finds the programs and libraries that a build needs and, as root on Debian or Ubuntu, installs those that
// are missing with apt. Anywhere else it names the one command to type.
package packages

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// Need is one thing a build cannot do without.
type Need struct {
	// Name is what people call it: "clang >= 19".
	Name string
	// Have reports whether it is there. It is asked again after an installation.
	Have func() bool
	// Packages are Debian packages that bring it, best first. Releases of Debian and Ubuntu carry different ones; the first that
	// the machine's package lists know is installed.
	Packages []string
	// Optional needs are installed where that takes no one's hands, and passed over otherwise.
	Optional bool
}

// Command is a need that any one of the named programs on PATH meets.
func Command(name string, packages []string, programs ...string) Need {
	return Need{Name: name, Packages: packages, Have: func() bool {
		return slices.ContainsFunc(programs, func(p string) bool { _, err := exec.LookPath(p); return err == nil })
	}}
}

// File is a need that a file matching any one of the patterns (filepath.Match) meets.
func File(name string, packages []string, patterns ...string) Need {
	return Need{Name: name, Packages: packages, Have: func() bool {
		return slices.ContainsFunc(patterns, func(p string) bool { found, _ := filepath.Glob(p); return len(found) > 0 })
	}}
}

// System is the machine that packages are installed on.
type System struct {
	Root      bool   // may install
	OSRelease string // text of /etc/os-release
	// LockWait bounds how long another apt or dpkg is waited for.
	LockWait time.Duration
}

// Host describes this machine.
func Host() System {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		text, _ = os.ReadFile("/usr/lib/os-release")
	}
	return System{Root: os.Geteuid() == 0, OSRelease: string(text), LockWait: 10 * time.Minute}
}

// Ensure makes every need met on this machine or says in one line what to type.
func Ensure(ctx context.Context, s *progress.Step, needs ...Need) error {
	return Host().Ensure(ctx, s, needs...)
}

// Ensure makes every need met. As root on Debian or Ubuntu it says what it installs and installs it; elsewhere, and when an
// installation did not help, the error carries the command to type or the names of what is missing.
func (sys System) Ensure(ctx context.Context, s *progress.Step, needs ...Need) error {
	missing := missing(needs)
	if !sys.installs() {
		missing = slices.DeleteFunc(missing, func(n Need) bool { return n.Optional })
	}
	if len(missing) == 0 {
		return nil
	}
	if !sys.installs() {
		return fmt.Errorf("%s; %s", names(missing), sys.Remedy(ctx, missing...))
	}
	chosen, unknown := choose(ctx, missing)
	updated := false
	if slices.ContainsFunc(unknown, func(n Need) bool { return !n.Optional }) {
		s.Say("refreshing the package lists: they do not know of %s", listOf(unknown))
		if err := sys.apt(ctx, s, "update"); err != nil {
			return fmt.Errorf("%s and the package lists cannot be refreshed: %w", names(missing), err)
		}
		updated = true
		if chosen, unknown = choose(ctx, missing); len(unknown) > 0 {
			unknown = slices.DeleteFunc(unknown, func(n Need) bool { return n.Optional })
			if len(unknown) > 0 {
				return fmt.Errorf("%s, and no package source of this machine carries %s; install it by hand",
					names(unknown), listOf(unknown))
			}
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	s.Say("installing %s with apt-get", strings.Join(chosen, ", "))
	args := append([]string{"install", "-y", "--no-install-recommends"}, chosen...)
	err := sys.apt(ctx, s, args...)
	if err != nil && ctx.Err() == nil && !updated {
		// Package lists age: a mirror drops the versions they name.
		s.Say("refreshing the package lists: %v", err)
		if err = sys.apt(ctx, s, "update"); err == nil {
			err = sys.apt(ctx, s, args...)
		}
	}
	if err != nil {
		return fmt.Errorf("%s and apt-get cannot install %s: %w", names(missing), strings.Join(chosen, ", "), err)
	}
	for _, n := range missing {
		if !n.Optional && !n.Have() {
			return fmt.Errorf("%s is still missing after installing %s", n.Name, strings.Join(chosen, ", "))
		}
	}
	return nil
}

// Remedy is what a person types to meet the needs: one command on Debian and its relatives, package names elsewhere.
func (sys System) Remedy(ctx context.Context, needs ...Need) string {
	if !sys.debian() {
		return "install " + listOf(needs) + " (Debian's package names; yours may differ)"
	}
	chosen, unknown := choose(ctx, needs)
	update := ""
	if len(unknown) > 0 {
		update = "sudo apt-get update && "
		for _, n := range unknown {
			chosen = append(chosen, n.Packages[0])
		}
	}
	return "type: " + update + "sudo apt-get install -y --no-install-recommends " + strings.Join(chosen, " ")
}

func (sys System) installs() bool { return sys.Root && sys.debian() }

// debian reports whether the machine installs its software with apt.
func (sys System) debian() bool {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return false
	}
	for line := range strings.Lines(sys.OSRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			for id := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
				if id == "debian" || id == "ubuntu" {
					return true
				}
			}
		}
	}
	return false
}

func missing(needs []Need) []Need {
	return slices.DeleteFunc(slices.Clone(needs), func(n Need) bool { return n.Have() })
}

func names(needs []Need) string {
	var list []string
	for _, n := range needs {
		list = append(list, n.Name)
	}
	return "missing " + strings.Join(list, ", ")
}

// listOf names one package for each need.
func listOf(needs []Need) string {
	var list []string
	for _, n := range needs {
		list = append(list, n.Packages[0])
	}
	return strings.Join(list, ", ")
}

// choose picks for each need the first package that the package lists know, and returns the needs that have none.
func choose(ctx context.Context, needs []Need) (chosen []string, unknown []Need) {
	var all []string
	for _, n := range needs {
		all = append(all, n.Packages...)
	}
	known := candidates(ctx, all)
	for _, n := range needs {
		i := slices.IndexFunc(n.Packages, func(p string) bool { return known[p] })
		if i < 0 {
			unknown = append(unknown, n)
		} else if !slices.Contains(chosen, n.Packages[i]) {
			chosen = append(chosen, n.Packages[i])
		}
	}
	return chosen, unknown
}

// candidates returns which of the packages apt could install. `apt-cache policy` prints a paragraph for each package it has
// heard of, with "Candidate: (none)" where it cannot be installed.
func candidates(ctx context.Context, packages []string) map[string]bool {
	cmd := exec.CommandContext(ctx, "apt-cache", append([]string{"policy", "--"}, packages...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	known := map[string]bool{}
	var name string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutSuffix(line, ":"); ok && !strings.HasPrefix(line, " ") {
			name = rest
		} else if version, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok {
			known[name] = version != "(none)"
		}
	}
	return known
}

// apt runs apt-get, waiting for another one to finish. The error is its own "E:" lines.
func (sys System) apt(ctx context.Context, s *progress.Step, args ...string) error {
	deadline := time.Now().Add(sys.LockWait)
	for said := false; ; {
		output, err := aptOnce(ctx, s, sys.LockWait, args)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The option DPkg::Lock::Timeout covers dpkg's own lock but not those of the lists and of the download folder.
		locked := strings.Contains(output, "Could not get lock") || strings.Contains(output, "Unable to lock directory")
		if !locked || time.Now().After(deadline) {
			return aptError(err, output)
		}
		if !said {
			s.Say("waiting for another apt to finish")
			said = true
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// aptOnce runs apt-get once and returns what it printed.
func aptOnce(ctx context.Context, s *progress.Step, lockWait time.Duration, args []string) (string, error) {
	status, statusWriter, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer status.Close()
	base := []string{
		"-q", "-o", fmt.Sprintf("DPkg::Lock::Timeout=%d", int(lockWait.Seconds())),
		"-o", "Dpkg::Use-Pty=0", "-o", "APT::Status-Fd=3",
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(base, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.ExtraFiles = []*os.File{statusWriter}
	// A Ctrl-C at the terminal must not reach dpkg half way through a package. apt-get itself takes an interrupt at a safe
	// moment, so it alone is sent one, and it is waited for.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		statusWriter.Close()
		return "", err
	}
	statusWriter.Close()
	follow(s, status)
	err = cmd.Wait()
	return output.String(), err
}

// follow shows the percentage that apt reports on its status descriptor: lines such as
// "pmstatus:clang-19:42.5:Unpacking clang-19 (amd64)".
func follow(s *progress.Step, status io.Reader) {
	for lines := bufio.NewScanner(status); lines.Scan(); {
		part := strings.SplitN(lines.Text(), ":", 4)
		if len(part) < 4 || part[0] != "dlstatus" && part[0] != "pmstatus" {
			continue
		}
		if percent, err := strconv.ParseFloat(part[2], 64); err == nil {
			s.Count(int(percent), 100, part[3])
		}
	}
}

func aptError(err error, output string) error {
	var said []string
	for line := range strings.Lines(output) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok {
			said = append(said, rest)
		}
	}
	if said == nil {
		return fmt.Errorf("apt-get: %w", err)
	}
	return errors.New(strings.Join(said, "; "))
}
