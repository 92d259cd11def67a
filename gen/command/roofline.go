package command

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Roofline measures what this machine can do at best and prints it. A build at the same time would take its share, so it holds the
// workspace.
func Roofline(ctx context.Context, r Run) error {
	return r.locked(func() error {
		host := report.Host() // before the threads below load it
		var limits roofline.Limits
		err := r.Log.Step(ctx, "roofline", func(ctx context.Context, s *progress.Step) (err error) {
			limits, err = roofline.Measure(ctx, runtime.NumCPU(), s.Count)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("\n%s, load average %.1f before\n\n", host.CPU, host.LoadAverage)
		return limits.Table(os.Stdout)
	})
}
