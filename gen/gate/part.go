package gate

import (
	"context"
	"fmt"
	"os"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Part measures one part of Verify, "operators", "floats" or the first set of "identity", on one build and one model, and returns what Verify
// would report, of operators on weights of the named types only. bin and tests are the folders of its programs and of UpstreamTests. Its
// own operators without the zen5 buffer type stand in for stock's.
func Part(ctx context.Context, s *progress.Step, part, bin, tests string, m Model, types []string, threads int) ([]report.Result, error) {
	v := &verifier{Options: Options{Threads: threads, Models: []Model{m}}, part: part, types: types,
		tuned: program.Build{Name: "tuned", Bin: bin}, tests: program.Build{Name: "tuned", Bin: tests}}
	v.stock = program.Build{Name: "stock", Bin: bin}.With("ZT_DISABLE=1")
	var err error
	if v.scratch, err = os.MkdirTemp("", "zt-gate-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(v.scratch)
	switch part {
	case "operators":
		err = v.operators(ctx, s)
	case report.FloatsPart:
		err = v.floats(ctx, s, m)
	case "identity":
		err = v.identitySets(ctx, s, m, identities(threads)[:1])
	default:
		err = fmt.Errorf("no part %q of the gates can be run alone", part)
	}
	return v.results, err
}
