package entropy

import (
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// Use is what a code of avo/code takes for the panels that it can hold.
type Use struct {
	Code    code.Code
	Weights int64   // in these panels, padding not counted
	Bits    float64 // per weight: blocks, heads and directory, padding counted
	Escapes float64 // per weight
	Chosen  float64 // the share of all weights that lie in panels for which it is the best
}

var sources = map[gguf.Type]code.Source{gguf.BF16: code.FromBF16, gguf.F16: code.FromF16, gguf.F32: code.FromF32}

// panels codes the panels of matrices with every code.
type panels struct {
	source  code.Source
	at      code.Words // the panel at hand
	rows    int        // of it
	uses    map[code.Code]*Use
	weights int64
}

func newPanels(t gguf.Type) *panels { return &panels{source: sources[t], uses: map[code.Code]*Use{}} }

// row adds a row, and reports whether the panel is full and was coded.
func (p *panels) row(words []uint32) bool {
	p.at[p.rows] = words
	p.rows++
	return p.rows == code.Rows && p.end()
}

// end codes the panel at hand, and reports whether there was one.
func (p *panels) end() bool {
	if p.rows == 0 {
		return false
	}
	cols := len(p.at[0])
	n := int64(p.rows * cols)
	best, least := code.Code(0), 0
	for _, c := range p.source.Codes() {
		words, ok := p.source.Words(c, p.at)
		if !ok {
			continue
		}
		escapes := 0
		if !c.Plain() {
			palette, _ := c.Palette(words)
			escapes = escapesIn(words, palette)
		}
		bytes := size(c, (cols+code.Cols-1)/code.Cols, escapes)
		u := p.uses[c]
		if u == nil {
			u = &Use{Code: c}
			p.uses[c] = u
		}
		u.Weights += n
		u.Bits += 8 * float64(bytes)
		u.Escapes += float64(escapes)
		if least == 0 || bytes < least {
			best, least = c, bytes
		}
	}
	p.uses[best].Chosen += float64(n)
	p.weights += n
	p.at, p.rows = code.Words{}, 0
	return true
}

// result returns the uses, by code.
func (p *panels) result() []Use {
	var list []Use
	for _, c := range code.Codes() {
		if u := p.uses[c]; u != nil {
			x := *u
			x.Bits /= float64(u.Weights)
			x.Escapes /= float64(u.Weights)
			x.Chosen /= float64(p.weights)
			list = append(list, x)
		}
	}
	return list
}

// escapesIn returns how many of a panel's words are escapes with a palette, of which the last is the mark: those that no entry before it is,
// in blocks that have a byte which is not the mark's either.
func escapesIn(words code.Words, palette code.Palette) (n int) {
	const entry, mark = 1, 2
	var is [256]int
	for _, b := range palette.Bytes {
		is[b] = entry
	}
	is[palette.Bytes[len(palette.Bytes)-1]] = mark
	for from := 0; from < len(words[0]); from += code.Cols {
		marked, rare := 0, 0
		for _, row := range words {
			if len(row) == 0 { // of a panel that is not full
				continue
			}
			for _, w := range row[from:min(from+code.Cols, len(row))] {
				switch is[palette.High(w)] {
				case mark:
					marked++
				case 0:
					rare++
				}
			}
		}
		if rare > 0 {
			n += marked + rare
		}
	}
	return n
}
