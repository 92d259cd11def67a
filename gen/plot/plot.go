// Package plot draws the few kinds of plots a report needs as SVG that is inlined into an HTML page. Colours come from the
// page's style sheet by class, so that a plot follows the page into dark mode and onto paper. Every text is escaped.
package plot

import (
	"fmt"
	"html"
	"html/template"
	"strconv"
	"strings"
)

// Figure is what every plot has.
type Figure struct {
	ID    string // unique in the page; letters, digits and dashes
	Title string // what is shown, for those who do not see it
	Desc  string // and what it says
	Width int    // of the drawing, in CSS pixels; below narrow the layout is that of a phone
}

// narrow is the width below which labels go above their marks instead of beside them.
const narrow = 480

// Sizes of text and the space around it, in CSS pixels.
const (
	textSize = 12.0
	perRune  = 6.6 // of a character of textSize, on the wide side for any sans-serif face
)

// width is about how wide s is drawn.
func width(s string) float64 { return perRune * float64(len([]rune(s))) }

// fit cuts s to what fits in space.
func fit(s string, space float64) string {
	if width(s) <= space {
		return s
	}
	runes := []rune(s)
	n := max(0, int(space/perRune)-1)
	return string(runes[:min(n, len(runes))]) + "…"
}

// canvas collects the marks of one drawing. Coordinates are CSS pixels from the upper left corner.
type canvas struct{ b strings.Builder }

// num prints a coordinate: a tenth of a pixel is finer than any screen.
func num(v float64) string { return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") }

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&c.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

func (c *canvas) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(&c.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, num(x), num(y), num(w), num(h))
}

func (c *canvas) dot(x, y, r float64, class string) {
	fmt.Fprintf(&c.b, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`, class, num(x), num(y), num(r))
}

// path draws through points x, y, x, y ...; closed fills it.
func (c *canvas) path(class string, closed bool, points ...float64) {
	c.b.WriteString(`<path class="` + class + `" d="`)
	for i := 0; i+1 < len(points); i += 2 {
		c.b.WriteByte("ML"[min(i, 1)])
		c.b.WriteString(num(points[i]) + " " + num(points[i+1]))
	}
	if closed {
		c.b.WriteByte('Z')
	}
	c.b.WriteString(`"/>`)
}

// text writes s; anchor is start, middle or end.
func (c *canvas) text(x, y float64, anchor, class, s string) {
	if s == "" {
		return
	}
	fmt.Fprintf(&c.b, `<text class="%s" x="%s" y="%s" text-anchor="%s">%s</text>`, class, num(x), num(y), anchor, html.EscapeString(s))
}

// slanted is text turned by degrees around its start.
func (c *canvas) slanted(x, y, degrees float64, class, s string) {
	fmt.Fprintf(&c.b, `<text class="%s" x="%s" y="%s" transform="rotate(%s %s %s)">%s</text>`,
		class, num(x), num(y), num(degrees), num(x), num(y), html.EscapeString(s))
}

// group puts what draw draws under a tooltip.
func (c *canvas) group(tip string, draw func()) {
	c.b.WriteString("<g><title>" + html.EscapeString(tip) + "</title>")
	draw()
	c.b.WriteString("</g>")
}

// svg is the finished drawing.
func (c *canvas) svg(f Figure, height float64) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" viewBox="0 0 %d %s" width="%d" height="%s" aria-labelledby="%[5]s-title %[5]s-desc">`+
		`<title id="%[5]s-title">%[6]s</title><desc id="%[5]s-desc">%[7]s</desc>%[8]s</svg>`,
		f.Width, num(height), f.Width, num(height), html.EscapeString(f.ID), html.EscapeString(f.Title), html.EscapeString(f.Desc), c.b.String()))
}

// spread moves the positions in y, which ascend, as little as needed to be gap apart and within low and high where they fit.
func spread(y []float64, gap, low, high float64) {
	for i := range y {
		least := low
		if i > 0 {
			least = y[i-1] + gap
		}
		y[i] = max(y[i], least)
	}
	for i := len(y) - 1; i >= 0; i-- {
		most := high
		if i < len(y)-1 {
			most = y[i+1] - gap
		}
		y[i] = min(y[i], most)
	}
}
