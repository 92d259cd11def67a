package throughput

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// benchTests is what `llama-bench -o json` prints: a list of tests.
type benchTests []struct {
	Prompt    int       `json:"n_prompt"`
	Steps     int       `json:"n_gen"`
	Depth     int       `json:"n_depth"` // absent where llama-bench knows no depth
	SamplesNS []float64 `json:"samples_ns"`
}

// parseBench skips what a build may print before the list.
func parseBench(stdout []byte) (benchTests, error) {
	for line := range bytes.Lines(stdout) {
		if bytes.Equal(bytes.TrimSpace(line), []byte("[")) {
			break
		}
		stdout = stdout[len(line):]
	}
	var tests benchTests
	if err := json.Unmarshal(stdout, &tests); err != nil {
		return nil, fmt.Errorf("its output is not a list of tests: %w", err)
	}
	return tests, nil
}

// rate is the speed of c by its median sample, in tokens a second. With -gp the context is what llama-bench calls the prompt, and not
// in its samples.
func (t benchTests) rate(c Case, d dialect) (float64, error) {
	prompt, depth := c.Prompt, c.Depth
	if depth > 0 && d.after {
		prompt, depth = depth, 0
	}
	for _, x := range t {
		if x.Prompt == prompt && x.Steps == c.Steps && x.Depth == depth && len(x.SamplesNS) > 0 {
			return float64(c.Prompt+c.Steps) * 1e9 / statistics.Median(x.SamplesNS), nil
		}
	}
	return 0, fmt.Errorf("no test of %d + %d tokens at depth %d in its output", c.Prompt, c.Steps, c.Depth)
}

// batchRates are tokens a second of all sequences together: of their prompts, and generated.
type batchRates struct {
	sequences     int
	prompt, steps float64
}

// parseBatched reads the table that llama-batched-bench prints, which is older than its JSON. The columns are PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG,
// T, S.
func parseBatched(stdout []byte) []batchRates {
	var list []batchRates
	for line := range strings.Lines(string(stdout)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 12 {
			continue
		}
		sequences, err := strconv.Atoi(strings.TrimSpace(cells[3]))
		if err != nil {
			continue // the heading
		}
		r := batchRates{sequences: sequences}
		var wrong error
		for at, rate := range map[int]*float64{6: &r.prompt, 8: &r.steps} {
			var err error
			if *rate, err = strconv.ParseFloat(strings.TrimSpace(cells[at]), 64); err != nil {
				wrong = err
			}
		}
		if wrong == nil {
			list = append(list, r)
		}
	}
	return list
}

// chatLine is a line of `zt-probe chat`: the first has the time to load and the size of the context, each other one a turn.
type chatLine struct {
	LoadMS     float64 `json:"load_ms"`
	DepthBytes float64 `json:"depth_bytes"`

	Prompt   int     `json:"prompt"`
	PromptNS float64 `json:"prompt_ns"`
	Reply    int     `json:"reply"`
	ReplyNS  float64 `json:"reply_ns"`

	// Only of a build that counts them, and with ZT_WAITS=1: barriers of all threads, and cycles that they waited there of all they took.
	Barriers float64 `json:"barriers"`
	Waited   float64 `json:"waited"`
	Total    float64 `json:"total"`
}
