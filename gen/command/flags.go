package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/flags"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// flagRounds is how often each choice takes turns with the default, and the least that ZT_ROUNDS may ask for.
const (
	flagRounds    = 6
	minFlagRounds = 2
)

// Flags builds zt-probe with each choice of compiler flags (ZT_FLAGS names some) and compares them with the default
// build, on small models or on ZT_MODEL.
func Flags(ctx context.Context, r Run) error {
	chosen, err := flags.Chosen(os.Getenv("ZT_FLAGS"))
	if err != nil {
		return err
	}
	rounds, err := roundsOr(flagRounds, minFlagRounds)
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
		models, err := r.flagModels(ctx)
		if err != nil {
			return err
		}
		found, err := flags.Measure(ctx, r.Workspace, r.Log, flags.Options{
			Base: tuned, Choices: chosen, Models: models, Threads: runtime.NumCPU(), Rounds: rounds,
			Date: time.Now().UTC(), Environment: describe(tuned, report.Host()),
		})
		if err != nil {
			return err
		}
		return r.publish(found, report.ChoicesName, report.Report.ChoicesTable)
	})
}

// flagModels are the models that choices are measured on.
func (r Run) flagModels(ctx context.Context) ([]flags.Model, error) {
	if path := os.Getenv("ZT_MODEL"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("ZT_MODEL: %w", err)
		}
		return []flags.Model{{Name: filepath.Base(path), Path: path}}, nil
	}
	var models []flags.Model
	for _, m := range []struct{ shape, weights string }{{"0.5b", "q8_0"}, {"1b", "q4_k_m"}} {
		path, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), m.shape, m.weights)
		if err != nil {
			return nil, err
		}
		models = append(models, flags.Model{Name: m.shape + "-" + m.weights, Path: path})
	}
	return models, nil
}

// roundsOr reads ZT_ROUNDS, which must be least or more.
func roundsOr(otherwise, least int) (int, error) {
	text := os.Getenv("ZT_ROUNDS")
	if text == "" {
		return otherwise, nil
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < least {
		return 0, fmt.Errorf("ZT_ROUNDS=%s is not a number of %d or more", text, least)
	}
	return rounds, nil
}

// publish prints a report as table does and writes it to the folder of reports under a name.
func (r Run) publish(found report.Report, name string, table func(report.Report, io.Writer) error) error {
	if err := errors.Join(table(found, os.Stdout), found.WriteSurvey(r.Workspace.Report(), name)); err != nil {
		return err
	}
	fmt.Printf("report: %s\n", filepath.Join(r.Workspace.Report(), name))
	return nil
}
