package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/mutant"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/soak"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// Mutants builds the chosen target in a tree of its own, breaks it in one way after the other, and checks that the gates notice.
func Mutants(ctx context.Context, r Run) error {
	return r.locked(func() error {
		t, err := target.Choose(target.Host())
		if err != nil {
			return err
		}
		if err := runsHere(t, "try its mutants"); err != nil {
			return err
		}
		operators := append([]string{"zt-selftest"}, gate.UpstreamTests...)
		b, err := build.Mutant(ctx, r.Workspace, r.Log, t, append(slices.Clone(operators), "zt-probe", "llama-server")...)
		if err != nil {
			return err
		}
		src := r.Workspace.Src(b.Variant)
		const shape = "tiny-q8_0"
		path, err := model.Make(ctx, r.Log, r.Workspace, src, "tiny", "q8_0")
		if err != nil {
			return err
		}
		const floats = "tiny64-bf16"
		floatsPath, err := model.Make(ctx, r.Log, r.Workspace, src, "tiny64", "bf16")
		if err != nil {
			return err
		}
		// Two threads on any machine: names of results contain their number, and a fault that depends on it shows with two.
		part := func(name string, m gate.Model) func(context.Context) ([]report.Result, error) {
			return func(ctx context.Context) (results []report.Result, err error) {
				return results, r.Log.Step(ctx, name, func(ctx context.Context, s *progress.Step) error {
					results, err = gate.Part(ctx, s, name, b.Bin, b.Tests, m, mutant.Types, 2)
					return err
				})
			}
		}
		gates := map[string]mutant.Gate{
			"operators":       {Programs: operators, Run: part("operators", gate.Small(shape, path))},
			"identity":        {Programs: []string{"zt-probe"}, Run: part("identity", gate.Small(shape, path))},
			report.FloatsPart: {Programs: []string{"zt-probe"}, Run: part(report.FloatsPart, gate.Model{Name: floats, Path: floatsPath, Floats: 100})},
			"soak": {Programs: []string{"llama-server"}, Run: func(ctx context.Context) ([]report.Result, error) {
				return r.shortSoak(ctx, soak.Options{
					Build: program.Build{Name: "mutant", Bin: b.Bin}, Name: shape, Model: path, Exact: true, Threads: 2, Seed: model.Seed,
				})
			}},
		}
		outcomes, err := mutant.Run(ctx, r.Log, src, func(ctx context.Context, s *progress.Step, programs []string) error {
			_, err := b.Toolchain.Build(ctx, s, r.Workspace.Build(b.Variant), programs...)
			return err
		}, gates, mutant.Mutants)
		if err != nil {
			return err
		}
		return errors.Join(mutant.Table(os.Stdout, outcomes), mutant.Survivors(outcomes))
	})
}

// shortSoak soaks for as long as it must: longer where a busy machine leaves checks unknown.
func (r Run) shortSoak(ctx context.Context, o soak.Options) ([]report.Result, error) {
	for o.Duration = soak.Shortest; o.Duration <= 4*soak.Shortest; o.Duration *= 4 {
		found, err := soak.Run(ctx, r.Workspace.Mutants(), r.Log, o)
		if len(found.Results) == 0 || ctx.Err() != nil {
			return nil, err
		}
		unknown := func(x report.Result) bool { return strings.HasPrefix(x.Note, "unknown") }
		if !slices.ContainsFunc(found.Failed(), unknown) {
			return found.Results, nil // err names the checks that fail
		}
	}
	return nil, fmt.Errorf("this machine is too busy to soak: %v were too short to tell growth from noise", 4*soak.Shortest)
}
