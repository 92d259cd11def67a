package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

//go:embed schema.json
var schemaText []byte

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// asJSON is v as a validator sees it.
func asJSON(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestReportsFollowTheSchema(t *testing.T) {
	s := schema(t)
	for name, r := range map[string]Report{"full": full(), "failing": failing(), "small": sample(), "bare": {Version: Version, Threads: 1, Environment: Host()}} {
		if err := s.Validate(asJSON(t, r)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"another version":  func(r map[string]any) { r["version"] = json.Number("1") },
		"no threads":       func(r map[string]any) { delete(r, "threads") },
		"an unknown field": func(r map[string]any) { r["surprise"] = true },
		"no date":          func(r map[string]any) { r["date"] = "yesterday" },
		"no part":          func(r map[string]any) { delete(r["results"].([]any)[0].(map[string]any), "part") },
		"a verdict":        func(r map[string]any) { r["results"].([]any)[0].(map[string]any)["verdict"] = "maybe" },
		"a side": func(r map[string]any) {
			r["results"].([]any)[0].(map[string]any)["bound"].(map[string]any)["side"] = "around"
		},
	} {
		doc := asJSON(t, sample()).(map[string]any)
		change(doc)
		if s.Validate(doc) == nil {
			t.Errorf("a report with %s follows the schema", name)
		}
	}
}

// TestSchemaIsTheTypes checks that the schema names, requires and describes exactly the fields that Go writes.
func TestSchemaIsTheTypes(t *testing.T) {
	type object struct {
		Properties map[string]struct {
			Description string
			Ref         string `json:"$ref"`
		}
		Required    []string
		Description string
	}
	var doc struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(schemaText, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(doc.Description, fmt.Sprintf("version %d", Version)) {
		t.Errorf("the description does not name version %d: %s", Version, doc.Description)
	}
	objects := map[reflect.Type]object{
		reflect.TypeFor[Report]():              doc.object,
		reflect.TypeFor[Environment]():         doc.Defs["environment"],
		reflect.TypeFor[Result]():              doc.Defs["result"],
		reflect.TypeFor[statistics.Interval](): doc.Defs["interval"],
		reflect.TypeFor[Bound]():               doc.Defs["bound"],
	}
	for typ, o := range objects {
		if o.Description == "" {
			t.Errorf("%s is not described", typ)
		}
		var names, required []string
		for f := range fields(typ) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name)
			if options != "omitempty" {
				required = append(required, name)
			}
			p := o.Properties[name]
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if _, ok := objects[inner]; !ok && inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
				t.Errorf("%s.%s is of type %s, which the schema does not have", typ, f.Name, inner)
			}
			if p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s is not described", typ, name)
			}
		}
		slices.Sort(names)
		if got := slices.Sorted(maps.Keys(o.Properties)); !slices.Equal(got, names) {
			t.Errorf("%s: the schema has %q, Go %q", typ, got, names)
		}
		slices.Sort(required)
		if got := slices.Sorted(slices.Values(o.Required)); !slices.Equal(got, required) {
			t.Errorf("%s: the schema requires %q, Go always writes %q", typ, got, required)
		}
	}
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}
