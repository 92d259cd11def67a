// Package program runs the programs of a build of llama.cpp and reads what they print.
package program

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
)

// Build is a folder of programs.
type Build struct {
	Name string   // as messages call it: stock, tuned
	Bin  string   // the folder
	Env  []string // added to the environment, as NAME=value
}

// Check says which of the named programs is missing.
func (b Build) Check(names ...string) error {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(b.Bin, name)); err != nil {
			return fmt.Errorf("the %s build has no %s: %w; run `mage build`", b.Name, name, err)
		}
	}
	return nil
}

// With is b with more environment variables, each NAME=value.
func (b Build) With(env ...string) Build {
	b.Env = append(append([]string(nil), b.Env...), env...)
	return b
}

// Output runs a program of b to its end and returns what it printed. The error of one that fails ends with the last line of its
// stderr; stdout and stderr are returned with it, since some programs say with them why.
func (b Build) Output(ctx context.Context, name string, args ...string) (stdout, stderr []byte, err error) {
	cmd := child.Command(ctx, filepath.Join(b.Bin, name), args...)
	cmd.Env = append(os.Environ(), b.Env...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		said := strings.TrimSpace(log.String())
		if i := strings.LastIndexByte(said, '\n'); i >= 0 {
			said = said[i+1:]
		}
		err = fmt.Errorf("%s: %w: %s", b.line(name, args), err, said)
	}
	return out.Bytes(), log.Bytes(), err
}

// Hold starts a program of b that goes on until its standard input ends, and returns when it has printed a line that contains ready.
// release ends it; it must be called.
func (b Build) Hold(ctx context.Context, ready, name string, args ...string) (release func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := child.Command(ctx, filepath.Join(b.Bin, name), args...)
	cmd.Env = append(os.Environ(), b.Env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", b.line(name, args), err)
	}
	release = func() error {
		defer cancel()
		stdin.Close()
		_, err := io.Copy(io.Discard, stdout)
		return errors.Join(err, cmd.Wait())
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), ready) {
			return release, nil
		}
	}
	err = errors.Join(release(), context.Cause(ctx))
	return nil, fmt.Errorf("%s ended before it said %s: %w: %s", b.line(name, args), ready, err, strings.TrimSpace(log.String()))
}

// line is a call as messages show it.
func (b Build) line(name string, args []string) string {
	return fmt.Sprintf("%s %s %s", b.Name, name, strings.Join(args, " "))
}

// Run runs a program of b and returns the JSON lines it printed on stdout, each as a T.
func Run[T any](ctx context.Context, b Build, name string, args ...string) ([]T, error) {
	stdout, _, err := b.Output(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	lines, err := Lines[T](stdout)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.line(name, args), err)
	}
	return lines, nil
}

// Lines parses one JSON object a line. No line at all is an error.
func Lines[T any](text []byte) ([]T, error) {
	var lines []T
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, fmt.Errorf("output line %d is not as expected: %w", len(lines)+1, err)
		}
		lines = append(lines, v)
	}
	if lines == nil {
		return nil, fmt.Errorf("no output")
	}
	return lines, nil
}
