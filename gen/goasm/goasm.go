// Package goasm prints avo programs as Go assembly, including instructions that Go's assembler does not know: those stand in
// the source as bytes, each line ending in a comment that says what it is.
package goasm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/printer"
)

// Print returns f, on which pass.Compile has run, as Go assembly of the package that cfg names. The error for an instruction
// that has no encoding names its function and itself.
func Print(f *ir.File, cfg printer.Config) ([]byte, error) {
	known, err := lower(f)
	if err != nil {
		return nil, err
	}
	return printer.NewGoAsm(cfg).Print(known)
}

// lower returns f with bytes in the place of every instruction that Go's assembler lacks. f itself stays as it is.
func lower(f *ir.File) (*ir.File, error) {
	lowered := *f
	lowered.Sections = nil
	for _, s := range f.Sections {
		if fn, ok := s.(*ir.Function); ok {
			c := *fn
			c.Nodes = nil
			for _, node := range fn.Nodes {
				if i, ok := node.(*ir.Instruction); ok && bf16[i.Opcode] != nil {
					code, err := encode(i)
					if err != nil {
						return nil, fmt.Errorf("%s: %s: %w", fn.Name, source(i), err)
					}
					node = &ir.Instruction{Opcode: data(code) + " // " + source(i)}
				}
				c.AddNode(node)
			}
			s = &c
		}
		lowered.AddSection(s)
	}
	return &lowered, nil
}

// data writes code as the assembler's little-endian words.
func data(code []byte) string {
	var parts []string
	for len(code) > 0 {
		switch {
		case len(code) >= 4:
			parts = append(parts, fmt.Sprintf("LONG $%#08x", binary.LittleEndian.Uint32(code)))
			code = code[4:]
		case len(code) >= 2:
			parts = append(parts, fmt.Sprintf("WORD $%#04x", binary.LittleEndian.Uint16(code)))
			code = code[2:]
		default:
			parts = append(parts, fmt.Sprintf("BYTE $%#02x", code[0]))
			code = code[1:]
		}
	}
	return strings.Join(parts, "; ")
}

// source is the instruction as Go's assembler would read it if it knew it.
func source(i *ir.Instruction) string {
	operands := make([]string, len(i.Operands))
	for k, op := range i.Operands {
		operands[k] = op.Asm()
	}
	return i.OpcodeWithSuffixes() + " " + strings.Join(operands, ", ")
}
