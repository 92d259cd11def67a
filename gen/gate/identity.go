package gate

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/topology"
)

// same is a set of runs whose logits are the same bits if every operator's arithmetic depends on nothing but its row.
type same struct {
	name   string
	broken string     // which of stock's operators breaks the identity, where one is known to
	runs   [][]string // arguments of zt-probe logits; the first run is what the others are held to
}

// identities are the sets to check with up to threads threads. Stock's own operators keep the first three apart: flash attention
// sums in another order from 64 query rows a graph on (tiles), and for single tokens from 512 cached ones on (it splits the
// cache by threads); without it the attention's matrix products have another order for single rows. The last sets are across
// those lines: there the kernels' own identity is proved by zt-selftest, bit by bit, and by the operators gate.
func identities(threads int) []same {
	t := strconv.Itoa(max(2, threads))
	more := strconv.Itoa(max(2, threads) + 1) // more threads than cores, and a number that divides little
	most := strconv.Itoa(max(2, threads) + 2)
	return []same{
		{name: "33 tokens", runs: [][]string{
			{"-n", "33", "-fa", "on", "-t", "1"},
			{"-n", "33", "-fa", "on", "-t", t},
			{"-n", "33", "-fa", "on", "-t", more},
			{"-n", "33", "-fa", "on", "-t", t, "-ub", "1"},
			{"-n", "33", "-fa", "on", "-t", t, "-ub", "7"},
			{"-n", "33", "-fa", "on", "-t", "1", "-ub", "13"},
			{"-n", "33", "-fa", "on", "-t", "1", "--mode", "decode"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "decode"},
			{"-n", "33", "-fa", "on", "-t", most, "-ub", "13"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "batch", "--seqs", "2", "--slot", "1"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "batch", "--seqs", "4", "--slot", "0"},
			{"-n", "33", "-fa", "on", "-t", "1", "--mode", "batch", "--seqs", "9", "--slot", "7"},
			{"-n", "33", "-fa", "on", "-t", t, "--mode", "batch", "--seqs", "17", "--slot", "16"},
		}},
		{name: "300 tokens", runs: [][]string{
			{"-n", "300", "-fa", "off", "-t", "1"},
			{"-n", "300", "-fa", "off", "-t", t},
			{"-n", "300", "-fa", "off", "-t", t, "-ub", "64"},
			{"-n", "300", "-fa", "off", "-t", t, "-ub", "7"},
			{"-n", "300", "-fa", "off", "-t", "1", "-ub", "2"},
		}},
		{name: "300 tokens with flash attention", runs: [][]string{
			{"-n", "300", "-fa", "on", "-t", "1", "-ub", "7"},
			{"-n", "300", "-fa", "on", "-t", t, "-ub", "33"},
			{"-n", "300", "-fa", "on", "-t", "1", "--mode", "decode"},
		}},
		{name: "300 tokens, decode without flash attention",
			broken: "stock's attention products of single rows sum in another order than those of several",
			runs: [][]string{
				{"-n", "300", "-fa", "off", "-t", "1", "-ub", "64"},
				{"-n", "300", "-fa", "off", "-t", "1", "--mode", "decode"},
			}},
		{name: "300 tokens, flash attention in tiles",
			broken: "stock's flash attention takes 64 and more query rows in tiles, with another order of sums",
			runs: [][]string{
				{"-n", "300", "-fa", "on", "-t", "1", "-ub", "7"},
				{"-n", "300", "-fa", "on", "-t", "1", "-ub", "128"},
			}},
		{name: "600 tokens with flash attention",
			broken: "stock's flash attention splits a cache of 512 tokens and more by threads",
			runs: [][]string{
				{"-n", "600", "-fa", "on", "-t", "1", "--mode", "decode"},
				{"-n", "600", "-fa", "on", "-t", t, "--mode", "decode"},
			}},
	}
}

// switched are settings of switches that say who computes what when, and where it lies, and so must change no bit. split is the /sys of a
// machine like this one whose CPUs share two L3 caches.
func switched(split string) [][]string {
	return [][]string{
		{"ZT_GRAPH=0"}, {"ZT_STEAL=0"}, {"ZT_GRAPH=0", "ZT_STEAL=0"},
		{"ZT_AHEAD=off"}, {"ZT_AHEAD=wait"}, {"ZT_AHEAD=layer"}, {"ZT_AHEAD=copy"}, {"ZT_SHARE=1"},
		{"ZT_PIN=0"}, {"ZT_PIN=1"}, {"ZT_HUGEPAGES=off"}, {"ZT_PREFETCH=0"}, {"ZT_PREFETCH=1"},
		{"ZT_SYSFS=" + split}, {"ZT_SYSFS=" + split, "ZT_BARRIER=tree", "ZT_PIN=1"}, {"ZT_SYSFS=" + split, "ZT_BARRIER=flat"}, {"ZT_BARRIER=tree"},
	}
}

// switchedRuns are what they are tried on with up to threads threads: single tokens, a few at once, and prompts. Where threads outnumber the CPUs each
// meeting takes as long as the kernel lets the wrong one wait, so of these there are few.
func switchedRuns(threads int) [][]string {
	t, more := strconv.Itoa(max(2, threads)), strconv.Itoa(max(2, threads)+2)
	return [][]string{
		{"-n", "33", "-fa", "on", "-t", t, "--mode", "decode"},
		{"-n", "5", "-fa", "on", "-t", more, "--mode", "decode"},
		{"-n", "33", "-fa", "on", "-t", t, "--mode", "batch", "--seqs", "9", "--slot", "7"},
		{"-n", "33", "-fa", "on", "-t", more, "-ub", "13"},
	}
}

// identity checks that the tuned build gives the same bits where stock does, from one run to the next, and whatever the switches say.
func (v *verifier) identity(ctx context.Context, s *progress.Step, m Model) error {
	if err := v.identitySets(ctx, s, m, identities(v.Threads)); err != nil {
		return err
	}
	if !m.Operators { // one of many
		return nil
	}
	return v.identitySwitches(ctx, s, m)
}

// identitySwitches checks that switches of threads and memory change no bit.
func (v *verifier) identitySwitches(ctx context.Context, s *progress.Step, m Model) error {
	split := filepath.Join(v.scratch, "sys")
	// Numbers beyond the CPUs there are would not be used.
	if err := (topology.Machine{L3: []int{32 << 10, 32 << 10}, Cores: max(1, runtime.NumCPU()/2)}).Write(split); err != nil {
		return err
	}
	defer os.RemoveAll(split)
	settings, runs := switched(split), switchedRuns(v.Threads)
	for i, args := range runs {
		hash := func(n int, b program.Build) ([sha256.Size]byte, error) {
			s.Count(i*(len(settings)+1)+n, len(runs)*(len(settings)+1), m.Name+" with other switches")
			path, err := v.logitsFile(ctx, b, m, "bits", args...)
			if err != nil {
				return [sha256.Size]byte{}, err
			}
			return hashFile(path)
		}
		first, err := hash(0, v.tuned)
		if err != nil {
			return err
		}
		for n, env := range settings {
			got, err := hash(n+1, v.tuned.With(env...))
			if err != nil {
				return err
			}
			name := strings.ReplaceAll(strings.Join(env, " "), split, "two L3 caches")
			v.judge(unswitched, m.Name, args[1]+" tokens: "+short(args)+", "+name, Measurement{Value: count(got != first)})
		}
	}
	s.Did("%s: %d settings of switches tried", m.Name, len(settings)*len(runs))
	return nil
}

func (v *verifier) identitySets(ctx context.Context, s *progress.Step, m Model, sets []same) error {
	done, total := 0, 1
	for _, set := range sets {
		total += 2 * len(set.runs)
	}
	hash := func(b program.Build, args []string) ([sha256.Size]byte, error) {
		s.Count(done, total, m.Name+" "+b.Name)
		done++
		path, err := v.logitsFile(ctx, b, m, "bits", args...)
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		return hashFile(path)
	}

	kept, checked := 0, 0
	for i, set := range sets {
		var first, stockFirst [sha256.Size]byte
		for j, args := range set.runs {
			got, err := hash(v.tuned, args)
			if err != nil {
				return err
			}
			stock, err := hash(v.stock, args)
			if err != nil {
				return err
			}
			if j == 0 {
				first, stockFirst = got, stock
				if i == 0 {
					again, err := hash(v.tuned, args)
					if err != nil {
						return err
					}
					v.judge(repeatable, m.Name, "run twice", Measurement{Value: count(again != first)})
				}
				continue
			}
			ungated := ""
			if stock != stockFirst {
				ungated = join("stock's differ here too", set.broken)
			} else {
				checked++
				kept += 1 - int(count(got != first))
			}
			v.judge(identical, m.Name, set.name+": "+short(args)+" / "+short(set.runs[0]), Measurement{Value: count(got != first), Ungated: ungated})
		}
	}
	s.Did("%s: %d of stock's %d identities kept", m.Name, kept, checked)
	return nil
}

func count(differs bool) float64 {
	if differs {
		return 1
	}
	return 0
}

// short leaves out of args what the set's name says.
func short(args []string) string {
	text := ""
	for i := 4; i+1 < len(args); i += 2 {
		if text != "" {
			text += " "
		}
		text += args[i] + " " + args[i+1]
	}
	return text
}

func hashFile(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}
