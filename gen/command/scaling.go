package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// scalingModels are what Scaling measures.
var scalingModels = []surveyModel{{shape: "0.5b", types: "q8_0"}, {shape: "1b", types: "q4_k_m"}}

// Scaling measures stock and tuned with 1, 2, 4 ... threads up to all CPUs. ZT_BUILDS names the builds and ZT_MODEL the model, for a machine
// that builds nothing; ZT_ROUNDS sets how often they take turns.
func Scaling(ctx context.Context, r Run) error {
	rounds, err := roundsOr(gate.MinTypeRounds, gate.MinTypeRounds)
	if err != nil {
		return err
	}
	return r.survey(ctx, func(b builds) error {
		models, err := r.surveyModels(ctx, scalingModels)
		if err != nil {
			return err
		}
		found, err := gate.Scaling(ctx, r.Workspace, r.Log, gate.ScalingOptions{
			Stock: b.stock, Tuned: b.tuned, Models: models, Threads: gate.ThreadCounts(runtime.NumCPU()), Rounds: rounds,
			Date: time.Now().UTC(), Environment: b.environment,
		})
		if len(found.Results) > 0 {
			err = errors.Join(err, found.ScalingTable(os.Stdout))
			fmt.Printf("report: %s\n", filepath.Join(r.Workspace.Report(), report.ScalingName))
		}
		return err
	})
}
