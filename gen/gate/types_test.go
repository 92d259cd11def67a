package gate

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// typesRun is a run of Types on models that are only files.
type typesRun struct {
	TypesOptions
	w       workspace.Workspace
	written []string // names of models, in the order they were written
}

func newTypesRun(t *testing.T, tuned string) *typesRun {
	t.Helper()
	x := &typesRun{w: workspace.Workspace{Out: t.TempDir()}}
	x.TypesOptions = TypesOptions{Stock: fakeBuild(t, ""), Tuned: fakeBuild(t, tuned), Threads: 2, vendor: boundVendor, unwatched: true,
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	dir := t.TempDir()
	for _, m := range []Weights{
		{Name: "1b-q8_0", Type: "Q8_0", Bits: 8.5},
		{Name: "1b-iq2_s", Type: "IQ2_S", Bits: 2.5625, Grid: true},
		{Name: "1b-tq2_0", Type: "TQ2_0", Bits: 2.0625, Kept: true},
		{Name: "moe8-q4_K", Type: "Q4_K", Bits: 4.5, Experts: true},
	} {
		m.Path = filepath.Join(dir, m.Name)
		m.Write = func(context.Context, *progress.Step) error {
			x.written = append(x.written, m.Name)
			return os.WriteFile(m.Path, nil, 0o644)
		}
		x.Weights = append(x.Weights, m)
	}
	return x
}

// addFloats adds a model of float weights, of which a generated token reads a megabyte, as the pretended zt-probe has it.
func (x *typesRun) addFloats(t *testing.T, code string) {
	m := Weights{Name: "1b-bf16@" + code, Type: "bf16", Bits: 16, Code: code, Path: filepath.Join(t.TempDir(), "1b-bf16")}
	m.Write = func(context.Context, *progress.Step) error {
		return os.Rename(writeTensors(t, gguf.BF16, map[string][]int64{"token_embd.weight": {1000, 500}, "output.weight": {1024, 400}}), m.Path)
	}
	x.Weights = append(x.Weights, m)
}

// TestFloatTypes measures float weights: what is read of them, what they hold of memory, and their own goals.
func TestFloatTypes(t *testing.T) {
	saved := 1024. * 400 * (16 - 11.38) / 8 // of a megabyte
	for _, c := range []struct {
		tuned string
		want  []string // in the error
	}{
		{"fast", []string{"4 gates fail", "1b-bf16@11 decode bits per weight is 12.22, not at most 12.1;", "1b-bf16@11 memory resident memory over stock is 1,",
			"1b-bf16@12 decode bits per weight is 12.77,"}},
		{"", []string{"1b-bf16@11 tg32 speed over stock is 1, not at least 1.45", "1b-bf16@12 pp512 speed over stock is 1, not at least 1.1"}},
		{"codes nothing", []string{"1b-bf16@11 decode bits per weight is 16, not"}},
	} {
		x := newTypesRun(t, c.tuned)
		x.Weights = nil
		x.addFloats(t, "11")
		x.addFloats(t, "12")
		r, said, err := x.run()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error is %v; want %q in it", c.tuned, err, want)
			}
		}
		if c.tuned != "fast" {
			continue
		}
		if !strings.Contains(said, "12.22 bits a weight, 1.00 times the memory") {
			t.Errorf("it said\n%s", said)
		}
		for _, y := range r.Results {
			switch y.Model + " " + y.Case + " " + y.Quantity {
			case "1b-bf16@11 decode " + report.Bits:
				near(t, "bits", y.Value, 16*(1e6-saved)/1e6)
			case "1b-bf16@11 decode " + report.ReadShare:
				if want := 99.0099 * (1e6 - saved) / 1e6; math.Abs(y.Value-want) > 1e-3 || y.Bound != nil {
					t.Errorf("share of the read loop %v %+v, want %v", y.Value, y.Bound, want)
				}
			case "1b-bf16@11 memory " + report.MemoryOverStock:
				near(t, "limit of memory", y.Bound.Limit, 12.1/16+0.05)
			case "1b-bf16@11 tg, 4 sequences " + report.BatchGain:
				if y.Bound != nil {
					t.Errorf("%s has a bound", y.Name())
				}
			}
		}
		if _, err := os.Stat(x.Weights[0].Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the model is still there: %v", err)
		}
	}
}

// TestSavedBytes counts what a token reads: experts as far as they are used, and a table only where it serves as the output too.
func TestSavedBytes(t *testing.T) {
	path := writeFloats(t, gguf.F32) // 2 of 8 experts
	for _, c := range []struct {
		tensors []codedTensor
		want    float64
	}{
		{nil, 0},
		{[]codedTensor{{Name: "blk.0.attn_q.weight", Weights: 448 * 64, Bits: 12}}, 448 * 64 * 20 / 8},
		{[]codedTensor{{Name: "blk.0.ffn_up_exps.weight", Weights: 1024 * 64 * 8, Bits: 16}}, 1024 * 64 * 2 * 2},
		{[]codedTensor{{Name: "token_embd.weight", Weights: 512 * 100, Bits: 16}, {Name: "output.weight", Weights: 512 * 100, Bits: 31}}, 512 * 100 / 8},
	} {
		got, err := savedBytes(path, c.tensors)
		if err != nil || math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%+v: %v, %v; want %v", c.tensors, got, err, c.want)
		}
	}
	if _, err := savedBytes(path, []codedTensor{{Name: "nobody"}}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a tensor that is not there: %v", err)
	}
}

func (x *typesRun) run() (report.Report, string, error) {
	var log bytes.Buffer
	r, err := Types(context.Background(), x.w, progress.To(&log), x.TypesOptions)
	return r, log.String(), err
}

func TestTypes(t *testing.T) {
	x := newTypesRun(t, "fast")
	r, said, err := x.run()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]report.Result{}
	for _, y := range r.Results {
		if y.Part != "types" {
			t.Errorf("%s is of the part %q", y.Name(), y.Part)
		}
		found[strings.Join([]string{y.Model, y.Case, y.Build, y.Quantity}, "/")] = y
	}
	for name, want := range map[string]struct{ value, bound float64 }{
		"1b-q8_0/pp512//" + report.SpeedOverStock:      {4, 3.2},
		"1b-q8_0/tg32//" + report.SpeedOverStock:       {4, 1},
		"1b-q8_0/decode/tuned/" + report.ReadShare:     {99.0099, 93},
		"1b-q8_0/tg, 4 sequences//" + report.BatchGain: {4, 3.3},
		"1b-q8_0/tg, 8 sequences//" + report.BatchGain: {6, 5.5},
		"1b-q8_0/pp512//" + report.Goal:                {3.2, 0},
		"1b-q8_0/decode//" + report.Goal:               {93, 0},
		"1b-q8_0/weights//" + report.Bits:              {8.5, 0},
		"1b-q8_0/pp512/stock/" + report.Speed:          {512 / 0.101, 0},
		"1b-q8_0/pp512/tuned/" + report.Speed:          {4 * 512 / 0.101, 0},
		"1b-iq2_s/pp512//" + report.SpeedOverStock:     {4, 1.6},
		"1b-iq2_s/tg32//" + report.SpeedOverStock:      {4, 1.2},
		"1b-iq2_s/tg32//" + report.Goal:                {1.2, 0},
		"1b-iq2_s/decode/tuned/" + report.ReadShare:    {99.0099, 0},
		"1b-tq2_0/pp512//" + report.SpeedOverStock:     {4, 1},
		"1b-tq2_0/decode/tuned/" + report.ReadShare:    {99.0099, 93},
		"moe8-q4_K/pp512//" + report.SpeedOverStock:    {4, 4},
		"moe8-q4_K/tg32//" + report.SpeedOverStock:     {4, 1},
	} {
		y, ok := found[name]
		if !ok || y.Value < want.value*0.999 || y.Value > want.value*1.001 {
			t.Errorf("%s is %v, want %v", name, y.Value, want.value)
		}
		if (y.Bound == nil) != (want.bound == 0) || y.Bound != nil && y.Bound.Limit != want.bound {
			t.Errorf("%s has the bound %+v, want %v", name, y.Bound, want.bound)
		}
		if y.Bound != nil && (y.Interval == nil || len(y.Samples) != MinTypeRounds || !y.Gated()) {
			t.Errorf("%s: %+v", name, y)
		}
	}
	for _, name := range []string{"1b-iq2_s/decode//" + report.Goal, "1b-tq2_0/pp512//" + report.Goal, "moe8-q4_K/decode/tuned/" + report.ReadShare} {
		if _, ok := found[name]; ok {
			t.Errorf("there is %s", name)
		}
	}
	for _, m := range x.Weights {
		if _, err := os.Stat(m.Path); m.Kept != (err == nil) || !m.Kept && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was there before: %v; now %v", m.Name, m.Kept, err)
		}
	}
	if want := []string{"1b-q8_0", "1b-iq2_s", "1b-tq2_0", "moe8-q4_K"}; !slices.Equal(x.written, want) {
		t.Errorf("%q were written, want each once", x.written)
	}
	if !strings.Contains(said, "1b-q8_0: pp512 4.00 times stock, tg32 4.00 times stock, 99.0 % of the read loop, tg, 4 sequences 4.00 times one, ") {
		t.Errorf("it said\n%s", said)
	}
	written, err := report.ReadTypes(x.w.Report())
	if err != nil || !reflect.DeepEqual(written.Results, r.Results) || written.Rounds != MinTypeRounds {
		t.Errorf("the file has %d results, %v; want %d", len(written.Results), err, len(r.Results))
	}
	if entries, _ := os.ReadDir(x.w.Report()); len(entries) != 1 {
		t.Errorf("left in the report folder: %v", entries)
	}
}

func TestTypeGates(t *testing.T) {
	for _, c := range []struct {
		tuned, vendor string
		want          []string // in the error; none if all gates hold
	}{
		{"fast", boundVendor, nil},
		{"", boundVendor, []string{"1b-q8_0 pp512 speed over stock is 1, not at least 3.2", "1b-iq2_s pp512 speed over stock is 1, not at least 1.6",
			"1b-iq2_s tg32 speed over stock is 1, not at least 1.2", "moe8-q4_K pp512 speed over stock is 1, not at least 4"}},
		{"slow", boundVendor, []string{"1b-tq2_0 pp512 speed over stock is 0.25, not at least 1", "1b-q8_0 decode share of the read loop is 24.75, not at least 93"}},
		{"batches for nothing", boundVendor, []string{"1b-iq2_s tg, 4 sequences batched speed over one sequence is 1, not at least 3.3", "tg, 8 sequences batched speed over one sequence is 1, not at least 5.5"}},
		{"", "GenuineIntel", nil},
		{"batches for nothing", "GenuineIntel", nil},
		{"slow", "GenuineIntel", []string{"1b-q8_0 pp512 speed over stock is 0.25, not at least 1", "moe8-q4_K tg32 speed over stock is 0.25, not at least 1"}},
	} {
		x := newTypesRun(t, c.tuned)
		x.vendor = c.vendor
		r, _, err := x.run()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%q on %s: %v", c.tuned, c.vendor, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error()+";", want+";") {
				t.Errorf("%q on %s: error is %v; want %q in it", c.tuned, c.vendor, err, want)
			}
		}
		if _, err := report.ReadTypes(x.w.Report()); err != nil {
			t.Errorf("%q on %s: %v", c.tuned, c.vendor, err)
		}
		for _, y := range r.Results {
			if c.vendor != boundVendor && y.Model == "1b-q8_0" && y.Case == "pp512" && y.Quantity == report.SpeedOverStock && !strings.Contains(y.Note, "at least 3.2 on AMD") {
				t.Errorf("%s does not name its goal: %q", y.Name(), y.Note)
			}
			if c.vendor != boundVendor && (y.Quantity == report.ReadShare || y.Quantity == report.BatchGain) && y.Bound != nil && (y.Gated() || y.Ungated == "") {
				t.Errorf("%s is gated on %s", y.Name(), c.vendor)
			}
		}
	}
}

// TestTypesResume interrupts a run at calls of programs. The next one reports the same, and writes no model again whose
// measurements are all there.
func TestTypesResume(t *testing.T) {
	call := func(x *typesRun, most string) (report.Report, int, error) {
		path := filepath.Join(t.TempDir(), "calls")
		if err := os.WriteFile(path, []byte(most+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Setenv(fakeLog, path)
		r, _, err := x.run()
		text, rerr := os.ReadFile(path)
		if rerr != nil {
			t.Fatal(rerr)
		}
		return r, bytes.Count(text, []byte("\n")) - 1, err
	}
	x := newTypesRun(t, "fast")
	want, all, err := call(x, "1000")
	if err != nil || all != 1+3*(2+1+1)*2+2*2 {
		t.Fatalf("%d calls, %v", all, err)
	}
	for _, most := range []string{"0", "3", "10", "27"} {
		x := newTypesRun(t, "fast")
		if _, _, err := call(x, most); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Fatalf("not interrupted after %s calls: %v", most, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(x.Weights[0].Path), "*")); len(left) > 0 && filepath.Base(left[0]) != "1b-tq2_0" {
			t.Errorf("interrupted after %s calls, %v are left", most, left)
		}
		x.written = nil
		got, second, err := call(x, "1000")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Results, want.Results) {
			t.Errorf("interrupted after %s calls, another report:\n%+v\nwant\n%+v", most, got.Results, want.Results)
		}
		if most == "10" && (second >= all-6 || !slices.Equal(x.written, []string{"1b-iq2_s", "1b-tq2_0", "moe8-q4_K"})) {
			t.Errorf("interrupted after %s calls, then %d more of %d, and %q were written", most, second, all, x.written)
		}
	}
}

// TestSomeTypes measures some models again: the others' results stay, unless something changed.
func TestSomeTypes(t *testing.T) {
	x := newTypesRun(t, "")
	x.vendor = "GenuineIntel"
	first, _, err := x.run()
	if err != nil {
		t.Fatal(err)
	}
	values := func(r report.Report) (list []string) {
		for _, y := range r.Results {
			if y.Quantity == report.BatchGain || y.Quantity == report.Bits {
				list = append(list, y.Name()+" "+y.Measured())
			}
		}
		return list
	}
	all := x.Weights
	x.Some, x.Weights, x.Date = true, slices.Clone(all[1:2]), x.Date.Add(time.Hour)
	x.Weights[0].Bits = 7
	r, _, err := x.run()
	if err != nil {
		t.Fatal(err)
	}
	got, want := values(r), values(first)
	if i := slices.Index(want, "1b-iq2_s weights bits per weight 2.562"); i < 0 {
		t.Fatalf("%q", want)
	} else {
		want[i] = "1b-iq2_s weights bits per weight 7"
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if notes := strings.Join(r.Environment.Notes, "\n"); !strings.Contains(notes, "3 of them are of 2026-01-02 03:04:05, and 1b-iq2_s of this run") {
		t.Errorf("notes are %q", notes)
	}

	x.Tuned = fakeBuild(t, "fast")
	if r, _, err = x.run(); err != nil || len(models(r)) != 1 || !strings.Contains(strings.Join(r.Environment.Notes, "\n"), "2026-01-02 04:04:05 was of other builds") {
		t.Errorf("results of another build are kept: %q, %v, notes %q", models(r), err, r.Environment.Notes)
	}
}

func models(r report.Report) (names []string) {
	for _, y := range r.Results {
		if !slices.Contains(names, y.Model) {
			names = append(names, y.Model)
		}
	}
	return names
}

// TestTypeGoals checks that goals are of types that exist, and that only cheap extras have none.
func TestTypeGoals(t *testing.T) {
	left := map[string]bool{}
	for name := range typeGoals {
		left[name] = true
	}
	var without []string
	for _, s := range weight.Specs() {
		delete(left, s.Name)
		if (Weights{Type: s.Name, Grid: s.Grid != nil}).promptGoal().Limit <= notSlower.Limit {
			without = append(without, s.Name)
		}
	}
	if len(left) > 0 {
		t.Errorf("goals of %v, which are no types", left)
	}
	if want := []string{"TQ1_0", "TQ2_0"}; !slices.Equal(without, want) {
		t.Errorf("%q have no goal, want %q", without, want)
	}
}
