//go:build mage

// The targets of llama-zen-turbo. Each is a call of a tested package under gen/.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/magefile/mage/mg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/command"
)

// Default is what plain `mage` runs.
var Default = Build

// Build makes the tuned llama.cpp programs in out/bin (ZT_TARGET=zen5|bringup; default: what this CPU runs).
func Build(ctx context.Context) error { return run(ctx, command.Build) }

// Test runs all tests that need no llama.cpp build: packages, kernels through the checker, generated files.
func Test(ctx context.Context) error { return run(ctx, command.Test) }

// Verify compares the tuned build with stock: accuracy, then speed; writes out/report (ZT_ACCURACY_ONLY=1 skips speed).
func Verify(ctx context.Context) error { return run(ctx, command.Verify) }

// Bench measures speeds at leisure: 12 turns of each, half an hour and more; writes out/report/bench (ZT_ROUNDS, ZT_MODEL, ZT_PEERS).
func Bench(ctx context.Context) error { return run(ctx, command.Bench) }

// Types measures every type of weights beside stock, in under half an hour; writes out/report/types.json (ZT_TYPES, ZT_ROUNDS).
func Types(ctx context.Context) error { return run(ctx, command.Types) }

// Features measures each feature of the runtime off and on, and all together; writes out/report/features.json (ZT_FEATURES, ZT_ROUNDS).
func Features(ctx context.Context) error { return run(ctx, command.Features) }

// Scaling measures stock and tuned with 1, 2, 4 ... threads; writes out/report/scaling.json (ZT_BUILDS, ZT_MODEL, ZT_ROUNDS).
func Scaling(ctx context.Context) error { return run(ctx, command.Scaling) }

// Flags builds with other compiler choices and compares each with the default; writes out/report/flags.json (ZT_FLAGS, ZT_MODEL, ZT_ROUNDS).
func Flags(ctx context.Context) error { return run(ctx, command.Flags) }

// BLAS compares products of float weights by our kernels, stock's and BLAS libraries; writes out/report/blas.json (ZT_BLAS_LIBS, ZT_ROUNDS).
func BLAS(ctx context.Context) error { return run(ctx, command.BLAS) }

// Soak keeps llama-server busy and checks answers, leaks and latency; writes out/report/soak.json (-duration=24h; 10m without).
func Soak(ctx context.Context, duration *time.Duration) error {
	length := 10 * time.Minute
	if duration != nil {
		length = *duration
	}
	return run(ctx, func(ctx context.Context, r command.Run) error { return command.Soak(ctx, r, length) })
}

// Mutants breaks builds on purpose and checks that the gates notice: about ten minutes.
func Mutants(ctx context.Context) error { return run(ctx, command.Mutants) }

// Roofline measures what this machine can do at best: bytes read, int8, float32 and bfloat16 arithmetic, by threads.
func Roofline(ctx context.Context) error { return run(ctx, command.Roofline) }

// Tune measures the kernels beside their bounds, tiles and cache blocks; writes gen/target/tune (one minute; ZT_TARGET).
func Tune(ctx context.Context) error { return run(ctx, command.Tune) }

// Entropy writes into avo/code/ENTROPY.md how few bits weights of each type could be stored in; of ZT_MODEL, if set, it prints that.
func Entropy(ctx context.Context) error { return run(ctx, command.Entropy) }

// Faults puts the build through missing memory and huge pages, kills, broken files; writes out/report/faults.json.
func Faults(ctx context.Context) error { return run(ctx, command.Faults) }

// Release packages the verified zen5 build into out/dist.
func Release(ctx context.Context) error { return run(ctx, command.Release) }

// Doctor shows what this machine has and lacks, and every ZT_* switch.
func Doctor(ctx context.Context) error { return run(ctx, command.Doctor) }

// Generate remakes the committed generated files: Go assembly, its declarations and tables.
func Generate(ctx context.Context) error { return run(ctx, command.Generate) }

// Model writes a synthetic GGUF into out/models (ZT_SHAPE=1b|0.5b|moe64|moe8|tiny|tiny64|tiny256|tiny-moe|tiny-bert, ZT_TYPE=q8_0, any other type, a mix such as q4_k_m, or lora).
func Model(ctx context.Context) error { return run(ctx, command.Model) }

// Report holds the targets that show the last report again.
type Report mg.Namespace

// Page writes out/report/index.html again, with the ZT_WATTS and ZT_PRICE_KWH of now.
func (Report) Page(ctx context.Context) error { return run(ctx, command.ReportPage) }

// Readme writes what verify, types, features and scaling last measured into the README.
func (Report) Readme(ctx context.Context) error { return run(ctx, command.ReportReadme) }

// Reference trains the reference model again (half an hour of processor time) and says whether it is the committed one.
func Reference(ctx context.Context) error { return run(ctx, command.Reference) }

// Clean removes out/. Downloads and compiled objects stay cached.
func Clean(ctx context.Context) error { return run(ctx, command.Clean) }

// Patch holds the targets of the patch queue.
type Patch mg.Namespace

// Apply makes out/src the pinned tree plus the queue.
func (Patch) Apply(ctx context.Context) error { return run(ctx, command.PatchApply) }

// Extract rewrites patches/ from the commits in out/src.
func (Patch) Extract(ctx context.Context) error { return run(ctx, command.PatchExtract) }

// Check proves that the queue applies cleanly and that extracting it again changes nothing.
func (Patch) Check(ctx context.Context) error { return run(ctx, command.PatchCheck) }

// run gives f the workspace and a context that the first Ctrl-C cancels.
func run(ctx context.Context, f func(context.Context, command.Run) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return command.Do(ctx, f)
}
