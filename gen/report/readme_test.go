package report

import (
	"os"
	"strings"
	"testing"
)

func TestReadme(t *testing.T) {
	text := "# Title\n\n" + readmeBegin + "old\n" + readmeEnd + "\nmore\n"
	once, err := full().Readme(text)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := full().Readme(once)
	if err != nil || twice != once {
		t.Errorf("a second time changes it (%v):\n%s", err, twice)
	}
	if !strings.HasPrefix(once, "# Title\n\n"+readmeBegin) || !strings.HasSuffix(once, readmeEnd+"\nmore\n") || strings.Contains(once, "old") {
		t.Errorf("around or between the markers:\n%s", once)
	}
	for _, want := range []string{"2026-11-23", "GenuineIntel", "2 threads", "`bringup`", "| 1b-q8_0 | prompt, 512 tokens | 4.03 | ", "| 1b-q8_0 | resident memory, load mode none | 1.00", " % of a plain read loop, stock "} {
		if !strings.Contains(once, want) {
			t.Errorf("it lacks %q:\n%s", want, once)
		}
	}
	if strings.Contains(once, "ik_llama") {
		t.Error("a peer's ratio stands as ours")
	}
	if _, err := full().Readme("no markers"); err == nil || !strings.Contains(err.Error(), "ratios") {
		t.Errorf("no markers: %v", err)
	}
	if _, err := accuracyOnly().Readme(text); err == nil || !strings.Contains(err.Error(), "accuracy alone") {
		t.Errorf("no speeds: %v", err)
	}
}

// TestReadmeHasMarkers reads the project's own.
func TestReadmeHasMarkers(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := full().Readme(string(text)); err != nil {
		t.Error(err)
	}
}
