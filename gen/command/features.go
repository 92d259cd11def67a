package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// surveyModel is a synthetic model to measure on.
type surveyModel struct {
	shape, types string
	special      bool // for features that name it
}

func (m surveyModel) name() string { return m.shape + "-" + m.types }

// featureModels are what Features measures: narrow layers, where waiting shows, wide ones, where bytes do, and float weights for BLAS.
var featureModels = []surveyModel{
	{shape: "0.5b", types: "q8_0"}, {shape: "0.5b", types: "q4_0"}, {shape: "1b", types: "q4_k_m"}, {shape: "1b", types: "q8_0"},
	{shape: "1b", types: "f16", special: true},
}

// Features measures each feature of the runtime off and on, and all together. ZT_FEATURES names some of them, ZT_ROUNDS sets how often
// they take turns, ZT_BUILDS the builds. It goes on with a run of its kind that was interrupted.
func Features(ctx context.Context, r Run) error {
	rounds, err := roundsOr(gate.MinTypeRounds, gate.MinTypeRounds)
	if err != nil {
		return err
	}
	return r.survey(ctx, func(b builds) error {
		machine := gate.ReadMachine("/sys")
		all := gate.AllFeatures(filepath.Join(b.tuned, preloadLibrary), machine)
		chosen, err := chosenFeatures(all, os.Getenv("ZT_FEATURES"))
		if err != nil {
			return err
		}
		wanted := slices.DeleteFunc(slices.Clone(featureModels), func(m surveyModel) bool {
			return m.special && !slices.ContainsFunc(chosen, func(f gate.Feature) bool { return slices.Contains(f.Models, m.name()) })
		})
		models, err := r.surveyModels(ctx, wanted)
		if err != nil {
			return err
		}
		found, err := gate.Features(ctx, r.Workspace, r.Log, gate.FeaturesOptions{
			Stock: b.stock, Tuned: b.tuned, Features: chosen, Some: len(chosen) < len(all), Models: models, Machine: machine,
			Threads: runtime.NumCPU(), Rounds: rounds, Date: time.Now().UTC(), Environment: b.environment,
		})
		if len(found.Results) > 0 {
			err = errors.Join(err, found.FeaturesTable(os.Stdout))
			fmt.Printf("report: %s\n", filepath.Join(r.Workspace.Report(), report.FeaturesName))
		}
		return err
	})
}

// preloadLibrary lies beside the tuned programs.
const preloadLibrary = "libzenturbo-preload.so"

// chosenFeatures are those that text names, in the order of all; all of them where it is empty.
func chosenFeatures(all []gate.Feature, text string) ([]gate.Feature, error) {
	if text == "" {
		return all, nil
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	var list []gate.Feature
	wanted := strings.Split(text, ",")
	for i, name := range wanted {
		wanted[i] = strings.TrimSpace(name)
		if !slices.Contains(names, wanted[i]) {
			return nil, fmt.Errorf("ZT_FEATURES: there is no %q; there are %s", wanted[i], strings.Join(names, " "))
		}
	}
	for _, f := range all {
		if slices.Contains(wanted, f.Name) {
			list = append(list, f)
		}
	}
	return list, nil
}

// builds are the folders of programs that a survey measures.
type builds struct {
	stock, tuned string
	environment  report.Environment
}

// survey runs f as the only run in the workspace, with the stock and the tuned build, or with those that ZT_BUILDS names, which may have
// been carried here from another machine.
func (r Run) survey(ctx context.Context, f func(builds) error) error {
	return r.locked(func() error {
		if text := os.Getenv("ZT_BUILDS"); text != "" {
			b, err := carried(ctx, text)
			if err != nil {
				return err
			}
			return f(b)
		}
		tuned, err := r.tuned(ctx)
		if err != nil {
			return err
		}
		if err := runsHere(tuned.Target, "measure it"); err != nil {
			return err
		}
		stock, err := build.Stock(ctx, r.Workspace, r.Log, tuned.Target, "zt-probe", "llama-bench", "llama-batched-bench")
		if err != nil {
			return err
		}
		return f(builds{stock.Bin, tuned.Bin, describe(tuned, report.Environment{})})
	})
}

// carried are the builds that text names: stock's folder, a comma, the tuned one's.
func carried(ctx context.Context, text string) (builds, error) {
	stock, tuned, ok := strings.Cut(text, ",")
	if !ok {
		return builds{}, fmt.Errorf("ZT_BUILDS=%s does not name two folders of programs: stock,tuned", text)
	}
	b := builds{stock: stock, tuned: tuned}
	for _, dir := range []*string{&b.stock, &b.tuned} {
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return b, err
		}
	}
	// It says "built with Clang 19.1.7 for Linux x86_64" and "llama-zen-turbo 0.1.0, target zen5, BLAS: ...".
	stdout, stderr, err := program.Build{Name: "tuned", Bin: b.tuned}.Output(ctx, "llama-cli", "--version")
	if err != nil {
		return b, err
	}
	said := strings.Join(strings.Fields(string(stdout)+" "+string(stderr)), " ")
	between := func(before, behind string) string {
		_, rest, _ := strings.Cut(said, before)
		word, _, _ := strings.Cut(rest, behind)
		return word
	}
	b.environment.Toolchain, b.environment.Target, b.environment.Compiler = between("llama-zen-turbo ", ","), between("target ", ","), between("built with ", " for ")
	b.environment.Notes = []string{"builds brought here: " + said}
	return b, nil
}

// surveyModels are synthetic models of these shapes and types, or the one that ZT_MODEL names.
func (r Run) surveyModels(ctx context.Context, list []surveyModel) ([]gate.FeatureModel, error) {
	if path := os.Getenv("ZT_MODEL"); path != "" {
		return []gate.FeatureModel{{Name: strings.TrimSuffix(filepath.Base(path), ".gguf"), Path: path}}, nil
	}
	var models []gate.FeatureModel
	for _, x := range list {
		path, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), x.shape, x.types)
		if err != nil {
			return nil, err
		}
		models = append(models, gate.FeatureModel{Name: x.name(), Path: path, Special: x.special})
	}
	return models, nil
}
