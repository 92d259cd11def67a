package tune

import (
	"context"
	"slices"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/gemm/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/ports"
)

// Shape is that of a product of matrices: N activation rows of K by Cols weight rows of K.
type Shape struct {
	Name       string
	K, Cols, N int
}

// Shapes of a model of a billion weights.
var (
	prompt     = Shape{"prompt", 2048, 2048, 512}
	batch      = Shape{"8 sequences", 2048, 2048, 8}
	long       = Shape{"prompt, long rows", 8192, 2048, 512}
	rowChoices = []int{2, 3, 4, 5, 6}
	l2Choices  = []float64{1. / 8, 1. / 4, 1. / 2, 3. / 4, 1}
	// usual is what the runtime takes of the L2 cache (templates/ggml/src/ggml-cpu/zen5/zen5.cpp).
	usual = 1. / 2
	// l2Types are two of large weights and one of small ones, for all of which the runtime has one number.
	l2Types = []string{"Q8_0", "Q4_K", "Q6_K"}
)

func groupBytes(s *weight.Spec, rows, k int) int {
	g := activation.Group{Format: s.Act, Rows: rows}
	return k / g.Block() * g.BlockBytes()
}

// heights splits n rows into groups of up to tile as the runtime does: full ones, and the rest in one or two of nearly equal height.
func heights(n, tile int) (groups []int) {
	for ; n >= 2*tile; n -= tile {
		groups = append(groups, tile)
	}
	if n > tile {
		return append(groups, (n+1)/2, n/2)
	}
	return append(groups, n)
}

// matrix is a product of a shape, ready to be computed.
type matrix struct {
	*weight.Spec
	Shape
	*memory
	kernels []function // by rows
}

func newMatrix(m *memory, name string, shape Shape, rows []ports.Row) (*matrix, error) {
	x := &matrix{Shape: shape, memory: m, kernels: make([]function, program.Rows+1)}
	for _, r := range rows {
		if r.Op == kernel.GEMM && r.Type == name && !r.Ahead {
			x.Spec = r.Spec()
			var err error
			if x.kernels[r.Rows], err = functionOf(r.Info); err != nil {
				return nil, err
			}
		}
	}
	return x, nil
}

// run computes the product as a thread of the runtime does: chunks of panels, whose weights fill cache bytes at most, or parts of
// longer panels along k, meet all groups of rows before the next.
func (m *matrix) run(tile, cache int) {
	k := m.K / m.Block
	size := m.PanelBytes()
	count := m.Cols / weight.PanelRows
	chunk := max(1, cache/(k*size))
	part := min(k, max(1, cache/size))
	if program.WorkBytes(m.Spec, tile) > 0 {
		part = k // there is nowhere for their sums to wait
	}
	row := groupBytes(m.Spec, 1, m.K) / k // bytes of a row's block
	groups := heights(m.N, tile)
	for first := 0; first < count; first += chunk {
		for b := 0; b < k; b += part {
			start := 0
			for _, height := range groups {
				x := arguments{
					argStride: uint64(4 * m.Cols), argA: address(m.activations) + uint64((start*k+b*height)*row),
					argBlocks: uint64(min(part, k-b)), argMask: 1<<weight.PanelRows - 1, argAccumulate: uint64(min(b, 1)), argWork: address(m.work),
				}
				for p := first; p < min(count, first+chunk); p++ {
					x[argDst] = address(m.result) + uint64(4*(start*m.Cols+p*weight.PanelRows))
					x[argW] = address(m.weights) + uint64((p*k+b)*size)
					args := m.kernels[height].lay(x)
					call(m.kernels[height].entry, &args)
				}
				start += height
			}
		}
	}
}

// products returns how many 512-bit VPDPBUSD the product takes.
func (m *matrix) products() float64 { return float64(m.N) * float64(m.Cols) * float64(m.K) / 64 }

// matrices measures the choices, all of a type and shape in turns.
func (r *Result) matrices(ctx context.Context, b *bench, mem *memory, rows []ports.Row, count func(done, total int, doing string)) error {
	type sweep struct {
		Shape
		types   []string
		choices []Choice
		to      *[]Choice
	}
	var types []string
	for _, k := range r.Kernels {
		if k.Op == kernel.GEMM && !slices.Contains(types, k.Type) {
			types = append(types, k.Type)
		}
	}
	var tiles, caches []Choice
	for _, tile := range rowChoices {
		tiles = append(tiles, Choice{Tile: tile, L2: usual})
	}
	for _, l2 := range l2Choices {
		caches = append(caches, Choice{Tile: program.Rows, L2: l2})
	}
	sweeps := []sweep{
		{prompt, types, tiles, &r.Rows},
		{batch, types, tiles, &r.Rows},
		{prompt, l2Types, caches, &r.L2},
		{long, l2Types, caches, &r.L2},
	}
	total, done := 0, 0
	for _, s := range sweeps {
		total += len(s.types)
	}
	for _, s := range sweeps {
		for _, name := range s.types {
			count(done, total, name+", "+s.Name)
			done++
			m, err := newMatrix(mem, name, s.Shape, rows)
			if err != nil {
				return err
			}
			choices := append([]Choice(nil), s.choices...)
			var fs []func()
			for i := range choices {
				c := &choices[i]
				c.Shape, c.Type = s.Shape, name
				fs = append(fs, func() { m.run(c.Tile, int(c.L2*float64(r.Target.L2))) })
			}
			for range matrixRounds {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				for i, cycles := range b.turn(fs) {
					choices[i].Share = append(choices[i].Share, m.products()/ports.CPUs[r.CPU].Peak()/cycles)
				}
			}
			*s.to = append(*s.to, choices...)
		}
	}
	return nil
}
