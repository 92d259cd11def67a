package ports

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/code"
	gemm "github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	roofline "github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

var update = flag.Bool("update", false, "write "+page)

const page = "bounds.md"

var (
	functions = sync.OnceValues(func() ([]*ir.Function, error) {
		file, err := kernel.Compile(gemm.Programs())
		if err != nil {
			return nil, err
		}
		return file.Functions(), nil
	})
	kernelRows = sync.OnceValues(func() ([]Row, error) {
		fns, err := functions()
		if err != nil {
			return nil, err
		}
		return rowsIn(gemm.Programs(), fns)
	})
)

func rowsOf(t *testing.T) []Row {
	rows, err := kernelRows()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestBounds fails when a kernel's loop is not what the page says.
func TestBounds(t *testing.T) {
	coded, err := CodedRows()
	if err != nil {
		t.Fatal(err)
	}
	rows := append(slices.Clone(rowsOf(t)), coded...)
	var want bytes.Buffer
	if err := Write(&want, rows); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(page)
	if err != nil && !*update {
		t.Fatal(err)
	}
	differences := Differences(string(have), rows)
	if *update {
		for _, d := range differences {
			t.Log(d)
		}
		if err := os.WriteFile(page, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, d := range differences {
		t.Error(d)
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Errorf("%s is stale: where nothing got worse, or it had to, run go test ./gen/ports -update and commit it", page)
	}
}

// TestCoded wants kernels of coded weights to multiply no more than they have to, and to be listed both ways.
func TestCoded(t *testing.T) {
	rows, err := CodedRows()
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]int{}
	for _, r := range rows {
		c, ok := r.Coded()
		if !ok {
			t.Fatalf("%s has no code", r.Name)
		}
		lanes := 16 // products of an instruction
		if r.products().opcode == "VDPBF16PS" {
			lanes = 32
		}
		want := r.Rows * code.Rows * code.Cols / lanes
		if n := r.Count(Multiply); n != want {
			t.Errorf("%s multiplies %d times, want %d", r.Name, n, want)
		}
		name, with := strings.CutSuffix(r.Name, escaped)
		if n := r.Count(Compare); with != (n == code.Steps) || !with && n != 0 {
			t.Errorf("%s compares %d vectors with its mark", r.Name, n)
		}
		ways[name]++
		if want := 2; with && c.Plain() || with && ways[name] != want {
			t.Errorf("%s is row %d of %v", r.Name, ways[name], c)
		}
	}
}

// TestTile holds the tile of each target to the model: no type may be faster on its CPU with fewer rows than the tile has.
func TestTile(t *testing.T) {
	for name, cpu := range map[string]string{"zen5": "zen5", "bringup": "zen4"} {
		target, err := target.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		c := slices.IndexFunc(CPUs, func(c CPU) bool { return c.Name == cpu })
		best := map[string]float64{}
		for _, r := range rowsOf(t) {
			if r.Needed() > 0 && r.Rows == target.Tile.Rows && r.Cols == target.Tile.Cols && !r.Ahead {
				best[r.Type] = r.Share(c)
			}
		}
		for _, r := range rowsOf(t) {
			if r.Needed() > 0 && r.Share(c) > best[r.Type] {
				t.Errorf("%s: %s with %d rows reaches %s of the peak of %s, and with %d, which the tile has, %s",
					name, r.Type, r.Rows, percent(r.Share(c)), cpu, target.Tile.Rows, percent(best[r.Type]))
			}
		}
	}
}

// TestExtraInstruction puts one instruction more into the loop of each kernel, which the comparison must tell.
func TestExtraInstruction(t *testing.T) {
	rows := rowsOf(t)
	var have strings.Builder
	if err := Write(&have, rows); err != nil {
		t.Fatal(err)
	}
	z := reg.Z0
	product := &ir.Instruction{Opcode: "VPDPBUSD", Operands: []operand.Op{z, z, z}, Inputs: []operand.Op{z, z, z}, Outputs: []operand.Op{z}}
	fns, err := functions()
	if err != nil {
		t.Fatal(err)
	}
	for i, fn := range fns {
		last := 0
		for n, node := range fn.Nodes {
			if i, ok := node.(*ir.Instruction); ok && i.Opcode == "DECQ" {
				last = n
			}
		}
		longer := *fn
		longer.Nodes = slices.Insert(slices.Clone(fn.Nodes), last, ir.Node(product))
		row, err := rowOf(rows[i].Info, &longer)
		if err != nil {
			t.Fatal(err)
		}
		differences := slices.DeleteFunc(Differences(have.String(), []Row{row}), func(d string) bool { return strings.HasSuffix(d, " is gone") })
		more, worse := false, false
		for _, d := range differences {
			more = more || strings.Contains(d, "instructions a block")
			worse = worse || strings.Contains(d, "got worse")
		}
		if !more {
			t.Errorf("%s: an instruction more goes unnoticed: %v", fn.Name, differences)
		}
		if row.Op == kernel.GEMM && row.Rows > 1 && !worse {
			t.Errorf("%s: its bound is the same with a VPDPBUSD more: %v", fn.Name, differences)
		}
	}
}

// TestRoofline bounds the kernels that measure a machine's peaks: they must reach what the tables say that it is.
func TestRoofline(t *testing.T) {
	var programs []kernel.Program
	for _, p := range roofline.Programs() {
		if p.Name == "zt_read_512" || p.Name == "zt_peak_vpdpbusd_512" {
			programs = append(programs, p)
		}
	}
	rows, err := Rows(programs)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range CPUs {
		if want := roofline.PeakChains / c.Peak(); rows[1].Bounds[i].Cycles != want {
			t.Errorf("%s: %d VPDPBUSD take %v, want %v", c.Name, roofline.PeakChains, rows[1].Bounds[i], want)
		}
		if want := float64(roofline.ReadChunk / 64 * 512 / c.Load / 2); rows[0].Bounds[i].Cycles != want || rows[0].Bounds[i].Limit != "load" {
			t.Errorf("%s: reading %d bytes takes %v, want %v cycles", c.Name, roofline.ReadChunk, rows[0].Bounds[i], want)
		}
	}
}

// TestTables asks every CPU for the ports of every opcode.
func TestTables(t *testing.T) {
	for _, c := range CPUs {
		for opcode, class := range classes {
			if class == Prefetch {
				continue // its load is all there is to it
			}
			for _, f := range []form{{opcode: opcode, class: class}, {opcode: opcode, class: class, load: 512, store: 512}} {
				if _, err := c.operations(f); err != nil {
					t.Error(err)
				}
			}
		}
		for opcode := range c.opcodes {
			if _, ok := classes[opcode]; !ok {
				t.Errorf("%s has ports for %s, which no class has", c.Name, opcode)
			}
		}
	}
}

// TestLeast shares operations out among ports: within the bound they must fit, and in less they must not.
func TestLeast(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(1, seed))
		demands := map[set]int{}
		for range 1 + r.IntN(6) {
			demands[set(1+r.IntN(63))] += 1 + r.IntN(20)
		}
		bound, busy := least(demands)
		if busy == 0 || math.IsNaN(bound) {
			t.Fatalf("seed %d: %v: %v cycles, busy %b", seed, demands, bound, busy)
		}
		// Cycles are multiples of 1/60 since a set has at most six ports: count in those.
		const unit = 60
		cycles := int(math.Round(bound * unit))
		if !fits(demands, unit, cycles) {
			t.Errorf("seed %d: %v do not fit into %v cycles", seed, demands, bound)
		}
		if fits(demands, unit, cycles-1) {
			t.Errorf("seed %d: %v fit into less than %v cycles", seed, demands, bound)
		}
	}
}

// fits reports whether demands times unit go into ports that have so many cycles each: by augmenting paths.
func fits(demands map[set]int, unit, cycles int) bool {
	var free [6]int
	for p := range free {
		free[p] = cycles
	}
	sets := []set{}
	on := map[set]*[6]int{}
	for s := range demands {
		sets = append(sets, s)
		on[s] = new([6]int)
	}
	slices.Sort(sets)
	// place finds room for one unit of s, moving others if it must.
	var place func(s set, seen *set) bool
	place = func(s set, seen *set) bool {
		for p := range free {
			if s>>p&1 == 0 || *seen>>p&1 != 0 {
				continue
			}
			*seen |= 1 << p
			if free[p] > 0 {
				free[p]--
				on[s][p]++
				return true
			}
			for _, other := range sets {
				if on[other][p] > 0 && place(other, seen) {
					on[other][p]--
					on[s][p]++
					return true
				}
			}
		}
		return false
	}
	for _, s := range sets {
		for range demands[s] * unit {
			var seen set
			if !place(s, &seen) {
				return false
			}
		}
	}
	return true
}

// compiled returns the function that emit writes, of one argument n.
func compiled(t *testing.T, emit func(c *build.Context, n reg.GPVirtual)) *ir.Function {
	t.Helper()
	file, err := kernel.Compile([]kernel.Program{{
		Info: kernel.Info{Name: "f", Args: []kernel.Arg{{Name: "n", Go: "int64"}}},
		Emit: func(c *build.Context) {
			emit(c, c.Load(c.Param("n"), c.GP64()).(reg.GPVirtual))
			c.RET()
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return file.Functions()[0]
}

func TestNestedLoops(t *testing.T) {
	l, err := LoopOf(compiled(t, func(c *build.Context, n reg.GPVirtual) {
		z := c.ZMM()
		count, inner := c.GP64(), c.GP64()
		c.MOVQ(operand.U32(9), count)
		c.Label("before") // the caller of this one has no say: it is not the kernel's loop
		c.VPSRLD(operand.U8(1), z, z)
		c.DECQ(count)
		c.JNZ(operand.LabelRef("before"))
		c.Label("block")
		c.MOVQ(operand.U32(4), count)
		c.Label("sub")
		c.VPADDD(z, z, z)
		c.MOVQ(operand.U32(5), inner)
		c.Label("third")
		c.VPERMB(z, z, z)
		c.DECQ(inner)
		c.JNZ(operand.LabelRef("third"))
		c.DECQ(count)
		c.JNZ(operand.LabelRef("sub"))
		c.VPXORD(z, z, z)
		c.XORQ(count, count)
		c.Label("up")
		c.VPSLLD(operand.U8(1), z, z)
		c.ADDQ(operand.U8(32), count)
		c.CMPQ(count, operand.U32(96))
		c.JNE(operand.LabelRef("up"))
		c.DECQ(n)
		c.JNZ(operand.LabelRef("block"))
	}))
	if err != nil {
		t.Fatal(err)
	}
	for class, want := range map[Class]int{Logic: 4, Shuffle: 20, Shift: 3, Branch: 1 + 4 + 20 + 3, Scalar: 1 + 1 + 4 + 4 + 20 + 6, None: 2} {
		if got := l.Count(class); got != want {
			t.Errorf("%d of class %v, want %d", got, class, want)
		}
	}
}

// TestRefused has loops whose instructions cannot be counted.
func TestRefused(t *testing.T) {
	jump := operand.LabelRef("loop")
	for want, emit := range map[string]func(c *build.Context, n reg.GPVirtual){
		"opcode VPAVGB is not in the tables": func(c *build.Context, n reg.GPVirtual) {
			c.Label("loop")
			c.VPAVGB(c.ZMM(), c.ZMM(), c.ZMM())
			c.DECQ(n)
			c.JNZ(jump)
		},
		"0 loops of a variable number": func(c *build.Context, n reg.GPVirtual) { c.DECQ(n) },
		"2 loops of a variable number": func(c *build.Context, n reg.GPVirtual) {
			m := c.Load(c.Param("n"), c.GP64())
			c.Label("loop")
			c.DECQ(n)
			c.JNZ(jump)
			c.Label("other")
			c.DECQ(m)
			c.JNZ(operand.LabelRef("other"))
		},
		"a round is not always the same": func(c *build.Context, n reg.GPVirtual) {
			c.Label("loop")
			c.TESTQ(n, n)
			c.JZ(operand.LabelRef("skip"))
			c.ADDQ(operand.U8(2), n)
			c.Label("skip")
			c.DECQ(n)
			c.JNZ(jump)
		},
		"ends with SUBQ and JNZ": func(c *build.Context, n reg.GPVirtual) {
			c.Label("loop")
			c.SUBQ(operand.U8(2), n)
			c.JNZ(jump)
		},
		"goes from 0 to 10 in steps of 4": func(c *build.Context, n reg.GPVirtual) {
			c.XORQ(n, n)
			c.Label("loop")
			c.ADDQ(operand.U8(4), n)
			c.CMPQ(n, operand.U8(10))
			c.JNE(jump)
		},
		"does not grow by a constant": func(c *build.Context, n reg.GPVirtual) {
			m := c.GP64()
			c.XORQ(m, m)
			c.Label("loop")
			c.ADDQ(n, m)
			c.CMPQ(m, operand.U8(10))
			c.JNE(jump)
		},
		"is written in it": func(c *build.Context, n reg.GPVirtual) {
			c.Label("loop")
			c.ADDQ(operand.U8(2), n)
			c.DECQ(n)
			c.JNZ(jump)
		},
		"comes from SHRQ": func(c *build.Context, n reg.GPVirtual) {
			c.SHRQ(operand.U8(2), n)
			c.Label("loop")
			c.DECQ(n)
			c.JNZ(jump)
		},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := LoopOf(compiled(t, emit)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "f: ") {
				t.Errorf("%v, want an error of f that says %q", err, want)
			}
		})
	}
}

// TestDispatch has more instructions than enter the core in the cycles that ports take.
func TestDispatch(t *testing.T) {
	l, err := LoopOf(compiled(t, func(c *build.Context, n reg.GPVirtual) {
		z := c.ZMM()
		c.Label("loop")
		for range 47 {
			c.VPXORD(z, z, z)
		}
		c.DECQ(n)
		c.JNZ(operand.LabelRef("loop")) // fused with DECQ
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range CPUs {
		want := Bound{48 / float64(c.Dispatch), "dispatch"}
		if got, err := c.Bound(l); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", c.Name, got, err, want)
		}
	}
}

func ExampleCPU_Bound() {
	// Six multiplications that two pipes do, three of anything else: nine for four pipes, but six for two.
	cycles, busy := least(map[set]int{setOf("01"): 6, setOf("0123"): 3})
	fmt.Println(cycles, CPUs[0].describe(busy))
	// Output: 3 FP01
}
