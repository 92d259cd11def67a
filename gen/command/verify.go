package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/model"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/reference"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Verify builds the chosen target and stock, and holds the one to the other. ZT_ACCURACY_ONLY=1 leaves timing out; ZT_MODEL
// names a GGUF to measure instead of the synthetic models; ZT_ROUNDS sets how often builds take turns at each speed; ZT_PEERS names
// builds of other engines to measure beside them. It goes on with a run of its kind that was interrupted.
func Verify(ctx context.Context, r Run) error { return r.compare(ctx, false) }

// Bench is the long form of Verify's speed measurements, and nothing else.
func Bench(ctx context.Context, r Run) error { return r.compare(ctx, true) }

func (r Run) compare(ctx context.Context, speedOnly bool) error {
	accuracyOnly := os.Getenv("ZT_ACCURACY_ONLY") == "1"
	if accuracyOnly && speedOnly {
		return errors.New("ZT_ACCURACY_ONLY=1 leaves nothing to measure; unset it, or `mage verify`")
	}
	rounds := 0
	if text := os.Getenv("ZT_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < gate.MinRounds {
			return fmt.Errorf("ZT_ROUNDS=%s is not a number of %d or more", text, gate.MinRounds)
		}
	}
	peers, err := throughput.Peers(os.Getenv("ZT_PEERS"))
	if err != nil {
		return err
	}
	if _, _, err := report.PriceOf(os.Getenv); err != nil {
		return err
	}
	return r.locked(func() error {
		var tests []string
		if !speedOnly {
			tests = gate.UpstreamTests
		}
		tuned, err := r.tuned(ctx, tests...)
		if err != nil {
			return err
		}
		if err := runsHere(tuned.Target, "verify it"); err != nil {
			return err
		}
		programs := []string{"zt-probe", "llama-quantize"}
		if !accuracyOnly {
			programs = append(programs, "llama-bench", "llama-batched-bench")
		}
		ours := !speedOnly && os.Getenv("ZT_MODEL") == "" // our own models, and upstream's of every architecture
		if ours {
			programs = append(programs, gate.ArchsProgram)
			programs = append(programs, gate.OpinionPrograms...)
			programs = append(programs, gate.CompatibilityPrograms...)
		}
		stock, err := build.Stock(ctx, r.Workspace, r.Log, tuned.Target, programs...)
		if err != nil {
			return err
		}
		if !ours {
			stock.Tests = ""
		}
		models, err := r.models(ctx, stock, accuracyOnly, speedOnly)
		if err != nil {
			return err
		}
		var others *gate.Compatibility
		if ours {
			if others, err = r.compatibility(ctx, stock); err != nil {
				return err
			}
		}
		threads := runtime.NumCPU()
		found, err := gate.Verify(ctx, r.Workspace, r.Log, gate.Options{
			Stock: stock.Bin, Tuned: tuned.Bin, Tests: tuned.Tests, StockTests: stock.Tests, Models: models,
			Compatibility: others, AccuracyOnly: accuracyOnly, SpeedOnly: speedOnly, Threads: threads, Rounds: rounds, Peers: peers,
			Roofline: func(ctx context.Context, count func(int, int, string)) (roofline.Limits, error) {
				return roofline.Measure(ctx, threads, count)
			},
			Date:        time.Now().UTC(),
			Environment: describe(tuned, report.Environment{}),
		})
		if len(found.Results) > 0 {
			if tableErr := found.Table(os.Stdout, os.Getenv("ZT_LOG") == "1"); tableErr != nil {
				return errors.Join(err, tableErr)
			}
			folder := r.Workspace.Report()
			if speedOnly {
				folder = r.Workspace.Bench()
			}
			fmt.Printf("report: %s\n", folder)
		}
		return err
	})
}

// models returns what to measure: the user's GGUF, or the trained reference model and synthetic ones in the types that stock's own
// llama-quantize makes of them.
func (r Run) models(ctx context.Context, stock build.Build, accuracyOnly, speedOnly bool) ([]gate.Model, error) {
	if path := os.Getenv("ZT_MODEL"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("ZT_MODEL: %w", err)
		}
		return []gate.Model{gate.Full(strings.TrimSuffix(filepath.Base(path), ".gguf"), path)}, nil
	}
	var models []gate.Model
	if !speedOnly {
		small, err := r.smallModels(ctx, stock)
		if err != nil {
			return nil, err
		}
		models = small
	}
	if !accuracyOnly {
		large, err := r.synthetic(ctx, stock, "1b")
		if err != nil {
			return nil, err
		}
		models = append(models, gate.Full("1b-q8_0", large))
	}
	return models, nil
}

// smallModels returns those on which everything but speed is measured in seconds: the trained one with the text it never saw, in each
// type, and a random one of another shape, whose rows and heads fill no tile and no vector.
func (r Run) smallModels(ctx context.Context, stock build.Build) ([]gate.Model, error) {
	trained, err := reference.Make(ctx, r.Log, r.Workspace)
	if err != nil {
		return nil, err
	}
	files := reference.In(r.Workspace)
	var models []gate.Model
	for _, name := range []string{"q8_0", "f32", "f16", "bf16"} {
		path := trained
		if name != "bf16" {
			if path, err = r.quantized(ctx, stock, trained, "reference", name); err != nil {
				return nil, err
			}
		}
		m := gate.Float("reference-"+name, path)
		if name == "q8_0" {
			m = gate.Small(m.Name, path)
			m.Text = files.HeldOut
		}
		m.Tokens = files.Tokens
		models = append(models, m)
	}
	tiny, err := r.synthetic(ctx, stock, "tiny")
	return append(models, gate.Small("tiny-q8_0", tiny)), err
}

// compatibility returns the small models and adapters to try features on: dense and with experts, of one type and of several, trained and
// random.
func (r Run) compatibility(ctx context.Context, stock build.Build) (*gate.Compatibility, error) {
	var err error
	write := func(shape, weights string) (m gate.Model) {
		if err == nil {
			m.Name = shape + "-" + weights
			m.Path, err = model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), shape, weights)
		}
		return m
	}
	adapted := func(m gate.Model, shape string) (a gate.Adapted) {
		if a.Model = m; err == nil {
			a.Adapter, err = model.MakeAdapter(ctx, r.Log, r.Workspace, shape)
		}
		return a
	}
	files := reference.In(r.Workspace)
	trained := gate.Model{Name: "reference-q8_0", Tokens: files.Tokens}
	if trained.Path, err = r.quantized(ctx, stock, files.Model, "reference", "q8_0"); err != nil {
		return nil, err
	}
	dense, experts := write("tiny", "q8_0"), write("tiny-moe", "q4_k_m")
	return &gate.Compatibility{
		Adapted:   []gate.Adapted{adapted(dense, "tiny"), adapted(experts, "tiny-moe")},
		Cached:    []gate.Model{trained, experts},
		Served:    []gate.Model{trained, experts},
		Encoders:  []gate.Model{write("tiny-bert", "q8_0"), write("tiny-bert", "q4_K")},
		Quantized: files.Model,
	}, err
}

// synthetic makes the F16 model of a shape and returns it as Q8_0.
func (r Run) synthetic(ctx context.Context, stock build.Build, shape string) (string, error) {
	f16, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), shape, "f16")
	if err != nil {
		return "", err
	}
	return r.quantized(ctx, stock, f16, shape, "q8_0")
}

// quantized has stock's llama-quantize turn the model at source into one of weights of a type, which it keeps under name and type.
func (r Run) quantized(ctx context.Context, stock build.Build, source, name, weights string) (string, error) {
	path := filepath.Join(r.Workspace.Models(), name+"-stock-"+weights+".gguf")
	return path, r.Log.Step(ctx, "quantize", func(ctx context.Context, s *progress.Step) error {
		s.Did("%s", path)
		made, err := os.Stat(source)
		if err != nil {
			return err
		}
		if have, err := os.Stat(path); err == nil && !have.ModTime().Before(made.ModTime()) {
			return nil
		}
		var output bytes.Buffer
		cmd := child.Command(ctx, filepath.Join(stock.Bin, "llama-quantize"), source, path+".partial", strings.ToUpper(weights))
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("llama-quantize %s: %w\n%s", source, err, output.String())
		}
		return os.Rename(path+".partial", path)
	})
}
