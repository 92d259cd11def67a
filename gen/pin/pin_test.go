package pin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fails expects an error with every one of words in it.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not mention %q", err, word)
		}
	}
}

const pinned = "../../patches/pin.toml"

func TestReadOurs(t *testing.T) {
	p, err := Read(pinned)
	if err != nil {
		t.Fatal(err)
	}
	if p.LlamaCpp.Tag == "" || len(p.LlamaCpp.Tree) != 40 || len(p.AOCLBLAS.Commit) != 40 {
		t.Errorf("read %+v", p)
	}
}

func TestReadNamesTheKey(t *testing.T) {
	good, err := os.ReadFile(pinned)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pin.toml")
	read := func(text string) error {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path)
		return err
	}
	table, keys := "", 0
	for line := range strings.Lines(string(good)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "["); ok {
			table = strings.TrimSuffix(name, "]")
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok || strings.HasPrefix(key, "#") {
			continue
		}
		keys++
		fails(t, read(strings.Replace(string(good), line, "", 1)), path, "key "+table+"."+key+" is missing")
		if key == "tree" || key == "commit" {
			bad := strings.Replace(line, strings.TrimSpace(value), `"fd570EF"`, 1)
			fails(t, read(strings.Replace(string(good), line, bad, 1)), path, table+"."+key, "fd570EF", "40")
		}
	}
	if keys != 9 {
		t.Errorf("pin.toml has %d keys, the test expects 9", keys)
	}
	fails(t, read(strings.Replace(string(good), "[llama_cpp.npm]", "[llama_cpp.npm]\nregistry = \"x\"", 1)), path, "unknown key llama_cpp.npm.registry")
	fails(t, read(string(good)+"\n[blis]\nx = 1\n"), path, "unknown key blis")
	fails(t, read("[llama_cpp\n"), path+":1:", "toml")
	fails(t, read(strings.Replace(string(good), "tag        = \"v0.5.0\"", "tag = 5", 1)), path+":4:", "key llama_cpp.tag")
	_, err = Read(filepath.Join(t.TempDir(), "none.toml"))
	fails(t, err, "none.toml")
}
