package report

import (
	"math"
	"strings"
	"testing"
)

func TestPerMillion(t *testing.T) {
	// 150 W at 100 t/s: 10000 s are 2.7778 h, 0.41667 kWh, at 0.30 that is 0.125.
	if got := (Price{Watts: 150, PerKWh: 0.30}).PerMillion(100); math.Abs(got-0.125) > 1e-12 {
		t.Errorf("%v, want 0.125", got)
	}
	// A kilowatt for an hour at one token a second over 277.78 times as long.
	if got := (Price{Watts: 1000, PerKWh: 1}).PerMillion(1e6 / 3600); math.Abs(got-1) > 1e-12 {
		t.Errorf("%v, want 1", got)
	}
}

func values(set map[string]string) func(string) string {
	return func(name string) string { return set[name] }
}

func TestPriceOf(t *testing.T) {
	p, ok, err := PriceOf(values(map[string]string{"ZT_WATTS": "150", "ZT_PRICE_KWH": "0.3", "ZT_CURRENCY": "EUR"}))
	if p != (Price{150, 0.3, "EUR"}) || !ok || err != nil {
		t.Errorf("%+v %v %v", p, ok, err)
	}
	if _, ok, err := PriceOf(values(map[string]string{"ZT_CURRENCY": "EUR"})); ok || err != nil {
		t.Errorf("no price: %v %v", ok, err)
	}
	for want, set := range map[string]map[string]string{
		"ZT_PRICE_KWH is not set": {"ZT_WATTS": "150"},
		"ZT_WATTS is not set":     {"ZT_PRICE_KWH": "1"},
		"ZT_WATTS=a lot is not":   {"ZT_WATTS": "a lot", "ZT_PRICE_KWH": "1"},
		"ZT_WATTS=0 is not":       {"ZT_WATTS": "0", "ZT_PRICE_KWH": "1"},
		"ZT_PRICE_KWH=-1 is not":  {"ZT_WATTS": "1", "ZT_PRICE_KWH": "-1"},
		"ZT_PRICE_KWH=NaN is not": {"ZT_WATTS": "1", "ZT_PRICE_KWH": "NaN"},
		"ZT_WATTS=Inf is not":     {"ZT_WATTS": "Inf", "ZT_PRICE_KWH": "1"},
	} {
		if _, ok, err := PriceOf(values(set)); ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", set, err, want)
		}
	}
}

func TestCostsOnThePage(t *testing.T) {
	r := Report{Results: []Result{
		{Model: "m", Case: "pp1", Quantity: Speed, Unit: "t/s", Build: Stock, Value: 100, Verdict: Info},
		{Model: "m", Case: "pp1", Quantity: Speed, Unit: "t/s", Build: Tuned, Value: 400, Verdict: Info},
	}}
	page := render(t, r)
	for _, want := range []string{"Set <code>ZT_WATTS</code>", `data-example="true"`, `<span data-rate="100"></span>`, "25 %"} {
		if !strings.Contains(page, want) {
			t.Errorf("without a price the page lacks %q", want)
		}
	}
	priced := r.WithPrice(values(map[string]string{"ZT_WATTS": "150", "ZT_PRICE_KWH": "0.3", "ZT_CURRENCY": "EUR"}))
	page = render(t, priced)
	for _, want := range []string{"<strong>150 W</strong>", "<strong>0.3 EUR</strong>", `<span data-rate="100">0.125</span>`, `<span data-rate="400">0.0312</span>`, "25 %"} {
		if !strings.Contains(page, want) {
			t.Errorf("with a price the page lacks %q", want)
		}
	}
	if !strings.Contains(page, `id="assumed" hidden="" data-example="false"`) {
		t.Error("with a price the page assumes one")
	}
	if r.Environment.Switches != nil {
		t.Error("WithPrice changed the report it was called on")
	}
	again := priced.WithPrice(values(map[string]string{"ZT_WATTS": "1", "ZT_PRICE_KWH": "2"}))
	if got := again.Environment.Switches; len(got) != 2 || got["ZT_WATTS"] != "1" {
		t.Errorf("another price leaves %v", got)
	}
	wrong := r
	wrong.Environment.Switches = map[string]string{"ZT_WATTS": "x", "ZT_PRICE_KWH": "1"}
	if page = render(t, wrong); !strings.Contains(page, "ZT_WATTS=x is not a number above 0") {
		t.Error("a wrong price is not mentioned")
	}
}
