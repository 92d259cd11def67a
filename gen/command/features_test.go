package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
)

func TestChosenFeatures(t *testing.T) {
	all := gate.AllFeatures("", gate.Machine{})
	if list, err := chosenFeatures(all, ""); err != nil || len(list) != len(all) {
		t.Errorf("without a choice %d of %d, %v", len(list), len(all), err)
	}
	list, err := chosenFeatures(all, " all,pages")
	if err != nil || len(list) != 2 || list[0].Name != "pages" || list[1].Name != "all" {
		t.Errorf("two are %+v, %v", list, err)
	}
	if _, err := chosenFeatures(all, "pages,engines"); err == nil || !strings.Contains(err.Error(), `no "engines"; there are pages`) {
		t.Errorf("one that is none: %v", err)
	}
}

func TestCarriedBuilds(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'version: 0.5.0 (build 0, commit 0.1.0)' >&2\n" +
		"echo 'built with Clang 19.1.7 for Linux x86_64' >&2\necho 'llama-zen-turbo 0.1.0, target zen5, BLAS: AOCL-BLAS 5.1' >&2; fi\n"
	if err := os.WriteFile(filepath.Join(dir, "llama-cli"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := carried(t.Context(), "there,"+dir)
	if err != nil {
		t.Fatal(err)
	}
	if e := b.environment; e.Target != "zen5" || e.Toolchain != "0.1.0" || e.Compiler != "Clang 19.1.7" || len(e.Notes) != 1 {
		t.Errorf("environment is %+v", e)
	}
	if !filepath.IsAbs(b.stock) || b.tuned != dir {
		t.Errorf("builds are %+v", b)
	}
	for text, want := range map[string]string{"one": "two folders", "there,nowhere": "llama-cli"} {
		if _, err := carried(t.Context(), text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ZT_BUILDS=%s: %v, want %q in it", text, err, want)
		}
	}
}
