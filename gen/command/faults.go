package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/fault"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Faults puts the programs of the chosen target through faults of the machine and of model files.
func Faults(ctx context.Context, r Run) error {
	return r.locked(func() error {
		tuned, err := r.tuned(ctx, fault.PreloadTests...)
		if err != nil {
			return err
		}
		if err := runsHere(tuned.Target, "test it"); err != nil {
			return err
		}
		stock, err := build.Stock(ctx, r.Workspace, r.Log, tuned.Target, "zt-probe", "llama-quantize", "llama-completion", "llama-server")
		if err != nil {
			return err
		}
		q8, err := r.synthetic(ctx, stock, "tiny")
		if err != nil {
			return err
		}
		floats, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), "tiny64", "bf16")
		if err != nil {
			return err
		}
		found, err := fault.Run(ctx, r.Log, fault.Options{
			Stock: stock.Bin, Tuned: tuned.Bin, Tests: tuned.Tests, Model: q8, Floats: floats, Date: time.Now().UTC(),
			Environment: describe(tuned, report.Environment{}),
		})
		if len(found.Outcomes) > 0 {
			err = errors.Join(err, found.Write(r.Workspace.Report()), found.Table(os.Stdout))
			fmt.Printf("report: %s\n", r.Workspace.Report())
		}
		return err
	})
}
