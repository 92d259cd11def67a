package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// weights is a model that Types measures.
type weights struct {
	name  string // in ZT_TYPES
	shape string
	spec  *weight.Spec // nil for float weights

	float string // what they are stored in and came from, as gen/model calls it
	code  string // value of ZT_CODE
}

// allWeights are every type in the dense shape, and two of them in those with experts; then float weights of the dense shape, with the
// code that is chosen for them and, of BF16 ones, with the one of 12 bits, and those with the statistics of a trained model.
func allWeights() []weights {
	var list []weights
	for _, s := range weight.Specs() {
		list = append(list, weights{name: ggmlName(s), shape: "1b", spec: s})
	}
	for _, shape := range []string{"moe64", "moe8"} {
		for _, s := range weight.Specs() {
			if s.Name == "Q4_K" || s.Name == "Q8_0" {
				list = append(list, weights{name: shape + "-" + ggmlName(s), shape: shape, spec: s})
			}
		}
	}
	slices.SortStableFunc(list[len(weight.Specs()):], func(a, b weights) int { return strings.Compare(a.name, b.name) })
	for _, float := range []string{"bf16", "f16", "f16-of-bf16", "f32-of-bf16"} {
		list = append(list, weights{name: float, shape: "1b", float: float, code: "auto"})
		if strings.HasPrefix(float, "bf16") || strings.HasPrefix(float, "f32") {
			list = append(list, weights{name: float + "@12", shape: "1b", float: float, code: "12"})
		}
	}
	return append(list, weights{name: "trained-bf16", shape: "1b-trained", float: "bf16", code: "auto"})
}

// ggmlName is the name of a type as ggml has it: q4_K.
func ggmlName(s *weight.Spec) string {
	name := strings.ToLower(s.Name)
	if strings.HasSuffix(name, "_k") {
		name = strings.TrimSuffix(name, "k") + "K"
	}
	return name
}

// chosenWeights are those that the value of ZT_TYPES names, in the order of all; upper and lower case are alike. Without a value it is all.
func chosenWeights(text string) ([]weights, error) {
	all := allWeights()
	if text == "" {
		return all, nil
	}
	var names []string
	for _, w := range all {
		names = append(names, w.name)
	}
	chosen := make([]bool, len(all))
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, item) })
		if i < 0 {
			return nil, fmt.Errorf("ZT_TYPES: there is no %q; there are %s", item, strings.Join(names, " "))
		}
		if chosen[i] {
			return nil, fmt.Errorf("ZT_TYPES: %s is named twice", names[i])
		}
		chosen[i] = true
	}
	var list []weights
	for i, w := range all {
		if chosen[i] {
			list = append(list, w)
		}
	}
	return list, nil
}

// Types measures the speed of every type of weights beside stock. ZT_TYPES names some of them; ZT_ROUNDS sets how often builds take
// turns. It goes on with a run of its kind that was interrupted.
func Types(ctx context.Context, r Run) error {
	chosen, err := chosenWeights(os.Getenv("ZT_TYPES"))
	if err != nil {
		return err
	}
	rounds, err := roundsOr(gate.MinTypeRounds, gate.MinTypeRounds)
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
		stock, err := build.Stock(ctx, r.Workspace, r.Log, tuned.Target, "zt-probe", "llama-bench", "llama-batched-bench")
		if err != nil {
			return err
		}
		scratch := filepath.Join(r.Workspace.Models(), "types")
		if err := os.RemoveAll(scratch); err != nil { // what a killed run left
			return err
		}
		defer os.RemoveAll(scratch)
		models, err := r.typeModels(chosen, scratch)
		if err != nil {
			return err
		}
		found, err := gate.Types(ctx, r.Workspace, r.Log, gate.TypesOptions{
			Stock: stock.Bin, Tuned: tuned.Bin, Weights: models, Some: len(chosen) < len(allWeights()), Threads: runtime.NumCPU(), Rounds: rounds,
			Date: time.Now().UTC(), Environment: describe(tuned, report.Environment{}),
		})
		if len(found.Results) > 0 {
			err = errors.Join(err, found.TypesTable(os.Stdout))
			fmt.Printf("report: %s\n", filepath.Join(r.Workspace.Report(), report.TypesName))
		}
		return err
	})
}

// parameters is more than any model of Types has.
const parameters = 1.4e9

// typeModels says where the chosen models are or are to be written, one at a time, to the folder scratch.
func (r Run) typeModels(chosen []weights, scratch string) ([]gate.Weights, error) {
	var list []gate.Weights
	need := 0.0
	for _, w := range chosen {
		shape, err := model.Find(w.shape)
		if err != nil {
			return nil, err
		}
		m := gate.Weights{Name: "1b-" + w.name, Type: w.float, Code: w.code}
		types := w.float
		if w.spec != nil {
			types = ggmlName(w.spec)
			m.Name, m.Type = w.shape+"-"+types, w.spec.Name
			m.Grid, m.Experts = w.spec.Grid != nil, shape.Experts > 0
		}
		mix, err := model.ParseMix(types)
		if err != nil {
			return nil, err
		}
		m.Bits = mix.Bits()
		file := w.shape + "-" + types + ".gguf"
		m.Path = filepath.Join(r.Workspace.Models(), file)
		if _, err := os.Stat(m.Path); err == nil {
			m.Kept = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		} else {
			m.Path = filepath.Join(scratch, file)
			need = max(need, m.Bits/8*parameters)
		}
		m.Write = func(ctx context.Context, s *progress.Step) error {
			return model.Write(ctx, s, shape, shape.VocabularyIn(r.Workspace.Src(workspace.Variant{})), model.Seed, mix, m.Path)
		}
		list = append(list, m)
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(scratch, &disk); err != nil {
		return nil, fmt.Errorf("%s: %w", scratch, err)
	}
	if free := float64(disk.Bavail) * float64(disk.Bsize); free < need {
		return nil, fmt.Errorf("%s has %.1f GB free, and the largest model takes up to %.1f GB; make room, or name another folder with ZT_OUT", r.Workspace.Models(), free/1e9, need/1e9)
	}
	return list, nil
}
