package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/tune"
)

// Tune measures the kernels and the choices of the target, prints the kernels and writes the target's page.
func Tune(ctx context.Context, r Run) error {
	t, err := target.Choose(target.Host())
	if err != nil {
		return err
	}
	if err := tune.Check(t, target.Host()); err != nil {
		return err
	}
	return r.locked(func() error {
		load := report.Host().LoadAverage // before the kernels below are a part of it
		var result tune.Result
		err := r.Log.Step(ctx, "tune", func(ctx context.Context, s *progress.Step) (err error) {
			result, err = tune.Measure(ctx, t, target.Host(), s.Count)
			s.Did("%d kernels measured, load average %.1f before", len(result.Kernels), load)
			return err
		})
		if err != nil {
			return err
		}
		result.Load = load
		fmt.Println()
		if err := result.Table(os.Stdout); err != nil {
			return err
		}
		var page bytes.Buffer
		if err := result.Write(&page); err != nil {
			return err
		}
		path := r.Workspace.Tune(t.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
			return err
		}
		fmt.Printf("\nTiles and cache blocks: %s\n", path)
		return nil
	})
}
