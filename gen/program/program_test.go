package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLinesRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "no output",
		"{\"pl\":1}\nhello":      "output line 2",
		"{\"pl\":\"many\"}":      "output line 1",
		"\n{\"pl\":1}\n{\"pl\":": "output line 2",
	} {
		if _, err := Lines[struct{ PL int }]([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestHold holds a program until it is released, and says why one ended before it was ready.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{"good": "echo loading; echo ready; cat >/dev/null; touch $1", "bad": "echo loading; echo out of cheese >&2; exit 1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b := Build{Name: "tuned", Bin: dir}
	ended := filepath.Join(dir, "ended")
	release, err := b.Hold(t.Context(), "ready", "good", ended)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ended); err == nil {
		t.Error("it did not wait")
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ended); err != nil {
		t.Errorf("it was not let go: %v", err)
	}
	if _, err := b.Hold(t.Context(), "ready", "bad"); err == nil || !strings.Contains(err.Error(), "out of cheese") || !strings.Contains(err.Error(), "before it said ready") {
		t.Errorf("one that ends: %v", err)
	}
	if _, err := b.Hold(t.Context(), "ready", "missing"); err == nil {
		t.Error("a program that is not there is held")
	}
}
