package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// measuredProducts is a report of `mage blas`: a library that is faster than ours on one of two matrices.
func measuredProducts() Report {
	r := Report{Version: Version, Date: time.Date(2026, 11, 24, 0, 30, 0, 0, time.UTC), Threads: 2, Rounds: 6,
		Environment: Environment{CPU: "a CPU", Cores: 2, Target: "bringup", Compiler: "clang 19.1.7", Notes: []string{"blis: 0.9.0, kernels for skx (/usr/lib/libblis.so.4)"}}}
	add := func(model string, speed, low, ratio, high float64) {
		x := Result{Part: "blas", Model: model, Case: "128 tokens", Verdict: Info}
		x.Build, x.Quantity, x.Unit, x.Value = Ours, Product, "GFLOP/s", speed
		r.Results = append(r.Results, x)
		x.Build, x.Quantity, x.Unit, x.Value, x.Interval = "blis, slices", SpeedOverOurs, "", ratio, &statistics.Interval{Low: low, High: high}
		r.Results = append(r.Results, x)
	}
	add("f32 2048 x 8192", 90, 1.2, 1.4, 1.6)
	add("f32 2048 x 2048", 120, 0.7, 0.8, 0.9)
	add("bf16 2048 x 2048", 150, 0.9, 0.98, 1.1)
	return r
}

// measuredChoices is a report of `mage flags`.
func measuredChoices() Report {
	r := measuredProducts()
	r.Results, r.Environment.Notes = nil, []string{"pgo cannot be built: it takes clang"}
	for _, build := range []string{"default", "thinlto"} {
		r.Results = append(r.Results, Result{Part: "flags", Build: build, Quantity: Size, Unit: "MiB", Value: 7.5, Verdict: Info})
	}
	for what, ratio := range map[string]float64{"tg64": 1.02, "pp512": 0.95} {
		r.Results = append(r.Results, Result{Part: "flags", Model: "0.5b-q8_0", Build: "thinlto", Case: what, Quantity: SpeedOverDefault, Value: ratio,
			Interval: &statistics.Interval{Low: ratio - 0.01, High: ratio + 0.01}, Verdict: Info})
	}
	return r
}

func TestProductsTable(t *testing.T) {
	g := measuredProducts().products()
	want := [][]string{{"f32 2048 x 8192", "128", "90", "1.40+"}, {"f32 2048 x 2048", "128", "120", "0.80-"}, {"bf16 2048 x 2048", "128", "150", "0.98"}}
	for i, row := range want {
		if strings.Join(g.Rows[i], "|") != strings.Join(row, "|") {
			t.Errorf("row %d is %q, want %q", i, g.Rows[i], row)
		}
	}
	var text bytes.Buffer
	if err := measuredProducts().ProductsTable(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "1.10 (1, 1)") || !strings.Contains(text.String(), "/usr/lib/libblis.so.4") {
		t.Errorf("the table is\n%s", &text)
	}
	readme, err := measuredProducts().ReadmeProducts("above\n" + productsBegin + "old\n" + productsEnd + "below\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"above\n", "| f32 | 128 | 2 | 1.10 (1, 1) |", "| bf16 | 128 | 1 | 0.98 (0, 0) |", "kernels for skx\n", noZen5, "below\n"} {
		if !strings.Contains(readme, part) {
			t.Errorf("the README lacks %q:\n%s", part, readme)
		}
	}
	if strings.Contains(readme, "/usr/lib") || strings.Contains(readme, "old") {
		t.Errorf("the README is\n%s", readme)
	}
	if _, err := (Report{}).ReadmeProducts(readme); err == nil {
		t.Error("a report without products made a table")
	}
}

func TestChoicesTable(t *testing.T) {
	g := measuredChoices().choices()
	if strings.Join(g.Heads, "|") != "choice|size, MiB|0.5b-q8_0 tg64|0.5b-q8_0 pp512" {
		t.Errorf("heads %q", g.Heads)
	}
	if strings.Join(g.Rows[0], "|") != "default|7.50||" || strings.Join(g.Rows[1], "|") != "thinlto|7.50|1.020 [1.010, 1.030]+|0.950 [0.940, 0.960]-" {
		t.Errorf("rows %q", g.Rows)
	}
	readme, err := measuredChoices().ReadmeChoices(choicesBegin + choicesEnd)
	if err != nil || !strings.Contains(readme, "| thinlto |") || !strings.Contains(readme, "pgo cannot be built") {
		t.Errorf("%v\n%s", err, readme)
	}
	if _, err := (Report{}).ReadmeChoices(readme); err == nil {
		t.Error("a report without choices made a table")
	}
}

// TestSurveysOfBuildsOnThePage writes both beside a report.
func TestSurveysOfBuildsOnThePage(t *testing.T) {
	var page bytes.Buffer
	if err := full().HTML(&page, nil, nil, Beside{Products: measuredProducts(), Choices: measuredChoices()}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`<section id="blas">`, "1.40&#43;", `<section id="flags">`, "thinlto"} {
		if !strings.Contains(page.String(), part) {
			t.Errorf("the page lacks %s", part)
		}
	}
}
