package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// measuredTypes is a report of `mage types`: a type that reaches its goals, one of a grid that misses some, one without a goal and one with experts.
func measuredTypes() Report {
	b := builder{Report: full(), part: "types"}
	b.Results, b.Rounds = nil, 2
	type weights struct {
		model                         string
		bits, stock, ratio, goal      float64
		decode, decodeGoal            float64
		share, shareGoal, four, eight float64
	}
	for _, w := range []weights{
		{"1b-q6_K", 6.5625, 59, 4.6, 4.5, 1.8, 0, 94.4, 93, 3.5, 5.6},
		{"1b-iq2_s", 2.5625, 61, 1.5, 1.6, 1.3, 1.2, 60, 0, 3.1, 5.9},
		{"1b-tq2_0", 2.0625, 55, 1.9, 0, 1.1, 0, 91, 93, 3.4, 5.4},
		{"moe8-q4_K", 4.5, 40, 4.1, 4, 1.05, 0, 0, 0, 0, 0},
	} {
		ratio := func(what, quantity string, value, goal float64) {
			if goal > 0 {
				b.add(Result{Model: w.model, Case: what, Quantity: Goal, Unit: "x", Value: goal, Verdict: Info})
			}
			b.add(sampled(Result{Model: w.model, Case: what, Quantity: quantity, Unit: "x"}, []float64{0.98 * value, value, 1.02 * value}))
		}
		b.add(Result{Model: w.model, Case: "weights", Quantity: Bits, Value: w.bits, Verdict: Info})
		b.add(Result{Model: w.model, Case: "pp512", Quantity: Speed, Unit: "t/s", Build: Stock, Value: w.stock, Verdict: Info})
		b.add(Result{Model: w.model, Case: "pp512", Quantity: Speed, Unit: "t/s", Build: Tuned, Value: w.stock * w.ratio, Verdict: Info})
		ratio("pp512", SpeedOverStock, w.ratio, w.goal)
		ratio("tg32", SpeedOverStock, w.decode, w.decodeGoal)
		if w.share == 0 {
			continue
		}
		if w.shareGoal > 0 {
			b.add(Result{Model: w.model, Case: "decode", Quantity: Goal, Unit: "%", Value: w.shareGoal, Verdict: Info})
		}
		b.add(Result{Model: w.model, Case: "decode", Quantity: ReadShare, Unit: "%", Build: Tuned, Value: w.share, Verdict: Info})
		ratio("tg, 4 sequences", BatchGain, w.four, 3.3)
		ratio("tg, 8 sequences", BatchGain, w.eight, 5.5)
	}
	return b.Report
}

// withFloats is r with models of float weights: one that reaches its goals, and one that reads too much and has no speeds.
func withFloats(r Report) Report {
	b := builder{Report: r, part: "types"}
	const model = "1b-bf16@12"
	b.add(Result{Model: model, Case: "weights", Quantity: Bits, Value: 16, Verdict: Info})
	for _, x := range []struct {
		what        string
		value, goal float64
	}{{"pp512", 1.2, 1.1}, {"tg32", 1.4, 1.45}} {
		b.add(Result{Model: model, Case: x.what, Quantity: Goal, Unit: "x", Value: x.goal, Verdict: Info})
		ratio := sampled(Result{Model: model, Case: x.what, Quantity: SpeedOverStock, Unit: "x"}, []float64{x.value - 0.01, x.value, x.value + 0.01})
		ratio.Bound = &Bound{AtLeast, 1, "nobody is to be worse off"}
		b.add(ratio)
	}
	b.add(Result{Model: model, Case: "decode", Quantity: Bits, Build: Tuned, Value: 11.38, Bound: &Bound{AtMost, 12.1, "codes"}, Verdict: Pass})
	b.add(Result{Model: model, Case: "memory", Quantity: MemoryOverStock, Unit: "x", Value: 0.74, Bound: &Bound{AtMost, 0.8, "codes"}, Verdict: Pass})
	b.add(Result{Model: model, Case: "decode", Quantity: ReadShare, Unit: "%", Build: Tuned, Value: 91.5, Verdict: Info})
	b.add(Result{Model: "1b-f16", Case: "decode", Quantity: Bits, Build: Tuned, Value: 14.2, Bound: &Bound{AtMost, 14, "codes"}, Verdict: Fail})
	return b.Report
}

// TestFloatsTable has models of float weights in a table of their own, and in no other.
func TestFloatsTable(t *testing.T) {
	rows := [][]string{
		{"bf16@12", "11.38", "<= 12.1", "1.40* [1.39, 1.41]", ">= 1.45", "1.20 [1.19, 1.21]", ">= 1.10", "0.74", "<= 0.8", "91.5", "", ""},
		{"f16", "14.20*", "<= 14", "", "", "", "", "", "", "", "", ""},
	}
	for name, r := range map[string]Report{"with other types": withFloats(measuredTypes()), "alone": withFloats(Report{Version: Version, Environment: full().Environment})} {
		table := r.types()
		if table.Floats == nil || len(table.Floats.Rows) != 2 {
			t.Fatalf("%s: %+v", name, table.Floats)
		}
		for i, row := range rows {
			if got := table.Floats.Rows[i]; !slices.Equal(got, row) {
				t.Errorf("%s: %q, want %q", name, got, row)
			}
		}
		if slices.ContainsFunc(table.Rows, func(row []string) bool { return row[0] == "bf16@12" }) || strings.Contains(table.Legend, "1.45") {
			t.Errorf("%s: float weights are among the other types, or in their legend: %s", name, table.Legend)
		}
		readme, err := r.ReadmeTypes(typesBegin + typesEnd)
		if err != nil || !strings.Contains(readme, "| bf16@12 | 11.38 | &lt;= 12.1 | 1.40\\* [1.39, 1.41] |") {
			t.Errorf("%s: %v\n%s", name, err, readme)
		}
		if heads := strings.Count(readme, "|---"); name == "alone" && heads != len(table.Floats.Heads) {
			t.Errorf("%d columns in\n%s", heads, readme)
		}
		var text strings.Builder
		if err := r.TypesTable(&text); err != nil || !strings.Contains(text.String(), "<= 12.1") {
			t.Errorf("%s: %v\n%s", name, err, text.String())
		}
	}
	if f := measuredTypes().types().Floats; f != nil {
		t.Errorf("a table of no float weights: %+v", f)
	}
}

// TestCodes lists on the page what float matrices were coded in.
func TestCodes(t *testing.T) {
	b := builder{Report: full(), part: FloatsPart}
	b.add(Result{Model: "tiny64-bf16", Build: Tuned, Case: "attn_q", Quantity: Bits, Value: 12.56, Verdict: Info, Note: "4 tensors: B12 256 panels"})
	b.add(Result{Model: "tiny64-bf16", Build: Tuned, Case: "attn_q", Quantity: Gain, Unit: "x", Value: 1.27, Verdict: Info})
	var page strings.Builder
	if err := b.HTML(&page, nil, nil, Beside{Types: withFloats(measuredTypes())}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<td class="k">tiny64-bf16</td><td>attn_q</td><td class="n">12.56</td><td class="n">1.27 x</td><td>4 tensors: B12 256 panels</td>`,
		`href="#codes"`, `<td class="n">&lt;= 12.1</td>`, "<h3>Float weights</h3>"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	page.Reset()
	if err := full().HTML(&page, nil, nil, Beside{Types: measuredTypes()}); err != nil || strings.Contains(page.String(), "codes of float weights") || strings.Contains(page.String(), "<h3>Float weights</h3>") {
		t.Errorf("float weights that were not measured are on the page, %v", err)
	}
}

// typeRows are what the table of measuredTypes holds.
var typeRows = [][]string{
	{"q6_K", "6.56", "59", "271", "4.60 [4.51, 4.69]", "1.80", "94.4", "3.50", "5.60", "4.50"},
	{"iq2_s", "2.56", "61", "91.5", "1.50* [1.47, 1.53]", "1.30", "60", "3.10*", "5.90", "1.60"},
	{"tq2_0", "2.06", "55", "104", "1.90 [1.86, 1.94]", "1.10", "91*", "3.40", "5.40*", ""},
	{"moe8-q4_K", "4.50", "40", "164", "4.10 [4.02, 4.18]", "1.05", "", "", "", "4.00"},
}

func TestTypesTable(t *testing.T) {
	r := measuredTypes()
	var b strings.Builder
	if err := r.TypesTable(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	lines := strings.Split(text, "\n")
	for _, row := range typeRows {
		want := fold(strings.Join(row, " "))
		if !slices.ContainsFunc(lines, func(line string) bool { return fold(line) == want }) {
			t.Errorf("it lacks the row %q:\n%s", want, text)
		}
	}
	for _, want := range []string{"mage types of 2026-11-23 11:59 UTC on Intel", "2 rounds", "llama.cpp v0.5.0", "* is below its goal", "93 % of the read loop",
		"generation, 1 sequence 1.20 x stock, for grid types", "generation, 8 sequences 5.50 x", "0 of 0 gates hold", "transparent huge pages"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if err := (Report{}).TypesTable(&b); err == nil {
		t.Error("a table of nothing")
	}

	// A ratio that is slower than stock stands below the table too.
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.Model == "1b-tq2_0" && x.Case == "tg32" })
	r.Results[i].Value, r.Results[i].Bound, r.Results[i].Verdict = 0.9, &Bound{AtLeast, 1, "nobody is to be worse off"}, Fail
	b.Reset()
	if err := r.TypesTable(&b); err != nil || !strings.Contains(b.String(), "FAILED") || !strings.Contains(b.String(), "0 of 1 gates hold") {
		t.Errorf("%v:\n%s", err, b.String())
	}
}

func TestTypesFollowTheSchema(t *testing.T) {
	if err := schema(t).Validate(asJSON(t, measuredTypes())); err != nil {
		t.Error(err)
	}
}

func TestReadmeTypes(t *testing.T) {
	text := "# Title\n\n" + typesBegin + "old\n" + typesEnd + "\nmore\n"
	once, err := measuredTypes().ReadmeTypes(text)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := measuredTypes().ReadmeTypes(once); err != nil || twice != once {
		t.Errorf("a second time changes it (%v):\n%s", err, twice)
	}
	if !strings.HasPrefix(once, "# Title\n\n"+typesBegin) || !strings.HasSuffix(once, typesEnd+"\nmore\n") || strings.Contains(once, "old") {
		t.Errorf("around or between the markers:\n%s", once)
	}
	for _, row := range typeRows {
		if want := "| " + strings.ReplaceAll(strings.Join(row, " | "), "*", `\*`) + " |\n"; !strings.Contains(once, want) {
			t.Errorf("it lacks the row %q:\n%s", want, once)
		}
	}
	for _, want := range []string{"2026-11-23", "GenuineIntel", "2 threads", "target bringup", "clang 19.1.7", "llama-zen-turbo 0.1.0", "This was no Zen 5"} {
		if !strings.Contains(once, want) {
			t.Errorf("it lacks %q:\n%s", want, once)
		}
	}
	if _, err := measuredTypes().ReadmeTypes("no markers"); err == nil || !strings.Contains(err.Error(), "types") {
		t.Errorf("no markers: %v", err)
	}
	if _, err := (Report{}).ReadmeTypes(text); err == nil {
		t.Error("no types are a table")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	both, err := measuredTypes().ReadmeTypes(string(readme))
	if err != nil {
		t.Fatalf("the project's own: %v", err)
	}
	if _, err := full().Readme(both); err != nil {
		t.Errorf("the markers of ratios are gone: %v", err)
	}
}

// TestTypesOnThePage writes types beside a report, in either order: the page has both.
func TestTypesOnThePage(t *testing.T) {
	page := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, PageName))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	steps := map[string]func(string) error{"verify": full().Write, "types": measuredTypes().WriteTypes}
	for _, order := range [][]string{{"verify", "types"}, {"types", "verify"}} {
		dir := t.TempDir()
		for _, name := range order {
			if err := steps[name](dir); err != nil {
				t.Fatal(err)
			}
		}
		all := parse(t, page(dir))
		if !slices.Contains(sections(all), "types") || !slices.ContainsFunc(all, func(e *element) bool { return e.attr["href"] == "#types" }) {
			t.Errorf("%v: the sections are %q", order, sections(all))
		}
		for _, cell := range []string{"1.50* [1.47, 1.53]", "moe8-q4_K"} {
			if !slices.ContainsFunc(all, func(e *element) bool { return e.name == "td" && e.text == cell }) {
				t.Errorf("%v: the page lacks %q", order, cell)
			}
		}
		got, err := ReadTypes(dir)
		if err != nil || len(got.Results) != len(measuredTypes().Results) {
			t.Errorf("%v: read %d results, %v", order, len(got.Results), err)
		}
	}

	dir := t.TempDir()
	if _, err := ReadTypes(dir); err == nil || !strings.Contains(err.Error(), "`mage types` writes it") {
		t.Errorf("no types: %v", err)
	}
	if err := WriteFile(dir, TypesName, []byte(`{"version":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := full().Write(dir); err != nil {
		t.Fatal(err)
	}
	if text := page(dir); strings.Contains(text, `id="types"`) || !strings.Contains(text, "The speeds by type were skipped") {
		t.Error("types of another version are on the page, or nothing says that they are not")
	}
}
