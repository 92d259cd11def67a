package program

import (
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
