package command

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gemm"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// blasRounds is how often each product is taken, and the least that ZT_ROUNDS may ask for: one block.
const (
	blasRounds    = 6
	minBLASRounds = 2
)

// BLAS compares products of float weights by our kernels, stock's and BLAS libraries: those that ZT_BLAS_LIBS names, or those found.
func BLAS(ctx context.Context, r Run) error {
	libraries, err := gemm.Named(os.Getenv("ZT_BLAS_LIBS"))
	if err != nil {
		return err
	}
	rounds, err := roundsOr(blasRounds, minBLASRounds)
	if err != nil {
		return err
	}
	return r.locked(func() error {
		tuned, err := r.tuned(ctx)
		if err != nil {
			return err
		}
		if err := runsHere(tuned.Target, "measure it"); err != nil {
			return err
		}
		if libraries == nil {
			err := r.Log.Step(ctx, "libraries", func(ctx context.Context, s *progress.Step) (err error) {
				libraries, err = gemm.Found(ctx, s, tuned.BLAS)
				s.Did("%d found", len(libraries))
				return err
			})
			if err != nil {
				return err
			}
		}
		found, err := gemm.Measure(ctx, r.Log, gemm.Options{
			Build: program.Build{Name: report.Tuned, Bin: tuned.Bin}, Libraries: libraries, Shapes: gemm.Shapes(),
			Threads: runtime.NumCPU(), Rounds: rounds, Date: time.Now().UTC(), Environment: describe(tuned, report.Host()),
		})
		if err != nil {
			return err
		}
		return r.publish(found, report.ProductsName, report.Report.ProductsTable)
	})
}
