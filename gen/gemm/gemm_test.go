package gemm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// probe makes a zt-probe that prints lines whatever it is asked.
func probe(t *testing.T, lines ...line) program.Build {
	t.Helper()
	var text strings.Builder
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s\n", b)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\ncat <<'END'\n" + text.String() + "END\n"
	if err := os.WriteFile(filepath.Join(dir, "zt-probe"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program.Build{Name: "tuned", Bin: dir}
}

func measure(t *testing.T, b program.Build) (report.Report, error) {
	t.Helper()
	return Measure(context.Background(), progress.To(io.Discard), Options{
		Build: b, Shapes: []Shape{{"f32", 1000, 500, 10}, {"f16", 1000, 500, 10}}, Threads: 2, Rounds: 4,
	})
}

var contest = []line{
	{Library: "blis", Version: "0.9", Core: "skx", Path: "/lib/blis.so"},
	{Name: "ours", How: "ggml", NS: []float64{1e5, 1.1e5}},
	{Name: "stock", How: "ggml", NS: []float64{2e5, 2.2e5}},
	{Name: "blis", How: "slices", NMSE: 1e-13, NS: []float64{0.5e5, 0.55e5}},
	{Name: "blis", How: "own threads", NMSE: 1e-13, NS: []float64{1e5, 1.1e5}},
}

func TestMeasure(t *testing.T) {
	r, err := measure(t, probe(t, contest...))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"stock": 0.5, "blis, slices": 2, "blis, own threads": 1}
	ratios := 0
	for _, x := range r.Results {
		switch {
		case x.Quantity == report.SpeedOverOurs:
			ratios++
			if math.Abs(x.Value-want[x.Build]) > 1e-9 || x.Interval == nil || x.Interval.Low > x.Value || x.Interval.High < x.Value {
				t.Errorf("%s of %s: %v %v, want %v", x.Quantity, x.Build, x.Value, x.Interval, want[x.Build])
			}
			if len(x.Samples) != 4 {
				t.Errorf("%s of %s: %d samples, want those of 4 turns", x.Quantity, x.Build, len(x.Samples))
			}
		case x.Quantity == report.Product && x.Build == report.Ours:
			// 10^7 operations in 0.1 ms and 0.11 ms
			if math.Abs(x.Value-(100+1/0.011)/2) > 1e-9 {
				t.Errorf("our speed is %v GFLOP/s", x.Value)
			}
		}
	}
	if ratios != 2*len(want) {
		t.Errorf("%d ratios, want %d", ratios, 2*len(want))
	}
	if want := "blis: 0.9, kernels for skx (/lib/blis.so)"; len(r.Environment.Notes) != 1 || r.Environment.Notes[0] != want {
		t.Errorf("notes %q, want %q", r.Environment.Notes, want)
	}
}

func TestMeasureRefuses(t *testing.T) {
	wrong := append([]line(nil), contest...)
	wrong[3].NMSE = 0.5
	short := append([]line(nil), contest...)
	short[2].NS = short[2].NS[:1]
	for _, c := range []struct {
		lines []line
		want  string
	}{
		{wrong, "blis, slices multiplies wrongly"},
		{short, "stock was timed 1 times"},
		{contest[2:], "nothing was measured of ours"},
	} {
		if _, err := measure(t, probe(t, c.lines...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an error with %q", err, c.want)
		}
	}
}

func TestNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "libblis.so")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := Named("a=" + file + ", b=" + file)
	if err != nil || len(list) != 2 || list[0] != (Library{"a", file}) || list[1] != (Library{"b", file}) {
		t.Errorf("%v %v", list, err)
	}
	for text, want := range map[string]string{"libblis.so": "is not NAME=FILE", "a=" + file + ",a=" + file: "two libraries called a", "a=/nowhere": "no such file"} {
		if _, err := Named(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "ZT_BLAS_LIBS") {
			t.Errorf("Named(%q): %v, want an error with %q", text, err, want)
		}
	}
}
