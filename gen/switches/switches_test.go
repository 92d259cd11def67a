package switches

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A variable is read under its quoted name, be it by getenv, by os.Getenv or through a table.
var quoted = regexp.MustCompile(`"(ZT_[A-Z0-9_]+|AOCL_ROOT|CC|CXX)"`)

// read returns where each variable is named by code below root, tests apart.
func read(t *testing.T, root string) map[string]string {
	t.Helper()
	where := map[string]string{}
	note := func(path, text string) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			where[m[1]] = path
		}
	}
	for _, dir := range []string{"templates", "gen", "avo"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "switches" && filepath.Base(filepath.Dir(path)) == "gen" {
					return fs.SkipDir
				}
				return nil
			}
			if !slices.Contains([]string{".go", ".c", ".cpp", ".h", ".tmpl"}, filepath.Ext(path)) || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			note(path, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	patches, err := filepath.Glob(filepath.Join(root, "patches", "*.patch"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range patches {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "+") {
				note(path, line)
			}
		}
	}
	return where
}

// differences says how a table and the variables that code reads disagree.
func differences(table []Switch, where map[string]string) []string {
	var found []string
	known := map[string]bool{}
	for _, s := range table {
		if known[s.Name] {
			found = append(found, s.Name+" is in the table twice")
		}
		known[s.Name] = true
		if where[s.Name] == "" {
			found = append(found, s.Name+" is in the table and nothing reads it")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(where)) {
		if !known[name] {
			found = append(found, fmt.Sprintf("%s reads %s, which is not in the table", where[name], name))
		}
	}
	return found
}

func TestTableIsWhatCodeReads(t *testing.T) {
	for _, d := range differences(All(), read(t, "../..")) {
		t.Error(d)
	}
}

func TestDifferences(t *testing.T) {
	where := read(t, "../..")
	delete(where, "ZT_OUT")
	where["ZT_NEW"] = "gen/new.go"
	got := differences(append(All(), Switch{Name: "CC"}), where)
	for _, want := range []string{"CC is in the table twice", "ZT_OUT is in the table and nothing reads it", "gen/new.go reads ZT_NEW, which is not in the table"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
}

func TestEntriesAreWhole(t *testing.T) {
	for _, s := range All() {
		if s.Values == "" || s.Default == "" || s.Text == "" || !slices.Contains([]When{Run, Build, Verify, Test}, s.When) {
			t.Errorf("%+v lacks something", s)
		}
	}
}
