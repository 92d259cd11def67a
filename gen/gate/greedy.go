package gate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Step is one token that greedy decoding chose, as `zt-probe greedy` prints it.
type Step struct {
	Step   int     `json:"step"`
	Token  int     `json:"token"`
	Logit  float64 `json:"logit"`
	Second int     `json:"second"` // the token with the second largest logit
	Margin float64 `json:"margin"` // Logit less that of Second
	Bits   string  `json:"bits"`   // a hash of all logits
}

// FirstDifference returns the first step at which two runs chose another token; -1 if there is none. After it the runs read
// different texts and say nothing about each other. Runs of different lengths are an error.
func FirstDifference(stock, tuned []Step) (int, error) {
	if len(stock) != len(tuned) || len(stock) == 0 {
		return 0, fmt.Errorf("greedy runs of %d and %d tokens cannot be compared", len(stock), len(tuned))
	}
	for i := range stock {
		if stock[i].Token != tuned[i].Token {
			return i, nil
		}
	}
	return -1, nil
}

// greedy compares the tokens that greedy decoding makes.
func (v *verifier) greedy(ctx context.Context, s *progress.Step, m Model) error {
	args := []string{"greedy", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-n", strconv.Itoa(m.Greedy)}
	own, err := v.stocksOwn(ctx, m)
	if err != nil {
		return err
	}
	s.Count(0, 2, m.Name+" stock")
	stock, err := program.Run[Step](ctx, v.stock, "zt-probe", args...)
	if err != nil {
		return err
	}
	s.Count(1, 2, m.Name+" tuned")
	tuned, err := program.Run[Step](ctx, v.tuned, "zt-probe", args...)
	if err != nil {
		return err
	}
	result, err := judgeGreedy(m.Name, stock, tuned, own.floored().MaxAbs)
	if err != nil {
		return err
	}
	v.record(result)
	s.Did("%s: %s", m.Name, result.Note)
	return nil
}

// judgeGreedy holds the first difference of two runs to greedyMargin with stock's own largest logit difference. Equal runs have a
// margin of 0.
func judgeGreedy(model string, stock, tuned []Step, own float64) (report.Result, error) {
	at, err := FirstDifference(stock, tuned)
	if err != nil {
		return report.Result{}, err
	}
	m := Measurement{Note: fmt.Sprintf("all %d tokens equal", len(stock))}
	if at >= 0 {
		m = Measurement{Value: stock[at].Margin, Note: fmt.Sprintf("%d of %d tokens equal before it", at, len(stock))}
	}
	return greedyMargin.times(own).Judge(model, fmt.Sprintf("greedy %d", len(stock)), m), nil
}
