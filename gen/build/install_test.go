package build

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestInstall checks that the folder ends up with the programs alone, and that programs which did not change are left in place.
func TestInstall(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "bin")
	write(t, filepath.Join(from, "llama-cli"), "one", 0o755)
	write(t, filepath.Join(from, "llama-bench"), "two", 0o755)
	write(t, filepath.Join(from, "notes.txt"), "no program", 0o644)
	if err := os.Mkdir(filepath.Join(from, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if n, err := install(from, to); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	before, err := os.Stat(filepath.Join(to, "llama-cli"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "llama-old"), "gone from the build", 0o755)
	write(t, filepath.Join(to, "llama-cli.partial"), "left by a killed run", 0o755)
	write(t, filepath.Join(from, "llama-bench"), "three", 0o755)
	if n, err := install(from, to); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	after, err := os.Stat(filepath.Join(to, "llama-cli"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("an unchanged program was written again")
	}
	if text, err := os.ReadFile(filepath.Join(to, "llama-bench")); err != nil || string(text) != "three" {
		t.Errorf("llama-bench holds %q, %v", text, err)
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v; want the two programs alone", entries, err)
	}
	if _, err := install(filepath.Join(from, "missing"), to); err == nil {
		t.Error("a build without programs was installed")
	}
}
