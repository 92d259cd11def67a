// Package gemm compares products of float weights by our kernels, by stock's (tinyBLAS) and by BLAS libraries, which are called in two
// ways: by each of our threads for a slice of the weights, and all at once on threads of their own.
package gemm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Shape is a product of m x k weights with n tokens.
type Shape struct {
	Type    string // f32, f16 or bf16
	M, K, N int
}

func (s Shape) String() string { return fmt.Sprintf("%s,m=%d,k=%d,n=%d", s.Type, s.M, s.K, s.N) }

func (s Shape) model() string { return fmt.Sprintf("%s %d x %d", s.Type, s.M, s.K) }

func (s Shape) tokens() string { return fmt.Sprintf("%d tokens", s.N) }

// Shapes are the matrices of a layer of Llama 3.2 1B and of Llama 3.1 8B, as Q, K, gate and down have them, in each type with 32, 128 and
// 512 tokens.
func Shapes() []Shape {
	var list []Shape
	for _, kind := range []string{"f32", "f16", "bf16"} {
		for _, matrix := range [][2]int{
			{2048, 2048}, {512, 2048}, {8192, 2048}, {2048, 8192},
			{4096, 4096}, {1024, 4096}, {14336, 4096}, {4096, 14336},
		} {
			for _, n := range []int{32, 128, 512} {
				list = append(list, Shape{kind, matrix[0], matrix[1], n})
			}
		}
	}
	return list
}

// line is a line of `zt-probe gemm`: a library, or what one contestant took.
type line struct {
	Library string `json:"library"`
	Path    string `json:"path"`
	Version string `json:"version"`
	Core    string `json:"core"`

	Name string    `json:"name"`
	How  string    `json:"how"`
	NMSE float64   `json:"nmse"`
	NS   []float64 `json:"ns"`
}

func (l line) contestant() string {
	if l.Name == report.Ours || l.Name == report.Stock {
		return l.Name
	}
	return l.Name + ", " + l.How
}

// block is how many turns a call of zt-probe takes: A B C, C B A.
const block = 2

// Options says what Measure does.
type Options struct {
	Build     program.Build // with zt-probe
	Libraries []Library
	Shapes    []Shape
	Threads   int
	Rounds    int // turns of each product, in blocks of two

	Date        time.Time
	Environment report.Environment
}

// Measure takes the speeds of every shape, in passes through all of them.
func Measure(ctx context.Context, log *progress.Log, o Options) (report.Report, error) {
	r := report.Report{Version: report.Version, Date: o.Date, Environment: o.Environment, Threads: o.Threads, Rounds: o.Rounds}
	var libraries []string
	for _, l := range o.Libraries {
		libraries = append(libraries, l.Name+"="+l.Path)
	}
	taken := make([]measured, len(o.Shapes))
	err := log.Step(ctx, "gemm", func(ctx context.Context, s *progress.Step) error {
		passes := (o.Rounds + block - 1) / block
		for pass := range passes {
			for i, shape := range o.Shapes {
				s.Count(pass*len(o.Shapes)+i, passes*len(o.Shapes), shape.String())
				args := []string{"gemm", "-t", fmt.Sprint(o.Threads), "-n", fmt.Sprint(block), "--shape", shape.String()}
				if libraries != nil {
					args = append(args, "--libs", strings.Join(libraries, ","))
				}
				lines, err := program.Run[line](ctx, o.Build, "zt-probe", args...)
				if err != nil {
					return err
				}
				if err := taken[i].add(lines); err != nil {
					return fmt.Errorf("%s: %w", shape, err)
				}
			}
		}
		s.Did("%d products, %d turns each, by %d contestants", len(o.Shapes), passes*block, len(taken[0].contestants))
		return nil
	})
	if err != nil {
		return r, err
	}
	for _, l := range taken[0].libraries {
		r.Environment.Notes = append(r.Environment.Notes, fmt.Sprintf("%s: %s, kernels for %s (%s)", l.Library, l.Version, l.Core, l.Path))
	}
	r.Results = results(o.Shapes, taken)
	return r, nil
}

// measured is what was found of a shape.
type measured struct {
	libraries   []line
	contestants []string
	ns          map[string][]float64
	nmse        map[string]float64
}

// most is how far a product may be from stock's: activations rounded to BF16 are 2^-9 off, or 3e-6 in squares.
const most = 1e-5

func (m *measured) add(lines []line) error {
	first := m.ns == nil
	if first {
		m.ns, m.nmse = map[string][]float64{}, map[string]float64{}
	}
	for _, l := range lines {
		switch {
		case l.Library != "":
			if first {
				m.libraries = append(m.libraries, l)
			}
			continue
		case len(l.NS) != block:
			return fmt.Errorf("%s was timed %d times and not %d", l.contestant(), len(l.NS), block)
		case !(l.NMSE <= most):
			return fmt.Errorf("%s multiplies wrongly: its product is %g from stock's", l.contestant(), l.NMSE)
		}
		if first {
			m.contestants = append(m.contestants, l.contestant())
		}
		m.ns[l.contestant()] = append(m.ns[l.contestant()], l.NS...)
		m.nmse[l.contestant()] = max(m.nmse[l.contestant()], l.NMSE)
	}
	for _, who := range []string{report.Ours, report.Stock} {
		if m.ns[who] == nil {
			return fmt.Errorf("nothing was measured of %s; is ZT_DISABLE set, or ZT_CODE=off?", who)
		}
	}
	return nil
}

// ratios are those of the times of a over b in each turn, and of one and the same thing within a block.
func (m measured) ratios(a, b string) (ratios, same []float64) {
	for i := range m.ns[a] {
		ratios = append(ratios, m.ns[a][i]/m.ns[b][i])
		if i%block == 1 {
			same = append(same, m.ns[a][i-1]/m.ns[a][i], m.ns[b][i-1]/m.ns[b][i])
		}
	}
	return ratios, same
}

// results are the speeds of all, and their ratios to ours; the noise of a contestant is that of all its products.
func results(shapes []Shape, taken []measured) (list []report.Result) {
	groups, same := map[string][][]float64{}, map[string][]float64{}
	for _, m := range taken {
		for _, who := range m.contestants {
			r, s := m.ratios(report.Ours, who)
			groups[who], same[who] = append(groups[who], r), append(same[who], s...)
		}
	}
	for i, m := range taken {
		shape := shapes[i]
		for _, who := range m.contestants {
			base := report.Result{Part: "blas", Model: shape.model(), Case: shape.tokens(), Build: who, Verdict: report.Info}
			speed := base
			speed.Quantity, speed.Unit = report.Product, "GFLOP/s"
			for _, ns := range m.ns[who] {
				speed.Samples = append(speed.Samples, 2*float64(shape.M)*float64(shape.K)*float64(shape.N)/ns)
			}
			speed.Value = statistics.Median(speed.Samples)
			wrong := base
			wrong.Quantity, wrong.Value = report.ProductError, m.nmse[who]
			list = append(list, speed, wrong)
			if who == report.Ours {
				continue
			}
			ratio := base
			ratio.Quantity = report.SpeedOverOurs
			ratio.Samples, _ = m.ratios(report.Ours, who)
			ratio.Value = statistics.Median(ratio.Samples)
			in := statistics.PoolWith(same[who], groups[who]...).Ratio(ratio.Samples)
			ratio.Interval = &in
			list = append(list, ratio)
		}
	}
	return slices.Clip(list)
}
