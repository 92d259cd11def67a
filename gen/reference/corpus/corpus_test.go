package corpus

import (
	"slices"
	"strings"
	"testing"
)

// tree is a tree with the held-out documents and files.
func tree(files ...File) []File {
	for _, path := range heldOut {
		files = append(files, File{path, "# " + path + "\n\nA sentence of " + path + " that is long.\n"})
	}
	return files
}

func TestSplit(t *testing.T) {
	c, err := Split(tree(
		File{"z.md", "Last document.\n"},
		File{"a.cpp", "int x; // beside code\n// A comment of two lines which together are\n//   long enough to be read.\nint y;\n// too short\n"},
		File{"b.py", "# The same in Python, where a comment begins with another mark.\n"},
		File{"c.h", "// Copyright somebody else, who licenses this file on other terms.\n"},
		File{"README.md", "First document.\n"},
		File{"vendor/x/README.md", "Somebody else's.\n"},
		File{"ui/vendors/README.md", "Somebody else's.\n"},
		File{"image.png", "\x89PNG"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"First document.\n", "Last document.\n",
		"A comment of two lines which together are\n  long enough to be read.\n\n",
		"The same in Python, where a comment begins with another mark.\n\n",
	}
	if !slices.Equal(c.Train, want) {
		t.Errorf("text to train on %q, want %q", c.Train, want)
	}
	for _, path := range heldOut {
		if !strings.Contains(c.HeldOut, "# "+path+"\n") {
			t.Errorf("the held-out text lacks %s", path)
		}
	}
}

// TestCopies repeats held-out lines, indented or not, and lines of other files: a long one is kept where it is first, and a short one
// everywhere.
func TestCopies(t *testing.T) {
	held := "A sentence of " + heldOut[0] + " that is long."
	c, err := Split(tree(
		File{"a.md", "Before.\n\n" + held + "\n\n    " + held + "\n\nAfter.\n```\n"},
		File{"b.md", "| an option that two programs have | 1 |\n```\n"},
		File{"c.md", "| an option that two programs have | 1 |\n```\n"},
		File{"d.md", held + "\n"},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Before.\n\nAfter.\n```\n", "| an option that two programs have | 1 |\n```\n", "```\n"}
	if !slices.Equal(c.Train, want) {
		t.Errorf("text to train on %q, want %q", c.Train, want)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	files := tree(File{"b.md", "b\n"}, File{"a.md", "a\n"})
	c, err := Split(files)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	if other, err := Split(files); err != nil || !slices.Equal(other.Train, c.Train) || other.HeldOut != c.HeldOut {
		t.Errorf("%q %v, want %q", other, err, c)
	}
}

func TestMissingHeldOut(t *testing.T) {
	if _, err := Split(tree()[1:]); err == nil || !strings.Contains(err.Error(), heldOut[0]) {
		t.Errorf("a held-out document is missing: %v", err)
	}
}
