package command

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// testRun is a run in an empty workspace; what it logs goes to the returned buffer.
func testRun(t *testing.T) (Run, *bytes.Buffer) {
	t.Helper()
	t.Setenv("ZT_OUT", filepath.Join(t.TempDir(), "out"))
	t.Setenv("ZT_CACHE", t.TempDir())
	w, err := workspace.At("../..")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	return Run{Workspace: w, Log: progress.To(&log)}, &log
}

func soakMinute(ctx context.Context, r Run) error { return Soak(ctx, r, time.Minute) }
func soakSecond(ctx context.Context, r Run) error { return Soak(ctx, r, time.Second) }

// TestBadInput gives commands what a person may get wrong: each must say which thing it is, before doing anything.
func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		name, variable, value string
		command               func(context.Context, Run) error
		want                  string
	}{
		{"an unknown target", "ZT_TARGET", "zen9", Build, `no target "zen9"`},
		{"an unknown target to tune", "ZT_TARGET", "zen9", Tune, `no target "zen9"`},
		{"an unknown target to release", "ZT_TARGET", "zen9", Release, `no target "zen9"`},
		{"a release of the development target", "ZT_TARGET", "bringup", Release, "cannot be released"},
		{"no model to soak", "ZT_MODEL", "missing.gguf", soakMinute, "ZT_MODEL: stat missing.gguf"},
		{"no time to soak", "ZT_MODEL", "", soakSecond, "-duration=1s is too short"},
		{"no number of rounds", "ZT_ROUNDS", "many", Verify, "ZT_ROUNDS=many"},
		{"too few rounds", "ZT_ROUNDS", "2", Verify, "ZT_ROUNDS=2 is not a number of 3 or more"},
		{"a peer without a name", "ZT_PEERS", "/nowhere", Verify, `ZT_PEERS: "/nowhere" is not NAME=FOLDER`},
		{"a peer that is not there", "ZT_PEERS", "ik=/nowhere", Bench, "ZT_PEERS: ik: stat /nowhere/llama-bench"},
		{"a bench of accuracy", "ZT_ACCURACY_ONLY", "1", Bench, "leaves nothing to measure"},
		{"an unknown type", "ZT_TYPES", "q4_K,q9_K", Types, `ZT_TYPES: there is no "q9_K"; there are q4_0 q4_1 `},
		{"an unknown model with experts", "ZT_TYPES", "moe64-q5_K", Types, "moe64-q4_K moe64-q8_0 moe8-q4_K moe8-q8_0"},
		{"a type twice", "ZT_TYPES", "q4_K, Q4_k", Types, "ZT_TYPES: q4_K is named twice"},
		{"no type", "ZT_TYPES", ",", Types, `ZT_TYPES: there is no ""`},
		{"a single turn", "ZT_ROUNDS", "1", Types, "ZT_ROUNDS=1 is not a number of 2 or more"},
		{"watts without a price", "ZT_WATTS", "100", Verify, "ZT_PRICE_KWH is not set"},
		{"no report to show", "ZT_LOG", "0", ReportPage, "`mage verify` writes it"},
		{"no report to take numbers from", "ZT_LOG", "0", ReportReadme, "`mage verify` writes it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := testRun(t)
			t.Setenv(c.variable, c.value)
			err := c.command(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
			if log.Len() > 0 {
				t.Errorf("it began: %s", log)
			}
		})
	}
}

// TestOneRunAtATime holds the workspace and starts every command that writes to it.
func TestOneRunAtATime(t *testing.T) {
	r, _ := testRun(t)
	t.Setenv("ZT_TARGET", "zen5")
	unlock, err := r.Workspace.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for name, command := range map[string]func(context.Context, Run) error{
		"soak": soakMinute, "build": Build, "verify": Verify, "mutants": Mutants, "bench": Bench, "types": Types, "faults": Faults, "release": Release, "model": Model, "reference": Reference, "clean": Clean, "patch:apply": PatchApply, "patch:extract": PatchExtract,
	} {
		if err := command(t.Context(), r); err == nil || !strings.Contains(err.Error(), "another run") {
			t.Errorf("%s beside another run: %v", name, err)
		}
	}
}

func TestClean(t *testing.T) {
	r, _ := testRun(t)
	if err := os.MkdirAll(r.Workspace.Bin(), 0o755); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(r.Workspace.Cache, "kept")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Clean(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Workspace.Out); !os.IsNotExist(err) {
		t.Errorf("out is still there: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the cache is gone: %v", err)
	}
}

// TestInterrupted cancels a run before its first step: it ends with the cause and starts nothing.
func TestInterrupted(t *testing.T) {
	r, log := testRun(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Build(ctx, r); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%v", err)
	}
	if log.Len() > 0 {
		t.Errorf("it began: %s", log)
	}
}
