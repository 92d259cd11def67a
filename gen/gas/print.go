// Package gas prints avo programs as GNU assembler source (AT&T syntax) for the System V AMD64 ABI, so that a kernel
// written once is called from Go and, as extern "C", from C++.
//
// A printed function keeps its Go name and takes the arguments of its Go signature in order: integers, bools and pointers
// as C's of the same size, float32 and float64 as float and double; it returns void or one such value. It calls nothing,
// needs no alignment of its locals beyond 8 bytes, and leaves VZEROUPPER to the program.
package gas

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
)

// FrameMark ends the line of every instruction that Print adds to a program to enter and leave its functions. Lines
// without it stand for one instruction of the program each, in order.
const FrameMark = "# frame"

// identifier is what both assemblers and C take for a name.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Print writes f, on which pass.Compile has run, as GNU assembler source that GNU as and clang accept. header is a comment
// that says what generated the file. Nothing is written when f holds an opcode, operand or signature that Print cannot
// express: the error names the function and the instruction.
func Print(w io.Writer, f *ir.File, header string) error {
	var p printer
	p.comment("", header)
	for _, s := range f.Sections {
		switch s := s.(type) {
		case *ir.Function:
			if err := p.function(s); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
		case *ir.Global:
			if err := p.global(s); err != nil {
				return fmt.Errorf("data %s: %w", s.Symbol.Name, err)
			}
		default:
			return fmt.Errorf("section of unknown type %T", s)
		}
	}
	fmt.Fprint(&p, "\n\t.section\t.note.GNU-stack,\"\",@progbits\n")
	_, err := w.Write(p.Bytes())
	return err
}

type printer struct{ bytes.Buffer }

func (p *printer) linef(format string, args ...any) { fmt.Fprintf(p, "\t"+format+"\n", args...) }

// frame writes an instruction that the program does not contain.
func (p *printer) frame(name string, operands ...string) {
	fmt.Fprintf(p, "\t%s\t%s\t%s\n", name, strings.Join(operands, ", "), FrameMark)
}

// comment writes text in the one form that holds in preprocessed source as well.
func (p *printer) comment(indent, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		fmt.Fprintf(p, "%s/* %s */\n", indent, strings.ReplaceAll(line, "*/", "* /"))
	}
}

func (p *printer) function(f *ir.Function) error {
	if !identifier.MatchString(f.Name) {
		return fmt.Errorf("the name is no C identifier")
	}
	fr, err := layout(f)
	if err != nil {
		return err
	}
	labels := map[ir.Label]string{}
	for _, l := range f.Labels() {
		if !identifier.MatchString(string(l)) {
			return fmt.Errorf("label %q is no identifier", l)
		}
		// Local to the file and, since a C identifier holds no dot, unique in it.
		labels[l] = ".L" + f.Name + "." + string(l)
	}

	fmt.Fprintf(p, "\n\t.text\n\t.p2align\t6\n")
	p.comment("", "func "+f.Name+f.Signature.String())
	p.linef(".globl\t%s", f.Name)
	p.linef(".type\t%s, @function", f.Name)
	fmt.Fprintf(p, "%s:\n", f.Name)
	p.linef(".cfi_startproc")
	p.enter(fr)
	ends := false
	for n, node := range f.Nodes {
		switch node := node.(type) {
		case ir.Label:
			fmt.Fprintf(p, "%s:\n", labels[node])
			ends = false
		case *ir.Comment:
			for _, line := range node.Lines {
				p.comment("\t", line)
			}
		case *ir.Instruction:
			if node.Opcode == "RET" {
				p.leave(fr, n == len(f.Nodes)-1)
			}
			line, err := fr.instruction(node, labels)
			if err != nil {
				return fmt.Errorf("%s: %w", source(node), err)
			}
			p.linef("%s", line)
			if node.Opcode == "RET" && n != len(f.Nodes)-1 && (fr.size > 0 || len(fr.saved) > 0) {
				p.linef(".cfi_restore_state")
			}
			ends = node.IsTerminal || node.IsUnconditionalBranch()
		default:
			return fmt.Errorf("node of unknown type %T", node)
		}
	}
	if !ends {
		return fmt.Errorf("control runs off its end; finish with RET or JMP")
	}
	p.linef(".cfi_endproc")
	p.linef(".size\t%s, .-%[1]s", f.Name)
	return nil
}

// global writes a data section, aligned to a cache line.
func (p *printer) global(g *ir.Global) error {
	if !identifier.MatchString(g.Symbol.Name) {
		return fmt.Errorf("the name is no C identifier")
	}
	section := ".data"
	if g.Attributes.RODATA() {
		section = ".section\t.rodata"
	}
	fmt.Fprintf(p, "\n\t%s\n\t.p2align\t6\n", section)
	if !g.Symbol.Static {
		p.linef(".globl\t%s", g.Symbol.Name)
		p.linef(".hidden\t%s", g.Symbol.Name) // the code reaches it relative to rip
	}
	p.linef(".type\t%s, @object", g.Symbol.Name)
	fmt.Fprintf(p, "%s:\n", g.Symbol.Name)

	data := slices.Clone(g.Data)
	slices.SortFunc(data, func(a, b ir.Datum) int { return a.Offset - b.Offset })
	at := 0
	for _, d := range data {
		start, end := d.Interval()
		if start < at {
			return fmt.Errorf("data overlap at offset %d", start)
		}
		if start > at {
			p.linef(".zero\t%d", start-at)
		}
		switch v := d.Value.(type) {
		case operand.String:
			p.linef(".ascii\t%s", quote(string(v)))
		case operand.F32:
			p.linef(".long\t%#x\t# %v", math.Float32bits(float32(v)), v)
		case operand.F64:
			p.linef(".quad\t%#x\t# %v", math.Float64bits(float64(v)), v)
		default:
			value, err := immediate(v)
			if err != nil {
				return err
			}
			p.linef("%s\t%s", map[int]string{1: ".byte", 2: ".short", 4: ".long", 8: ".quad"}[v.Bytes()], value[1:])
		}
		at = end
	}
	if at < g.Size {
		p.linef(".zero\t%d", g.Size-at)
	}
	p.linef(".size\t%s, %d", g.Symbol.Name, g.Size)
	return nil
}

// quote escapes all but plain characters in octal, which cannot run into what follows.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
