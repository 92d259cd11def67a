package gate

import (
	"fmt"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// programs are those of a build that gates run.
var programs = []string{"zt-probe", "llama-bench", "llama-batched-bench"}

// speedLine is a line of `zt-probe speed`: the first describes the run, the second is a read alone, then each is a token and
// the read after it, and the last sums up.
type speedLine struct {
	WeightBytes float64 `json:"weight_bytes"`
	ReadBytes   float64 `json:"read_bytes"`
	TokenNS     float64 `json:"token_ns"`
	ReadNS      float64 `json:"read_ns"`
}

// decodeSpeed is what `zt-probe speed` found, as medians over tokens.
type decodeSpeed struct {
	percent float64 // of the mean rate of the reads before and after each token
	token   float64 // weight bytes a second that decode read
	read    float64 // bytes a second of the read loop
}

func summarize(lines []speedLine) (decodeSpeed, error) {
	head := lines[0]
	var percents, tokens, reads []float64
	for _, l := range lines[1:] {
		if l.ReadNS == 0 {
			continue
		}
		reads = append(reads, head.ReadBytes*1e9/l.ReadNS)
		if n := len(reads); l.TokenNS > 0 && n > 1 {
			tokens = append(tokens, head.WeightBytes*1e9/l.TokenNS)
			percents = append(percents, 100*tokens[len(tokens)-1]/((reads[n-1]+reads[n-2])/2))
		}
	}
	if head.WeightBytes == 0 || head.ReadBytes == 0 || len(percents) == 0 {
		return decodeSpeed{}, fmt.Errorf("zt-probe speed timed no token")
	}
	return decodeSpeed{percent: statistics.Median(percents), token: statistics.Median(tokens), read: statistics.Median(reads)}, nil
}

// loadLine is a line of `zt-probe load`: time of the step called When and memory after it, in bytes.
type loadLine struct {
	When    string  `json:"when"` // load, context, decode
	MS      float64 `json:"ms"`
	RSS     float64 `json:"rss"`     // without hugetlb pages
	HugeTLB float64 `json:"hugetlb"` // hugetlb pages
}
