package gate

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/topology"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// featuresRun is a run of Features on a model that is only a file.
type featuresRun struct {
	FeaturesOptions
	w workspace.Workspace
}

func newFeaturesRun(t *testing.T, tuned string) *featuresRun {
	t.Helper()
	x := &featuresRun{w: workspace.Workspace{Out: t.TempDir()}}
	model := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(model, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x.FeaturesOptions = FeaturesOptions{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, tuned), Threads: 2, vendor: boundVendor, unwatched: true,
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Models: []FeatureModel{{Name: "0.5b-q8_0", Path: model}, {Name: "1b-q8_0", Path: model}, {Name: "0.5b-f32", Path: model, Special: true}}}
	x.Features = []Feature{
		{Name: "plan", Text: "fewer barriers", Off: set("ZT_GRAPH=0"), On: set("ZT_GRAPH=1"), Default: true, Halves: []string{"0.5b-q8"}},
		{Name: "share", Text: "packed once", Off: set("ZT_SHARE=0"), On: set("ZT_SHARE=1"), Second: true, Models: []string{"1b-q8_0"}},
		{Name: "copy", Text: "a thread that copies", Off: set("ZT_AHEAD=off"), On: set("ZT_AHEAD=copy"), Models: []string{"1b-q8_0"}},
		{Name: "threads", Text: "as many as there are cores", Off: set("ZT_THREADS=stock"), Defaults: true, Default: true},
		{Name: "blas", Text: "BLAS for slices", Off: set("ZT_BLAS=0"), On: set("ZT_BLAS=slices"), Models: []string{"0.5b-f32"}},
		{Name: "numa", Text: "memory of all nodes", Off: set("ZT_NUMA=off"), On: set("ZT_NUMA=interleave"), Lacks: needsNodes},
	}
	return x
}

func (x *featuresRun) run() (report.Report, error) {
	return Features(context.Background(), x.w, progress.To(&bytes.Buffer{}), x.FeaturesOptions)
}

// lines are the results as text, those without samples of the second model left out.
func lines(r report.Report) (list []string) {
	for _, x := range r.Results {
		list = append(list, strings.Join([]string{x.Part, x.Model, x.Build, x.Case, x.Quantity, x.Measured(), x.Note}, "|"))
	}
	return list
}

func TestFeatures(t *testing.T) {
	x := newFeaturesRun(t, "waits")
	r, err := x.run()
	if err != nil {
		t.Fatal(err)
	}
	got := lines(r)
	for _, want := range []string{
		"numa|||memory of all nodes|not shown here|0|all memory is of one node",
		"plan|||fewer barriers|on by default|1|off: ZT_GRAPH=0; on: ZT_GRAPH=1",
		"copy|||a thread that copies|on by default|0|off: ZT_AHEAD=off; on: ZT_AHEAD=copy",
		"threads|||as many as there are cores|on by default|1|off: ZT_THREADS=stock; on: nothing set",
		"plan|0.5b-q8_0||tg64|speed over off|2 x|spread 0.0 %",
		"plan|0.5b-q8_0||pp512|speed over off|2 x|spread 0.0 %",
		"plan|1b-q8_0||load|load time over off|0.5 x|spread 0.0 %",
		"plan|0.5b-q8_0||tg64|share of waiting over off|0.5 x|spread 0.0 %",
		"share|1b-q8_0||tg64|speed over off|1 x|spread 0.0 %",
		"plan|0.5b-q8_0|off|tg64|share of waiting|10 %|spread 0.0 %",
		"plan|0.5b-q8_0|on|tg64|share of waiting|5 %|spread 0.0 %",
		"plan|0.5b-q8_0|off|tg64|barriers of a token|200|spread 0.0 %",
		"plan|0.5b-q8_0|on|tg64|speed|10 t/s|spread 0.0 %",
		"copy|1b-q8_0||tg64|speed over off|1 x|spread 0.0 %",
		"blas|0.5b-f32||pp512|speed over off|1 x|spread 0.0 %",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among\n%s", want, strings.Join(got, "\n"))
		}
	}
	for _, not := range []string{"copy|0.5b", "blas|1b", "plan|0.5b-f32", "plan|1b-q8_0||tg64|share of waiting over", "threads|1b-q8_0||load", "numa|1b", "threads|1b-q8_0|on|tg64|share"} {
		if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, not) }) {
			t.Errorf("%q is measured", not)
		}
	}
	written, err := report.ReadSurvey(x.w.Report(), report.FeaturesName)
	if err != nil || !reflect.DeepEqual(lines(written), got) {
		t.Errorf("written are %q, %v", lines(written), err)
	}
	if _, err := os.Stat(x.w.Journal("features")); !os.IsNotExist(err) {
		t.Errorf("the journal is left: %v", err)
	}

	// One of them again keeps the others.
	x.Some, x.Features = true, x.Features[:1]
	r, err = x.run()
	if again := lines(r); err != nil || len(again) != len(got) || !slices.Contains(again, "numa|||memory of all nodes|not shown here|0|all memory is of one node") {
		t.Errorf("after one of them again: %q, %v", again, err)
	}
}

// TestFeatureThatFails checks that the others are measured all the same.
func TestFeatureThatFails(t *testing.T) {
	x := newFeaturesRun(t, "waits, and crashes with copies")
	r, err := x.run()
	if err == nil || !strings.Contains(err.Error(), "1 measurements failed: copy on on 1b-q8_0") || !strings.Contains(err.Error(), "out of cheese") {
		t.Errorf("error is %v", err)
	}
	got := lines(r)
	if !slices.Contains(got, "plan|1b-q8_0||tg64|speed over off|2 x|spread 0.0 %") || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "copy|1b-q8_0||tg64") }) {
		t.Errorf("results are\n%s", strings.Join(got, "\n"))
	}
	if _, err := report.ReadSurvey(x.w.Report(), report.FeaturesName); err != nil {
		t.Error(err)
	}
}

func TestReadMachine(t *testing.T) {
	for _, c := range []struct {
		machine topology.Machine
		want    Machine
	}{
		{topology.VM, Machine{Nodes: 1, Caches: 1}},
		{topology.Bare, Machine{Nodes: 1, Caches: 1}},
		{topology.Ryzen9950X, Machine{Nodes: 1, Caches: 2, SMT: true}},
		{topology.DualEPYC9755NPS4, Machine{Nodes: 8, Caches: 32, SMT: true}},
	} {
		dir := t.TempDir()
		if err := c.machine.Write(dir); err != nil {
			t.Fatal(err)
		}
		if got := ReadMachine(dir); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
	dir := t.TempDir()
	for path, text := range map[string]string{"hugepages-2048kB": "700\n", "hugepages-1048576kB": "3\n"} {
		path = filepath.Join(dir, "kernel/mm/hugepages", path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "free_hugepages"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := ReadMachine(dir)
	if want := (Machine{Nodes: 1, Caches: 1, Pool: 1400 << 20, Giant: 3 << 30}); m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
	if why := needsPool(m); !strings.Contains(why, "1400 MiB free; sysctl vm.nr_hugepages=750") {
		t.Errorf("a small pool: %q", why)
	}
	if why := needsGiant(m); why != "" {
		t.Errorf("three pages of 1 GiB: %q", why)
	}
}

// TestAllFeatures checks that features set switches that programs read, to values that they take, off and on to different ones, and that the last is all.
func TestAllFeatures(t *testing.T) {
	takes := map[string]string{"LD_PRELOAD": ""}
	for _, s := range switches.All() {
		if s.When == switches.Run {
			takes[s.Name] = s.Values
		}
	}
	names := map[string]bool{}
	all := AllFeatures("/lib.so", Machine{Pool: 4 << 30, Giant: 4 << 30, Nodes: 2, Caches: 2, SMT: true})
	for i, f := range all {
		if names[f.Name] || f.Name == "" || f.Text == "" || slices.Equal(f.Off, f.On) {
			t.Errorf("%+v is there twice, or lacks something", f)
		}
		names[f.Name] = true
		for _, env := range slices.Concat(f.Off, f.On) {
			name, value, _ := strings.Cut(env, "=")
			values, known := takes[name]
			if !known {
				t.Errorf("%s: programs read no %s", f.Name, name)
			}
			if strings.Contains(values, "|") && !slices.Contains(strings.Split(values, "|"), value) {
				t.Errorf("%s: %s takes %s, not %q", f.Name, name, values, value)
			}
			if last := i == len(all)-1; last && slices.Contains(f.On, env) {
				t.Errorf("all of them sets %s to be on", env)
			}
		}
	}
	last := all[len(all)-1]
	if last.Name != "all" || !slices.Contains(last.Off, "ZT_HUGEPAGES=off") || len(last.Off) < 2 {
		t.Errorf("the last is %+v", last)
	}
	set := map[string]bool{}
	for _, env := range last.Off {
		name, _, _ := strings.Cut(env, "=")
		if set[name] {
			t.Errorf("all of them sets %s twice", name)
		}
		set[name] = true
	}
}

func TestScaling(t *testing.T) {
	model := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(model, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w := workspace.Workspace{Out: t.TempDir()}
	o := ScalingOptions{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, "waits"), Threads: []int{1, 2}, Models: []FeatureModel{{Name: "0.5b-q8_0", Path: model}},
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), vendor: boundVendor, unwatched: true}
	r, err := Scaling(context.Background(), w, progress.To(&bytes.Buffer{}), o)
	if err != nil {
		t.Fatal(err)
	}
	got := lines(r)
	for _, want := range []string{
		"scaling|0.5b-q8_0|stock|tg64, 1 thread|speed|10 t/s|spread 0.0 %",
		"scaling|0.5b-q8_0|tuned|tg64, 2 threads|share of waiting|5 %|spread 0.0 %",
		"scaling|0.5b-q8_0|upstream's way|tg64, 2 threads|share of waiting|10 %|spread 0.0 %",
		"scaling|0.5b-q8_0||pp512, 2 threads|speed over stock|1 x|spread 0.0 %",
		"scaling|0.5b-q8_0|tuned|tg64, 1 thread|share of the read loop|99.01 %|spread 0.0 %",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among\n%s", want, strings.Join(got, "\n"))
		}
	}

	o.Tuned = fakeBuild(t, "crash in speed")
	r, err = Scaling(context.Background(), w, progress.To(&bytes.Buffer{}), o)
	if err == nil || !strings.Contains(err.Error(), "2 measurements failed: 0.5b-q8_0, 1 thread, tuned") {
		t.Errorf("error is %v", err)
	}
	if !slices.Contains(lines(r), "scaling|0.5b-q8_0|stock|pp512, 2 threads|speed|1000 t/s|spread 0.0 %") {
		t.Errorf("results are\n%s", strings.Join(lines(r), "\n"))
	}
}

func TestThreadCounts(t *testing.T) {
	for n, want := range map[int][]int{1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 4: {1, 2, 4}, 16: {1, 2, 4, 6, 8, 12, 16}, 24: {1, 2, 4, 6, 8, 12, 16, 24}} {
		if got := ThreadCounts(n); !slices.Equal(got, want) {
			t.Errorf("of %d: %v, want %v", n, got, want)
		}
	}
}
