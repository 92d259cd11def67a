package report

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// earlier is e's run d before.
func earlier(e Entry, d time.Duration) Entry {
	e.Date = e.Date.Add(-d)
	return e
}

func put(t *testing.T, dir string, e Entry) {
	t.Helper()
	text, err := encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(dir, e.fileName(), text); err != nil {
		t.Fatal(err)
	}
}

func TestEntry(t *testing.T) {
	e := failing().Entry()
	if e.Gates != 54 || e.Failed != 2 || e.Threads != 2 || e.Target != "bringup" || e.Toolchain != "0.1.0" {
		t.Errorf("%+v", e)
	}
	var got []string
	for _, p := range e.Points {
		got = append(got, p.Model+" "+p.Case+" "+p.Quantity)
	}
	// Ratios of peers and shares of stock are not ours to remember.
	want := []string{"tiny-q8_0 decode 256 " + worstKL, "1b-q8_0 prefill 33 " + worstKL}
	for _, w := range []string{"pp128", "pp512", "pp2048", "tg128", "tg128 at depth 4096", "tg, 2 sequences", "tg, 4 sequences", "tg, 8 sequences", "chat"} {
		want = append(want, "1b-q8_0 "+w+" speed over stock")
	}
	want = append(want, "1b-q8_0 tg128 share of the read loop")
	if i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "1b-q8_0 ") && strings.HasSuffix(s, worstKL) }); i >= 0 {
		want[1] = got[i] // whichever case it is
	}
	if !slices.Equal(got, want) {
		t.Errorf("remembers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if share := e.Points[0].Value; share < 0.031/0.007-1e-9 || share > 0.031/0.007+1e-9 {
		t.Errorf("the worst divergence is %v of its bound, want 0.031/0.007", share)
	}
}

// TestHistoryOfThisHost checks which earlier runs a page sets beside its own.
func TestHistoryOfThisHost(t *testing.T) {
	r := full()
	now := r.Entry()
	change := func(d time.Duration, f func(*Entry)) Entry {
		e := earlier(now, d)
		e.Points = slices.Clone(e.Points)
		f(&e)
		return e
	}
	p := &page{Report: r, history: []Entry{
		change(9*time.Hour, func(e *Entry) { e.CPU = "another" }),
		change(8*time.Hour, func(e *Entry) { e.Cores = 64 }),
		change(7*time.Hour, func(e *Entry) { e.Threads = 1 }),
		change(6*time.Hour, func(e *Entry) { e.Target = "zen5" }),
		change(5*time.Hour, func(e *Entry) { e.Points = e.Points[:1] }),
		earlier(now, time.Hour),
		now, // as a page written again finds it
	}}
	got := p.Trends()
	if got.Runs != 3 || got.Others != 2 {
		t.Errorf("%d runs and %d others, want 3 and 2", got.Runs, got.Others)
	}
	if len(got.List) != len(now.Points) {
		t.Errorf("%d plots of %d numbers", len(got.List), len(now.Points))
	}
	// The first number was there three times, the others twice.
	for i, x := range got.List {
		want := 2
		if i == 0 {
			want = 3
		}
		if n := strings.Count(string(x.Plot), "<circle"); n != want {
			t.Errorf("%s has %d points, want %d", x.Heading, n, want)
		}
	}
	if alone := (&page{Report: r}).Trends(); alone.Runs != 1 || len(alone.List) != 0 {
		t.Errorf("a first run has %d plots of %d runs", len(alone.List), alone.Runs)
	}
}

func TestHistorySkipsWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	good := full().Entry()
	put(t, dir, good)
	for name, text := range map[string]string{
		"1.json": "{", "2.json": `{"version": 99, "date": "2026-01-01T00:00:00Z"}`, "3.json": `{"version": 1}`, "4.json": "[]", "5.json.123": "being written", "notes.txt": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "6.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	entries, notes, err := readHistory(dir)
	if err != nil || len(entries) != 1 || !entries[0].Date.Equal(good.Date) {
		t.Errorf("%d entries, %v; want the good one", len(entries), err)
	}
	for i, want := range []string{"1.json was skipped: unexpected end", "2.json was skipped: layout version 99", "3.json was skipped: it has no date", "4.json was skipped", "6.json was skipped: is a directory"} {
		if len(notes) != 5 || !strings.Contains(notes[i], want) {
			t.Fatalf("notes %q, want one with %q", notes, want)
		}
	}
}

// TestHistoryIsBounded writes a report where too many runs are remembered.
func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	history := filepath.Join(dir, HistoryName)
	r := full()
	now := r.Entry()
	for i := range kept + 3 {
		put(t, history, earlier(now, time.Duration(1+i)*time.Hour))
	}
	other := earlier(now, 10000*time.Hour)
	other.CPU = "another"
	put(t, history, other)
	if err := os.WriteFile(filepath.Join(history, "odd.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(history)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	if len(names) != kept+2 {
		t.Errorf("%d files, want %d of this host, another's and one that cannot be read", len(names), kept)
	}
	for _, want := range []string{now.fileName(), other.fileName(), "odd.json", earlier(now, time.Duration(kept-1)*time.Hour).fileName()} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is gone", want)
		}
	}
	if gone := earlier(now, kept*time.Hour).fileName(); slices.Contains(names, gone) {
		t.Errorf("%s is still there", gone)
	}
}

// TestWriteAllOrNothing makes the last file impossible to write: the report and the page of before stay.
func TestWriteAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	old := sample()
	if err := old.Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, FileName), 0o755); err != nil { // a folder is in the way
		t.Fatal(err)
	}
	if err := full().Write(dir); err == nil || !strings.Contains(err.Error(), FileName) {
		t.Errorf("%v, want an error that names %s", err, FileName)
	}
	for _, d := range []string{dir, filepath.Join(dir, HistoryName)} {
		left, err := filepath.Glob(filepath.Join(d, "*.json.*"))
		if pages, _ := filepath.Glob(filepath.Join(d, "*.html.*")); err != nil || len(left)+len(pages) > 0 {
			t.Errorf("left behind: %q %q %v", left, pages, err)
		}
	}

	broken := full()
	broken.Results[0].Value = inf()
	clean := t.TempDir()
	if err := old.Write(clean); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, clean)
	if err := broken.Write(clean); err == nil || !strings.Contains(err.Error(), "Inf") {
		t.Errorf("%v, want an error for a value that JSON does not have", err)
	}
	if after := snapshot(t, clean); after != before {
		t.Errorf("a report that could not be written changed\n%s\nto\n%s", before, after)
	}
}

func inf() float64 {
	zero := 0.0
	return 1 / zero
}

// snapshot is the content of a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %.40q\n", path, len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
