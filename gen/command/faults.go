package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/fault"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// Faults puts the programs of the chosen target through faults of the machine and of model files.
func Faults(ctx context.Context, r Run) error {
	return r.locked(func() error {
		tuned, err := r.tuned(ctx)
		if err != nil {
			return err
		}
		if err := tuned.Target.Accepts(target.Host()); err != nil {
			return fmt.Errorf("cannot run the %s build: %w; test it on such a machine, or ZT_TARGET=bringup here", tuned.Target.Name, err)
		}
		stock, err := build.Stock(ctx, r.Workspace, r.Log, tuned.Target, "zt-probe", "llama-quantize", "llama-completion", "llama-server")
		if err != nil {
			return err
		}
		model, err := r.synthetic(ctx, stock, "tiny")
		if err != nil {
			return err
		}
		found, err := fault.Run(ctx, r.Log, fault.Options{
			Stock: stock.Bin, Tuned: tuned.Bin, Model: model, Date: time.Now().UTC(),
			Environment: report.Environment{
				Target: tuned.Target.Name, Compiler: tuned.Toolchain.String(), BLAS: tuned.BLAS.String(), Toolchain: build.Version,
				Pins: map[string]string{"llama.cpp " + tuned.Pin.LlamaCpp.Tag: tuned.Pin.LlamaCpp.Tree},
			},
		})
		if len(found.Outcomes) > 0 {
			err = errors.Join(err, found.Write(r.Workspace.Report()), found.Table(os.Stdout))
			fmt.Printf("report: %s\n", r.Workspace.Report())
		}
		return err
	})
}
