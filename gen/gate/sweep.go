package gate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// How the sweep of shapes is made. Times are of each shape, in ms.
const (
	sweepShapes   = 200
	sweepTime     = 300
	sweepStock    = 50  // in stock's own program
	sweepAgain    = 600 // of a shape that looks slower, each time that it is measured anew
	sweepTries    = 8   // of that, at most
	sweepProofs   = 3   // of them that prove it
	sweepTimeout  = 15 * time.Minute
	sweepPatience = 3 * time.Minute // after which nothing is measured anew
	sweepBusy     = 0.9             // of the time of its threads, in which a process had its CPUs for itself
	sweepWorst    = 5               // shapes that are named
)

// product is a line of `zt-probe shapes`: a matrix product of one shape on weights where stock would keep them and, if they can be packed, in
// our buffer type.
type product struct {
	Shape     string    `json:"shape"` // as --shape takes it
	Type      string    `json:"type"`  // of the weights
	Packed    bool      `json:"packed"`
	StockHash string    `json:"stock_hash"` // of stock's results
	NMSE      float64   `json:"nmse"`       // of ours from stock's
	Busy      float64   `json:"busy"`       // CPU time over the time of all threads, which never sleep: below 1 where others use the CPUs
	StockNS   []float64 `json:"stock_ns"`   // beside TunedNS, pair by pair
	TunedNS   []float64 `json:"tuned_ns"`
}

// ratios is the speed of p over stock's, pair by pair.
func (p product) ratios() []float64 {
	list := make([]float64, len(p.TunedNS))
	for i := range list {
		list[i] = p.StockNS[i] / p.TunedNS[i]
	}
	return list
}

func (p product) ratio() float64 { return statistics.Median(p.ratios()) }

// sweep has the tuned build multiply matrices of random shapes on packed weights and on those of stock, in turn in one process, and
// holds what it calls stock there to the stock build.
func (v *verifier) sweep(ctx context.Context, s *progress.Step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepTimeout, fmt.Errorf("the sweep of shapes was not done within %v", sweepTimeout))
	defer cancel()
	seed := uint32(v.Date.Unix()) // other shapes in every run
	run := func(b program.Build, ms int, args ...string) ([]product, error) {
		threads := v.Threads
		if v.AccuracyOnly {
			ms, threads = 0, 1 // which do not wait for each other where others use the CPUs
		}
		args = append([]string{"shapes", "-t", strconv.Itoa(threads), "--seed", strconv.Itoa(int(seed)), "--ms", strconv.Itoa(ms)}, args...)
		lines, err := program.Run[product](ctx, b, "zt-probe", args...)
		for _, p := range lines {
			if ms > 0 && len(p.StockNS) == 0 || p.Packed && len(p.TunedNS) != len(p.StockNS) {
				return nil, fmt.Errorf("%s zt-probe shapes: %s was timed %d times, stock's %d times", b.Name, p.Shape, len(p.TunedNS), len(p.StockNS))
			}
		}
		return lines, err
	}

	s.Count(0, 3, "tuned")
	all, err := run(v.tuned, sweepTime, "-n", strconv.Itoa(sweepShapes))
	if err != nil {
		return err
	}
	s.Count(1, 3, "stock")
	own, err := run(v.stock, sweepStock, shapeArgs(all)...)
	if err != nil {
		return err
	}
	if err := v.judgeStocksSide(all, own, seed); err != nil {
		return err
	}

	byType, packed := packedOf(all), 0
	for _, shapes := range byType {
		packed += len(shapes)
	}
	what := fmt.Sprintf("seed %d", seed)
	v.judge(sweepPacked, "", "all types", Measurement{Value: float64(packed), Note: what})
	for _, name := range slices.Sorted(maps.Keys(byType)) {
		worst := slices.MaxFunc(byType[name], func(a, b product) int { return cmp.Compare(a.NMSE, b.NMSE) })
		v.judge(sweepNMSE, "", name, Measurement{Value: worst.NMSE, Note: join(worst.Shape, what)})
	}
	if v.AccuracyOnly {
		s.Did("%d shapes of %d types agree with stock to an NMSE of %s", packed, len(byType), report.Number(v.worst(sweepNMSE.Quantity)))
		return nil
	}

	slower, undecided, err := v.slower(s, all, func(shapes []product) ([]product, error) {
		return run(v.tuned, sweepAgain, shapeArgs(shapes)...)
	})
	if err != nil {
		return err
	}
	count, busy := 0, 0
	for _, name := range slices.Sorted(maps.Keys(byType)) {
		v.judgeSpeeds(name, packedOf(all)[name], slower[name])
		count += len(slower[name])
	}
	for _, p := range undecided {
		if p.Busy < sweepBusy {
			busy++
		}
	}
	note := list(undecided)
	if busy > 0 {
		note = join(fmt.Sprintf("others used the CPUs during %d", busy), note)
	}
	v.judge(sweepUndecided, "", "all types", Measurement{Value: float64(len(undecided)), Note: note})
	s.Did("%d shapes of %d types, %d of them slower than stock, %d undecided", packed, len(byType), count, len(undecided))
	return nil
}

// packedOf is the shapes on packed weights, by type.
func packedOf(all []product) map[string][]product {
	byType := map[string][]product{}
	for _, p := range all {
		if p.Packed {
			byType[p.Type] = append(byType[p.Type], p)
		}
	}
	return byType
}

// shapeArgs asks zt-probe for the shapes of lines.
func shapeArgs(lines []product) []string {
	var args []string
	for _, p := range lines {
		args = append(args, "--shape", p.Shape)
	}
	return args
}

// judgeStocksSide holds what the tuned build's process calls stock to what stock's own program does: the same bits in the same time.
func (v *verifier) judgeStocksSide(side, own []product, seed uint32) error {
	if len(side) != len(own) {
		return fmt.Errorf("zt-probe shapes: the tuned build measured %d shapes, stock %d of the same", len(side), len(own))
	}
	var differing []string
	var ratios []float64
	for i, p := range side {
		if p.Shape != own[i].Shape {
			return fmt.Errorf("zt-probe shapes: stock was asked for %s and measured %s", p.Shape, own[i].Shape)
		}
		if p.StockHash != own[i].StockHash {
			differing = append(differing, p.Shape)
		}
		// Memory may change its speed between two processes, and others may run beside one of them: what is cached does not see the one,
		// the shortest time not the other.
		if !strings.HasSuffix(p.Shape, ",cold") {
			ratios = append(ratios, slices.Min(own[i].StockNS)/slices.Min(p.StockNS))
		}
	}
	m := Measurement{Value: float64(len(differing))}
	if len(differing) > 0 {
		m.Note = fmt.Sprintf("first %s, seed %d", differing[0], seed)
	}
	v.judge(sweepStockBits, "", "stock's side", m)
	if !v.AccuracyOnly && len(ratios) > 0 {
		v.judge(sweepStockSpeed, "", "stock's side", Measurement{Value: statistics.Median(ratios), Note: fmt.Sprintf("median of %d shapes", len(ratios))})
	}
	return nil
}

// slower returns, by type, the shapes that are slower than stock. Those that look so are measured anew, each time in another process: where
// pages happen to lie is another chance then. A shape that looks faster once is not slower; one is if the whole 95 % interval of
// its median ratio says so often enough. Where threads waited for a CPU the one with more barriers looks slower, so that such a measurement
// says nothing. What is neither in the end is undecided. The last measurement of each shape that says something takes its place in all.
func (v *verifier) slower(s *progress.Step, all []product, again func([]product) ([]product, error)) (slower map[string][]product, undecided []product, err error) {
	start := time.Now()
	place := map[string]int{}
	var suspects []product
	for i, p := range all {
		place[p.Shape] = i
		if p.Packed && (p.Busy < sweepBusy || p.ratio() < 1) {
			suspects = append(suspects, p)
		}
	}
	slower = map[string][]product{}
	proofs := map[string]int{}
	for try := 0; try < sweepTries && len(suspects) > 0 && time.Since(start) < sweepPatience; try++ {
		s.Count(2, 3, fmt.Sprintf("%d that look slower, time %d", len(suspects), try+2))
		measured, err := again(suspects)
		if err != nil {
			return nil, nil, err
		}
		suspects = nil
		for _, p := range measured {
			i, asked := place[p.Shape]
			switch {
			case !asked || !p.Packed:
				return nil, nil, fmt.Errorf("zt-probe shapes: the tuned build was not asked for %s, or packs it no more", p.Shape)
			case p.Busy < sweepBusy:
				suspects = append(suspects, p)
				continue
			}
			all[i] = p
			if p.ratio() >= 1 {
				continue
			}
			if statistics.Bootstrap(p.ratios()).High < 1 {
				proofs[p.Shape]++
			}
			if proofs[p.Shape] == sweepProofs {
				slower[p.Type] = append(slower[p.Type], p)
			} else {
				suspects = append(suspects, p)
			}
		}
	}
	return slower, suspects, nil
}

// judgeSpeeds records how fast the shapes of one type are.
func (v *verifier) judgeSpeeds(name string, all, slower []product) {
	v.judge(sweepSlower, "", name, Measurement{Value: float64(len(slower)), Note: list(slower)})
	ratios := make([]float64, len(all))
	for i, p := range all {
		ratios[i] = p.ratio()
	}
	slowest := slices.MinFunc(all, func(a, b product) int { return cmp.Compare(a.ratio(), b.ratio()) })
	v.judge(sweepRatio, "", name+", slowest", Measurement{Value: slowest.ratio(), Note: slowest.Shape})
	for _, percent := range []int{10, 50, 90} {
		v.judge(sweepRatio, "", fmt.Sprintf("%s, %d %%", name, percent), Measurement{Value: statistics.Quantile(ratios, float64(percent)/100), Note: fmt.Sprintf("of %d shapes", len(all))})
	}
}

// list names the slowest of shapes, with their speed over stock's.
func list(shapes []product) string {
	var names []string
	for i, p := range slices.SortedFunc(slices.Values(shapes), func(a, b product) int { return cmp.Compare(a.ratio(), b.ratio()) }) {
		if i == sweepWorst {
			names = append(names, "...")
			break
		}
		names = append(names, fmt.Sprintf("%s %.2f", p.Shape, p.ratio()))
	}
	return strings.Join(names, "; ")
}

// worst is the largest value of a quantity so far in this part.
func (v *verifier) worst(quantity string) (largest float64) {
	for _, r := range v.results {
		if r.Quantity == quantity {
			largest = max(largest, r.Value)
		}
	}
	return largest
}
