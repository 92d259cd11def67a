package gate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// logits runs `zt-probe logits` and opens what it wrote. Closing it is the caller's; the file goes with the scratch folder.
func (v *verifier) logits(ctx context.Context, b program.Build, m Model, file string, args ...string) (*Logits, error) {
	path, err := v.logitsFile(ctx, b, m, file, args...)
	if err != nil {
		return nil, err
	}
	return OpenLogits(path)
}

func (v *verifier) logitsFile(ctx context.Context, b program.Build, m Model, file string, args ...string) (string, error) {
	path := filepath.Join(v.scratch, b.Name+"-"+file)
	_, err := program.Run[struct{}](ctx, b, "zt-probe", v.logitsArgs(m, path, args)...)
	return path, err
}

// logitsArgs are the arguments of zt-probe for logits to be written to path.
func (v *verifier) logitsArgs(m Model, path string, args []string) []string {
	return append([]string{"logits", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-o", path}, args...)
}

// compare runs a and b with their own arguments and compares the logits.
func (v *verifier) compare(ctx context.Context, m Model, a, b program.Build, argsA, argsB []string) (Divergence, error) {
	ref, err := v.logits(ctx, a, m, "ref", argsA...)
	if err != nil {
		return Divergence{}, err
	}
	defer ref.Close()
	got, err := v.logits(ctx, b, m, "got", argsB...)
	if err != nil {
		return Divergence{}, err
	}
	defer got.Close()
	return Compare(ref, got)
}

// accuracy compares the logits of given tokens, all at once and one by one.
func (v *verifier) accuracy(ctx context.Context, s *progress.Step, m Model) error {
	type kase struct {
		name string
		args []string
		same bool // as stock's, bit for bit
	}
	same, err := stockOrder(m.Path)
	if err != nil {
		return err
	}
	var cases []kase
	for _, n := range m.Prefill {
		cases = append(cases, kase{fmt.Sprintf("prefill %d", n), m.feed(n), same.prompt && n >= promptRows})
	}
	if m.Decode > 0 {
		cases = append(cases, kase{fmt.Sprintf("decode %d", m.Decode), append(m.feed(m.Decode), "--mode", "decode"), same.token})
	}

	s.Count(0, len(cases)+1, m.Name+" stock against itself")
	own, err := v.stocksOwn(ctx, m)
	if err != nil {
		return err
	}
	criteria, err := criteriaFor(m.Path)
	if err != nil {
		return err
	}

	worst := 0.0
	for i, c := range cases {
		s.Count(i+1, len(cases)+1, m.Name+" "+c.name)
		d, err := v.compare(ctx, m, v.stock, v.tuned, c.args, c.args)
		if err != nil {
			return err
		}
		v.divergence(m.Name, c.name, d, criteria, &own)
		if c.same {
			v.divergence(m.Name, c.name, d, sameOrder, &own)
		}
		worst = max(worst, d.MeanKL)
	}
	s.Did("%s: mean KL divergence up to %s, stock's own %s", m.Name, report.Number(worst), report.Number(own.MeanKL))
	return nil
}

// feed is the arguments of zt-probe for the first n tokens.
func (m Model) feed(n int) []string {
	args := []string{"-n", strconv.Itoa(n)}
	if m.Tokens != "" {
		args = append(args, "--tokens", m.Tokens)
	}
	return args
}

// ownTokens is the length of the text on which stock is held to itself.
const ownTokens = 256

// stocksOwn is how far stock is from itself on m with another order of sums, the scale on which to read all other differences. It
// is measured once and reported.
func (v *verifier) stocksOwn(ctx context.Context, m Model) (Divergence, error) {
	if own, ok := v.own[m.Path]; ok {
		return own, nil
	}
	own, err := v.compare(ctx, m, v.stock, v.stock, append(m.feed(ownTokens), "-fa", "on"), append(m.feed(ownTokens), "-fa", "off"))
	if err != nil {
		return own, err
	}
	v.divergence(m.Name, fmt.Sprintf("stock -fa off/on %d", ownTokens), own, roundedActivations, nil)
	experts, err := hasExperts(m.Path)
	if err != nil {
		return own, err
	}
	if experts {
		other, err := v.compare(ctx, m, v.stock, v.stock, m.feed(ownTokens), append(m.feed(ownTokens), "-ub", "7"))
		if err != nil {
			return own, err
		}
		v.divergence(m.Name, fmt.Sprintf("stock -ub 7/512 %d", ownTokens), other, roundedActivations, nil)
		own = own.worse(other)
	}
	v.own[m.Path] = own
	return own, nil
}

// hasExperts says whether the model at path routes tokens to experts. Where two of them score nearly alike a last bit decides which one a
// token meets, and its logits change as a whole: how often that happens in 256 tokens is chance.
func hasExperts(path string) (bool, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return slices.ContainsFunc(f.Tensors, func(t gguf.Tensor) bool { return strings.Contains(t.Name, "_exps.") }), nil
}

// divergence records d: held to criteria that count in stock's own, or for information where own is nil.
func (v *verifier) divergence(model, what string, d Divergence, criteria []criterion, own *Divergence) {
	for _, c := range criteria {
		v.record(c.judge(model, what, d, own))
	}
}
