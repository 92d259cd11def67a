package plot

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mark is an element of a drawing.
type mark struct {
	name  string
	class string
	attr  map[string]string
	text  string
}

func (m mark) number(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(m.attr[name], 64)
	if err != nil {
		t.Fatalf("<%s> %s: %v", m.name, name, err)
	}
	return v
}

// marks parses a drawing and checks what holds for every one: it is well-formed, is named, and nothing of it lies outside.
func marks(t *testing.T, drawn template.HTML) []mark {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(drawn)))
	var all []mark
	var open []int
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, drawn)
		}
		switch x := token.(type) {
		case xml.StartElement:
			m := mark{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				m.attr[a.Name.Local] = a.Value
			}
			m.class = m.attr["class"]
			open = append(open, len(all))
			all = append(all, m)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			all[open[len(open)-1]].text += string(x)
		}
	}
	svg := all[0]
	if svg.attr["role"] != "img" || all[1].name != "title" || all[1].text == "" || all[2].name != "desc" || svg.attr["aria-labelledby"] != all[1].attr["id"]+" "+all[2].attr["id"] {
		t.Errorf("the drawing is not named: %v", all[:3])
	}
	w, h := svg.number(t, "width"), svg.number(t, "height")
	if svg.attr["viewBox"] != fmt.Sprintf("0 0 %v %v", w, h) {
		t.Errorf("view box %q of a drawing of %v x %v", svg.attr["viewBox"], w, h)
	}
	const over = 10 // a mark may reach over the edge by its own size
	for _, m := range all {
		for _, name := range []string{"x", "x1", "x2", "cx", "y", "y1", "y2", "cy"} {
			if m.attr[name] == "" {
				continue
			}
			limit := w
			if strings.Contains(name, "y") {
				limit = h
			}
			if v := m.number(t, name); !(v >= -over && v <= limit+over) {
				t.Errorf("<%s class=%q> lies outside: %s=%v of %v", m.name, m.class, name, v, limit)
			}
		}
		if m.name == "path" && strings.Contains(m.attr["d"], "N") {
			t.Errorf("a path has no numbers: %s", m.attr["d"])
		}
		if m.name == "text" && m.attr["transform"] == "" && m.text != "" {
			x, long := m.number(t, "x"), width(m.text)
			switch m.attr["text-anchor"] {
			case "end":
				x -= long
			case "middle":
				x -= long / 2
			}
			if x < -3*over || x+long > w+3*over {
				t.Errorf("the text %q reaches from %v to %v of %v", m.text, x, x+long, w)
			}
		}
	}
	return all
}

func pick(all []mark, name, class string) []mark {
	var found []mark
	for _, m := range all {
		if m.name == name && slices.Contains(strings.Fields(m.class), class) {
			found = append(found, m)
		}
	}
	return found
}

var figureOf = map[string]int{"phone": 356, "desktop": 880}

func TestIntervals(t *testing.T) {
	for name, w := range figureOf {
		t.Run(name, func(t *testing.T) {
			p := Intervals{
				Figure: Figure{ID: "a", Title: "t", Desc: "d", Width: w}, Log: true, Reference: 1, Noise: 0.02, Axis: "x",
				Rows: []Row{
					{Label: "slow", Value: 0.5, Low: 0.45, High: 0.55, Text: "0.50", Class: "tuned", Limit: 0.8, Side: 1, Binds: true},
					{Label: "even", Value: 1, Low: 0.9, High: 1.2, Text: "1.00", Class: "tuned", Limit: 1, Side: 1},
					{Label: strings.Repeat("a long name <&> ", 20), Value: 4, Low: 3.9, High: 4.1, Text: "4.00", Class: "peer"},
				},
			}
			all := marks(t, p.Draw())
			dots, whiskers := pick(all, "circle", "dot"), pick(all, "line", "whisker")
			if len(dots) != 3 || len(whiskers) != 9 || len(pick(all, "rect", "noise")) != 1 {
				t.Fatalf("%d dots, %d whisker lines", len(dots), len(whiskers))
			}
			reference := pick(all, "line", "reference")[0].number(t, "x1")
			var at []float64
			for i, d := range dots {
				x := d.number(t, "cx")
				at = append(at, x)
				low, high := whiskers[3*i].number(t, "x1"), whiskers[3*i].number(t, "x2")
				if !(low < x && x < high) {
					t.Errorf("row %d: the dot at %v is not between its whiskers %v and %v", i, x, low, high)
				}
			}
			if math.Abs(at[1]-reference) > 0.11 || !(at[0] < reference && reference < at[2]) {
				t.Errorf("0.5, 1 and 4 are at %v, 1 is at %v", at, reference)
			}
			// Logarithmic: from 0.5 to 1 is half of 1 to 4.
			if got := (at[1] - at[0]) / (at[2] - at[1]); math.Abs(got-0.5) > 0.02 {
				t.Errorf("a factor of 2 takes %.2f of the space of a factor of 4", got)
			}
			limits := pick(all, "line", "limit")
			if len(limits) != 2 || strings.Contains(limits[0].class, "idle") || !strings.Contains(limits[1].class, "idle") {
				t.Errorf("limits %v: the second does not bind", limits)
			}
			// The flag of a limit flies to the side that is allowed: at least is to the right.
			var pole, y, tip float64
			if _, err := fmt.Sscanf(pick(all, "path", "arrow")[0].attr["d"], "M%f %fL%f", &pole, &y, &tip); err != nil || tip <= pole {
				t.Errorf("the flag of a lower limit at %v ends at %v (%v)", pole, tip, err)
			}
			if labels := pick(all, "text", "label"); len(labels) != 3 || !strings.HasSuffix(labels[2].text, "…") {
				t.Errorf("labels %v: the long one must be cut", labels)
			}
		})
	}
}

// TestIntervalsBelowTheAxis draws values that a logarithmic axis does not have.
func TestIntervalsBelowTheAxis(t *testing.T) {
	p := Intervals{Figure: Figure{ID: "a", Title: "t", Desc: "d", Width: 880}, Log: true, Floor: 1e-6, Rows: []Row{
		{Label: "none", Value: 0, Class: "tuned"}, {Label: "tiny", Value: 1e-15, Class: "tuned"}, {Label: "some", Value: 1e-3, Class: "tuned", Limit: 1e-2, Side: -1, Binds: true},
	}}
	all := marks(t, p.Draw())
	if dots, arrows := pick(all, "circle", "dot"), pick(all, "path", "dot"); len(dots) != 1 || len(arrows) != 2 {
		t.Errorf("%d dots and %d arrows, want 1 and 2", len(dots), len(arrows))
	}
	for _, tick := range pick(all, "text", "tick") {
		if strings.Contains(tick.text, "⁻¹⁵") {
			t.Errorf("the axis goes down to %s", tick.text)
		}
	}
}

func TestRooflineCorners(t *testing.T) {
	for name, w := range figureOf {
		t.Run(name, func(t *testing.T) {
			p := Roofline{Figure: Figure{ID: "a", Title: "t", Desc: "d", Width: w},
				Roofs: []Roof{{"fast memory", "fast", 40, true}, {"slow memory", "slow", 20, true}, {"int8", "int8", 2000, false}, {"f32", "f32", 200, false}},
				Spots: []Spot{{Number: 1, Class: "stock", Left: true, Intensity: 2, Rate: 40}, {Number: 1, Class: "tuned", Intensity: 2, Rate: 80}, {Number: 2, Class: "tuned", Intensity: 500, Rate: 1500}, {Number: 3, Class: "tuned", Intensity: 500, Rate: 1490}},
			}
			all := marks(t, p.Draw())
			slopes, flats := pick(all, "line", "memory"), pick(all, "line", "roof")
			flats = slices.DeleteFunc(flats, func(m mark) bool { return strings.Contains(m.class, "memory") })
			if len(slopes) != 2 || len(flats) != 2 {
				t.Fatalf("%d sloping and %d flat roofs", len(slopes), len(flats))
			}
			// The steepest memory roof ends where the highest flat one begins.
			if dx, dy := slopes[0].number(t, "x2")-flats[0].number(t, "x1"), slopes[0].number(t, "y2")-flats[0].number(t, "y1"); math.Hypot(dx, dy) > 0.3 {
				t.Errorf("the corner is open by %v, %v", dx, dy)
			}
			// 80 GOP/s at 2 op/B is 40 GB/s: on the roof.
			dot := pick(all, "circle", "tuned")
			x, y := 0.0, 0.0
			for _, d := range dot {
				if d.number(t, "cy") > y {
					x, y = d.number(t, "cx"), d.number(t, "cy")
				}
			}
			x1, y1, x2, y2 := slopes[0].number(t, "x1"), slopes[0].number(t, "y1"), slopes[0].number(t, "x2"), slopes[0].number(t, "y2")
			if on := y1 + (x-x1)/(x2-x1)*(y2-y1); math.Abs(on-y) > 0.5 {
				t.Errorf("a workload at the limit is at %v, the roof at %v", y, on)
			}
			numbers := pick(all, "text", "number")
			if len(numbers) != 4 {
				t.Fatalf("%d numbers", len(numbers))
			}
			var right []float64
			for _, n := range numbers {
				if n.text == "2" || n.text == "3" {
					right = append(right, n.number(t, "y"))
				}
			}
			if math.Abs(right[0]-right[1]) < textSize-0.1 {
				t.Errorf("numbers 2 and 3 lie on each other, at %v", right)
			}
		})
	}
}

func TestLines(t *testing.T) {
	p := Lines{Figure: Figure{ID: "a", Title: "t", Desc: "d", Width: 300}, Height: 150, XAxis: "threads", YAxis: "GB/s", Zero: true, Series: []Series{
		{Label: "one", Class: "tuned", X: []float64{1, 2, 4}, Y: []float64{10, 20, 30}, Tips: []string{"a", "b", "c"}},
		{Label: "two", Class: "stock", X: []float64{1, 2, 4}, Y: []float64{9, 19, 29.9}, Low: []float64{8, 18, 29}, High: []float64{10, 20, 31}, Tips: []string{"a", "b", "<c>"}},
	}}
	all := marks(t, p.Draw())
	if n := len(pick(all, "circle", "dot")); n != 6 {
		t.Errorf("%d points", n)
	}
	names := pick(all, "text", "note")
	if len(names) != 2 || math.Abs(names[0].number(t, "y")-names[1].number(t, "y")) < textSize {
		t.Errorf("names %v lie on each other", names)
	}
	single := Lines{Figure: p.Figure, Height: 130, XText: []string{"then", "now"}, Series: []Series{{X: []float64{0}, Y: []float64{5}, Tips: []string{"x"}}}}
	marks(t, single.Draw())
}

// TestAnything draws what comes along: no plot may fail on it or leave its frame.
func TestAnything(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() float64 {
		switch rng.IntN(6) {
		case 0:
			return 0
		case 1:
			return 1
		case 2:
			return rng.Float64() * 1e-12
		case 3:
			return rng.Float64() * 1e12
		}
		return rng.Float64() * 10
	}
	for range 300 {
		w := []int{356, 880}[rng.IntN(2)]
		f := Figure{ID: "a", Title: "t", Desc: "d", Width: w}
		p := Intervals{Figure: f, Log: rng.IntN(2) == 0, Reference: float64(rng.IntN(2)), Floor: float64(rng.IntN(2)) * 1e-3}
		for range rng.IntN(4) {
			v := value()
			p.Rows = append(p.Rows, Row{Label: strings.Repeat("x", rng.IntN(99)), Text: "1.234", Value: v, Low: v * 0.9, High: v * 1.1, Side: rng.IntN(3) - 1, Limit: value()})
		}
		marks(t, p.Draw())
		r := Roofline{Figure: f, Roofs: []Roof{{"m", "m", 1e-3 + value(), true}, {"a", "a", 1e-3 + value(), false}}}
		for range rng.IntN(9) {
			r.Spots = append(r.Spots, Spot{Intensity: 1e-6 + value(), Rate: 1e-6 + value(), Left: rng.IntN(2) == 0})
		}
		marks(t, r.Draw())
		if t.Failed() {
			t.Fatalf("%+v\n%+v", p, r)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, s := range []Scale{{1, 5, true}, {0.8, 4.4, true}, {0.98, 1.03, true}, {1e-9, 1e3, true}, {1e-6, 0.01, true}, {0, 33, false}, {-1, 1, false}, {0.3605, 0.3811, false}, {1.1, 1.2, false}, {7, 7, false}, {0, 1e12, false}} {
		for n := 2; n < 12; n++ {
			ticks := s.ticks(n)
			if len(ticks) > n+2 || len(ticks) < 2 && s.High > s.Low {
				t.Errorf("%v for %d: %v", s, n, ticks)
			}
			for i, v := range ticks {
				if v < s.Low-1e-9*math.Abs(s.Low) || v > s.High+1e-9*math.Abs(s.High) || i > 0 && v <= ticks[i-1] {
					t.Errorf("%v for %d: %v is not within or not ascending", s, n, ticks)
				}
			}
		}
	}
}

func TestTick(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 0.25: "0.25", 20000: "20000", 1e-4: "10⁻⁴", 3e-6: "3·10⁻⁶", 1e6: "10⁶", 2.5e7: "2.5·10⁷", 0.1 + 0.2: "0.3", -2: "-2"} {
		if got := tick(v); got != want {
			t.Errorf("tick(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct{ in, want []float64 }{
		{[]float64{10, 50}, []float64{10, 50}},
		{[]float64{10, 12}, []float64{10, 20}},
		{[]float64{95, 97, 99}, []float64{80, 90, 100}},
		{[]float64{-5, 0}, []float64{0, 10}},
		{nil, nil},
	} {
		got := slices.Clone(c.in)
		spread(got, 10, 0, 100)
		if !slices.Equal(got, c.want) {
			t.Errorf("spread(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, s := range []string{"", "short", "a label that is much too long", "überlänge…"} {
		for space := 0.0; space < 300; space += 7 {
			if got := fit(s, space); got != s && width(got) > max(space, perRune) {
				t.Errorf("fit(%q, %v) = %q, %v wide", s, space, got, width(got))
			}
		}
	}
}
