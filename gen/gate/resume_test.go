package gate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// interruptible is a verification whose programs stop working after some calls.
type interruptible struct {
	t     *testing.T
	w     workspace.Workspace
	o     Options
	calls string // log of fake calls
}

func newInterruptible(t *testing.T, o Options) *interruptible {
	t.Helper()
	o.unwatched = true
	return &interruptible{t, workspace.Workspace{Out: t.TempDir()}, o, filepath.Join(t.TempDir(), "calls")}
}

// run lets most calls through and returns the report, how many calls there were, and what was said.
func (x *interruptible) run(most int) (r report.Report, calls int, said string, err error) {
	x.t.Helper()
	if err := os.WriteFile(x.calls, fmt.Appendln(nil, most), 0o644); err != nil {
		x.t.Fatal(err)
	}
	x.t.Setenv(fakeLog, x.calls)
	var log bytes.Buffer
	r, err = Verify(context.Background(), x.w, progress.To(&log), x.o)
	text, rerr := os.ReadFile(x.calls)
	if rerr != nil {
		x.t.Fatal(rerr)
	}
	return r, strings.Count(string(text), "\n") - 1, log.String(), err
}

func (x *interruptible) journals() []string {
	found, err := filepath.Glob(filepath.Join(x.w.Report(), "*.journal"))
	if err != nil {
		x.t.Fatal(err)
	}
	return found
}

const forEver = 1 << 30

// TestResume interrupts a verification at every call of a program. The next one reports the same, and takes nothing again but
// what the interruption left half done.
func TestResume(t *testing.T) {
	o := Options{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, "fast"), Threads: 2, Rounds: 3, Roofline: fakeRoofline, vendor: boundVendor,
		Models: []Model{{Name: "m", Path: writeModel(t, true), Prefill: []int{7}, Greedy: 5, Speed: true}}}
	want, all, _, err := newInterruptible(t, o).run(forEver)
	if err != nil {
		t.Fatal(err)
	}
	// The largest unit that is taken as a whole: the sweep of shapes, with the results of both builds, times of twenty shares of the shapes and
	// of stock's own.
	const unit = 24
	if all < 60 {
		t.Fatalf("only %d calls", all)
	}
	for most := 0; most < all; most += 1 + most/8 {
		x := newInterruptible(t, o)
		_, first, _, err := x.run(most)
		if err == nil || !strings.Contains(err.Error(), "interrupted") || first != most {
			t.Fatalf("not interrupted after %d calls but %d: %v", most, first, err)
		}
		if len(x.journals()) != 1 {
			t.Fatalf("interrupted after %d calls without a journal", most)
		}
		got, second, said, err := x.run(forEver)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Results, want.Results) || !reflect.DeepEqual(got.Environment.Programs, want.Environment.Programs) {
			t.Errorf("interrupted after %d calls, another report:\n%+v\nwant\n%+v", most, got.Results, want.Results)
		}
		if first+second >= all+unit {
			t.Errorf("interrupted after %d calls, then %d more of %d", first, second, all)
		}
		if noted := strings.Contains(strings.Join(got.Environment.Notes, ""), "of a run that was interrupted"); noted != strings.Contains(said, "going on with") {
			t.Errorf("interrupted after %d calls: said %q, noted %v", most, said, noted)
		}
		if j := x.journals(); len(j) != 0 {
			t.Errorf("a finished run left %v", j)
		}
		if _, err := os.Stat(filepath.Join(x.w.Report(), "scratch")); !os.IsNotExist(err) {
			t.Errorf("a finished run left its scratch folder: %v", err)
		}
		// A third run starts anew.
		if most == 0 {
			if _, third, _, err := x.run(forEver); err != nil || third != all {
				t.Errorf("after a finished run %d calls, %v; want all %d", third, err, all)
			}
		}
	}
}

// TestStaleRunIsNotResumed checks that measurements of other builds, models and options are not mixed in.
func TestStaleRunIsNotResumed(t *testing.T) {
	model := Model{Name: "m", Path: writeModel(t, true), Prefill: []int{7}, Greedy: 5}
	o := Options{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, ""), Threads: 2, AccuracyOnly: true, Models: []Model{model}}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"nothing", func(*Options) {}, "going on with the run that was interrupted"},
		{"a program", func(o *Options) { o.Tuned = fakeBuild(t, "other noise") }, "tuned llama-batched-bench"},
		{"threads", func(o *Options) { o.Threads = 1 }, "the number of threads changed since"},
		{"a switch", func(*Options) { t.Setenv("ZT_HUGEPAGES", "off") }, "ZT_HUGEPAGES changed since"},
		{"the model", func(o *Options) {
			o.Models = []Model{{Name: "m", Path: writeModel(t, false), Prefill: []int{7}, Greedy: 5}}
		}, "model m changed since"},
		{"what is asked", func(o *Options) { o.Models[0].Greedy = 6 }, "model m changed since"},
	} {
		x := newInterruptible(t, o)
		x.o.Models = []Model{model}
		_, all, _, err := newInterruptible(t, o).run(forEver)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := x.run(all - 1); err == nil {
			t.Fatal("not interrupted")
		}
		c.change(&x.o)
		_, calls, said, err := x.run(forEver)
		if err != nil || !strings.Contains(said, c.want) {
			t.Errorf("%s changed: %v, said %q, want %q", c.name, err, said, c.want)
		}
		if anew := calls >= all; anew != (c.name != "nothing") {
			t.Errorf("%s changed: %d of %d calls were made", c.name, calls, all)
		}
	}
}

// TestBench checks that the long form measures speed alone, keeps to itself, and is resumed as well.
func TestBench(t *testing.T) {
	o := Options{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, "fast"), Threads: 2, Rounds: 4, SpeedOnly: true, Roofline: fakeRoofline,
		Models: []Model{Full("m", writeModel(t, true))}}
	x := newInterruptible(t, o)
	if err := os.Remove(filepath.Join(o.Tuned, UpstreamTests[0])); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := x.run(50); err == nil {
		t.Fatal("not interrupted")
	}
	if j := x.journals(); len(j) != 1 || filepath.Base(j[0]) != "bench.journal" {
		t.Errorf("journals are %v", j)
	}
	r, _, said, err := x.run(forEver)
	if err != nil || !strings.Contains(said, "going on with") {
		t.Fatalf("%v, said %q", err, said)
	}
	for _, x := range r.Results {
		if x.Part != "throughput" && x.Part != "load" && x.Part != "roofline" {
			t.Errorf("%s is of the part %s", x.Name(), x.Part)
		}
	}
	if _, err := report.Read(x.w.Report()); err == nil {
		t.Error("the report of the verification was written")
	}
	if written, err := report.Read(x.w.Bench()); err != nil || len(written.Results) != len(r.Results) {
		t.Errorf("the report has %d results, %v; want %d", len(written.Results), err, len(r.Results))
	}
	x.o.Rounds = 0
	if r, _, _, err = x.run(forEver); err != nil || r.Rounds != benchRounds {
		t.Errorf("%d rounds, %v; want %d", r.Rounds, err, benchRounds)
	}
}
