package entropy

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// Section is a part of the page that is written by a program.
type Section struct{ Name, Writer string }

// Sections of the page.
var (
	Models = Section{"models", "mage entropy"}
	Laws   = Section{"laws", "go test ./gen/entropy -update"}
	Hosts  = Section{"hosts", "go test ./gen/entropy -update"}
)

// In returns text with the section replaced.
func (s Section) In(text, body string) (string, error) {
	begin, end := fmt.Sprintf("<!-- %s: `%s` writes what follows -->\n", s.Name, s.Writer), fmt.Sprintf("<!-- %s end -->\n", s.Name)
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("the lines %q and %q are not in it", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + body + end + after, nil
}

// Write replaces the section in the file at path.
func (s Section) Write(path, body string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, err := s.In(string(text), body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// Named is a type of weights that are called by more than its name.
type Named struct {
	Name string
	Type
}

// Float reports whether a type is one of floats.
func (t Type) Float() bool { _, ok := formats[t.Type]; return ok }

// saved is what is left out of a number of bits, in percent.
func saved(from, to float64) string { return fmt.Sprintf("%.1f %%", 100*(1-to/from)) }

// given is a part's entropy, alone and with its best context.
func given(p Part) string {
	if p.Given == "" {
		return fmt.Sprintf("%.3f", p.Bits)
	}
	return fmt.Sprintf("%.3f; %.3f after %s", p.Bits, p.Best, p.Given)
}

// kind is what a table has in one column: quants, and what comes with each part or with each block.
func (p Part) kind() int {
	role, _, _ := strings.Cut(p.Name, ",")
	switch weight.Role(role) {
	case weight.Scales, weight.Mins:
		return 1
	case weight.D, weight.Min:
		return 2
	}
	return 0
}

// QuantTable writes quantized types as Markdown.
func QuantTable(types []Type) string {
	var b strings.Builder
	b.WriteString("| type | bits | quants | sub-scales, mins | block scales | bound | saves | fixed width | saves |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, t := range types {
		if t.Float() {
			continue
		}
		var cells [3]string
		var stored, best [3]float64
		for _, p := range t.Parts {
			k := p.kind()
			stored[k] += p.Stored
			best[k] += p.Best
			if k == 0 {
				cells[0] = fmt.Sprintf("%g: %s", p.Stored, given(p))
			}
		}
		for k := 1; k < 3; k++ {
			if stored[k] > 0 {
				cells[k] = fmt.Sprintf("%g: %.3f", math.Round(1e4*stored[k])/1e4, best[k])
			}
		}
		fmt.Fprintf(&b, "| %s | %.3f | %s | %s | %s | %.3f | %s | %.3f | %s |\n", t.Type, t.Stored(), cells[0], cells[1], cells[2],
			t.Bound(), saved(t.Stored(), t.Bound()), t.Fixed(), saved(t.Stored(), t.Fixed()))
	}
	return b.String()
}

// FloatTable writes types of floats as Markdown.
func FloatTable(types []Named) string {
	var b strings.Builder
	b.WriteString("| weights | bits | exponent | mantissa | bound | saves |")
	for _, c := range code.Codes() {
		fmt.Fprintf(&b, " %v |", c)
	}
	b.WriteString("\n|---|---|---|---|---|---|")
	b.WriteString(strings.Repeat("---|", len(code.Codes())) + "\n")
	for _, t := range types {
		var stored, best float64
		for _, p := range t.Parts[2:] {
			stored += p.Stored
			best += p.Best
		}
		fmt.Fprintf(&b, "| %s | %g | %g: %s | %g: %.3f | %.3f | %s |", t.Name, t.Stored(), t.Parts[1].Stored, given(t.Parts[1]), stored, best, t.Bound(), saved(t.Stored(), t.Bound()))
		for _, c := range code.Codes() {
			cell := ""
			if at := slices.IndexFunc(t.Codes, func(u Use) bool { return u.Code == c }); at >= 0 {
				u := t.Codes[at]
				cell = fmt.Sprintf("%.2f", u.Bits)
				if u.Escapes > 0 {
					cell += fmt.Sprintf(" (%.2g %%)", 100*u.Escapes)
				}
				if u.Chosen > 0 {
					cell = "**" + cell + "**"
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Report writes all types of a GGUF as text, part by part.
func Report(types []Type) string {
	var b strings.Builder
	for _, t := range types {
		fmt.Fprintf(&b, "%s: %d weights of %.3f bits, %.3f of information", t.Type, t.Weights, t.Stored(), t.Bound())
		if !t.Float() {
			fmt.Fprintf(&b, ", %.3f in fixed-width codes", t.Fixed())
		}
		b.WriteString("\n")
		for _, p := range t.Parts {
			fmt.Fprintf(&b, "    %-24s %8.4f stored, %8.4f alone", p.Name, p.Stored, p.Bits)
			if p.Given != "" {
				fmt.Fprintf(&b, ", %.4f after %s", p.Best, p.Given)
			}
			if !t.Float() && p.Fixed < p.Stored {
				fmt.Fprintf(&b, ", %.4f in fixed width", p.Fixed)
			}
			b.WriteString("\n")
		}
		for _, u := range t.Codes {
			fmt.Fprintf(&b, "    %-24v %8.4f bits with %.4f %% escapes, holds %.1f %% of the weights, best for %.1f %%\n", u.Code, u.Bits, 100*u.Escapes, 100*float64(u.Weights)/float64(t.Weights), 100*u.Chosen)
		}
	}
	return b.String()
}

// positions is how many scales between a power of two and its fourfold stand for all.
const positions = 32

// panelLaws are the panels that LawTable asks about: the deviation of each of the four rows, relative to the first.
var panelLaws = []struct {
	name string
	rows []float64
	law  func(code.Code, ...float64) Law
}{
	{"Gaussian", []float64{1}, Normal},
	{"Gaussian, two rows of twice the scale", []float64{1, 2}, Normal},
	{"Gaussian, two rows of 8 times the scale", []float64{1, 8}, Normal},
	{"Laplace", []float64{1}, Laplace},
}

// splits are the codes that LawTable asks about: ours, and what B11 might have been.
var splits = []struct {
	name  string
	code  code.Code
	rates func(Law) Rates
}{
	{"B11", code.B11, func(l Law) Rates { return l.Rates(code.B11) }},
	{"B11 without a base", code.B11, func(l Law) Rates { return l.split(code.B11.Entries(), 0) }},
	{"B11 of exponents", code.B11, func(l Law) Rates { return l.exponents(code.B11.Entries()) }},
	{"B12", code.B12, func(l Law) Rates { return l.Rates(code.B12) }},
	{"H14", code.H14, func(l Law) Rates { return l.Rates(code.H14) }},
}

// lengths of rows that LawTable asks about.
var lengths = []int{576, 1024, 2048, 4096, 8192}

// LawTable writes what codes with a palette take for weights of known distribution, by where their scale lies between powers of two: the fewest, the
// mean and the most escapes, and the mean of the bits.
func LawTable() string {
	var b strings.Builder
	b.WriteString("| code | weights | escapes, best | mean | worst |")
	for _, k := range lengths {
		fmt.Fprintf(&b, " bits, k = %d |", k)
	}
	b.WriteString("\n|---|---|---|---|---|" + strings.Repeat("---|", len(lengths)) + "\n")
	for _, p := range panelLaws {
		laws := map[code.Code][positions]Law{}
		for _, c := range []code.Code{code.B16, code.H16} {
			var at [positions]Law
			for i := range at {
				var rows []float64
				for _, r := range p.rows {
					rows = append(rows, r*scaleAt(i))
				}
				at[i] = p.law(c, rows...)
			}
			laws[c] = at
		}
		for _, split := range splits {
			words := code.B16
			if split.code == code.H14 {
				words = code.H16
			}
			var escapes [positions]float64
			bits := make([]float64, len(lengths))
			mean := 0.0
			for i, l := range laws[words] {
				escapes[i] = split.rates(l).Escapes()
				mean += escapes[i] / positions
				for j, k := range lengths {
					bits[j] += Bits(split.code, k, escapes[i]) / positions
				}
			}
			fmt.Fprintf(&b, "| %s | %s | %.2g %% | %.2g %% | %.2g %% |", split.name, p.name, 100*slices.Min(escapes[:]), 100*mean, 100*slices.Max(escapes[:]))
			for _, x := range bits {
				fmt.Fprintf(&b, " %.2f |", x)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
