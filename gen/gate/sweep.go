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
	sweepAgain    = 600              // of a shape that looks slower, each time that it is measured anew
	sweepTries    = 8                // of that, at most
	sweepProofs   = 3                // of them that prove it
	sweepGroup    = 10               // shapes that one process times
	sweepStock    = 40               // shapes that stock's own program times
	sweepBusy     = 0.9              // of the time of its threads, in which a process had its CPUs for itself
	sweepNamed    = 5                // slowest shapes that are named
	sweepPatience = 6 * time.Minute  // of timing; what has no time by then is undecided
	sweepTimeout  = 20 * time.Minute // of all
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

func byRatio(a, b product) int { return cmp.Compare(a.ratio(), b.ratio()) }

// sweep has the tuned build multiply matrices of random shapes on packed weights and on those of stock, in one process. It compares the
// results, holds what it calls stock there to the stock build and, unless accuracy alone is asked for, times the two in turn.
func (v *verifier) sweep(ctx context.Context, s *progress.Step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepTimeout, fmt.Errorf("the sweep of shapes was not done within %v", sweepTimeout))
	defer cancel()
	seed := uint32(v.Date.Unix()) // other shapes in every run
	what := fmt.Sprintf("seed %d", seed)
	run := func(b program.Build, threads, ms int, args ...string) ([]product, error) {
		args = append([]string{"shapes", "-t", strconv.Itoa(threads), "--seed", strconv.Itoa(int(seed)), "--ms", strconv.Itoa(ms)}, args...)
		return program.Run[product](ctx, b, "zt-probe", args...)
	}

	// One thread waits for no other on a busy machine, and zt-selftest has seen to it that their number does not matter.
	s.Count(0, 4, "results")
	all, err := run(v.tuned, 1, 0, "-n", strconv.Itoa(sweepShapes))
	if err != nil {
		return err
	}
	s.Count(1, 4, "results of the stock build")
	own, err := run(v.stock, 1, 0, shapeArgs(all)...)
	if err != nil {
		return err
	}
	if err := v.judgeStocksBits(all, own, what); err != nil {
		return err
	}
	packed := slices.DeleteFunc(all, func(p product) bool { return !p.Packed })
	v.judge(sweepPacked, "", "all types", Measurement{Value: float64(len(packed)), Note: what})
	largest := 0.0
	types := sorted(packed)
	for _, name := range slices.Sorted(maps.Keys(types)) {
		worst := slices.MaxFunc(types[name], func(a, b product) int { return cmp.Compare(a.NMSE, b.NMSE) })
		v.judge(sweepNMSE, "", name, Measurement{Value: worst.NMSE, Note: join(worst.Shape, what)})
		largest = max(largest, worst.NMSE)
	}
	if v.AccuracyOnly {
		s.Did("%d shapes of %d types agree with stock to an NMSE of %s", len(packed), len(types), report.Number(largest))
		return nil
	}

	end := time.Now().Add(sweepPatience)
	times, err := v.times(s, packed, end, func(ms int, shapes []product) ([]product, error) {
		lines, err := run(v.tuned, v.Threads, ms, shapeArgs(shapes)...)
		if err != nil {
			return nil, err
		}
		return lines, timed(shapes, lines)
	})
	if err != nil {
		return err
	}
	s.Count(3, 4, "times of the stock build")
	if err := v.judgeStocksSpeed(times, func(shapes []product) ([]product, error) {
		return run(v.stock, v.Threads, sweepTime, shapeArgs(shapes)...)
	}); err != nil {
		return err
	}
	count := 0
	slower, known := sorted(times.slower), sorted(times.known)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		v.judgeSpeeds(name, known[name], slower[name])
		count += len(slower[name])
	}
	v.judge(sweepUndecided, "", "all types", Measurement{Value: float64(len(times.undecided)), Note: times.why()})
	s.Did("%d shapes of %d types, %d of them slower than stock, %d undecided", len(packed), len(types), count, len(times.undecided))
	return nil
}

// sorted sorts shapes by the type of their weights.
func sorted(all []product) map[string][]product {
	types := map[string][]product{}
	for _, p := range all {
		types[p.Type] = append(types[p.Type], p)
	}
	return types
}

// shapeArgs asks zt-probe for the shapes of lines.
func shapeArgs(lines []product) []string {
	var args []string
	for _, p := range lines {
		args = append(args, "--shape", p.Shape)
	}
	return args
}

// timed says what is wrong with lines, which are to be the times of shapes.
func timed(shapes, lines []product) error {
	if len(shapes) != len(lines) {
		return fmt.Errorf("zt-probe shapes timed %d shapes of %d", len(lines), len(shapes))
	}
	for i, p := range lines {
		if p.Shape != shapes[i].Shape || len(p.StockNS) == 0 || len(p.TunedNS) != len(p.StockNS) {
			return fmt.Errorf("zt-probe shapes was asked for %s and timed %s %d times, stock's %d times", shapes[i].Shape, p.Shape, len(p.TunedNS), len(p.StockNS))
		}
	}
	return nil
}

// judgeStocksBits holds what the tuned build's process calls stock to what stock's own program computes.
func (v *verifier) judgeStocksBits(side, own []product, what string) error {
	if len(side) != len(own) {
		return fmt.Errorf("zt-probe shapes: the tuned build computed %d shapes, stock %d of the same", len(side), len(own))
	}
	m := Measurement{}
	for i, p := range side {
		if p.Shape != own[i].Shape {
			return fmt.Errorf("zt-probe shapes: stock was asked for %s and computed %s", p.Shape, own[i].Shape)
		}
		if p.StockHash != own[i].StockHash {
			if m.Value++; m.Note == "" {
				m.Note = fmt.Sprintf("first %s, %s", p.Shape, what)
			}
		}
	}
	v.judge(sweepStockBits, "", "stock's side", m)
	return nil
}

// judgeStocksSpeed holds the times of what the tuned build's process calls stock to those of stock's own program. Memory may change its
// speed between two processes, and others may run beside one of them: what is cached does not see the one, the shortest time not the other.
func (v *verifier) judgeStocksSpeed(t times, run func([]product) ([]product, error)) error {
	some := slices.DeleteFunc(slices.Clone(t.known), func(p product) bool { return strings.HasSuffix(p.Shape, ",cold") })
	some = some[:min(len(some), sweepStock)]
	if len(some) == 0 {
		return nil
	}
	own, err := run(some)
	if err != nil {
		return err
	}
	var ratios []float64
	for i, p := range own {
		if len(own) != len(some) || p.Shape != some[i].Shape || len(p.StockNS) == 0 {
			return fmt.Errorf("zt-probe shapes: stock did not time %s", some[min(i, len(some)-1)].Shape)
		}
		if p.Busy >= sweepBusy {
			ratios = append(ratios, slices.Min(p.StockNS)/slices.Min(some[i].StockNS))
		}
	}
	if len(ratios) == 0 {
		v.note("stock's side of the sweep of shapes was not held to the stock build's speed: others used the CPUs")
		return nil
	}
	v.judge(sweepStockSpeed, "", "stock's side", Measurement{Value: statistics.Median(ratios), Note: fmt.Sprintf("median of %d shapes", len(ratios))})
	return nil
}

// times is what timing shapes told.
type times struct {
	known     []product // with times that count, the last of each shape
	slower    []product // of them
	undecided []product
}

// times times shapes until end, with run, which is given the time for each in ms. A shape that looks slower is measured anew, each time
// in another process: where pages happen to lie is another chance then. One that looks faster once is not slower; one is if the whole
// 95 % interval of its median ratio says so often enough. Where threads waited for a CPU the build with more barriers looks slower, so
// that such times say nothing.
func (v *verifier) times(s *progress.Step, shapes []product, end time.Time, run func(ms int, shapes []product) ([]product, error)) (t times, err error) {
	known := map[string]product{}
	proofs := map[string]int{}
	suspects, ms := shapes, sweepTime
	for try := 0; try <= sweepTries && len(suspects) > 0; try, ms = try+1, sweepAgain {
		var left []product
		for group := range slices.Chunk(suspects, sweepGroup) {
			if time.Now().After(end) {
				left = append(left, group...)
				continue
			}
			s.Count(2, 4, fmt.Sprintf("times, %d shapes", len(suspects)))
			measured, err := run(ms, group)
			if err != nil {
				return t, err
			}
			for _, p := range measured {
				switch {
				case p.Busy < sweepBusy:
					left = append(left, p)
					continue
				case p.ratio() < 1 && try == 0:
					left = append(left, p)
				case p.ratio() < 1:
					if statistics.Bootstrap(p.ratios()).High < 1 {
						proofs[p.Shape]++
					}
					if proofs[p.Shape] == sweepProofs {
						t.slower = append(t.slower, p)
					} else {
						left = append(left, p)
					}
				}
				known[p.Shape] = p
			}
		}
		suspects = left
	}
	t.undecided = suspects
	for _, p := range shapes {
		if k, ok := known[p.Shape]; ok {
			t.known = append(t.known, k)
		}
	}
	return t, nil
}

// why says why shapes are undecided.
func (t times) why() string {
	var noisy []product
	for _, p := range t.undecided {
		if len(p.TunedNS) > 0 && p.Busy >= sweepBusy {
			noisy = append(noisy, p)
		}
	}
	busy := ""
	if n := len(t.undecided) - len(noisy); n > 0 {
		busy = fmt.Sprintf("others used the CPUs during %d", n)
	}
	return join(busy, list(noisy))
}

// judgeSpeeds records how fast the shapes of one type are.
func (v *verifier) judgeSpeeds(name string, all, slower []product) {
	v.judge(sweepSlower, "", name, Measurement{Value: float64(len(slower)), Note: list(slower)})
	ratios := make([]float64, len(all))
	for i, p := range all {
		ratios[i] = p.ratio()
	}
	slowest := slices.MinFunc(all, byRatio)
	v.judge(sweepRatio, "", name+", slowest", Measurement{Value: slowest.ratio(), Note: slowest.Shape})
	for _, percent := range []int{10, 50, 90} {
		v.judge(sweepRatio, "", fmt.Sprintf("%s, %d %%", name, percent), Measurement{Value: statistics.Quantile(ratios, float64(percent)/100), Note: fmt.Sprintf("of %d shapes", len(all))})
	}
}

// list names the slowest of shapes, with their speed over stock's.
func list(shapes []product) string {
	var names []string
	for i, p := range slices.SortedFunc(slices.Values(shapes), byRatio) {
		if i == sweepNamed {
			names = append(names, "...")
			break
		}
		names = append(names, fmt.Sprintf("%s %.2f", p.Shape, p.ratio()))
	}
	return strings.Join(names, "; ")
}
