package report

import (
	"fmt"
	"maps"
	"strconv"
)

// Price is what an hour at full load costs: the machine's watts and what a kilowatt hour is paid with.
type Price struct {
	Watts    float64
	PerKWh   float64
	Currency string // a label; may be empty
}

// PriceOf reads ZT_WATTS, ZT_PRICE_KWH and ZT_CURRENCY with value, which answers "" for what is unset. ok is false where the
// first two are unset. One of them without the other, or a number that is not above 0, is an error.
func PriceOf(value func(name string) string) (p Price, ok bool, err error) {
	watts, perKWh := value("ZT_WATTS"), value("ZT_PRICE_KWH")
	p.Currency = value("ZT_CURRENCY")
	if watts == "" && perKWh == "" {
		return p, false, nil
	}
	for _, x := range []struct {
		name, text string
		to         *float64
	}{{"ZT_WATTS", watts, &p.Watts}, {"ZT_PRICE_KWH", perKWh, &p.PerKWh}} {
		if x.text == "" {
			return Price{}, false, fmt.Errorf("%s is not set: the cost of a token needs ZT_WATTS and ZT_PRICE_KWH", x.name)
		}
		v, err := strconv.ParseFloat(x.text, 64)
		if err != nil || !(v > 0 && v < 1e9) {
			return Price{}, false, fmt.Errorf("%s=%s is not a number above 0", x.name, x.text)
		}
		*x.to = v
	}
	return p, true, nil
}

// WithPrice returns r as if the switches of a price had been set as value answers them.
func (r Report) WithPrice(value func(name string) string) Report {
	set := map[string]string{}
	maps.Copy(set, r.Environment.Switches)
	for _, name := range []string{"ZT_WATTS", "ZT_PRICE_KWH", "ZT_CURRENCY"} {
		delete(set, name)
		if v := value(name); v != "" {
			set[name] = v
		}
	}
	r.Environment.Switches = set
	return r
}

// PerMillion returns what a million tokens cost at rate tokens a second:
//
//	watts / 1000 * (1e6 / rate) / 3600 * price per kWh
func (p Price) PerMillion(rate float64) float64 {
	hours := 1e6 / rate / 3600
	return p.Watts / 1000 * hours * p.PerKWh
}
