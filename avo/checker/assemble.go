package checker

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// defaultFrame bounds the stack of an assembled function, since an object does not say how much it uses.
const defaultFrame = 4 << 10

// Assemble turns GNU assembler source into callable System V functions, by name: every symbol of type @function, exported or
// not. GNU as and ld make a position-independent image of it, which is mapped into this process until tb ends. It skips tb
// where as or ld is missing, and fails it for source that does not assemble, does not link by itself, or needs a relocation
// at load (a table of addresses, say).
func Assemble(tb testing.TB, source string) map[string]Func {
	tb.Helper()
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			tb.Skipf("no %s: install binutils", tool)
		}
	}
	dir := tb.TempDir()
	src, obj, img := filepath.Join(dir, "in.s"), filepath.Join(dir, "in.o"), filepath.Join(dir, "image")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		tb.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{
		exec.Command("as", "--64", "--fatal-warnings", "-o", obj, src),
		exec.Command("ld", "-pie", "--no-dynamic-linker", "-e", "0", "-z", "noexecstack", "-z", "text", "-o", img, obj),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v\n%s", filepath.Base(cmd.Path), err, out)
		}
	}
	funcs, mapping, err := load(img)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Munmap(mapping); err != nil {
			tb.Errorf("unmap assembled code: %v", err)
		}
	})
	return funcs
}

// load maps the segments of a linked image and returns its functions.
func load(path string) (map[string]Func, []byte, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Type == elf.SHT_RELA && s.Size > 0 {
			return nil, nil, errors.New("the assembly holds absolute addresses: make them relative to rip")
		}
	}
	var size uint64
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			size = max(size, p.Vaddr+p.Memsz)
		}
	}
	if size == 0 {
		return nil, nil, errors.New("the assembly defines nothing")
	}
	r := mapRegion(int(size))
	fail := func(err error) (map[string]Func, []byte, error) {
		return nil, nil, errors.Join(err, unix.Munmap(r.mapping))
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if _, err := io.ReadFull(p.Open(), r.bytes[p.Vaddr:][:p.Filesz]); err != nil {
			return fail(fmt.Errorf("read linked image: %w", err))
		}
		prot := 0
		for flag, bit := range map[elf.ProgFlag]int{elf.PF_R: unix.PROT_READ, elf.PF_W: unix.PROT_WRITE, elf.PF_X: unix.PROT_EXEC} {
			if p.Flags&flag != 0 {
				prot |= bit
			}
		}
		page := uint64(unix.Getpagesize())
		from, to := p.Vaddr&^(page-1), (p.Vaddr+p.Memsz+page-1)&^(page-1)
		if err := unix.Mprotect(r.bytes[from:to], prot); err != nil {
			return fail(fmt.Errorf("protect assembled code: %w", err))
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		return fail(err)
	}
	funcs := map[string]Func{}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			funcs[s.Name] = Func{Name: s.Name, Frame: defaultFrame, abi: systemV, entry: r.addr() + uintptr(s.Value)}
		}
	}
	return funcs, r.mapping, nil
}
