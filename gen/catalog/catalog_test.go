package catalog

import (
	"slices"
	"testing"

	dot "github.com/llama-zen-turbo/llama-zen-turbo/avo/dot/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
)

// TestCoding wants every kernel of coded weights in its place, and none twice.
func TestCoding(t *testing.T) {
	var listed []string
	for _, c := range Coding() {
		if c.Dot.Op != kernel.Dot || len(c.Tiles) != dot.Rows || (c.Expand == nil) != (c.Code == c.Domain.Plain()) {
			t.Errorf("%v in %v has %q, %d tiles and %v", c.Code, c.Domain, c.Dot.Name, len(c.Tiles), c.Expand)
		}
		listed = append(listed, c.Dot.Name)
		for i, k := range slices.Concat(c.Tiles, c.FMA) {
			if k.Rows != i%dot.Rows+1 {
				t.Errorf("%s is tile %d of %v in %v", k.Name, i, c.Code, c.Domain)
			}
			listed = append(listed, k.Name)
		}
		if c.Expand != nil {
			listed = append(listed, c.Expand.Name)
		}
	}
	var all []string
	for _, p := range dot.Programs() {
		all = append(all, p.Name)
	}
	slices.Sort(listed)
	slices.Sort(all)
	if !slices.Equal(listed, all) {
		t.Errorf("listed are %q, and there are %q", listed, all)
	}
	for _, k := range Runtime() {
		if _, err := k.Prototype(); err != nil {
			t.Error(err)
		}
	}
}
