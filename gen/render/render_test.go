package render

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
)

// world is a folder of templates and a checkout that tracks upstream.c.
type world struct {
	t              *testing.T
	templates, dst string
}

func newWorld(t *testing.T) world {
	w := world{t, filepath.Join(t.TempDir(), "templates"), filepath.Join(t.TempDir(), "src")}
	w.template("sub/plain.cpp", "{{ not a template }}\r\n")
	w.template("sub/numbers.h.tmpl", "#define ROWS {{.Rows}}\n")
	w.put("upstream.c", "int x;\n")
	w.git("init", "--quiet", "--template=")
	w.git("add", ".")
	w.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "upstream")
	return w
}

func (w world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) template(name, text string) {
	w.t.Helper()
	w.write(filepath.Join(w.templates, name), text)
}
func (w world) put(name, text string) { w.t.Helper(); w.write(filepath.Join(w.dst, name), text) }

func (w world) git(args ...string) string {
	w.t.Helper()
	out, err := git.Repo{Dir: w.dst}.Run(w.t.Context(), args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

var numbers = map[string]any{"Rows": 6}

func (w world) lay(generated map[string][]byte) Laid {
	w.t.Helper()
	laid, err := Lay(w.t.Context(), w.templates, w.dst, numbers, generated)
	if err != nil {
		w.t.Fatal(err)
	}
	return laid
}

// fails lays and expects an error with every one of words in it, and nothing written.
func (w world) fails(generated map[string][]byte, words ...string) {
	w.t.Helper()
	before := w.snapshot()
	_, err := Lay(w.t.Context(), w.templates, w.dst, numbers, generated)
	if err == nil {
		w.t.Fatalf("Lay worked; want an error with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.t.Errorf("error %q does not mention %q", err, word)
		}
	}
	if after := w.snapshot(); !slices.Equal(before, after) {
		w.t.Errorf("a failing Lay changed the checkout:\n%q\n%q", before, after)
	}
}

// snapshot lists the checkout's files with their bytes and times.
func (w world) snapshot() []string {
	var all []string
	err := filepath.WalkDir(w.dst, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if e != nil && e.Name() == ".git" {
				return filepath.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all = append(all, path+" "+info.ModTime().String()+" "+info.Mode().String()+" "+string(text))
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w world) is(name, want string) {
	w.t.Helper()
	if got, err := os.ReadFile(filepath.Join(w.dst, name)); err != nil || string(got) != want {
		w.t.Errorf("%s is %q, %v; want %q", name, got, err, want)
	}
}

func TestLayRendersAndCopies(t *testing.T) {
	w := newWorld(t)
	if err := os.Chmod(filepath.Join(w.templates, "sub/plain.cpp"), 0o755); err != nil {
		t.Fatal(err)
	}
	laid := w.lay(map[string][]byte{"sub/kernels.S": []byte("ret\n")})
	w.is("sub/plain.cpp", "{{ not a template }}\r\n")
	w.is("sub/numbers.h", "#define ROWS 6\n")
	w.is("sub/kernels.S", "ret\n")
	if want := []string{"sub/kernels.S", "sub/numbers.h", "sub/plain.cpp"}; !slices.Equal(laid.Written, want) {
		t.Errorf("Written = %v, want %v", laid.Written, want)
	}
	if info, err := os.Stat(filepath.Join(w.dst, "sub/plain.cpp")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("plain.cpp: mode %v, %v; want that of the template", info.Mode(), err)
	}
	if status := w.git("status", "--porcelain"); status != "" {
		t.Errorf("git status sees the laid files:\n%s", status)
	}
}

func TestLayWritesOnlyWhatChanges(t *testing.T) {
	w := newWorld(t)
	w.lay(nil)
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, name := range []string{"sub/plain.cpp", "sub/numbers.h"} {
		if err := os.Chtimes(filepath.Join(w.dst, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	w.template("sub/plain.cpp", "new\n")
	laid := w.lay(nil)
	if !slices.Equal(laid.Written, []string{"sub/plain.cpp"}) || !slices.Equal(laid.Unchanged, []string{"sub/numbers.h"}) {
		t.Errorf("%+v; want plain.cpp written, numbers.h unchanged", laid)
	}
	w.is("sub/plain.cpp", "new\n")
	if info, err := os.Stat(filepath.Join(w.dst, "sub/numbers.h")); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("numbers.h was touched: %v, %v", info.ModTime(), err)
	}
}

func TestLayRemovesWhatIsGone(t *testing.T) {
	w := newWorld(t)
	w.template("deep/er/gone.h", "x")
	w.put("sub/mine.txt", "a developer's file\n")
	w.lay(map[string][]byte{"sub/kernels.S": []byte("ret\n")})
	if err := os.RemoveAll(filepath.Join(w.templates, "deep")); err != nil {
		t.Fatal(err)
	}
	laid := w.lay(nil)
	if want := []string{"deep/er/gone.h", "sub/kernels.S"}; !slices.Equal(laid.Removed, want) {
		t.Errorf("Removed = %v, want %v", laid.Removed, want)
	}
	for _, name := range []string{"deep", "sub/kernels.S"} {
		if _, err := os.Stat(filepath.Join(w.dst, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	w.is("sub/mine.txt", "a developer's file\n")
	w.put("deep/er/gone.h", "another's")
	if laid := w.lay(nil); laid.Removed != nil {
		t.Errorf("a second run removed %v, which is not ours any more", laid.Removed)
	}
	if status := w.git("status", "--porcelain", "-uall"); status != "?? deep/er/gone.h\n?? sub/mine.txt" {
		t.Errorf("git status, which must see what is not laid:\n%s", status)
	}
}

func TestLayKeepsTheUsersExcludes(t *testing.T) {
	w := newWorld(t)
	w.put(".git/info/exclude", "*.bak\n")
	w.template("odd [name] *.h", "x")
	w.lay(nil)
	w.put("x.bak", "")
	w.put("odd n !.h", "matches the name if it is taken for a pattern")
	if status := w.git("status", "--porcelain"); status != `?? "odd n !.h"` {
		t.Errorf("git status:\n%s", status)
	}
	if err := os.RemoveAll(w.templates); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.templates, 0o755); err != nil {
		t.Fatal(err)
	}
	w.lay(nil)
	w.is(".git/info/exclude", "*.bak\n")
}

func TestLayRefuses(t *testing.T) {
	t.Run("a file that upstream tracks", func(t *testing.T) {
		w := newWorld(t)
		w.template("upstream.c", "int y;\n")
		w.fails(nil, "templates/upstream.c", "overwrite upstream.c", "patch")
	})
	t.Run("a generated file that upstream tracks", func(t *testing.T) {
		w := newWorld(t)
		w.fails(map[string][]byte{"upstream.c": nil}, "a generated file", "upstream.c")
	})
	t.Run("a laid file that was edited", func(t *testing.T) {
		w := newWorld(t)
		w.lay(nil)
		w.put("sub/plain.cpp", "edited in the wrong place\n")
		w.template("sub/plain.cpp", "new\n")
		w.fails(nil, "src/sub/plain.cpp", "move the change to templates/sub/plain.cpp")
	})
	t.Run("a dropped file that was edited", func(t *testing.T) {
		w := newWorld(t)
		w.lay(nil)
		w.put("sub/plain.cpp", "edited in the wrong place\n")
		if err := os.Remove(filepath.Join(w.templates, "sub/plain.cpp")); err != nil {
			t.Fatal(err)
		}
		w.fails(nil, "src/sub/plain.cpp", "edited")
	})
	t.Run("a file of someone else's", func(t *testing.T) {
		w := newWorld(t)
		w.put("sub/plain.cpp", "mine\n")
		w.fails(nil, "src/sub/plain.cpp")
	})
	t.Run("a template that does not parse", func(t *testing.T) {
		w := newWorld(t)
		w.template("sub/bad.h.tmpl", "line 1\nline 2 {{if}}\n")
		w.fails(nil, "templates/sub/bad.h.tmpl:2")
	})
	t.Run("a key that is missing", func(t *testing.T) {
		w := newWorld(t)
		w.template("sub/bad.h.tmpl", "line 1\n\n{{.Columns}}\n")
		w.fails(nil, "templates/sub/bad.h.tmpl:3", "Columns")
	})
	t.Run("two sources of one file", func(t *testing.T) {
		w := newWorld(t)
		w.template("sub/plain.cpp.tmpl", "x")
		w.fails(nil, "templates/sub/plain.cpp", "templates/sub/plain.cpp.tmpl", "both become sub/plain.cpp")
	})
	t.Run("a path outside", func(t *testing.T) {
		w := newWorld(t)
		for _, bad := range []string{"../x", "/x", ".git/config", "a/../b", ""} {
			w.fails(map[string][]byte{bad: nil}, "not a path below")
		}
	})
	t.Run("a symbolic link", func(t *testing.T) {
		w := newWorld(t)
		if err := os.Symlink("plain.cpp", filepath.Join(w.templates, "sub/link")); err != nil {
			t.Fatal(err)
		}
		w.fails(nil, "templates/sub/link", "regular")
	})
	t.Run("a folder that is no checkout", func(t *testing.T) {
		w := newWorld(t)
		if err := os.RemoveAll(filepath.Join(w.dst, ".git")); err != nil {
			t.Fatal(err)
		}
		w.fails(nil, w.dst, "no checkout")
	})
}

// A run that stops half way, before or after it replaced a file, must not make the next one take our file for someone's work.
func TestLayAfterAnInterruptedOne(t *testing.T) {
	for _, c := range []struct{ stopsAt, leaves string }{{"aa/x", "first\n"}, {"zz/x", "second\n"}} {
		t.Run(c.stopsAt, func(t *testing.T) {
			w := newWorld(t)
			w.template("sub/plain.cpp", "first\n")
			w.lay(nil)
			w.template("sub/plain.cpp", "second\n")
			w.template(c.stopsAt, "x")
			blocked := filepath.Join(w.dst, filepath.Dir(c.stopsAt))
			if err := os.Symlink("nowhere", blocked); err != nil { // no folder can be made there, not even by root
				t.Fatal(err)
			}
			if _, err := Lay(t.Context(), w.templates, w.dst, numbers, nil); err == nil {
				t.Fatal("Lay worked though a file could not be written")
			}
			w.is("sub/plain.cpp", c.leaves)
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			w.template("sub/plain.cpp", "third\n")
			w.lay(nil)
			w.is("sub/plain.cpp", "third\n")
		})
	}
}
