package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

func TestChosenWeights(t *testing.T) {
	names := func(text string) string {
		list, err := chosenWeights(text)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, w := range list {
			names = append(names, w.name)
		}
		return strings.Join(names, " ")
	}
	if got := names(" MOE8-Q8_0,q6_k, iq2_xs"); got != "q6_K iq2_xs moe8-q8_0" {
		t.Errorf("three are %q", got)
	}
	all := strings.Fields(names(""))
	last := "moe64-q4_K moe64-q8_0 moe8-q4_K moe8-q8_0 bf16 bf16@12 f16 f16-of-bf16 f32-of-bf16 f32-of-bf16@12 trained-bf16"
	if n := len(weight.Specs()); len(all) < n || all[0] != "q4_0" || strings.Join(all[n:], " ") != last {
		t.Errorf("all are %q", all)
	}
	for _, s := range weight.Specs() {
		if m, err := model.ParseMix(s.Name); err != nil || m.Name != ggmlName(s) {
			t.Errorf("%s is called %s here and %s in models, %v", s.Name, ggmlName(s), m.Name, err)
		}
	}
}

func TestTypeModels(t *testing.T) {
	r, _ := testRun(t)
	there := filepath.Join(r.Workspace.Models(), "1b-q4_K.gguf")
	if err := os.MkdirAll(filepath.Dir(there), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	chosen, err := chosenWeights("q4_K,iq3_s,moe64-q8_0,f32-of-bf16,bf16@12,trained-bf16")
	if err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(r.Workspace.Models(), "types")
	models, err := r.typeModels(chosen, scratch)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		name, path    string
		bits          float64
		grid, experts bool
		kept          bool
		code          string
	}{
		{"1b-q4_K", there, 4.5, false, false, true, ""},
		{"1b-iq3_s", filepath.Join(scratch, "1b-iq3_s.gguf"), 3.4375, true, false, false, ""},
		{"moe64-q8_0", filepath.Join(scratch, "moe64-q8_0.gguf"), 8.5, false, true, false, ""},
		{"1b-bf16@12", filepath.Join(scratch, "1b-bf16.gguf"), 16, false, false, false, "12"},
		{"1b-f32-of-bf16", filepath.Join(scratch, "1b-f32-of-bf16.gguf"), 32, false, false, false, "auto"},
		{"1b-trained-bf16", filepath.Join(scratch, "1b-trained-bf16.gguf"), 16, false, false, false, "auto"},
	} {
		m := models[i]
		if m.Name != want.name || m.Path != want.path || m.Bits != want.bits || m.Grid != want.grid || m.Experts != want.experts || m.Kept != want.kept || m.Code != want.code {
			t.Errorf("%+v, want %+v", m, want)
		}
	}
}

// TestReadmeOfTypesAlone takes the table of types where no verification was run.
func TestReadmeOfTypesAlone(t *testing.T) {
	r, _ := testRun(t)
	r.Workspace.Root = t.TempDir()
	path := filepath.Join(r.Workspace.Root, "README.md")
	text := "<!-- types: `mage report:readme` writes what follows -->\n<!-- types end -->\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	found := report.Report{Version: report.Version, Threads: 2, Results: []report.Result{
		{Model: "1b-q4_K", Case: "weights", Quantity: report.Bits, Value: 4.5, Verdict: report.Info}}}
	if err := found.WriteTypes(r.Workspace.Report()); err != nil {
		t.Fatal(err)
	}
	if err := ReportReadme(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), "| q4_K | 4.50 |") {
		t.Errorf("%s, %v", got, err)
	}
}
