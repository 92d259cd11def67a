package report

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// element is a start tag of a page.
type element struct {
	name string
	attr map[string]string
	text string // within it, without that of its children
	path string // names of what it is in
}

// parse returns the elements of a page, which must be well-formed XML.
func parse(t *testing.T, page string) []*element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	var all, open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			line, _ := d.InputPos()
			t.Fatalf("line %d of the page: %v", line, err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			e := &element{name: x.Name.Local, attr: map[string]string{}}
			for _, up := range open {
				e.path += "/" + up.name
			}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			all, open = append(all, e), append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text += string(x)
			}
		}
	}
}

func render(t *testing.T, r Report, history ...Entry) string {
	t.Helper()
	var b strings.Builder
	if err := r.HTML(&b, history, nil, Beside{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sections are the names of the parts of a page, in its order.
func sections(all []*element) []string {
	var names []string
	for _, e := range all {
		if e.name == "section" {
			names = append(names, e.attr["id"])
		}
	}
	return names
}

func accuracyOnly() Report {
	r := full()
	r.AccuracyOnly, r.Rounds = true, 0
	r.Results = slices.DeleteFunc(r.Results, func(x Result) bool { return x.Part == "throughput" || x.Part == "load" || x.Part == "roofline" })
	return r
}

func TestSections(t *testing.T) {
	always := []string{"history", "engines", "gates", "caveats", "machine", "repeat"}
	for name, c := range map[string]struct {
		report Report
		want   []string // besides always
	}{
		"full":     {full(), []string{"speed", "limits", "accuracy", "cost"}},
		"failing":  {failing(), []string{"failed", "speed", "limits", "accuracy", "cost"}},
		"accuracy": {accuracyOnly(), []string{"accuracy"}},
		"bare":     {Report{Version: Version}, nil},
		"a speed alone": {Report{Results: []Result{{Case: "pp1", Quantity: Speed, Unit: "t/s", Build: Tuned, Value: 1, Verdict: Info}}},
			[]string{"cost"}},
		"a ratio alone": {Report{Results: []Result{{Case: "pp1", Quantity: SpeedOverStock, Unit: "x", Value: 1, Verdict: Info}}}, []string{"speed"}},
		"limits alone": {Report{Threads: 4, Results: []Result{
			{Case: "read, 4 KiB pages, 4 threads", Quantity: Limit, Unit: "GB/s", Value: 30, Verdict: Info},
			{Case: "VPDPBUSD, 4 threads", Quantity: Limit, Unit: "GOP/s", Value: 1000, Verdict: Info}}}, []string{"limits"}},
		"bandwidth without a peak": {Report{Threads: 1, Results: []Result{
			{Case: "read, 4 KiB pages, 1 thread", Quantity: Limit, Unit: "GB/s", Value: 30, Verdict: Info}}}, nil},
		"a bound of 0": {Report{Results: []Result{{Model: "m", Quantity: MeanKL, Unit: "nats", Bound: &Bound{AtMost, 0, ""}, Verdict: Pass}}}, nil},
		"no bound":     {Report{Results: []Result{{Model: "m", Quantity: MeanKL, Unit: "nats", Verdict: Fail}}}, []string{"failed"}},
		"zeros": {Report{Results: []Result{{Case: "x", Quantity: SpeedOverStock, Unit: "x", Verdict: Info},
			{Case: "x", Quantity: Speed, Build: Stock, Verdict: Info}, {Quantity: Intensity, Verdict: Info}, {Quantity: Limit, Case: "VPDPBUSD, 1 thread", Unit: "GOP/s"}}},
			[]string{"speed", "cost"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := parse(t, render(t, c.report))
			got := sections(all)
			if want := append(c.want, always...); !slices.Equal(got, want) {
				t.Errorf("sections %q, want %q", got, want)
			}
			ids := map[string]bool{}
			for _, e := range all {
				if id := e.attr["id"]; id != "" && ids[id] {
					t.Errorf("two elements are called %s", id)
				} else if id != "" {
					ids[id] = true
				}
			}
			for _, e := range all {
				if to, ok := strings.CutPrefix(e.attr["href"], "#"); ok && !ids[to] {
					t.Errorf("a link goes to %s, which is not there", to)
				}
				for _, name := range strings.Fields(e.attr["aria-labelledby"]) {
					if !ids[name] {
						t.Errorf("a plot is named by %s, which is not there", name)
					}
				}
				if e.name == "svg" && (e.attr["role"] != "img" || e.attr["aria-labelledby"] == "") {
					t.Errorf("a plot has no name: %v", e.attr)
				}
			}
		})
	}
}

// TestFailuresFirst checks that nobody can miss a failed gate.
func TestFailuresFirst(t *testing.T) {
	page := render(t, failing())
	all := parse(t, page)
	text := func(where func(*element) bool) string {
		if i := slices.IndexFunc(all, where); i >= 0 {
			return all[i].text
		}
		return ""
	}
	if got := text(func(e *element) bool { return e.name == "title" }); !strings.HasPrefix(got, "FAIL: 2 of 54 gates") {
		t.Errorf("the title is %q", got)
	}
	if got := text(func(e *element) bool { return e.attr["class"] == "banner bad" }); got != "2 of 54 gates FAIL" {
		t.Errorf("the banner says %q", got)
	}
	if got := sections(all)[0]; got != "failed" {
		t.Errorf("the first section is %s", got)
	}
	if strings.Contains(page, "gates hold</p>") {
		t.Error("it says that gates hold")
	}
	failed := page[strings.Index(page, `id="failed"`):strings.Index(page, `id="speed"`)]
	for _, want := range []string{"tiny-q8_0 decode 256 mean KL divergence", "0.031 nats", "at most 0.007", "within 1.2 of each other", "33 tokens: -t 2 / -t 1"} {
		if !strings.Contains(failed, want) {
			t.Errorf("the failures lack %q", want)
		}
	}
	p := page[strings.Index(page, `id="gates"`):]
	if a, b := strings.Index(p, `verdict FAIL">accuracy`), strings.Index(p, `verdict info">roofline`); a < 0 || b < a {
		t.Error("the parts that fail do not come first")
	}
	if n := strings.Count(p, `<details open=""`); n != 2 {
		t.Errorf("%d parts are open, want those that fail", n)
	}

	good := render(t, full())
	if !strings.Contains(good, "All 54 gates hold") || strings.Contains(good, "FAIL</") || strings.Contains(good, `id="failed"`) {
		t.Error("a report without failures does not look like one")
	}
}

// TestHostileStrings puts markup wherever a report takes text.
func TestHostileStrings(t *testing.T) {
	const bad = `</title></svg><script>alert(1)</script><img src=x onerror="alert(2)">'"&`
	r := full()
	e := &r.Environment
	e.CPU, e.Kernel, e.Target, e.Compiler, e.BLAS, e.Toolchain, e.TransparentPages = bad, bad, bad, bad, bad, bad, bad
	e.Notes, e.Pins, e.Switches = []string{bad}, map[string]string{bad: bad}, map[string]string{bad: bad, "ZT_MODEL": bad, "ZT_WATTS": bad, "ZT_CURRENCY": bad}
	for i := range r.Results {
		x := &r.Results[i]
		x.Model += bad
		x.Note, x.Part = bad, x.Part+bad
		if x.Build != "" && x.Build != Stock && x.Build != Tuned {
			x.Build = bad
		}
		if x.Quantity != Limit {
			x.Case += bad
		}
		if x.Bound != nil {
			x.Bound.Why = bad
		}
		if x.Ungated != "" {
			x.Ungated = bad
		}
	}
	history := r.Entry()
	history.Date, history.Toolchain = history.Date.Add(-time.Hour), bad
	var scripts int
	for _, e := range parse(t, render(t, r, history)) {
		switch {
		case e.name == "script":
			scripts++
		case e.name == "img" || e.attr["onerror"] != "" || e.attr["src"] != "":
			t.Errorf("%s came through", e.name)
		}
	}
	if scripts != 1 {
		t.Errorf("%d scripts, want the page's own", scripts)
	}
}

// TestNothingIsLoaded checks that a page is whole without a network or another file.
func TestNothingIsLoaded(t *testing.T) {
	page := render(t, full())
	for _, e := range parse(t, page) {
		for name, value := range e.attr {
			link := e.name == "a" && name == "href" && (strings.HasPrefix(value, "#") || strings.HasPrefix(value, "https://github.com/"))
			if (name == "src" || name == "href" || name == "srcset" || name == "data" || name == "action") && !link {
				t.Errorf("<%s %s=%q> loads something", e.name, name, value)
			}
		}
		if e.name == "link" || e.name == "iframe" || e.name == "object" {
			t.Errorf("there is a <%s>", e.name)
		}
	}
	if m := regexp.MustCompile(`url\(|@import`).FindString(page); m != "" {
		t.Errorf("a style loads something: %s", m)
	}
	if !strings.Contains(page, "default-src &#39;none&#39;") && !strings.Contains(page, "default-src 'none'") {
		t.Error("the page does not forbid loading")
	}
}

// TestEveryResultIsListed checks that nothing is left out of the tables.
func TestEveryResultIsListed(t *testing.T) {
	r := full()
	page := render(t, r)
	gates := page[strings.Index(page, `id="gates"`):strings.Index(page, `id="caveats"`)]
	if rows := strings.Count(gates, "<tr>") - strings.Count(gates, "<thead>"); rows != len(r.Results) {
		t.Errorf("%d rows for %d results", rows, len(r.Results))
	}
	caveats := page[strings.Index(page, `id="caveats"`):strings.Index(page, `id="machine"`)]
	ungated := 0
	for _, x := range r.Results {
		if x.Ungated != "" {
			ungated++
		}
	}
	if rows := strings.Count(caveats, "<tr>") - strings.Count(caveats, "<thead>"); rows != ungated || ungated == 0 {
		t.Errorf("%d rows for %d results without a bound that counts", rows, ungated)
	}
	if !strings.Contains(caveats, "its numbers say nothing of a Zen 5") {
		t.Error("the page does not say that bringup is no Zen 5")
	}
}

// TestRoofline checks the limits and shares of the page against their definition.
func TestRoofline(t *testing.T) {
	r := Report{Threads: 2, Results: []Result{
		{Case: "read, 4 KiB pages, 1 thread", Quantity: Limit, Unit: "GB/s", Value: 9, Verdict: Info},
		{Case: "read, 4 KiB pages, 2 threads", Quantity: Limit, Unit: "GB/s", Value: 18, Samples: []float64{17, 20, 18}, Verdict: Info},
		{Case: "VPDPBUSD, 2 threads", Quantity: Limit, Unit: "GOP/s", Value: 900, Samples: []float64{900, 1000, 800}, Verdict: Info},
		{Case: "VPDPBUSD, 4 threads", Quantity: Limit, Unit: "GOP/s", Value: 9000, Verdict: Info}, // more than were used
		{Model: "m", Case: "tg8", Quantity: Intensity, Value: 2, Verdict: Info},
		{Model: "m", Case: "pp8", Quantity: Intensity, Value: 200, Verdict: Info},
		{Model: "m", Case: "none", Quantity: Intensity, Value: 200, Verdict: Info}, // without a rate
		{Model: "m", Case: "tg8", Build: Tuned, Quantity: WeightArithmetic, Value: 30, Verdict: Info},
		{Model: "m", Case: "pp8", Build: Stock, Quantity: WeightArithmetic, Value: 250, Verdict: Info},
	}}
	p := &page{Report: r}
	v := p.Roofline()
	if v == nil || v.Threads != 2 || len(v.Spots) != 2 || v.Bandwidth == nil {
		t.Fatalf("%+v", v)
	}
	tg, pp := v.Spots[0], v.Spots[1]
	// 20 GB/s * 2 op/B = 40 GOP/s; 20 * 200 is above the peak of 1000.
	if tg.Roof != 40 || tg.Reached[1] != (reach{30, 75}) || tg.Reached[0].Rate != 0 {
		t.Errorf("decode: %+v, want 30 of 40 GOP/s by tuned", tg)
	}
	if pp.Roof != 1000 || pp.Reached[0] != (reach{250, 25}) {
		t.Errorf("prefill: %+v, want 250 of 1000 GOP/s by stock", pp)
	}
}

func TestPivot(t *testing.T) {
	p := by([]Result{
		{Model: "m", Case: "c", Quantity: "q", Build: "peer", Value: 3},
		{Model: "m", Case: "c", Quantity: "q", Build: Tuned, Value: 2},
		{Model: "m", Case: "c", Quantity: "q", Build: Tuned, Value: 4, Note: "otherwise"},
		{Model: "m", Case: "d", Quantity: "q", Build: Stock, Value: 1},
	})
	if !slices.Equal(p.Builds, []string{Stock, Tuned, "peer"}) || len(p.Rows) != 3 {
		t.Fatalf("%+v", p)
	}
	var got []string
	for _, r := range p.Rows {
		line := r.Case
		for _, x := range r.Cells {
			if x == nil {
				line += " -"
			} else {
				line += " " + strconv.Itoa(int(x.Value))
			}
		}
		got = append(got, line)
	}
	if want := []string{"c - 2 3", "c - 4 -", "d 1 - -"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCommand(t *testing.T) {
	for want, e := range map[string]Environment{
		"go tool mage verify": {},
		"ZT_TARGET=zen5 ZT_MODEL='a b.gguf' go tool mage verify":   {Target: "zen5", Switches: map[string]string{"ZT_MODEL": "a b.gguf", "ZT_OUT": "/elsewhere"}},
		`ZT_MODEL='it'\''s; rm -rf $HOME' go tool mage verify`:     {Switches: map[string]string{"ZT_MODEL": "it's; rm -rf $HOME"}},
		"ZT_HUGEPAGES=off ZT_ROUNDS=9 go tool mage verify":         {Switches: map[string]string{"ZT_ROUNDS": "9", "ZT_HUGEPAGES": "off", "ZT_UNKNOWN": "1"}},
		"ZT_TARGET=bringup ZT_ACCURACY_ONLY=1 go tool mage verify": {Target: "bringup", Switches: map[string]string{"ZT_ACCURACY_ONLY": "1"}},
	} {
		if got := (&page{Report: Report{Environment: e}}).Command(); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

func TestWorkload(t *testing.T) {
	for name, want := range map[string]string{
		"pp512": "prompt, 512 tokens", "tg128": "generation, 1 sequence", "tg, 8 sequences": "generation, 8 sequences",
		"tg128 at depth 4096": "generation after 4096 tokens", "chat": "chat", "pp512+tg128": "pp512+tg128",
	} {
		if got := Workload(name); got != want {
			t.Errorf("Workload(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestFixed(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 4.0159: "4.02", 1: "1.00", 9.999: "10", 92.347: "92.3", 383.9: "384", 0.0385: "0.0385", 1.5e-7: "1.5e-07", 12345: "12300", -2.345: "-2.35"} {
		if got := fixed(v); got != want {
			t.Errorf("fixed(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestCitationsAreWhole(t *testing.T) {
	for _, c := range cited {
		if c.Engine == "" || c.Model == "" || c.Machine == "" || c.Workload == "" || c.Rate <= 0 || c.Source == "" || !strings.HasPrefix(c.URL, "https://") {
			t.Errorf("%+v lacks something", c)
		}
		if _, err := time.Parse(time.DateOnly, c.Date); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
