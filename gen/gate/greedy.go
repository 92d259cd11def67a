package gate

import "fmt"

// Step is one token that greedy decoding chose, as `zt-probe greedy` prints it.
type Step struct {
	Step   int     `json:"step"`
	Token  int     `json:"token"`
	Logit  float64 `json:"logit"`
	Second int     `json:"second"` // the token with the second largest logit
	Margin float64 `json:"margin"` // Logit less that of Second
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
