package gate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// TestLimits checks that everything measured reaches the report, and that what was not leaves no result.
func TestLimits(t *testing.T) {
	model := Model{Name: "m", Path: writeModel(t, true), Speed: true}
	limits := roofline.Limits{
		Notes: []string{"no large pages"},
		Points: []roofline.Point{
			{Threads: 1, Small: roofline.Rate{8e9, 10e9, 9e9}, VNNI: roofline.Rate{400e9, 300e9}, FMA: roofline.Rate{100e9}},
			{Threads: 2, Small: roofline.Rate{15e9}, Huge: roofline.Rate{20e9}, VNNI: roofline.Rate{800e9}, FMA: roofline.Rate{200e9}, BF16: roofline.Rate{350e9}},
		},
	}
	o := Options{Threads: 2, Rounds: 2, vendor: "GenuineIntel", Environment: report.Environment{Notes: []string{"first"}}}
	o.Roofline = func(context.Context, func(int, int, string)) (roofline.Limits, error) { return limits, nil }
	r, _, err := verify(t, "", "fast", model, o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, x := range r.Results {
		if x.Part == "roofline" {
			got[x.Case+" in "+x.Unit] = x.Value
		}
	}
	want := map[string]float64{
		"read, 4 KiB pages, 1 thread in GB/s": 9, "VPDPBUSD, 1 thread in GOP/s": 350, "VFMADD231PS, 1 thread in GOP/s": 100,
		"read, 4 KiB pages, 2 threads in GB/s": 15, "read, 2 MiB pages, 2 threads in GB/s": 20,
		"VPDPBUSD, 2 threads in GOP/s": 800, "VFMADD231PS, 2 threads in GOP/s": 200, "VDPBF16PS, 2 threads in GOP/s": 350,
	}
	if len(got) != len(want) {
		t.Errorf("%d limits, want %d", len(got), len(want))
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if first := r.Results[0]; first.Quantity != report.Limit || !strings.Contains(first.Note, "best 10") || !slices.Equal(first.Samples, []float64{8, 10, 9}) {
		t.Errorf("the first result is %+v", first)
	}
	if want := []string{"first", "no large pages"}; !slices.Equal(r.Environment.Notes, want) {
		t.Errorf("notes are %q, want %q", r.Environment.Notes, want)
	}

	broken := errors.New("broken")
	o.Roofline = func(context.Context, func(int, int, string)) (roofline.Limits, error) {
		return roofline.Limits{}, broken
	}
	if _, _, err := verify(t, "", "fast", model, o); !errors.Is(err, broken) {
		t.Errorf("error is %v, want %v", err, broken)
	}
	o.AccuracyOnly = true
	if _, _, err := verify(t, "", "fast", model, o); err != nil {
		t.Errorf("accuracy alone: %v", err)
	}
}
