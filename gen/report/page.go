package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/plot"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
)

// The page is well-formed XML besides being HTML, so that a test can hold every tag to its partner. It loads nothing.
var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	styleText string
	//go:embed page.js
	scriptText string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"number": Number}).Parse(pageText))
)

// HTML writes r as one page that needs no other file and no network. history are earlier runs, oldest first, of any host; notes
// say what else of it there is.
func (r Report) HTML(w io.Writer, history []Entry, notes []string, beside Beside) error {
	return pageTemplate.Execute(w, &page{Report: r, history: history, HistoryNotes: notes,
		Types: beside.Types.types(), Features: beside.Features.features(), Scaling: beside.Scaling.scaling(),
		Products: beside.Products.products(), Choices: beside.Choices.choices()})
}

// Beside is what was measured besides `mage verify`, each without results where it was not.
type Beside struct{ Types, Features, Scaling, Products, Choices Report }

// Widths of plots: on a desktop, on a phone held upright, and of the small ones of the history, in CSS pixels.
const (
	wide   = 880
	phone  = 356
	inlays = 300
)

// page is what the template shows. Its methods return nothing where a report has nothing to show.
type page struct {
	Report
	HistoryNotes []string
	Types        *types // nil if they were not measured
	Features     *grid  // likewise
	Scaling      *grid  // likewise
	Products     *grid  // likewise
	Choices      *grid  // likewise

	history []Entry
	figures int // drawn so far, for their names
}

// figure is a plot with its words, drawn for both widths.
type figure struct {
	Heading, Caption string
	Wide, Narrow     template.HTML
	Folded           bool // large or less wanted: closed until asked for
}

func (p *page) figure(heading, desc string, draw func(plot.Figure) template.HTML) figure {
	p.figures++
	f := plot.Figure{Title: heading, Desc: desc}
	f.ID, f.Width = fmt.Sprintf("f%d-wide", p.figures), wide
	large := draw(f)
	f.ID, f.Width = fmt.Sprintf("f%d-narrow", p.figures), phone
	return figure{Heading: heading, Wide: large, Narrow: draw(f)}
}

func (p *page) Style() template.CSS { return template.CSS(styleText) }
func (p *page) Script() template.JS { return template.JS(scriptText) }

// Day is when the run began.
func (p *page) Day() string { return p.Date.UTC().Format("2006-01-02 15:04 UTC") }

// Parts are the parts of the run, those that fail first.
func (p *page) Parts() []part {
	parts := p.parts()
	slices.SortStableFunc(parts, func(a, b part) int {
		switch {
		case a.Failed() == b.Failed():
			return 0
		case a.Failed():
			return -1
		}
		return 1
	})
	return parts
}

// Reasons are the bounds of a part with why they are where they are, each once.
func (p part) Reasons() []Result {
	var reasons []Result
	for _, x := range p.Results {
		if x.Bound != nil && !slices.ContainsFunc(reasons, func(y Result) bool { return y.Quantity == x.Quantity && y.Bound.Why == x.Bound.Why }) {
			reasons = append(reasons, x)
		}
	}
	return reasons
}

// Remarks is what a table says beside a result.
func (x Result) Remarks() string { return join(x.Ungated, x.Note) }

// Ungated are the results whose bound does not count here.
func (p *page) Ungated() []Result {
	var list []Result
	for _, x := range p.Results {
		if x.Ungated != "" {
			list = append(list, x)
		}
	}
	return list
}

// tile is a number of the summary.
type tile struct{ Value, Name, More string }

// Tiles are the numbers that sum up the run: of the model with the most ratios, prompt and generation; then the gates' nearest.
func (p *page) Tiles() []tile {
	var tiles []tile
	ratios := map[string][]Result{}
	var model string
	for _, x := range p.ours(SpeedOverStock) {
		ratios[x.Model] = append(ratios[x.Model], x)
		if len(ratios[x.Model]) > len(ratios[model]) {
			model = x.Model
		}
	}
	for _, kind := range []struct {
		prefer string
		any    *regexp.Regexp
	}{{"pp512", regexp.MustCompile(`^pp\d+$`)}, {"tg128", regexp.MustCompile(`^tg\d+$`)}} {
		at := slices.IndexFunc(ratios[model], func(x Result) bool { return x.Case == kind.prefer })
		if at < 0 {
			at = slices.IndexFunc(ratios[model], func(x Result) bool { return kind.any.MatchString(x.Case) })
		}
		if at >= 0 {
			x := ratios[model][at]
			tiles = append(tiles, tile{fixed(x.Value) + " ×", "stock's speed, " + Workload(x.Case), join(model, interval(x))})
		}
	}
	for _, x := range p.ours(ReadShare) {
		if x.Model == model {
			tiles = append(tiles, tile{fixed(x.Value) + " %", "of a plain read loop, " + Workload(x.Case), model})
			break
		}
	}
	var nearest *Result
	for i, x := range p.Results {
		if x.Quantity == MeanKL && x.Gated() && x.Bound != nil && (nearest == nil || x.used() > nearest.used()) {
			nearest = &p.Results[i]
		}
	}
	if nearest != nil {
		tiles = append(tiles, tile{fixed(100*nearest.used()) + " %", "of its bound at most: " + MeanKL, join(nearest.Model, nearest.Case)})
	}
	return tiles
}

// interval prints x's interval in words.
func interval(x Result) string {
	if x.Interval == nil {
		return ""
	}
	return fmt.Sprintf("95 %%: %s to %s", fixed(x.Interval.Low), fixed(x.Interval.High))
}

// fixed prints v with three significant digits.
func fixed(v float64) string {
	three, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if three != 0 && (three < 1e-3 && three > -1e-3 || three >= 1e15) {
		return strconv.FormatFloat(three, 'g', -1, 64)
	}
	text := strconv.FormatFloat(three, 'f', -1, 64)
	if three >= 1 && three < 10 { // ratios line up
		text = strconv.FormatFloat(three, 'f', 2, 64)
	}
	return text
}

// ours are the results of a quantity that are of the tuned build or compare it.
func (p *page) ours(quantity string) []Result {
	var list []Result
	for _, x := range p.Results {
		if x.Quantity == quantity && (x.Build == "" || x.Build == Tuned) {
			list = append(list, x)
		}
	}
	return list
}

var (
	prompt     = regexp.MustCompile(`^pp(\d+)$`)
	generation = regexp.MustCompile(`^tg(\d+)$`)
	deep       = regexp.MustCompile(`^tg\d+ at depth (\d+)`)
	parallel   = regexp.MustCompile(`^tg, (\d+) sequences$`)
)

// Workload says in words what a case of a speed is; what it does not know it leaves as it is.
func Workload(name string) string {
	if m := prompt.FindStringSubmatch(name); m != nil {
		return "prompt, " + m[1] + " tokens"
	} else if generation.MatchString(name) {
		return "generation, 1 sequence"
	} else if m := parallel.FindStringSubmatch(name); m != nil {
		return "generation, " + m[1] + " sequences"
	} else if m := deep.FindStringSubmatch(name); m != nil {
		return "generation after " + m[1] + " tokens"
	}
	return name
}

// class is the colour of a build.
func class(build string) string {
	switch build {
	case Stock:
		return "stock"
	case Tuned, "":
		return "tuned"
	}
	return "peer"
}

// row is x as a line of a plot.
func row(x Result, label string) plot.Row {
	r := plot.Row{Label: label, Text: fixed(x.Value), Value: x.Value, Class: class(x.Build), Binds: x.Gated(), Tip: join(x.Name()+": "+x.Measured(), interval(x), x.Limits(), x.Remarks())}
	if x.Interval != nil {
		r.Low, r.High = x.Interval.Low, x.Interval.High
	}
	if x.Verdict == Fail {
		r.Class, r.Text = "fail", r.Text+" FAIL"
	}
	if x.Bound != nil {
		r.Limit, r.Side = x.Bound.Limit, 1
		if x.Bound.Side == AtMost {
			r.Side = -1
		}
	}
	return r
}

// names of models in results, in their order.
func models(results []Result) []string {
	var names []string
	for _, x := range results {
		if !slices.Contains(names, x.Model) {
			names = append(names, x.Model)
		}
	}
	return names
}

// overStock is what the quantity of a ratio to stock ends with, speedOver what that of a ratio of speeds begins with.
const (
	overStock = " over " + Stock
	speedOver = Speed + " over "
)

// Ratios are the plots of what compares builds: the speeds of each model over stock's and over each peer's, then the rest.
func (p *page) Ratios() []figure {
	var speeds, others []Result
	var bases []string // quantities of speeds
	for _, x := range p.Results {
		switch {
		case x.Unit != "x":
		case strings.HasPrefix(x.Quantity, speedOver):
			speeds = append(speeds, x)
			if !slices.Contains(bases, x.Quantity) {
				bases = append(bases, x.Quantity)
			}
		case strings.HasSuffix(x.Quantity, overStock):
			others = append(others, x)
		}
	}
	var figures []figure
	for _, model := range models(speeds) {
		for _, quantity := range bases {
			base := strings.TrimPrefix(quantity, speedOver)
			plotted := plot.Intervals{Log: true, Reference: 1, Axis: "times the speed of " + base + ": more is better", Noise: p.noise(model)}
			for _, x := range speeds {
				if x.Model == model && x.Quantity == quantity {
					plotted.Rows = append(plotted.Rows, row(x, strings.TrimSpace(x.Case+" "+x.Build)))
				}
			}
			if plotted.Rows == nil {
				continue
			}
			f := p.figure(model+": "+quantity, summary(plotted.Rows), func(f plot.Figure) template.HTML { plotted.Figure = f; return plotted.Draw() })
			if plotted.Noise > 0 {
				f.Caption = fmt.Sprintf("Grey band: what two runs of the same build differ by (A/A), up to %s %%.", fixed(100*plotted.Noise))
			}
			figures = append(figures, f)
		}
	}
	if len(others) > 0 {
		plotted := plot.Intervals{Log: true, Reference: 1, Axis: "times stock's: less is better"}
		for _, x := range others {
			r := row(x, strings.Join([]string{strings.TrimSuffix(x.Quantity, overStock), x.Case, x.Model}, ", "))
			if r.Text = Number(x.Value); x.Verdict == Fail {
				r.Text += " FAIL"
			}
			plotted.Rows = append(plotted.Rows, r)
		}
		figures = append(figures, p.figure("Loading and memory over stock", summary(plotted.Rows),
			func(f plot.Figure) template.HTML { plotted.Figure = f; return plotted.Draw() }))
	}
	return figures
}

// noise is the largest A/A noise measured on model.
func (p *page) noise(model string) float64 {
	most := 0.0
	for _, x := range p.Results {
		if x.Quantity == Noise && x.Model == model {
			most = max(most, x.Value)
		}
	}
	return most
}

// summary says in a sentence what rows show, for those who do not see them.
func summary(rows []plot.Row) string {
	var said []string
	for _, r := range rows[:min(len(rows), 20)] {
		said = append(said, r.Label+" "+r.Text)
	}
	if len(rows) > 20 {
		said = append(said, fmt.Sprintf("and %d more in the table of all results", len(rows)-20))
	}
	return strings.Join(said, "; ")
}

// Accuracy are the plots of divergences beside their bounds, one for each part of the run and quantity.
func (p *page) Accuracy() []figure {
	const many = 24 // rows that a reader takes in at once
	var figures []figure
	for _, part := range p.parts() {
		var quantities []string
		for _, x := range part.Results {
			divergence := x.Unit == "nats" || strings.HasPrefix(x.Quantity, "NMSE")
			if divergence && x.Gated() && x.Bound != nil && x.Bound.Limit > 0 && !slices.Contains(quantities, x.Quantity) {
				quantities = append(quantities, x.Quantity)
			}
		}
		for _, q := range quantities {
			plotted := plot.Intervals{Log: true, Axis: q + ": less is better"}
			for _, x := range part.Results {
				if x.Quantity != q {
					continue
				}
				r := row(x, strings.TrimSpace(x.Model+" "+x.Case))
				if r.Text = Number(x.Value); x.Verdict == Fail {
					r.Text += " FAIL"
				}
				if !x.Gated() {
					r.Hollow, r.Class = true, "stock"
				}
				if r.Limit > 0 && (plotted.Floor == 0 || r.Limit < plotted.Floor) {
					plotted.Floor = r.Limit
				}
				plotted.Rows = append(plotted.Rows, r)
			}
			plotted.Floor *= 1e-4 // exact or nearly so: where does not matter
			f := p.figure(part.Name+": "+q, summary(plotted.Rows), func(f plot.Figure) template.HTML { plotted.Figure = f; return plotted.Draw() })
			f.Folded = q != MeanKL || len(plotted.Rows) > many
			figures = append(figures, f)
		}
	}
	return figures
}

// pivot is results side by side: a row for each model, case and quantity, a column for each build.
type pivot struct {
	Builds []string
	Rows   []pivotRow
}

type pivotRow struct {
	Model, Case, Quantity, Unit string
	Cells                       []*Result // by Builds; nil where a build was not measured
}

// by sets results of builds side by side, stock and tuned first.
func by(results []Result) pivot {
	t := pivot{Builds: []string{Stock, Tuned}}
	for _, x := range results {
		if !slices.Contains(t.Builds, x.Build) {
			t.Builds = append(t.Builds, x.Build)
		}
	}
	for i := range results {
		x := &results[i]
		column := slices.Index(t.Builds, x.Build)
		free := func(r pivotRow) bool {
			return r.Model == x.Model && r.Case == x.Case && r.Quantity == x.Quantity && r.Unit == x.Unit && r.Cells[column] == nil
		}
		at := slices.IndexFunc(t.Rows, free)
		if at < 0 { // a second result of a build is one in another setting, which its note says
			at = len(t.Rows)
			t.Rows = append(t.Rows, pivotRow{x.Model, x.Case, x.Quantity, x.Unit, make([]*Result, len(t.Builds))})
		}
		t.Rows[at].Cells[column] = x
	}
	return t
}

// ofBuilds are the results of single builds that want selects, side by side.
func (p *page) ofBuilds(want func(Result) bool) *pivot {
	var list []Result
	for _, x := range p.Results {
		if x.Build != "" && want(x) {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		return nil
	}
	t := by(list)
	return &t
}

// Speeds are all speeds of this run, build by build.
func (p *page) Speeds() *pivot {
	return p.ofBuilds(func(x Result) bool { return x.Quantity == Speed })
}

// Shares are the speeds as shares of what the machine can do.
func (p *page) Shares() *pivot {
	return p.ofBuilds(func(x Result) bool { return strings.HasPrefix(x.Quantity, "share of ") && x.Unit == "%" })
}

// engineRow is the speed of each build on a workload.
type engineRow struct {
	Model, Case string
	Cells       []engineCell
}

type engineCell struct{ Rate, Ratio string } // "" for what was not measured

// Engines are the speeds of this run with their measured ratios to stock.
func (p *page) Engines() (rows []engineRow) {
	speeds := p.Speeds()
	for _, r := range speeds.Rows {
		line := engineRow{Model: r.Model, Case: r.Case, Cells: make([]engineCell, len(r.Cells))}
		for i, x := range r.Cells {
			if x == nil {
				continue
			}
			line.Cells[i].Rate = fixed(x.Value)
			for _, y := range p.Results {
				same := y.Build == x.Build || y.Build == "" && x.Build == Tuned
				if y.Quantity == SpeedOverStock && y.Model == x.Model && y.Case == x.Case && same {
					line.Cells[i].Ratio = fixed(y.Value) + " ×"
				}
			}
		}
		rows = append(rows, line)
	}
	return rows
}

// Cited are other engines' numbers.
func (p *page) Cited() []citation { return cited }

// costRow is what a workload costs by build.
type costRow struct {
	Model, Case string
	Cells       []costCell
}

type costCell struct {
	Rate     float64 // t/s; 0 where it was not measured
	Cost     string  // of a million tokens, where there is a price
	Relative string  // to stock, at the same watts
}

// costs are what a million tokens cost.
type costs struct {
	Price
	Set    bool   // the price was given
	Wrong  string // why a price that was given counts for nothing
	Builds []string
	Rows   []costRow
}

// Costs are the costs of every workload whose speed was measured.
func (p *page) Costs() *costs {
	speeds := p.Speeds()
	if speeds == nil {
		return nil
	}
	c := &costs{Builds: speeds.Builds}
	var err error
	if c.Price, c.Set, err = PriceOf(func(name string) string { return p.Environment.Switches[name] }); err != nil {
		c.Wrong = err.Error()
	}
	for _, r := range speeds.Rows {
		line := costRow{Model: r.Model, Case: r.Case, Cells: make([]costCell, len(r.Cells))}
		for i, x := range r.Cells {
			if x == nil || x.Value <= 0 {
				continue
			}
			cell := &line.Cells[i]
			cell.Rate = x.Value
			if c.Set {
				cell.Cost = fixed(c.PerMillion(x.Value))
			}
			if stock := r.Cells[0]; stock != nil && i > 0 {
				cell.Relative = fixed(100*stock.Value/x.Value) + " %"
			}
		}
		c.Rows = append(c.Rows, line)
	}
	return c
}

// pair is a line of the environment.
type pair struct{ Name, Value string }

// coding is what a kind of float matrices of a model was coded in.
type coding struct{ Model, Kind, Bits, Gain, Codes string }

// Codes lists the matrices of models of float weights.
func (p *page) Codes() (list []coding) {
	for _, x := range p.Results {
		if x.Part != FloatsPart || x.Quantity != Bits {
			continue
		}
		c := coding{Model: x.Model, Kind: x.Case, Bits: hundredths(x.Value), Codes: x.Note}
		i := slices.IndexFunc(p.Results, func(y Result) bool {
			return y.Part == FloatsPart && y.Quantity == Gain && y.Model == x.Model && y.Case == x.Case
		})
		if i >= 0 {
			c.Gain = fixed(p.Results[i].Value) + " x"
		}
		list = append(list, c)
	}
	return list
}

// Machine is where and of what the results were made.
func (p *page) Machine() []pair {
	e := p.Environment
	list := []pair{
		{"CPU", e.CPU}, {"cores", strconv.Itoa(e.Cores)}, {"threads used", strconv.Itoa(p.Threads)},
		{"memory", fmt.Sprintf("%.1f GiB", float64(e.MemoryBytes)/(1<<30))}, {"kernel", e.Kernel},
		{"load average at the start", Number(e.LoadAverage)},
		{"transparent huge pages", e.TransparentPages}, {"2 MiB pages in the pool", fmt.Sprintf("%d free of %d", e.HugePagesFree, e.HugePages)},
		{"target", e.Target}, {"compiler", e.Compiler}, {"BLAS", e.BLAS}, {"llama-zen-turbo", e.Toolchain},
	}
	for _, name := range slices.Sorted(maps.Keys(e.Pins)) {
		list = append(list, pair{name, e.Pins[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Switches)) {
		list = append(list, pair{name, e.Switches[name]})
	}
	if p.Rounds > 0 {
		list = append(list, pair{"rounds of stock and tuned in turn", strconv.Itoa(p.Rounds)})
	}
	return slices.DeleteFunc(list, func(x pair) bool { return x.Value == "" })
}

// Command is what repeats the run: the switches that change its numbers, and the target.
func (p *page) Command() string {
	set := maps.Clone(p.Environment.Switches)
	if set == nil {
		set = map[string]string{}
	}
	if p.Environment.Target != "" {
		set["ZT_TARGET"] = p.Environment.Target
	}
	if p.AccuracyOnly {
		set["ZT_ACCURACY_ONLY"] = "1"
	}
	var words []string
	for _, s := range switches.All() {
		if value, ok := set[s.Name]; ok && (s.When == switches.Verify || s.When == switches.Run || s.Name == "ZT_TARGET") {
			words = append(words, s.Name+"="+quote(value))
		}
	}
	return strings.Join(append(words, "go tool mage verify"), " ")
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quote writes s as one word of a shell.
func quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
