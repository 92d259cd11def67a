package gas

import (
	"fmt"
	"go/token"
	"go/types"

	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// System V AMD64 ABI, section 3.2.3: the registers that carry arguments, and (figure 3.4) those a callee preserves.
var (
	argumentRegisters = []reg.Index{rdi, rsi, rdx, rcx, r8, r9}
	savedRegisters    = []reg.Index{rbx, rbp, r12, r13, r14, r15}
)

const floatRegisters = 8 // xmm0 to xmm7

// frame is the stack of a function while its body runs. From rsp upward:
//
//	locals            at the addresses Go's hardware SP gives them
//	args              a shadow of Go's ABI0 frame, so that x+8(FP) is args+8(%rsp)
//	padding           keeps rsp a multiple of 16
//	saved registers   pushed on entry
//	return address
//	stack arguments   the caller's
type frame struct {
	args     int // offset of the shadow from rsp, and size of the locals
	argBytes int // size of the shadow: arguments and result
	size     int // locals, shadow and padding
	saved    []reg.Index
	params   []param
	result   *param // nil: void
}

// param is an argument or the result: where Go has it and how C passes it.
type param struct {
	operand.Mem     // its place in Go's frame
	size        int // bytes
	float       bool
}

func layout(f *ir.Function) (*frame, error) {
	if f.LocalSize%8 != 0 {
		return nil, fmt.Errorf("%d bytes of locals; Go's assembler wants a multiple of 8", f.LocalSize)
	}
	fr := &frame{args: f.LocalSize, argBytes: f.ArgumentBytes()}
	for _, id := range savedRegisters {
		if uses(f, id) {
			fr.saved = append(fr.saved, id)
		}
	}
	if fr.size = fr.args + fr.argBytes; fr.size > 0 {
		entry := 8 + 8*len(fr.saved) // bytes between a 16-byte boundary and the locals' end
		fr.size = (fr.size+entry+15)&^15 - entry
	}

	// gotypes does not say how many parameters there are.
	tv, err := types.Eval(token.NewFileSet(), nil, token.NoPos, "func"+f.Signature.String())
	if err != nil {
		return nil, fmt.Errorf("signature %s: only builtin types can be passed from C: %w", f.Signature, err)
	}
	signature := tv.Type.(*types.Signature)
	for i := range signature.Params().Len() {
		p, err := resolve(f.Signature.Params(), i)
		if err != nil {
			return nil, err
		}
		fr.params = append(fr.params, p)
	}
	switch signature.Results().Len() {
	case 0:
	case 1:
		p, err := resolve(f.Signature.Results(), 0)
		if err != nil {
			return nil, err
		}
		fr.result = &p
	default:
		return nil, fmt.Errorf("%d results; a C function returns one at most", signature.Results().Len())
	}
	return fr, nil
}

func resolve(t *gotypes.Tuple, i int) (param, error) {
	b, err := t.At(i).Resolve()
	if err != nil {
		return param{}, fmt.Errorf("argument or result %d is not a number, bool or pointer: C cannot pass it", i)
	}
	return param{b.Addr, int(gotypes.Sizes.Sizeof(b.Type)), b.Type.Info()&types.IsFloat != 0}, nil
}

// uses reports whether f mentions a general purpose register. Reading a register that a function never wrote has no
// meaning, so this is whether it writes it, without trusting Outputs, which hand-built instructions may leave out.
func uses(f *ir.Function, id reg.Index) bool {
	is := func(r reg.Register) bool {
		p := reg.ToPhysical(r)
		return p != nil && p.Kind() == reg.KindGP && p.PhysicalIndex() == id
	}
	for _, i := range f.Instructions() {
		for _, r := range append(i.Registers(), i.OutputRegisters()...) {
			if is(r) {
				return true
			}
		}
	}
	return false
}

// enter writes the prologue: save registers, make room, and lay the arguments out as Go's ABI0 does. Every instruction of
// it ends in the comment FrameMark.
func (p *printer) enter(fr *frame) {
	// Offsets are written in full: clang 19 loses count of .cfi_adjust_cfa_offset after .cfi_restore_state.
	depth := 8
	for _, id := range fr.saved {
		p.frame("pushq", gp(id, 8))
		depth += 8
		p.linef(".cfi_def_cfa_offset %d", depth)
		p.linef(".cfi_rel_offset %s, 0", gp(id, 8))
	}
	if fr.size > 0 {
		p.frame("subq", fmt.Sprintf("$%d", fr.size), "%rsp")
		depth += fr.size
		p.linef(".cfi_def_cfa_offset %d", depth)
	}
	ints, floats, stack := 0, 0, depth
	for _, a := range fr.params {
		slot := fmt.Sprintf("%d(%%rsp)", fr.args+a.Disp)
		switch {
		case a.float && floats < floatRegisters:
			p.frame(floatMove(a.size), fmt.Sprintf("%%xmm%d", floats), slot)
			floats++
		case !a.float && ints < len(argumentRegisters):
			p.frame(intMove(a.size), gp(argumentRegisters[ints], a.size), slot)
			ints++
		default: // rax carries nothing on entry
			p.frame(intMove(a.size), fmt.Sprintf("%d(%%rsp)", stack), gp(rax, a.size))
			p.frame(intMove(a.size), gp(rax, a.size), slot)
			stack += 8
		}
	}
}

// leave writes the epilogue up to the RET. last says that nothing follows that RET.
func (p *printer) leave(fr *frame, last bool) {
	if r := fr.result; r != nil {
		slot := fmt.Sprintf("%d(%%rsp)", fr.args+r.Disp)
		if r.float {
			p.frame(floatMove(r.size), slot, "%xmm0")
		} else {
			p.frame(intMove(r.size), slot, gp(rax, r.size))
		}
	}
	if fr.size == 0 && len(fr.saved) == 0 {
		return
	}
	if !last {
		p.linef(".cfi_remember_state")
	}
	if fr.size > 0 {
		p.frame("addq", fmt.Sprintf("$%d", fr.size), "%rsp")
		p.linef(".cfi_def_cfa_offset %d", 8+8*len(fr.saved))
	}
	for k := len(fr.saved) - 1; k >= 0; k-- {
		p.frame("popq", gp(fr.saved[k], 8))
		p.linef(".cfi_def_cfa_offset %d", 8+8*k)
		p.linef(".cfi_restore %s", gp(fr.saved[k], 8))
	}
}

func intMove(size int) string {
	return map[int]string{1: "movb", 2: "movw", 4: "movl", 8: "movq"}[size]
}

func floatMove(size int) string { return map[int]string{4: "vmovss", 8: "vmovsd"}[size] }
