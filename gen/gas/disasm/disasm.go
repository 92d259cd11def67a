// Package disasm shows what two assemblers make of one avo program, so that a test can hold the kernel that Go runs and
// the kernel that C++ runs to the same instructions.
//
// Both listings go through the same decoder (GNU objdump) and are equal for equal programs. Four differences that no
// program controls are normalized away, and nothing else:
//
//   - the instructions that enter and leave a function: for GNU those which gas.Print marks with gas.FrameMark; for Go the
//     fixed sequence that its assembler adds to a function with locals, matched to the letter;
//   - the place of the argument frame: x+8(FP) is shown as 0x8(FP) on both sides;
//   - branch targets, shown as @i, the index of the target in the listing;
//   - references to data, shown as symbol+offset(%rip).
package disasm

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/printer"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/goasm"
)

// Go assembles f, on which pass.Compile has run, with Go's assembler and returns each function's instructions. Functions
// are taken as NOSPLIT, so that stack checks stay out. Where the go command or objdump is missing the error is
// exec.ErrNotFound.
func Go(ctx context.Context, f *ir.File) (map[string][]string, error) {
	f = nosplit(f)
	text, err := goasm.Print(f, printer.Config{Name: "disasm", Pkg: pkg})
	if err != nil {
		return nil, err
	}
	root, err := run(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "disasm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, object := filepath.Join(dir, "go.s"), filepath.Join(dir, "go.o")
	if err := os.WriteFile(source, text, 0o644); err != nil {
		return nil, err
	}
	include := filepath.Join(strings.TrimSpace(string(root)), "pkg", "include")
	if _, err := run(ctx, "go", "tool", "asm", "-e", "-p", pkg, "-I", include, "-o", object, source); err != nil {
		return nil, err
	}
	listing, err := run(ctx, "go", "tool", "objdump", object)
	if err != nil {
		return nil, err
	}
	var c code
	if err := c.readGo(string(listing)); err != nil {
		return nil, err
	}
	return c.list(ctx, dir, f, goFrame)
}

// GNU prints f, on which pass.Compile has run, with gas.Print, assembles that and returns each function's instructions.
// assembler is the command to use instead of GNU as, up to the names of its output and input: "clang", "-c", "-x",
// "assembler". Where it or objdump is missing the error is exec.ErrNotFound.
func GNU(ctx context.Context, f *ir.File, assembler ...string) (map[string][]string, error) {
	if len(assembler) == 0 {
		assembler = []string{"as"}
	}
	var text bytes.Buffer
	if err := gas.Print(&text, f, "Written by disasm."); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "disasm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, object := filepath.Join(dir, "gnu.s"), filepath.Join(dir, "gnu.o")
	if err := os.WriteFile(source, text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if _, err := run(ctx, append(assembler, "-o", object, source)...); err != nil {
		return nil, err
	}
	var c code
	if err := c.readELF(object); err != nil {
		return nil, err
	}
	return c.list(ctx, dir, f, gnuFrame(text.String()))
}

const pkg = "p" // the Go package that functions are assembled into

func nosplit(f *ir.File) *ir.File {
	g := &ir.File{Constraints: f.Constraints, Includes: []string{"textflag.h"}}
	for _, s := range f.Sections {
		if fn, ok := s.(*ir.Function); ok {
			c := *fn
			c.Attributes |= attr.NOSPLIT
			s = &c
		}
		g.AddSection(s)
	}
	return g
}

// run returns what a command prints, or an error that holds the first lines of its complaint.
func run(ctx context.Context, command ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	lines := strings.SplitN(strings.TrimSpace(complaint.String()+string(out)), "\n", 11)
	if len(lines) > 10 {
		lines[10] = "..."
	}
	return nil, fmt.Errorf("%s: %w\n%s", command[0], err, strings.Join(lines, "\n"))
}

// code is the machine code of an object file before linking.
type code struct {
	text      []byte
	functions []symbol
	data      []symbol          // only where references name sections
	refs      map[int]reference // by the offset in text of the 32-bit field that linking fills
}

type symbol struct {
	name       string
	section    elf.SectionIndex
	start, end int // in its section
}

// reference is to byte offset+n of a symbol, or of a section where the symbol has no name, when n is the number of bytes
// from the start of the field to the end of its instruction.
type reference struct {
	symbol  string
	section elf.SectionIndex
	offset  int
}

var (
	goText  = regexp.MustCompile(`^TEXT ` + pkg + `\.(\w+)\(SB\)`)
	goLine  = regexp.MustCompile(`^  \S+\t+0x([0-9a-f]+)\t+([0-9a-f]+)\t`)
	goReloc = regexp.MustCompile(`\[(\d+):\d+\](R_\w+):(?:` + pkg + `\.)?(\w+)(?:<\d+>)?(?:\+(-?\d+))?`)
)

// readGo takes the bytes and relocations from the listing of go tool objdump. Its decoder does not know AVX-512, but every
// byte and relocation appears beside some instruction.
func (c *code) readGo(listing string) error {
	c.refs = map[int]reference{}
	for line := range strings.Lines(listing) {
		line = strings.TrimRight(line, "\n")
		if m := goText.FindStringSubmatch(line); m != nil {
			c.functions = append(c.functions, symbol{name: m[1], start: len(c.text), end: len(c.text)})
			continue
		}
		if line == "" {
			continue
		}
		m := goLine.FindStringSubmatch(line)
		if m == nil || len(c.functions) == 0 {
			return fmt.Errorf("go tool objdump printed a line of unknown form: %q", line)
		}
		for _, r := range goReloc.FindAllStringSubmatch(line, -1) {
			if r[2] != "R_PCREL" {
				return fmt.Errorf("relocation %s is not relative to rip", r[0])
			}
			at, _ := strconv.Atoi(r[1])
			addend, _ := strconv.Atoi(r[4])
			c.refs[len(c.text)+at] = reference{symbol: r[3], offset: addend - 4} // Go counts from the end of the field
		}
		b, err := hex.DecodeString(m[2])
		if err != nil {
			return fmt.Errorf("go tool objdump: %q: %w", line, err)
		}
		c.text = append(c.text, b...)
		c.functions[len(c.functions)-1].end = len(c.text)
	}
	return nil
}

// readELF takes the same from an ELF object.
func (c *code) readELF(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.text, err = f.Section(".text").Data(); err != nil {
		return err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		sym := symbol{s.Name, s.Section, int(s.Value), int(s.Value + s.Size)}
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_FUNC:
			c.functions = append(c.functions, sym)
		case elf.STT_OBJECT:
			c.data = append(c.data, sym)
		}
	}

	c.refs = map[int]reference{}
	rela := f.Section(".rela.text")
	if rela == nil {
		return nil
	}
	b, err := rela.Data()
	if err != nil {
		return err
	}
	for ; len(b) >= 24; b = b[24:] {
		at, info := int(f.ByteOrder.Uint64(b)), f.ByteOrder.Uint64(b[8:])
		addend := int(int64(f.ByteOrder.Uint64(b[16:])))
		if t := elf.R_X86_64(info & 0xffffffff); t != elf.R_X86_64_PC32 {
			return fmt.Errorf("relocation %v is not relative to rip", t)
		}
		ref := reference{offset: addend}
		if s := symbols[info>>32-1]; elf.ST_TYPE(s.Info) == elf.STT_SECTION {
			ref.section = s.Section
		} else {
			ref.symbol = s.Name
		}
		c.refs[at] = ref
	}
	return nil
}

// target is the symbol, and the offset in it, that the field at refers to; end is where its instruction ends.
func (c *code) target(at, end int) (string, int) {
	r := c.refs[at]
	offset := r.offset + end - at
	for _, s := range c.data {
		if r.symbol == "" && s.section == r.section && s.start <= offset && offset < s.end {
			return s.name, offset - s.start
		}
	}
	return r.symbol, offset
}

type instruction struct {
	address int
	text    string
	drop    bool // belongs to the frame
}

// list disassembles c. frame marks the instructions of a function that enter and leave it, and returns the offset of
// the arguments from rsp.
func (c *code) list(ctx context.Context, dir string, f *ir.File,
	frame func(*ir.Function, []instruction) (int, error)) (map[string][]string, error) {
	raw := filepath.Join(dir, "text.bin")
	if err := os.WriteFile(raw, c.text, 0o644); err != nil {
		return nil, err
	}
	out, err := run(ctx, "objdump", "-D", "-w", "-z", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", raw)
	if err != nil {
		return nil, err
	}
	all, err := c.decode(string(out))
	if err != nil {
		return nil, err
	}
	lists := map[string][]string{}
	for _, fn := range f.Functions() {
		var is []instruction
		for _, s := range c.functions {
			if s.name != fn.Name {
				continue
			}
			for _, i := range all {
				if s.start <= i.address && i.address < s.end {
					is = append(is, i)
				}
			}
		}
		args, err := frame(fn, is)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fn.Name, err)
		}
		list, err := normalize(is, args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fn.Name, err)
		}
		if want := len(fn.Instructions()); len(list) != want {
			return nil, fmt.Errorf("%s: %d instructions were assembled to %d", fn.Name, want, len(list))
		}
		lists[fn.Name] = list
	}
	return lists, nil
}

var (
	objdumpLine = regexp.MustCompile(`^ *([0-9a-f]+):\t(.*)$`)
	ripOperand  = regexp.MustCompile(`(?:-?0x[0-9a-f]+)?\(%rip\)(.*?) +# 0x[0-9a-f]+$`)
	spOperand   = regexp.MustCompile(`(-?0x[0-9a-f]+)?\(%rsp([,)])`)
	branch      = regexp.MustCompile(`^(j\w+) 0x([0-9a-f]+)$`)
	spaces      = regexp.MustCompile(` +`)
)

// decode reads the listing of objdump and puts symbols in the place of addresses yet unknown.
func (c *code) decode(listing string) ([]instruction, error) {
	var is []instruction
	for line := range strings.Lines(listing) {
		if m := objdumpLine.FindStringSubmatch(strings.TrimRight(line, "\n ")); m != nil {
			address, err := strconv.ParseInt(m[1], 16, 64)
			if err != nil {
				return nil, err
			}
			is = append(is, instruction{address: int(address), text: m[2]})
		}
	}
	for k := range is {
		i := &is[k]
		end := len(c.text)
		if k+1 < len(is) {
			end = is[k+1].address
		}
		for at := i.address; at < end; at++ {
			if _, ok := c.refs[at]; ok {
				name, offset := c.target(at, end)
				i.text = ripOperand.ReplaceAllString(i.text, fmt.Sprintf("%s%+d(%%rip)${1}", name, offset))
			}
		}
		i.text = spaces.ReplaceAllString(i.text, " ")
		if strings.Contains(i.text, "# 0x") {
			return nil, fmt.Errorf("%q refers to no symbol", i.text)
		}
	}
	return is, nil
}

// normalize drops the frame and names arguments and branch targets.
func normalize(is []instruction, args int) ([]string, error) {
	index := map[int]int{} // of the instruction that runs next at an address
	n := 0
	for _, i := range is {
		index[i.address] = n
		if !i.drop {
			n++
		}
	}
	list := make([]string, 0, n)
	for _, i := range is {
		if i.drop {
			continue
		}
		text := spOperand.ReplaceAllStringFunc(i.text, func(operand string) string {
			m := spOperand.FindStringSubmatch(operand)
			disp, _ := strconv.ParseInt(m[1], 0, 64)
			if int(disp) < args {
				return operand
			}
			return fmt.Sprintf("%#x(FP%s", int(disp)-args, m[2])
		})
		if m := branch.FindStringSubmatch(text); m != nil {
			target, err := strconv.ParseInt(m[2], 16, 64)
			if err != nil {
				return nil, err
			}
			to, ok := index[int(target)]
			if !ok {
				return nil, fmt.Errorf("%q jumps into or out of an instruction", i.text)
			}
			text = fmt.Sprintf("%s @%d", m[1], to)
		}
		list = append(list, text)
	}
	return list, nil
}

// gnuFrame finds the instructions that carry FrameMark in the source of the listing.
func gnuFrame(source string) func(*ir.Function, []instruction) (int, error) {
	return func(f *ir.Function, is []instruction) (int, error) {
		_, rest, ok := strings.Cut(source, "\n"+f.Name+":\n")
		body, _, end := strings.Cut(rest, "\t.cfi_endproc\n")
		if !ok || !end {
			return 0, errors.New("no such function in the printed source")
		}
		n := 0
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "\t.") || strings.HasPrefix(line, "\t/*") {
				continue
			}
			if n < len(is) {
				is[n].drop = strings.HasSuffix(line, gas.FrameMark+"\n")
			}
			n++
		}
		if n != len(is) {
			return 0, fmt.Errorf("%d printed instructions were assembled to %d", n, len(is))
		}
		return f.LocalSize, nil
	}
}

// goFrame finds what Go's assembler adds to a NOSPLIT function that has locals (cmd/internal/obj/x86, preprocess).
func goFrame(f *ir.Function, is []instruction) (int, error) {
	if f.LocalSize == 0 {
		return 8, nil // the return address
	}
	sub, add := fmt.Sprintf("sub $%#x,%%rsp", f.LocalSize), fmt.Sprintf("add $%#x,%%rsp", f.LocalSize)
	if f.LocalSize == 128 { // -128 fits in a byte
		sub, add = "add $0xffffffffffffff80,%rsp", "sub $0xffffffffffffff80,%rsp"
	}
	enter := []string{"push %rbp", "mov %rsp,%rbp", sub}
	leave := []string{add, "pop %rbp"}
	match := func(is []instruction, want []string) error {
		for k, text := range want {
			if k >= len(is) || is[k].text != text {
				return fmt.Errorf("the Go assembler did not enter and leave the frame by %q, %q", enter, leave)
			}
			is[k].drop = true
		}
		return nil
	}
	if err := match(is, enter); err != nil {
		return 0, err
	}
	for k := range is {
		if is[k].text == "ret" {
			if err := match(is[max(0, k-len(leave)):], leave); err != nil {
				return 0, err
			}
		}
	}
	return f.LocalSize + 8 + 8, nil // saved rbp and the return address
}
