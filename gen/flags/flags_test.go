package flags

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
)

func TestChosen(t *testing.T) {
	if all, err := Chosen(""); err != nil || len(all) != len(table) {
		t.Errorf("without a value: %d choices, %v", len(all), err)
	}
	list, err := Chosen("thinlto, o2")
	if err != nil || len(list) != 2 || list[0].Name != "o2" || list[1].Name != "thinlto" {
		t.Errorf("%v %v", list, err)
	}
	if _, err := Chosen("o3"); err == nil || !strings.Contains(err.Error(), `"o3"`) {
		t.Errorf("%v, want an error that names o3", err)
	}
}

// TestSwitchNamesChoices compares the table with what the list of switches says of ZT_FLAGS.
func TestSwitchNamesChoices(t *testing.T) {
	i := slices.IndexFunc(switches.All(), func(s switches.Switch) bool { return s.Name == "ZT_FLAGS" })
	if i < 0 {
		t.Fatal("there is no switch ZT_FLAGS")
	}
	if text := switches.All()[i].Text; !strings.HasSuffix(text, ": "+strings.Join(Names(), ", ")) {
		t.Errorf("the switch says %q, and the choices are %v", text, Names())
	}
}

func TestWith(t *testing.T) {
	a := toolchain.Options{Compile: []string{"-a"}, More: map[string]string{"X": "1"}}
	got := with(a, toolchain.Options{Compile: []string{"-b"}, Link: []string{"-l"}, More: map[string]string{"Y": "2"}})
	if !slices.Equal(got.Compile, []string{"-a", "-b"}) || !slices.Equal(got.Link, []string{"-l"}) || got.More["X"] != "1" || got.More["Y"] != "2" {
		t.Errorf("%+v", got)
	}
	if len(a.More) != 1 {
		t.Error("it changed what it was given")
	}
}

func TestSizeCountsLibraries(t *testing.T) {
	dir := t.TempDir()
	for name, bytes := range map[string]int{"zt-probe": 1000, "libggml.so.1": 200, "other": 50} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, bytes), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("libggml.so.1", filepath.Join(dir, "libggml.so")); err != nil {
		t.Fatal(err)
	}
	if got, err := size(dir, measured); err != nil || got != 1200 {
		t.Errorf("%d %v, want 1200", got, err)
	}
}

// TestCompare lets a choice be twice as fast in prompts and as fast in generation.
func TestCompare(t *testing.T) {
	cases := []throughput.Case{{Name: "pp"}, {Name: "tg"}}
	subject := func(name string, pp, tg []float64) throughput.Subject {
		i := -1
		return throughput.Subject{Name: name, Measure: func(context.Context) (map[string]float64, error) {
			i++
			return map[string]float64{"pp": pp[i], "tg": tg[i]}, nil
		}}
	}
	tests := []throughput.Test{{Name: "fast, m", Cases: cases, Subjects: []throughput.Subject{
		subject(Default, []float64{100, 101, 99, 100}, []float64{10, 10.2, 9.9, 10}),
		subject("fast", []float64{200, 203, 198, 199}, []float64{10.1, 10, 10, 9.9}),
	}}}
	s := throughput.Session{Least: 4, Most: 4, Unwatched: true}
	series, err := s.Run(context.Background(), tests)
	if err != nil {
		t.Fatal(err)
	}
	results, _, err := compare(tests, series, []Model{{Name: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{}
	for _, x := range results {
		if x.Quantity == report.SpeedOverDefault {
			says[x.Case] = x.Note
			if want := map[string]float64{"pp": 2, "tg": 1}[x.Case]; math.Abs(x.Value-want) > 0.02 || x.Build != "fast" || x.Model != "m" {
				t.Errorf("%+v, want a ratio of about %v", x, want)
			}
		}
	}
	if says["pp"] != "faster" || says["tg"] != "neutral" {
		t.Errorf("it says %v", says)
	}
}
