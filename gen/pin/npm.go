package pin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

func (n NPM) spec() string { return n.Package + "@" + n.Version }

// fromNPM downloads the package with npm, which knows the user's registry and proxy, and fetches the bundle in it.
func (u upstream) fromNPM(ctx context.Context, into git.Repo, s *progress.Step) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("npm is not installed")
	}
	dir, err := os.MkdirTemp(into.Dir, "npm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// npm itself waits minutes for a registry that does not answer, so ask it for one word first. Half of the time is for node
	// to start.
	ask, cancel := context.WithTimeoutCause(ctx, 2*reach, fmt.Errorf("no answer within %v", 2*reach))
	defer cancel()
	if err := npm(ask, dir, "view", u.npm.spec(), "version", "--fetch-retries=0", fmt.Sprintf("--fetch-timeout=%d", reach.Milliseconds())); err != nil {
		return err
	}
	s.Say("fetching %s with npm pack %s", u.name, u.npm.spec())
	if err := npm(ctx, dir, "pack", u.npm.spec(), "--ignore-scripts", "--fetch-retries=2", "--fetch-timeout=60000"); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("npm pack left %d archives", len(archives))
	}
	bundle := filepath.Join(dir, "bundle")
	if err := extract(archives[0], u.npm.Bundle, bundle); err != nil {
		return err
	}
	return u.fromBundle(ctx, into, bundle)
}

// npm runs npm in dir.
func npm(ctx context.Context, dir string, args ...string) error {
	cmd := child.Command(ctx, "npm", append(args, "--no-update-notifier", "--no-audit", "--no-fund")...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("npm %s: %w", args[0], context.Cause(ctx))
	}
	// Of its many lines "npm error code ECONNREFUSED" and the first sentence say it all.
	var said []string
	for line := range strings.Lines(stderr.String()) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "npm error ")
		if !ok {
			text, ok = strings.CutPrefix(strings.TrimSpace(line), "npm ERR! ") // before npm 10
		}
		if ok && (len(said) == 0 || len(said) == 1 && strings.Count(text, " ") >= 3) {
			said = append(said, text)
		}
	}
	if said == nil {
		return fmt.Errorf("npm %s: %w", args[0], err)
	}
	return fmt.Errorf("npm %s: %s", args[0], strings.Join(said, ", "))
}

// extract writes the member called name of a gzipped tar archive to path.
func extract(archive, name, path string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("the package's archive: %w", err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return fmt.Errorf("the package has no %s", name)
		}
		if err != nil {
			return fmt.Errorf("the package's archive: %w", err)
		}
		if h.Name != name {
			continue
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, t); err != nil {
			out.Close()
			return fmt.Errorf("unpack %s: %w", name, err)
		}
		return out.Close()
	}
}
