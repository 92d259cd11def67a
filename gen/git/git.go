// Package git runs git on one repository so that it behaves the same on every machine: no user or system configuration, no
// hooks, no prompts, no translated messages.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
)

// Refs in a checkout. Being right below refs/ they can be typed without it ("zt-base"), and unlike tags they do not show up in
// `git describe`.
const (
	Base    = "refs/zt-base"    // the untouched upstream tree
	Applied = "refs/zt-applied" // where the patch queue led when it was last applied
)

// Repo is a work tree or a bare repository.
type Repo struct {
	Dir string
	// Env is added to git's environment.
	Env []string
	// UserConfig lets git read the user's and the system's configuration. Only downloads want it: proxies and mirrors
	// (url.<base>.insteadOf) are configured there.
	UserConfig bool
	// Log receives standard error while git runs, where not nil.
	Log io.Writer
}

// Error is a git command that failed.
type Error struct {
	Args   []string
	Stderr string
	Err    error
}

// Error is the command and what git said was wrong with it.
func (e *Error) Error() string {
	var said []string
	for line := range strings.Lines(e.Stderr) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "fatal: "); ok {
			said = append(said, text)
		} else if text, ok := strings.CutPrefix(line, "error: "); ok {
			said = append(said, text)
		}
	}
	if said == nil {
		said = append(said, strings.TrimSpace(e.Stderr), e.Err.Error())
		if said[0] == "" {
			said = said[1:]
		}
	}
	return fmt.Sprintf("git %s: %s", e.Args[0], strings.Join(said, "; "))
}

func (e *Error) Unwrap() error { return e.Err }

// fixed overrides what a repository's own configuration, or git's defaults, could do to a result.
var fixed = []string{
	"core.hooksPath=/dev/null", "core.attributesFile=/dev/null", "core.excludesFile=/dev/null",
	"core.autocrlf=false", "core.eol=lf", "core.safecrlf=false", "core.fsmonitor=false", "core.quotePath=false",
	"core.fileMode=true", "core.symlinks=true", "core.askPass=", "credential.helper=", "commit.gpgSign=false",
	"apply.whitespace=nowarn", "apply.ignoreWhitespace=no", "gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false",
	// A source tree mounted into a container often belongs to another user. Its hooks and configured programs do not run here.
	"safe.directory=*",
}

// Run runs git with args in the repository and returns its standard output without the final newline.
func (r Repo) Run(ctx context.Context, args ...string) (string, error) {
	return r.Feed(ctx, nil, args...)
}

// Feed is Run with standard input.
func (r Repo) Feed(ctx context.Context, in []byte, args ...string) (string, error) {
	full := []string{"--no-pager"}
	for _, c := range fixed {
		full = append(full, "-c", c)
	}
	cmd := child.Command(ctx, "git", append(full, args...)...)
	cmd.Dir = r.Dir
	cmd.Env = r.environ()
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if r.Log != nil {
		cmd.Stderr = io.MultiWriter(&stderr, r.Log)
	}
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("git is not installed; install it with your package manager (apt-get install git)")
		}
		if ctx.Err() != nil {
			return "", &Error{args, "", context.Cause(ctx)}
		}
		return "", &Error{args, stderr.String(), err}
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// environ is this process's environment without the variables by which git, running us from a hook, would point us at another
// repository.
func (r Repo) environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		transport := strings.HasPrefix(kv, "GIT_SSL_") || strings.HasPrefix(kv, "GIT_SSH") || strings.HasPrefix(kv, "GIT_PROXY_") ||
			strings.HasPrefix(kv, "GIT_EXEC_PATH=")
		if !strings.HasPrefix(kv, "GIT_") || transport {
			env = append(env, kv)
		}
	}
	if !r.UserConfig {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1")
	}
	// Without the ceiling a folder that is no repository would be taken for part of the one around it.
	if dir, err := filepath.EvalSymlinks(r.Dir); err == nil {
		env = append(env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	}
	env = append(env, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_EDITOR=:", "GIT_OPTIONAL_LOCKS=0")
	return append(env, r.Env...)
}

// Hash returns the object name that rev stands for, or "" where the repository has no such object.
func (r Repo) Hash(ctx context.Context, rev string) string {
	hash, err := r.Run(ctx, "rev-parse", "--quiet", "--verify", rev)
	if err != nil {
		return ""
	}
	return hash
}

// Dirty lists the tracked files that differ from HEAD.
func (r Repo) Dirty(ctx context.Context) ([]string, error) {
	out, err := r.Run(ctx, "diff", "--name-only", "--no-ext-diff", "--no-renames", "-z", "HEAD", "--")
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}

// GitDir is the folder that holds the repository's own files.
func (r Repo) GitDir(ctx context.Context) (string, error) {
	return r.Run(ctx, "rev-parse", "--absolute-git-dir")
}

// resetting names the file in the git folder that a Reset leaves behind when it is killed. It holds the arguments.
const resetting = "zt-resetting"

// Reset moves the current branch, the index, the work tree and refs to commit, dropping changes in tracked files. A Reset that
// was killed is finished by Recover.
func (r Repo) Reset(ctx context.Context, commit string, refs ...string) error {
	dir, err := r.GitDir(ctx)
	if err != nil {
		return err
	}
	mark := filepath.Join(dir, resetting)
	if err := os.WriteFile(mark+".new", []byte(strings.Join(append([]string{commit}, refs...), " ")), 0o644); err != nil {
		return err
	}
	if err := os.Rename(mark+".new", mark); err != nil {
		return err
	}
	if _, err := r.Run(ctx, "reset", "--quiet", "--hard", commit); err != nil {
		return err
	}
	for _, ref := range refs {
		if _, err := r.Run(ctx, "update-ref", ref, commit); err != nil {
			return err
		}
	}
	return os.Remove(mark)
}

// Recover finishes a Reset that was killed. The half-changed files it finds are the Reset's, not the developer's.
func (r Repo) Recover(ctx context.Context) error {
	dir, err := r.GitDir(ctx)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, resetting))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The lock files of the killed git.
	locks, err := filepath.Glob(filepath.Join(dir, "refs", "heads", "*.lock"))
	if err != nil {
		return err
	}
	for _, lock := range append(locks, filepath.Join(dir, "index.lock"), filepath.Join(dir, "HEAD.lock")) {
		if err := os.Remove(lock); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	args := strings.Fields(string(text))
	if len(args) == 0 {
		return fmt.Errorf("%s is empty; remove it and run git reset --hard in %s", filepath.Join(dir, resetting), r.Dir)
	}
	return r.Reset(ctx, args[0], args[1:]...)
}
