package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// featureParts are the names of the features that r has, in order.
func (r Report) featureParts() []string {
	var names []string
	for _, x := range r.Results {
		if !slices.Contains(names, x.Part) {
			names = append(names, x.Part)
		}
	}
	return names
}

// ofPart are the results of one feature.
func (r Report) ofPart(name string) modelResults {
	return slices.DeleteFunc(slices.Clone(r.Results), func(x Result) bool { return x.Part != name })
}

// byDefault prints whether a feature is on where nothing is set.
func (m modelResults) byDefault() string {
	x := m.find(func(x Result) bool { return x.Quantity == OnByDefault })
	switch {
	case x == nil:
		return ""
	case x.Value != 0:
		return On
	}
	return Off
}

// neutral is what is printed of a ratio that may as well be 1.
const neutral = "neutral"

// effect prints a ratio: its value where its interval leaves out 1.
func effect(x *Result) string {
	switch {
	case x == nil:
		return ""
	case x.Interval != nil && x.Interval.Low <= 1 && x.Interval.High >= 1:
		return neutral
	}
	return hundredths(x.Value)
}

// effectInterval prints a ratio with its interval.
func effectInterval(x *Result) string {
	text := effect(x)
	if x != nil && x.Interval != nil {
		text += fmt.Sprintf(" [%s, %s]", hundredths(x.Interval.Low), hundredths(x.Interval.High))
	}
	return text
}

// change prints a quantity off and on.
func (m modelResults) change(quantity string) string {
	of := func(build string) *Result {
		return m.find(func(x Result) bool { return x.Quantity == quantity && x.Build == build })
	}
	a, b := of(Off), of(On)
	if a == nil || b == nil {
		return ""
	}
	return fixed(a.Value) + " -> " + fixed(b.Value)
}

func (m modelResults) ratio(quantity, what string) *Result {
	return m.find(func(x Result) bool { return x.Quantity == quantity && x.Case == what })
}

const featuresLegend = "Each feature off and on, all else at its default, by runs of one build in turn. Ratios are on over off, neutral where the 95 % interval holds 1. " +
	"Intervals go by the noise of all rows. waiting: share of the threads' time at barriers while tokens are generated."

// features is what `mage features` found, a row for each feature and model; nil where r has no results.
func (r Report) features() *grid {
	if len(r.Results) == 0 {
		return nil
	}
	g := &grid{
		Made:   r.made("features") + "; " + r.rounds(),
		Legend: featuresLegend,
		Heads:  []string{"feature", "default", "model", "generation, on/off", "prompt 512, on/off", "load time, on/off", "waiting, %", "barriers of a token"},
	}
	for _, name := range r.featureParts() {
		of := r.ofPart(name)
		if x := of.find(func(x Result) bool { return x.Quantity == OnByDefault }); x != nil {
			g.Notes = append(g.Notes, fmt.Sprintf("%s: %s; %s", name, x.Case, x.Note))
		}
		for _, model := range models(of) {
			m := modelResults(ofModel(of, model))
			if model == "" {
				continue
			}
			g.Rows = append(g.Rows, []string{
				name, of.byDefault(), model, effectInterval(m.ratio(SpeedOverOff, "tg64")), effectInterval(m.ratio(SpeedOverOff, "pp512")),
				effectInterval(m.ratio(LoadOverOff, "load")), m.change(Waits), m.change(Barriers),
			})
		}
	}
	g.Notes = append(g.Notes, r.notShown()...)
	g.Notes = append(g.Notes, r.Environment.Notes...)
	return g
}

// notShown says of which features the machine shows nothing, and why.
func (r Report) notShown() []string {
	var said []string
	for _, x := range r.Results {
		if x.Quantity == NotShown {
			said = append(said, fmt.Sprintf("%s (%s) is not shown: %s.", x.Part, x.Case, x.Note))
		}
	}
	return said
}

// featuresBrief is features with a row for each of them: generation by model, and of all models together what prompts gain.
func (r Report) featuresBrief() *grid {
	g := r.features()
	g.Rows, g.Notes = nil, r.notShown()
	names := slices.DeleteFunc(models(r.Results), func(name string) bool { return name == "" })
	g.Heads = slices.Concat([]string{"feature", "default"}, names, []string{"prompt 512", "waiting, %"})
	for _, part := range r.featureParts() {
		of := r.ofPart(part)
		row := []string{part, of.byDefault()}
		prompts, waiting := neutral, ""
		var low, high float64
		measured := false
		for _, name := range names {
			m := modelResults(ofModel(of, name))
			row = append(row, effect(m.ratio(SpeedOverOff, "tg64")))
			if x := m.ratio(SpeedOverOff, "pp512"); x != nil {
				measured = true
				if effect(x) != neutral {
					if low == 0 || x.Value < low {
						low = x.Value
					}
					high = max(high, x.Value)
				}
			}
			if text := m.change(Waits); waiting == "" && text != "" {
				waiting = text
			}
		}
		switch {
		case !measured:
			prompts = ""
		case low != 0 && hundredths(low) == hundredths(high):
			prompts = hundredths(low)
		case low != 0:
			prompts = hundredths(low) + " .. " + hundredths(high)
		}
		if measured || slices.ContainsFunc(row[2:], func(s string) bool { return s != "" }) {
			g.Rows = append(g.Rows, append(row, prompts, waiting))
		}
	}
	g.Legend += " Columns of models: generation. prompt 512: of those models where it is not neutral; waiting: of the first model, off -> on."
	return g
}

// FeaturesTable writes what `mage features` found for a terminal.
func (r Report) FeaturesTable(w io.Writer) error {
	g := r.features()
	if g == nil {
		return errors.New("no feature was measured")
	}
	return g.write(w)
}

// Markers around what ReadmeFeatures writes.
const (
	featuresBegin = "<!-- features: `mage report:readme` writes what follows -->\n"
	featuresEnd   = "<!-- features end -->\n"
)

// ReadmeFeatures returns text with what is between its markers replaced by the table of r, a report of `mage features`.
func (r Report) ReadmeFeatures(text string) (string, error) {
	if len(r.Results) == 0 {
		return "", errors.New("the report has no feature")
	}
	return between(text, featuresBegin, featuresEnd, r.featuresBrief().markdown(r.Environment.Target))
}
