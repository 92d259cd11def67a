package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type sample struct {
	Rates []float64
	Note  string
}

// run is a fake run of n measurements, each asked for twice by nobody. It stops with an error before measurement stop, as an
// interrupted run does, and returns what it got and the names it measured itself.
func run(t *testing.T, path string, key Key, n, stop int) (got []sample, measured []string, err error) {
	t.Helper()
	j, err := Open(path, key)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range n {
		name := fmt.Sprintf("workload %d", i)
		s, err := Do(context.Background(), j, name, func(context.Context) (sample, error) {
			if i == stop {
				return sample{Note: "half done"}, errors.New("interrupted")
			}
			measured = append(measured, name)
			return sample{Rates: []float64{float64(i), 1 / 3.0}, Note: "é\n\""}, nil
		})
		if err != nil {
			return got, measured, err
		}
		got = append(got, s)
	}
	return got, measured, nil
}

// TestResume interrupts a run before every step and checks that the next one has the same results and measures nothing again.
func TestResume(t *testing.T) {
	const n = 5
	key := Key{"model": "m", "tuned llama-bench": "abc"}
	want, _, err := run(t, filepath.Join(t.TempDir(), "j"), key, n, -1)
	if err != nil {
		t.Fatal(err)
	}
	for stop := range n {
		path := filepath.Join(t.TempDir(), "new", "j")
		_, first, err := run(t, path, key, n, stop)
		if err == nil || len(first) != stop {
			t.Fatalf("the run to be interrupted before step %d: %v after %v", stop, err, first)
		}
		got, second, err := run(t, path, key, n, -1)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("interrupted before step %d: %v, want %v", stop, got, want)
		}
		if len(first)+len(second) != n || len(second) > 0 && second[0] != fmt.Sprintf("workload %d", stop) {
			t.Errorf("interrupted before step %d: measured %v, then %v", stop, first, second)
		}
	}
}

// TestTorn cuts a journal at every byte, as a kill in the middle of a write does.
func TestTorn(t *testing.T) {
	key := Key{"model": "m"}
	path := filepath.Join(t.TempDir(), "j")
	want, _, err := run(t, path, key, 3, -1)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(whole[:cut]), "\n")
		got, measured, err := run(t, path, key, 3, -1)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("cut at %d: %v, %v", cut, got, err)
		}
		if kept := max(0, lines-1); len(measured) != 3-kept {
			t.Errorf("cut at %d, after %d lines: measured %v", cut, lines, measured)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(whole) {
			t.Fatalf("cut at %d: the journal became %q, %v", cut, after, err)
		}
	}
	// Damage in the middle: what came before it counts.
	damaged := []byte(strings.Replace(string(whole), `"workload 1"`, `"workload 1`, 1))
	if err := os.WriteFile(path, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, measured, err := run(t, path, key, 3, -1); err != nil || len(measured) != 2 {
		t.Errorf("a damaged second line: measured %v, %v; want two", measured, err)
	}
}

func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	old := Key{"model": "a", "tuned llama-bench": "1", "threads": "2"}
	if _, _, err := run(t, path, old, 3, -1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  Key
		want string
	}{
		{Key{"model": "a", "tuned llama-bench": "1", "threads": "2"}, ""},
		{Key{"model": "a", "tuned llama-bench": "2", "threads": "2"}, "tuned llama-bench changed"},
		{Key{"model": "a", "tuned llama-bench": "1"}, "threads changed"},
		{Key{"model": "a", "tuned llama-bench": "1", "threads": "2", "host": ""}, "host changed"},
		{Key{"a": "", "b": ""}, "a, b, model and 2 more changed"},
	} {
		copied := filepath.Join(t.TempDir(), "j")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Open(copied, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if kept := j.Kept(); j.Stale() != c.want || kept != 0 != (c.want == "") || j.Has("workload 1") != (c.want == "") {
			t.Errorf("%v: stale %q with %d kept, want %q", c.key, j.Stale(), kept, c.want)
		}
		j.Close()
		// The new key is what the next run is held to.
		if j, err = Open(copied, c.key); err != nil || j.Stale() != "" {
			t.Errorf("%v: a journal just begun is stale: %q, %v", c.key, j.Stale(), err)
		}
		j.Close()
	}
	if err := os.WriteFile(path, []byte("not a journal\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := Open(path, old)
	if err != nil || j.Stale() == "" || j.Kept() != 0 {
		t.Errorf("another file: %v, stale %q", err, j.Stale())
	}
	j.Close()
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, err := Open(path, Key{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a finished journal is still there: %v", err)
	}
}

func TestDoRefuses(t *testing.T) {
	j, err := Open(filepath.Join(t.TempDir(), "j"), Key{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	one := func(context.Context) (float64, error) { return 1, nil }
	if _, err := Do(context.Background(), j, "a", one); err != nil {
		t.Fatal(err)
	}
	if _, err := Do(context.Background(), j, "a", one); err == nil || !strings.Contains(err.Error(), `two measurements are called "a"`) {
		t.Errorf("a name used twice: %v", err)
	}
	nan := func(context.Context) (float64, error) { return math.NaN(), nil }
	if _, err := Do(context.Background(), j, "b", nan); err == nil || !strings.Contains(err.Error(), `"b" cannot be recorded`) {
		t.Errorf("not a number: %v", err)
	}
	if _, err := Open(t.TempDir(), Key{}); err == nil {
		t.Error("a folder was taken for a journal")
	}
}

// TestOtherType checks that a value which is not what the caller wants is an error and not a zero.
func TestOtherType(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, err := Open(path, Key{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Do(context.Background(), j, "a", func(context.Context) (string, error) { return "x", nil }); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if j, err = Open(path, Key{}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	_, err = Do(context.Background(), j, "a", func(context.Context) (int, error) { return 1, nil })
	if err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("%v, want the remedy", err)
	}
}

func TestWithoutJournal(t *testing.T) {
	var j *Journal
	for range 2 {
		got, err := Do(context.Background(), j, "a", func(context.Context) (int, error) { return 7, nil })
		if err != nil || got != 7 || j.Has("a") {
			t.Errorf("%d, %v", got, err)
		}
	}
}
