package gate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// floatCodes are the values of ZT_CODE with which float weights are coded, floatDefault what holds where it is unset, and with floatsOff
// they stay on stock's path.
var floatCodes = []string{"12", "11"}

const (
	floatDefault = "auto"
	floatsOff    = "off"
)

// floatFeeds are the arguments of zt-probe logits: prompts of one token, of fewer and of more than one tile of rows, of more than a group of
// rows that a panel is decoded once for, of one that needs that panel again and again, and one of several sequences decoded together.
func floatFeeds(m Model) (feeds []floatFeed) {
	for _, n := range []int{1, 2, 5, 33, 512} {
		feeds = append(feeds, floatFeed{fmt.Sprintf("prefill %d", n), m.feed(n)})
	}
	return append(feeds,
		floatFeed{"prefill 40, ubatch 7", append(m.feed(40), "-ub", "7")},
		floatFeed{"4 sequences", append(m.feed(8), "--mode", "batch", "--seqs", "4", "--slot", "2")})
}

type floatFeed struct {
	name string
	args []string
}

// floats holds a model of float weights to stock bit for bit, with each code: tokens made greedily and all logits that they were chosen from,
// and the logits of floatFeeds. It also says what each matrix was coded in, and fails if one that can be was not: then the rest would
// prove nothing.
func (v *verifier) floats(ctx context.Context, s *progress.Step, m Model) error {
	feeds := floatFeeds(m)
	done, total := 0, 3+(1+len(feeds))*len(floatCodes)
	count := func(what string) {
		s.Count(done, total, m.Name+" "+what)
		done++
	}
	want, err := toCode(m.Path)
	if err != nil {
		return err
	}

	count("codes")
	_, said, err := v.with(floatDefault).Output(ctx, "zt-probe", "load", "-m", m.Path, "-t", strconv.Itoa(v.Threads))
	if err != nil {
		return err
	}
	coded, err := readCoded(said)
	if err != nil {
		return err
	}
	for _, k := range codedKinds(coded) {
		note := fmt.Sprintf("%d tensors: %s", k.Tensors, k.Codes)
		v.judge(codedBits, m.Name, k.Name, Measurement{Value: k.Bits, Build: v.tuned.Name, Note: note})
		v.judge(codedGain, m.Name, k.Name, Measurement{Value: k.Gain, Build: v.tuned.Name, Note: note})
	}
	v.judge(uncoded, m.Name, "ZT_CODE="+floatDefault, missing(want, coded))

	greedy := []string{"greedy", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-n", strconv.Itoa(m.Floats)}
	count("stock greedy")
	stock, err := program.Run[Step](ctx, v.stock, "zt-probe", greedy...)
	if err != nil {
		return err
	}
	for _, code := range floatCodes {
		what := fmt.Sprintf("greedy %d, ZT_CODE=%s", m.Floats, code)
		count(what)
		stdout, said, err := v.with(code).Output(ctx, "zt-probe", greedy...)
		if err != nil {
			return err
		}
		tuned, err := program.Lines[Step](stdout)
		if err != nil {
			return err
		}
		coded, err := readCoded(said)
		if err != nil {
			return err
		}
		v.judge(uncoded, m.Name, "ZT_CODE="+code, missing(want, coded))
		same, err := sameSteps(stock, tuned)
		if err != nil {
			return err
		}
		v.judge(otherSteps, m.Name, what, same)
	}

	for _, feed := range feeds {
		ref, err := v.logitsFile(ctx, v.stock, m, "ref", feed.args...)
		if err != nil {
			return err
		}
		for _, code := range floatCodes {
			what := fmt.Sprintf("%s, ZT_CODE=%s", feed.name, code)
			count(what)
			got, err := v.logitsFile(ctx, v.with(code), m, "got", feed.args...)
			if err != nil {
				return err
			}
			d, err := compareFiles(ref, got)
			if err != nil {
				return err
			}
			v.divergence(m.Name, what, d, floatOrder, &Divergence{})
		}
	}

	// Without codes it is stock's own code, of which any prompt is enough.
	off := fmt.Sprintf("%s, ZT_CODE=%s", feeds[0].name, floatsOff)
	count(off)
	ref, err := v.logitsFile(ctx, v.stock, m, "ref", feeds[0].args...)
	if err != nil {
		return err
	}
	got := filepath.Join(v.scratch, "off")
	_, said, err = v.with(floatsOff).Output(ctx, "zt-probe", v.logitsArgs(m, got, feeds[0].args)...)
	if err != nil {
		return err
	}
	anyway, err := readCoded(said)
	if err != nil {
		return err
	}
	v.judge(codedAnyway, m.Name, "ZT_CODE="+floatsOff, Measurement{Value: float64(len(anyway))})
	d, err := compareFiles(ref, got)
	if err != nil {
		return err
	}
	v.divergence(m.Name, off, d, floatOrder, &Divergence{})

	s.Did("%s: %d of %d matrices coded, in %.2f bits a weight; %d tokens and %d other runs with each code", m.Name, len(coded), len(want),
		meanBits(coded), m.Floats, len(feeds))
	return nil
}

// with is the tuned build with a value of ZT_CODE, saying what it decides.
func (v *verifier) with(code string) program.Build {
	return v.tuned.With("ZT_CODE="+code, "ZT_LOG=1")
}

// missing counts the tensors of want that are not in coded.
func missing(want []string, coded []codedTensor) Measurement {
	var left []string
	for _, name := range want {
		if !slices.ContainsFunc(coded, func(t codedTensor) bool { return t.Name == name }) {
			left = append(left, name)
		}
	}
	m := Measurement{Value: float64(len(left)), Note: fmt.Sprintf("of %d that can be", len(want))}
	if len(left) > 0 {
		m.Note += ", such as " + left[0]
	}
	return m
}

// sameSteps counts the steps of two greedy runs that made another token or had a logit of other bits. After the first other token all are.
func sameSteps(stock, tuned []Step) (Measurement, error) {
	at, err := FirstDifference(stock, tuned)
	if err != nil {
		return Measurement{}, err
	}
	m := Measurement{Note: fmt.Sprintf("all %d tokens and all their logits equal", len(stock))}
	var notes []string
	for i, a := range stock {
		if a.Bits == "" || tuned[i].Bits == "" {
			return Measurement{}, fmt.Errorf("step %d of a greedy run does not say what its logits are; build its zt-probe again", i)
		}
		if at >= 0 && i >= at || a.Bits != tuned[i].Bits {
			if m.Value == 0 {
				notes = append(notes, fmt.Sprintf("first other logits at step %d", i))
			}
			m.Value++
		}
	}
	if at >= 0 {
		notes = append(notes, fmt.Sprintf("first other token at step %d", at))
	}
	if len(notes) > 0 {
		m.Note = strings.Join(notes, ", ")
	}
	return m, nil
}

// compareFiles is Compare on two files.
func compareFiles(ref, got string) (Divergence, error) {
	a, err := OpenLogits(ref)
	if err != nil {
		return Divergence{}, err
	}
	defer a.Close()
	b, err := OpenLogits(got)
	if err != nil {
		return Divergence{}, err
	}
	defer b.Close()
	return Compare(a, b)
}
