package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// measuredFeatures is a report of `mage features`: a feature that wins, one that may or may not, and one that the machine cannot show.
func measuredFeatures() Report {
	r := full()
	r.Results = nil
	ratio := func(part, model, quantity, what string, value, low, high float64) {
		r.Results = append(r.Results, Result{Part: part, Model: model, Case: what, Quantity: quantity, Unit: "x", Value: value,
			Interval: &statistics.Interval{Low: low, High: high}, Samples: []float64{value, value}, Verdict: Info})
	}
	of := func(part, model, build, quantity string, value float64) {
		r.Results = append(r.Results, Result{Part: part, Model: model, Build: build, Case: "tg64", Quantity: quantity, Value: value, Verdict: Info})
	}
	r.Results = append(r.Results,
		Result{Part: "numa", Case: "memory of all nodes", Quantity: NotShown, Note: "all memory is of one node", Verdict: Info},
		Result{Part: "plan", Case: "fewer barriers", Quantity: OnByDefault, Value: 1, Note: "off: ZT_GRAPH=0; on: ZT_GRAPH=1", Verdict: Info},
		Result{Part: "copy", Case: "a thread that copies", Quantity: OnByDefault, Note: "off: ZT_AHEAD=off; on: ZT_AHEAD=copy", Verdict: Info})
	ratio("plan", "0.5b-q8_0", SpeedOverOff, "tg64", 1.0713, 1.0412, 1.1)
	ratio("plan", "0.5b-q8_0", SpeedOverOff, "pp512", 1.0004, 0.99, 1.01)
	ratio("plan", "0.5b-q8_0", LoadOverOff, "load", 0.5, 0.4, 0.6)
	of("plan", "0.5b-q8_0", Off, Waits, 12.04)
	of("plan", "0.5b-q8_0", On, Waits, 5.01)
	of("plan", "0.5b-q8_0", Off, Barriers, 700)
	of("plan", "0.5b-q8_0", On, Barriers, 300)
	ratio("plan", "1b-q8_0", SpeedOverOff, "tg64", 1.02, 1.01, 1.03)
	ratio("plan", "1b-q8_0", SpeedOverOff, "pp512", 1.03, 1.01, 1.05)
	ratio("copy", "1b-q8_0", SpeedOverOff, "tg64", 0.9, 0.85, 0.95)
	ratio("copy", "1b-q8_0", SpeedOverOff, "pp512", 0.99, 0.95, 1.05)
	return r
}

// measuredScaling is a report of `mage scaling`.
func measuredScaling() Report {
	r := full()
	r.Results = nil
	add := func(build, what, quantity string, value float64) {
		x := Result{Part: "scaling", Model: "0.5b-q8_0", Build: build, Case: what, Quantity: quantity, Value: value, Verdict: Info}
		if build == "" {
			x.Interval = &statistics.Interval{Low: value - 0.1, High: value + 0.1}
		}
		r.Results = append(r.Results, x)
	}
	for _, n := range []string{"1 thread", "12 threads"} {
		add(Stock, "tg64, "+n, Speed, 40)
		add(Tuned, "tg64, "+n, Speed, 80)
		add("", "tg64, "+n, SpeedOverStock, 2)
		add(Stock, "tg64, "+n, ReadShare, 49)
		add(Tuned, "tg64, "+n, ReadShare, 98)
		add("", "pp512, "+n, SpeedOverStock, 3.5)
	}
	add(Before, "tg64, 12 threads", Waits, 12.3)
	add(Tuned, "tg64, 12 threads", Waits, 4.5)
	return r
}

func TestFeaturesTable(t *testing.T) {
	g := measuredFeatures().features()
	want := [][]string{
		{"plan", "on", "0.5b-q8_0", "1.07 [1.04, 1.10]", "neutral [0.99, 1.01]", "0.50 [0.40, 0.60]", "12 -> 5.01", "700 -> 300"},
		{"plan", "on", "1b-q8_0", "1.02 [1.01, 1.03]", "1.03 [1.01, 1.05]", "", "", ""},
		{"copy", "off", "1b-q8_0", "0.90 [0.85, 0.95]", "neutral [0.95, 1.05]", "", "", ""},
	}
	if !slices.EqualFunc(g.Rows, want, slices.Equal) {
		t.Errorf("rows are %q", g.Rows)
	}
	var b strings.Builder
	if err := measuredFeatures().FeaturesTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mage features of", "numa (memory of all nodes) is not shown: all memory is of one node.", "plan: fewer barriers; off: ZT_GRAPH=0; on: ZT_GRAPH=1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if err := (Report{}).FeaturesTable(&b); err == nil {
		t.Error("no features are a table")
	}
}

func TestReadmeFeatures(t *testing.T) {
	text, err := measuredFeatures().ReadmeFeatures("# Title\n" + featuresBegin + "stale\n" + featuresEnd)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| feature | default | 0.5b-q8_0 | 1b-q8_0 | prompt 512 | waiting, % |\n",
		"| plan | on | 1.07 | 1.02 | 1.03 | 12 -> 5.01 |\n",
		"| copy | off |  | 0.90 | neutral |  |\n",
		"numa (memory of all nodes) is not shown",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "stale") {
		t.Error("what was there is left")
	}
	if again, err := measuredFeatures().ReadmeFeatures(text); err != nil || again != text {
		t.Errorf("a second time makes another text, %v", err)
	}
	if _, err := (Report{}).ReadmeFeatures(text); err == nil {
		t.Error("no features are a table")
	}
}

func TestScalingTable(t *testing.T) {
	g := measuredScaling().scaling()
	want := [][]string{
		{"0.5b-q8_0", "1", "40", "80", "2.00 [1.90, 2.10]", "49", "98", "", "", "", "3.50 [3.40, 3.60]"},
		{"0.5b-q8_0", "12", "40", "80", "2.00 [1.90, 2.10]", "49", "98", "12.3 -> 4.50", "", "", "3.50 [3.40, 3.60]"},
	}
	if !slices.EqualFunc(g.Rows, want, slices.Equal) {
		t.Errorf("rows are %q", g.Rows)
	}
	text, err := measuredScaling().ReadmeScaling(scalingBegin + scalingEnd)
	if err != nil || !strings.Contains(text, "| 0.5b-q8_0 | 12 | 40 | 80 |") {
		t.Errorf("%v in\n%s", err, text)
	}
	if _, err := (Report{}).ReadmeScaling(text); err == nil {
		t.Error("nothing is a table")
	}
}

// TestSurveysOnThePage writes features and thread counts beside a report: the page shows them, and says where they cannot be read.
func TestSurveysOnThePage(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []func() error{
		func() error { return measuredFeatures().WriteSurvey(dir, FeaturesName) },
		func() error { return full().Write(dir) },
		func() error { return measuredScaling().WriteSurvey(dir, ScalingName) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	page, err := full().page(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := parse(t, string(page))
	for _, id := range []string{"features", "scaling"} {
		if !slices.Contains(sections(all), id) || !slices.ContainsFunc(all, func(e *element) bool { return e.attr["href"] == "#"+id }) {
			t.Errorf("%s are not on the page, or nothing leads there", id)
		}
	}
	for _, r := range []Report{measuredFeatures(), measuredScaling()} {
		if err := schema(t).Validate(asJSON(t, r)); err != nil {
			t.Error(err)
		}
	}
	if err := WriteFile(dir, FeaturesName, []byte(`{"version":1}`)); err != nil {
		t.Fatal(err)
	}
	if page, err = full().page(dir); err != nil || !strings.Contains(string(page), "The features were skipped") {
		t.Errorf("nothing says that features cannot be read, %v", err)
	}
}
