package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/build"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gate"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
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
			programs = append(programs, gate.ArchsProgram, "llama-imatrix")
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
// type and a mix, and random ones of other shapes, of which one has rows and heads that fill no tile and no vector and one has experts.
func (r Run) smallModels(ctx context.Context, stock build.Build) ([]gate.Model, error) {
	trained, err := reference.Make(ctx, r.Log, r.Workspace)
	if err != nil {
		return nil, err
	}
	files := reference.In(r.Workspace)
	importance, err := r.importance(ctx, stock, files)
	if err != nil {
		return nil, err
	}
	var models []gate.Model
	add := func(m gate.Model) {
		m.Tokens = files.Tokens
		models = append(models, m)
	}
	for _, name := range []string{"q8_0", "f32", "f16", "bf16", "q4_k_m"} {
		path := trained
		if name != "bf16" {
			if path, err = r.quantized(ctx, stock, trained, "reference", name); err != nil {
				return nil, err
			}
		}
		m := gate.Float("reference-"+name, path)
		switch name {
		case "q8_0":
			m = gate.Small(m.Name, path)
			m.Text = files.HeldOut
		case "q4_k_m":
			m = gate.Small(m.Name, path)
		}
		add(m)
	}
	for _, s := range weight.Specs() {
		t, err := gguf.ParseType(s.Name)
		if err != nil {
			return nil, err
		}
		if t == gguf.Q8_0 { // it is there already
			continue
		}
		path, err := r.pure(ctx, stock, trained, "reference", t, importance)
		if err != nil {
			return nil, err
		}
		m := gate.Brief("reference-"+t.String(), path)
		m.Identity = t == gguf.Q4_0 || t == gguf.IQ4_XS
		add(m)
	}
	tiny, err := r.synthetic(ctx, stock, "tiny")
	if err != nil {
		return nil, err
	}
	models = append(models, gate.Small("tiny-q8_0", tiny))
	for _, weights := range []string{"bf16", "f16", "f32"} { // the trained model's F16 and F32 come from BF16
		path, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), "tiny64", weights)
		if err != nil {
			return nil, err
		}
		models = append(models, gate.Float("tiny64-"+weights, path))
	}
	for _, weights := range []string{"bf16", "f16"} {
		path, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), "tiny-moe", weights)
		if err != nil {
			return nil, err
		}
		models = append(models, gate.FloatExperts("tiny-moe-"+weights, path))
	}
	experts, err := model.Make(ctx, r.Log, r.Workspace, r.Workspace.Src(workspace.Variant{}), "tiny-moe", "f16")
	if err != nil {
		return nil, err
	}
	for _, t := range []gguf.Type{gguf.Q8_0, gguf.Q4_K} {
		path, err := r.pure(ctx, stock, experts, "tiny-moe", t, "")
		if err != nil {
			return nil, err
		}
		m := gate.Experts("tiny-moe-"+t.String(), path)
		m.Identity = t == gguf.Q8_0 // with Q4_K stock's own bits depend on the batch, and little could be asked of ours
		models = append(models, m)
	}
	return models, nil
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

// importance has stock's llama-imatrix measure how much each column of the trained model's matrices matters, without which some types cannot
// be quantized. The text is the one that the results are judged on: it makes no difference here how well a type predicts it.
func (r Run) importance(ctx context.Context, stock build.Build, files reference.Files) (string, error) {
	return r.made(ctx, "imatrix", files.Model, filepath.Join(r.Workspace.Models(), "reference-imatrix.gguf"), func(ctx context.Context, to string) *exec.Cmd {
		return child.Command(ctx, filepath.Join(stock.Bin, "llama-imatrix"), "-m", files.Model, "-f", files.HeldOut,
			"-c", strconv.Itoa(reference.Context), "--chunks", "8", "--process-output", "--no-ppl", "--output-format", "gguf", "-o", to)
	})
}

// quantized has stock's llama-quantize turn the model at source into one of weights of a type or a mix, which it keeps under name and type.
func (r Run) quantized(ctx context.Context, stock build.Build, source, name, weights string) (string, error) {
	return r.made(ctx, "quantize", source, r.stocks(name, weights), func(ctx context.Context, to string) *exec.Cmd {
		return child.Command(ctx, filepath.Join(stock.Bin, "llama-quantize"), source, to, strings.ToUpper(weights))
	})
}

// pure is quantized for a type that every matrix is to have. Types that need an importance get it from a file that importance made. It says
// nothing of the embedding, for which those have another type then.
func (r Run) pure(ctx context.Context, stock build.Build, source, name string, t gguf.Type, importance string) (string, error) {
	var args []string
	if importance != "" {
		args = append(args, "--imatrix", importance)
	}
	if slices.Contains([]gguf.Type{gguf.IQ1_S, gguf.IQ2_XXS, gguf.IQ2_XS}, t) {
		args = append(args, "--token-embedding-type", gguf.Q4_K.String())
	}
	args = append(args, "--tensor-type", "weight="+t.String())
	return r.made(ctx, "quantize", source, r.stocks(name, "pure-"+t.String()), func(ctx context.Context, to string) *exec.Cmd {
		// The last argument is the type of what the pattern leaves out, which is nothing.
		return child.Command(ctx, filepath.Join(stock.Bin, "llama-quantize"), append(args, source, to, "Q8_0")...)
	})
}

// stocks is where what stock's programs make of a model is kept.
func (r Run) stocks(name, what string) string {
	return filepath.Join(r.Workspace.Models(), name+"-stock-"+what+".gguf")
}

// made has a command write the file at path from source, unless it has already done so.
func (r Run) made(ctx context.Context, step, source, path string, command func(ctx context.Context, to string) *exec.Cmd) (string, error) {
	return path, r.Log.Step(ctx, step, func(ctx context.Context, s *progress.Step) error {
		s.Did("%s", path)
		made, err := os.Stat(source)
		if err != nil {
			return err
		}
		if have, err := os.Stat(path); err == nil && !have.ModTime().Before(made.ModTime()) {
			return nil
		}
		var output bytes.Buffer
		cmd := command(ctx, path+".partial")
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s %s: %w\n%s", filepath.Base(cmd.Path), source, err, output.String())
		}
		return os.Rename(path+".partial", path)
	})
}
