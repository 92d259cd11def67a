package gate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// pair is one measurement of both builds, taken one after the other.
type pair struct{ stock, tuned float64 }

// pairs splits a list of pairs into the builds' samples and their ratios, tuned over stock.
func pairs(list []pair) (stock, tuned, ratios []float64) {
	for _, p := range list {
		stock, tuned, ratios = append(stock, p.stock), append(tuned, p.tuned), append(ratios, p.tuned/p.stock)
	}
	return stock, tuned, ratios
}

// timed records what g says of a time or speed taken on this host.
func (v *verifier) timed(g Gate, model, what string, m Measurement) {
	m.Ungated = g.ungated(v.vendor)
	v.judge(g, model, what, m)
}

// both runs a program of both builds, stock first, and hands over their output.
func both[T any](ctx context.Context, v *verifier, name string, args []string) (stock, tuned []T, err error) {
	if stock, err = program.Run[T](ctx, v.stock, name, args...); err != nil {
		return nil, nil, err
	}
	tuned, err = program.Run[T](ctx, v.tuned, name, args...)
	return stock, tuned, err
}

// load compares how long the model takes to load and the memory it holds after a first token, in the mode that llama.cpp
// chooses and without mmap, both against stock without mmap: with it, stock has read nothing yet when it says it is loaded.
func (v *verifier) load(ctx context.Context, s *progress.Step, m Model) error {
	modes := []string{"auto", "none"}
	times, memory := map[string][]pair{}, map[string][]pair{}
	one := func(b program.Build, mode string) (ms, bytes float64, err error) {
		lines, err := program.Run[loadLine](ctx, b, "zt-probe", "load", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-lm", mode)
		if err != nil {
			return 0, 0, err
		}
		for _, l := range lines {
			switch l.When {
			case "load":
				ms = l.MS
			case "decode":
				bytes = l.RSS + l.HugeTLB
			}
		}
		if ms == 0 || bytes == 0 {
			return 0, 0, fmt.Errorf("zt-probe load of the %s build reported no time or memory", b.Name)
		}
		return ms, bytes, nil
	}
	// The first load brings the file into the page cache and is not counted.
	s.Count(0, v.Rounds+1, m.Name+" warming the page cache")
	if _, _, err := one(v.stock, "none"); err != nil {
		return err
	}
	for round := range v.Rounds {
		s.Count(round+1, v.Rounds+1, m.Name)
		for _, mode := range modes {
			stockMS, stockBytes, err := one(v.stock, "none")
			if err != nil {
				return err
			}
			tunedMS, tunedBytes, err := one(v.tuned, mode)
			if err != nil {
				return err
			}
			times[mode] = append(times[mode], pair{stockMS, tunedMS})
			memory[mode] = append(memory[mode], pair{stockBytes / (1 << 20), tunedBytes / (1 << 20)})
		}
	}
	for _, mode := range modes {
		what := "load mode " + mode
		stock, tuned, ratios := pairs(times[mode])
		v.timed(loadMillis, m.Name, what, Measurement{Samples: stock, Build: "stock", Note: "load mode none"})
		v.timed(loadMillis, m.Name, what, Measurement{Samples: tuned, Build: "tuned"})
		v.timed(loadTime, m.Name, what, Measurement{Samples: ratios})
		s.Say("%s, load mode %s: %.0f ms, stock %.0f ms", m.Name, mode, statistics.Median(tuned), statistics.Median(stock))
		stock, tuned, ratios = pairs(memory[mode])
		v.judge(residentMiB, m.Name, what, Measurement{Samples: stock, Build: "stock", Note: "load mode none"})
		v.judge(residentMiB, m.Name, what, Measurement{Samples: tuned, Build: "tuned"})
		v.judge(resident, m.Name, what, Measurement{Samples: ratios})
	}
	s.Did("%s: loaded %d times by each build", m.Name, len(modes)*v.Rounds)
	return nil
}

// Sizes of the speed runs.
var (
	prompts   = []int{128, 512}
	sequences = []int{2, 4, 8}
)

const (
	repetitions = 3  // of a llama-bench test in one round
	generated   = 32 // tokens of a decode test
)

// speed runs the builds in turn, A B A B, and reports the ratio of each pair.
func (v *verifier) speed(ctx context.Context, s *progress.Step, m Model) error {
	shape, err := ReadShape(m.Path)
	if err != nil {
		return err
	}
	threads, n := strconv.Itoa(v.Threads), strconv.Itoa(generated)
	bench := map[string][]pair{}
	batched := map[int][]pair{}
	var decode, readRates []pair // percent of the read loop; GB/s of it
	var huge []float64           // percent for stock with huge pages

	for round := range v.Rounds {
		step := func(i int, doing string) {
			s.Count(4*round+i, 4*v.Rounds, fmt.Sprintf("%s round %d %s", m.Name, round+1, doing))
		}

		step(0, "prefill")
		for _, args := range [][]string{{"-p", ints(prompts), "-n", "0"}, {"-p", "0", "-n", n}} {
			args = append([]string{"-m", m.Path, "-t", threads, "-r", strconv.Itoa(repetitions), "-o", "jsonl"}, args...)
			stock, tuned, err := both[benchLine](ctx, v, "llama-bench", args)
			if err != nil {
				return err
			}
			if err := matchBench(bench, stock, tuned); err != nil {
				return err
			}
			step(1, "decode")
		}

		step(2, "parallel sequences")
		cells := sequences[len(sequences)-1] * (16 + generated)
		a, b, err := both[batchedLine](ctx, v, "llama-batched-bench", []string{"-m", m.Path, "-t", threads, "-npp", "16", "-ntg", n,
			"-npl", ints(sequences), "-c", strconv.Itoa(cells), "--output-format", "jsonl"})
		if err != nil {
			return err
		}
		if err := matchBatched(batched, a, b); err != nil {
			return err
		}

		step(3, "decode beside the read loop")
		stock, tuned, err := both[speedLine](ctx, v, "zt-probe", []string{"speed", "-m", m.Path, "-t", threads, "-n", n})
		if err != nil {
			return err
		}
		sa, err := summarize(stock)
		if err != nil {
			return err
		}
		sb, err := summarize(tuned)
		if err != nil {
			return err
		}
		decode = append(decode, pair{sa.percent, sb.percent})
		readRates = append(readRates, pair{sa.read / 1e9, sb.read / 1e9})

		// What stock's users can have without a patch.
		withHuge := v.stock.With("GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
		lines, err := program.Run[speedLine](ctx, withHuge, "zt-probe", "speed", "-m", m.Path, "-t", threads, "-n", n, "-lm", "none")
		if err != nil {
			return err
		}
		sh, err := summarize(lines)
		if err != nil {
			return err
		}
		huge = append(huge, sh.percent)
	}

	peak := v.limits.At(v.Threads).VNNI.Best()
	for _, n := range prompts {
		what := fmt.Sprintf("pp%d", n)
		stock, tuned, ratios := pairs(bench[what])
		v.rates(m.Name, what, stock, tuned)
		v.timed(ppSpeed, m.Name, what, Measurement{Samples: ratios})
		for _, x := range []struct {
			name  string
			rates []float64
		}{{"stock", stock}, {"tuned", tuned}} {
			ops := shape.Ops(n) * statistics.Median(x.rates) / float64(n)
			v.timed(opsPerSecond, m.Name, what, Measurement{Value: ops / 1e9, Build: x.name})
			if peak > 0 {
				v.timed(ofVNNIPeak, m.Name, what, Measurement{Value: 100 * ops / peak, Build: x.name, Note: fmt.Sprintf("of %.0f GOP/s measured", peak/1e9)})
			}
		}
		s.Say("%s %s: %.2f times stock", m.Name, what, statistics.Median(ratios))
	}
	what := "tg" + n
	stock, tuned, ratios := pairs(bench[what])
	v.rates(m.Name, what, stock, tuned)
	v.timed(tgSpeed, m.Name, what, Measurement{Samples: ratios})
	s.Say("%s %s: %.2f times stock", m.Name, what, statistics.Median(ratios))

	stock, tuned, _ = pairs(decode)
	v.timed(tgOfRead.only(), m.Name, "decode", Measurement{Samples: stock, Build: "stock"})
	v.timed(tgOfRead.only(), m.Name, "decode", Measurement{Samples: huge, Build: "stock", Note: "with -lm none and glibc.malloc.hugetlb=1"})
	v.timed(tgOfRead, m.Name, "decode", Measurement{Samples: tuned, Build: "tuned"})
	s.Say("%s decode: %.1f %% of the read loop, stock %.1f %%", m.Name, statistics.Median(tuned), statistics.Median(stock))
	stock, tuned, _ = pairs(readRates)
	v.timed(readRate, m.Name, "decode", Measurement{Samples: stock, Build: "stock"})
	v.timed(readRate, m.Name, "decode", Measurement{Samples: tuned, Build: "tuned"})

	for _, n := range sequences {
		what := fmt.Sprintf("tg, %d sequences", n)
		stock, tuned, ratios := pairs(batched[n])
		v.rates(m.Name, what, stock, tuned)
		v.timed(batchedSpeed[n], m.Name, what, Measurement{Samples: ratios})
		s.Say("%s %s: %.2f times stock", m.Name, what, statistics.Median(ratios))
	}
	s.Did("%s: %d rounds", m.Name, v.Rounds)
	return nil
}

// rates records the tokens a second of both builds.
func (v *verifier) rates(model, what string, stock, tuned []float64) {
	v.timed(tokensPerSecond, model, what, Measurement{Samples: stock, Build: "stock"})
	v.timed(tokensPerSecond, model, what, Measurement{Samples: tuned, Build: "tuned"})
}

// matchBench adds the tests of two llama-bench runs to pairs by their names. The runs must have done the same tests.
func matchBench(to map[string][]pair, stock, tuned []benchLine) error {
	if len(stock) != len(tuned) {
		return fmt.Errorf("llama-bench ran %d tests of stock and %d of tuned", len(stock), len(tuned))
	}
	for i := range stock {
		name := stock[i].name()
		if tuned[i].name() != name || len(stock[i].SamplesNS) == 0 || len(tuned[i].SamplesNS) == 0 {
			return fmt.Errorf("llama-bench test %d is %s with %d samples of stock and %s with %d of tuned",
				i, name, len(stock[i].SamplesNS), tuned[i].name(), len(tuned[i].SamplesNS))
		}
		to[name] = append(to[name], pair{stock[i].rate(), tuned[i].rate()})
	}
	return nil
}

// matchBatched is matchBench for llama-batched-bench.
func matchBatched(to map[int][]pair, stock, tuned []batchedLine) error {
	if len(stock) != len(sequences) || len(tuned) != len(sequences) {
		return fmt.Errorf("llama-batched-bench ran %d tests of stock and %d of tuned, not %d", len(stock), len(tuned), len(sequences))
	}
	for i, n := range sequences {
		if stock[i].PL != n || tuned[i].PL != n || stock[i].SpeedTG <= 0 || tuned[i].SpeedTG <= 0 {
			return fmt.Errorf("llama-batched-bench test %d is of %d and %d sequences, not %d", i, stock[i].PL, tuned[i].PL, n)
		}
		to[n] = append(to[n], pair{stock[i].SpeedTG, tuned[i].SpeedTG})
	}
	return nil
}

// ints joins numbers with commas, as the tools' options want them.
func ints(list []int) string {
	text := ""
	for i, n := range list {
		if i > 0 {
			text += ","
		}
		text += strconv.Itoa(n)
	}
	return text
}
