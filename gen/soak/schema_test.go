package soak

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// follows checks r against schema.json, which names every field that may be there and those that must.
func follows(t *testing.T, r Report) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"soak/schema.json", "report/schema.json"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = c.AddResource("file:///"+name, doc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("file:///soak/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(map[string]any){
		"another version":  func(r map[string]any) { r["version"] = json.Number("2") },
		"an unknown field": func(r map[string]any) { r["surprise"] = true },
		"no samples":       func(r map[string]any) { delete(r, "samples") },
		"a bare sample":    func(r map[string]any) { r["samples"] = []any{map[string]any{"seconds": json.Number("1")}} },
		"a verdict":        func(r map[string]any) { r["results"] = []any{map[string]any{"verdict": "maybe"}} },
	} {
		changed := maps.Clone(doc.(map[string]any))
		change(changed)
		if schema.Validate(changed) == nil {
			t.Errorf("a report with %s follows the schema", name)
		}
	}
}
