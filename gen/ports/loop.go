package ports

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Loop is one round of the loop of a kernel whose number of rounds its caller gives: that over blocks.
type Loop struct {
	Kernel string
	Steps  []Step
}

// Step is an instruction of a round.
type Step struct {
	form
	fused bool // with the instruction before it
	Times int  // that a round does it
}

// Instructions returns how many instructions a round takes.
func (l Loop) Instructions() (n int) {
	for _, s := range l.Steps {
		n += s.Times
	}
	return n
}

// Count returns how many instructions of a class a round takes. Loads and stores count with the instruction that they are part of, and by
// themselves.
func (l Loop) Count(c Class) (n int) {
	for _, s := range l.Steps {
		if s.class == c || c == VectorLoad && s.load > 0 && !s.scalar || c == ScalarLoad && s.load > 0 && s.scalar || c == Store && s.store > 0 {
			n += s.Times
		}
	}
	return n
}

// span is the nodes of a loop: from its label to its jump.
type span struct{ first, last int }

func (s span) holds(node int) bool { return s.first <= node && node <= s.last }

// LoopOf returns the loop of a compiled function. Loops inside of it must count down from a constant. It is an error if there is not
// exactly one loop of a variable number of rounds that is in no other, if a round does not always take the same way, and if it has
// an instruction that is not in the tables.
func LoopOf(fn *ir.Function) (Loop, error) {
	l, err := loopOf(fn)
	if err != nil {
		return l, fmt.Errorf("%s: %w", fn.Name, err)
	}
	return l, nil
}

func loopOf(fn *ir.Function) (Loop, error) {
	spans, err := loopsOf(fn)
	if err != nil {
		return Loop{}, err
	}
	var main []span
	rounds := map[span]int{}
	for _, s := range spans {
		n, err := roundsOf(fn, spans, s)
		if err != nil {
			return Loop{}, err
		}
		if rounds[s] = n; n == 0 {
			main = append(main, s)
		}
	}
	if len(main) != 1 {
		return Loop{}, fmt.Errorf("%d loops of a variable number of rounds, and not one", len(main))
	}
	around := main[0]
	l := Loop{Kernel: fn.Name}
	for n := around.first; n <= around.last; n++ {
		i, ok := fn.Nodes[n].(*ir.Instruction)
		if !ok {
			continue
		}
		f, err := formOf(i)
		if err != nil {
			return Loop{}, err
		}
		times := 1
		for s, n2 := range rounds {
			if s != around && s.holds(n) {
				if !around.holds(s.first) {
					return Loop{}, errors.New("its loop over blocks is inside another")
				}
				times *= n2
			}
		}
		fused := i.IsConditional && l.Steps[len(l.Steps)-1].class == Scalar
		l.Steps = append(l.Steps, Step{f, fused, times})
	}
	return l, nil
}

// loopsOf finds the loops of a function by their jumps back.
func loopsOf(fn *ir.Function) ([]span, error) {
	at := map[ir.Label]int{}
	for n, node := range fn.Nodes {
		if label, ok := node.(ir.Label); ok {
			at[label] = n
		}
	}
	var spans []span
	type jump struct{ from, to int }
	var forward []jump
	for n, node := range fn.Nodes {
		i, ok := node.(*ir.Instruction)
		if !ok || !i.IsBranch {
			continue
		}
		label := i.TargetLabel()
		if label == nil {
			return nil, fmt.Errorf("%s has no label to jump to", i.Opcode)
		}
		if to := at[*label]; to < n {
			spans = append(spans, span{to, n})
		} else {
			forward = append(forward, jump{n, to})
		}
	}
	for i, a := range spans {
		for _, b := range spans[:i] {
			if a.first == b.first || a.holds(b.first) != a.holds(b.last) || b.holds(a.first) != b.holds(a.last) {
				return nil, errors.New("its loops overlap")
			}
		}
		for _, j := range forward {
			if a.holds(j.from) || a.holds(j.to) && j.to != a.first {
				return nil, errors.New("a jump in its loop leaves some of it out, so that a round is not always the same")
			}
		}
	}
	return spans, nil
}

// roundsOf returns how many rounds a loop makes: a constant, or 0 if the function's caller gives it.
func roundsOf(fn *ir.Function, spans []span, s span) (int, error) {
	jump := fn.Nodes[s.last].(*ir.Instruction)
	test, ok := fn.Nodes[s.last-1].(*ir.Instruction)
	if !ok || jump.Opcode != "JNZ" && jump.Opcode != "JNE" {
		return 0, errors.New("a loop does not end with JNZ, so that its rounds are not known")
	}
	// From which number the counter goes where, and in which steps.
	to, step := 0, -1
	counter, ok := test.Operands[0].(reg.Register)
	if !ok || !slices.Contains([]string{"DECQ", "DECL", "CMPQ"}, test.Opcode) {
		return 0, fmt.Errorf("a loop ends with %s and %s, so that its rounds are not known", test.Opcode, jump.Opcode)
	}
	writes := func(n int) *ir.Instruction {
		i, ok := fn.Nodes[n].(*ir.Instruction)
		if !ok {
			return nil
		}
		for _, r := range i.OutputRegisters() {
			if r.ID() == counter.ID() {
				return i
			}
		}
		return nil
	}
	end := s.last - 1
	if test.Opcode == "CMPQ" {
		if to, ok = constant(test.Operands[1]); !ok {
			return 0, errors.New("a loop ends at a number in a register, so that its rounds are not known")
		}
		for end--; end > s.first && writes(end) == nil; end-- {
		}
		add, ok := fn.Nodes[end].(*ir.Instruction)
		if ok && add.Opcode == "ADDQ" {
			step, ok = constant(add.Operands[0])
		} else {
			ok = false
		}
		if !ok {
			return 0, errors.New("the counter of a loop does not grow by a constant, so that its rounds are not known")
		}
	}
	for n := s.first; n < end; n++ {
		if i := writes(n); i != nil {
			return 0, fmt.Errorf("the counter of a loop is written in it, by %s", i.Opcode)
		}
	}
	start := 0 // of the loop around it, which has to set the counter anew
	for _, o := range spans {
		if o != s && o.holds(s.first) {
			start = max(start, o.first)
		}
	}
	for n := s.first; n >= start; n-- {
		i := writes(n)
		if i == nil {
			continue
		}
		from, ok := constant(i.Operands[0])
		zeroed := slices.Contains(idioms, i.Opcode) && i.Operands[0] == i.Operands[1]
		m, memory := i.Operands[0].(operand.Mem)
		switch move := i.Opcode == "MOVQ" || i.Opcode == "MOVL"; {
		case zeroed || move && ok:
			if rounds := (to - from) / step; rounds > 0 && rounds*step == to-from {
				return rounds, nil
			}
			return 0, fmt.Errorf("the counter of a loop goes from %d to %d in steps of %d", from, to, step)
		case move && memory && m.Symbol != (operand.Symbol{}) && step < 0: // an argument has a name
			return 0, nil
		}
		return 0, fmt.Errorf("the counter of a loop comes from %s, so that its rounds are not known", i.Opcode)
	}
	return 0, errors.New("the counter of a loop is not set before it")
}

// constant returns the number that an operand is.
func constant(o operand.Op) (int, bool) {
	switch n := o.(type) {
	case operand.U8:
		return int(n), true
	case operand.U32:
		return int(n), true
	case operand.U64:
		return int(n), true
	case operand.I8:
		return int(n), true
	case operand.I32:
		return int(n), true
	}
	return 0, false
}
