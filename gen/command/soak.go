package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/soak"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Soak builds the chosen target and keeps its llama-server under load for a while, on a tiny synthetic model or the GGUF that
// ZT_MODEL names. Other models' operators need not give the same bits in any batch, so only the synthetic one's answers must be exact.
func Soak(ctx context.Context, r Run, duration time.Duration) error {
	if duration < soak.Shortest {
		return fmt.Errorf("-duration=%v is too short to tell a leak from noise; give it %v or more", duration, soak.Shortest)
	}
	o := soak.Options{Duration: duration, Model: os.Getenv("ZT_MODEL"), Seed: model.Seed}
	if o.Model != "" {
		if _, err := os.Stat(o.Model); err != nil {
			return fmt.Errorf("ZT_MODEL: %w", err)
		}
		o.Name = strings.TrimSuffix(filepath.Base(o.Model), ".gguf")
	}
	return r.locked(func() error {
		b, err := r.tuned(ctx)
		if err != nil {
			return err
		}
		if err := runsHere(b.Target, "soak it"); err != nil {
			return err
		}
		if o.Model == "" {
			o.Name, o.Exact = "tiny-q8_0", true
			if o.Model, err = model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), "tiny", "q8_0"); err != nil {
				return err
			}
		}
		o.Build = program.Build{Name: "tuned", Bin: b.Bin}
		o.Date, o.Environment = time.Now().UTC(), describe(b, report.Host())
		found, err := soak.Run(ctx, r.Workspace.Report(), r.Log, o)
		if len(found.Results) > 0 {
			if tableErr := found.Table(os.Stdout); tableErr != nil {
				return errors.Join(err, tableErr)
			}
			fmt.Printf("report: %s\n", filepath.Join(r.Workspace.Report(), soak.FileName))
		}
		return err
	})
}
