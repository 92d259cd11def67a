package fault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Scenarios that use everything the real ones do.
var (
	answers = scenario{"answers", "the right answer", func(ctx context.Context, l *lab) (string, error) {
		for range 2 {
			e, err := l.run(ctx, l.completion(l.model).env("ZT_HUGEPAGES=thp"))
			if err == nil {
				err = l.answered(ctx, e, l.completion(l.model))
			}
			if err == nil {
				_, err = e.said("fallback")
			}
			if err != nil {
				return "", err
			}
		}
		return "the right answer", nil
	}}
	refuses = scenario{"refuses", "refused", func(ctx context.Context, l *lab) (string, error) {
		e, err := l.run(ctx, l.completion(filepath.Join(l.models, "none.gguf")))
		if err != nil {
			return "", err
		}
		return e.refused("no such model")
	}}
	serves = scenario{"serves", "the right answer", func(ctx context.Context, l *lab) (string, error) {
		want, err := l.serverAnswer(ctx, l.service(l.model))
		if err != nil {
			return "", err
		}
		s, err := l.serve(ctx, l.service(l.model), 0)
		if err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err == nil {
			err = same(s.call, answer, want)
		}
		if err != nil {
			return "", err
		}
		e, err := s.stop(ctx)
		return answer, firstError(err, e.failed())
	}}
	forgets = scenario{"forgets its server", "nothing left", func(ctx context.Context, l *lab) (string, error) {
		_, err := l.serve(ctx, l.service(l.model), 0)
		return "", err
	}}
)

// TestFaultsAreFound runs scenarios with programs that have one fault each.
func TestFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		fault    string
		scenario scenario
		want     string // in what the outcome says
	}{
		{"", answers, ""},
		{"", refuses, ""},
		{"", serves, ""},
		{"", forgets, "still running"},
		{"hangs", answers, "hung: it was still running after 300ms"},
		{"hangs", refuses, ""}, // it does not come to that
		{"dies", answers, "died by SIGKILL"},
		{"fails", answers, "exit status 1"},
		{"fails", answers, "out of cheese"},
		{"answers wrongly", answers, "wrong answer"},
		{"answers wrongly", serves, "wrong answer"},
		{"leaves a file", answers, "left a file behind: core"},
		{"leaves a process", answers, "left processes behind"},
		{"leaks pages", answers, "the huge page pool has 8 pages, 3 free"},
		{"says it twice", answers, `2 lines say "fallback"`},
		{"goes on", refuses, "went on as if nothing were wrong"},
		{"dies when asked", serves, "died by SIGKILL"},
		{"answers with an error", serves, "500 Internal Server Error"},
		{"ignores SIGTERM", serves, "hung"},
	} {
		t.Run(strings.TrimSpace(c.fault+" "+c.scenario.name), func(t *testing.T) {
			t.Parallel()
			l := fakeLab(t, c.fault)
			if c.fault == "hangs" {
				l.limit = 300 * time.Millisecond
			} else if c.fault == "ignores SIGTERM" {
				l.limit = 3 * time.Second
			}
			outcomes, err := l.all(t.Context(), progress.To(io.Discard), []scenario{c.scenario})
			if err != nil || len(outcomes) != 1 {
				t.Fatalf("%d outcomes, %v", len(outcomes), err)
			}
			o := outcomes[0]
			if c.want == "" {
				if o.Verdict != report.Pass {
					t.Errorf("%s: %s", o.Verdict, o.Got)
				}
			} else if o.Verdict != report.Fail || !strings.Contains(o.Got, c.want) {
				t.Errorf("%s: %s, want a failure that says %q", o.Verdict, o.Got, c.want)
			}
			if _, err := os.Stat(l.work); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder %s is still there", l.work)
			}
		})
	}
}

// TestOneFailureDoesNotHideTheNext runs a failing, a skipped and a good scenario, and looks at the report.
func TestOneFailureDoesNotHideTheNext(t *testing.T) {
	l := fakeLab(t, "says it twice")
	skipping := scenario{"needs root", "whatever", func(_ context.Context, l *lab) (string, error) {
		_, err := l.setPool(4)
		return "", err
	}}
	outcomes, err := l.all(t.Context(), progress.To(io.Discard), []scenario{answers, skipping, refuses})
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Version: Version, Outcomes: outcomes}
	if got := []report.Verdict{outcomes[0].Verdict, outcomes[1].Verdict, outcomes[2].Verdict}; got[0] != report.Fail || got[1] != Skip || got[2] != report.Pass {
		t.Errorf("verdicts %v", got)
	}
	if err := r.failure(); err == nil || !strings.HasPrefix(err.Error(), "1 of 3 fault scenarios fail: answers: ") {
		t.Errorf("%v, want the failed scenario's name", err)
	}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "changing the huge page pool needs root") {
		t.Errorf("%v: the table does not say why a scenario was skipped:\n%s", err, &table)
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, FileName)); err != nil || !bytes.Contains(text, []byte(`"verdict": "FAIL"`)) {
		t.Errorf("%v: %s", err, text)
	}
}

// TestInterrupt cancels a run while a server works: nothing of it stays.
func TestInterrupt(t *testing.T) {
	l := fakeLab(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	var s *server
	_, err := l.all(ctx, progress.To(io.Discard), []scenario{{"is interrupted", "", func(ctx context.Context, l *lab) (string, error) {
		var err error
		if s, err = l.serve(ctx, l.service(l.model), 0); err != nil {
			return "", err
		}
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err = s.wait(ctx)
		return "", err
	}}, forgets})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if s == nil || !s.ended() || !errors.Is(unix.Kill(s.pid, 0), unix.ESRCH) {
		t.Error("the server lives on")
	}
	if _, err := os.Stat(l.work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder %s is still there", l.work)
	}
}

// TestStandStill holds a program in the middle of its log, lets one go on and kills another.
func TestStandStill(t *testing.T) {
	l := fakeLab(t, "")
	outcomes, err := l.all(t.Context(), progress.To(io.Discard), []scenario{{"stands still", "", func(ctx context.Context, l *lab) (string, error) {
		s, err := l.standStill(ctx, l.greedy(l.model))
		if err != nil {
			return "", err
		}
		if e, err := s.finish(ctx, unix.SIGKILL); err != nil || endedBy(e, unix.SIGKILL) != nil {
			return "", firstError(err, endedBy(e, unix.SIGKILL))
		}
		if s, err = l.standStill(ctx, l.greedy(l.model)); err != nil {
			return "", err
		}
		e, err := s.goOn(ctx)
		if err == nil {
			err = l.answered(ctx, e, l.greedy(l.model))
		}
		if err == nil && !strings.Contains(e.stderr, "blk.99.ffn_up") {
			err = errors.New("the log's end is missing")
		}
		return "", err
	}}})
	if err != nil || outcomes[0].Verdict != report.Pass {
		t.Errorf("%v %+v", err, outcomes)
	}
}

// TestPool changes a folder that looks like the kernel's.
func TestPool(t *testing.T) {
	l := fakeLab(t, "")
	l.machine.root = true
	restore, err := l.setPool(3)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := l.pool.read(); err != nil || n.total != 3 {
		t.Errorf("%v, %v", n, err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if n, err := l.pool.read(); err != nil || n != (pages{total: 8, free: 8}) {
		t.Errorf("%v, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(l.pool.dir, "free_hugepages"), []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var reason skipped
	if _, err := l.setPool(3); !errors.As(err, &reason) || !strings.Contains(err.Error(), "another program uses") {
		t.Errorf("a pool in use: %v", err)
	}
}

// TestWithin compares the pool with what it was.
func TestWithin(t *testing.T) {
	before := pages{total: 8, free: 6, surplus: 0}
	for _, c := range []struct {
		name string
		now  pages
		want bool
	}{
		{"as before", before, true},
		{"another program has ended", pages{total: 8, free: 8}, true},
		{"a page leaked", pages{total: 8, free: 5}, false},
		{"a promise leaked", pages{total: 8, free: 6, reserved: 1}, false},
		{"the pool was not restored", pages{total: 64, free: 62}, false},
		{"pages outlive the pool", pages{total: 13, free: 6, surplus: 5}, false},
	} {
		if got := c.now.within(before); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestModels alters a small file in the ways of the scenarios.
func TestModels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	rows := func(dst []byte, _ int64) error {
		for i := range dst {
			dst[i] = byte(i)
		}
		return nil
	}
	const name = "blk.0.ffn_up.weight"
	err := gguf.Write(t.Context(), path, []gguf.KV{
		{Key: "llama.feed_forward_length", Value: uint32(416)},
		{Key: "tokenizer.ggml.tokens", Value: []string{"a", name, "b"}}, // a word like a tensor's name
	}, []gguf.Source{
		{Name: "token_embd.weight", Type: gguf.Q8_0, Shape: []int64{160, 3}, Rows: rows},
		{Name: name, Type: gguf.Q8_0, Shape: []int64{160, 416}, Rows: rows},
		{Name: "blk.0.ffn_down.weight", Type: gguf.Q8_0, Shape: []int64{416, 160}, Rows: rows},
		{Name: "output_norm.weight", Type: gguf.F32, Shape: []int64{160}, Rows: rows},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{model: path, models: t.TempDir()}

	const size = 3 * gib
	big, err := l.sparse(size)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(big)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var weights int64
	for _, tensor := range f.Tensors {
		weights += tensor.Size
	}
	if weights < size || weights > size+mib {
		t.Errorf("%d bytes of weights, not just over %d", weights, int64(size))
	}
	if width := f.Value("llama.feed_forward_length").(uint32); int64(width) != f.Tensors[1].Shape[1] || int64(width) != f.Tensors[2].Shape[0] {
		t.Errorf("a width of %d and tensors of %v and %v", width, f.Tensors[1].Shape, f.Tensors[2].Shape)
	}
	var stat unix.Stat_t
	if err := unix.Stat(big, &stat); err != nil || stat.Blocks*512 > 4*mib {
		t.Errorf("%d KiB on disk (%v)", stat.Blocks/2, err)
	}

	poisoned, err := l.alter("poisoned", func(m *image) error { return m.poison(name, 7, halfNaN) })
	if err != nil {
		t.Fatal(err)
	}
	before, err1 := os.ReadFile(path)
	after, err2 := os.ReadFile(poisoned)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var changed []int
	for i := range before {
		if before[i] != after[i] {
			changed = append(changed, i)
		}
	}
	m, err := readImage(path)
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := int(tensor.Offset) + 7*5*34; len(changed) == 0 || len(changed) > 2 || changed[0] < want || changed[len(changed)-1] > want+1 {
		t.Errorf("bytes %v changed, not those at %d", changed, want)
	}
	if _, err := l.alter("poisoned", func(m *image) error { return m.poison("output_norm.weight", 0, halfNaN) }); err == nil {
		t.Error("a norm has no scales")
	}
}

// TestPoisonBF16 sets one weight.
func TestPoisonBF16(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	ones := func(dst []byte, _ int64) error {
		for i := range dst {
			dst[i] = 1
		}
		return nil
	}
	err := gguf.Write(t.Context(), path, nil, []gguf.Source{
		{Name: "a", Type: gguf.F32, Shape: []int64{160, 2}, Rows: ones},
		{Name: "b", Type: gguf.BF16, Shape: []int64{160, 3}, Rows: ones},
		{Name: "c", Type: gguf.BF16, Shape: []int64{128, 3}, Rows: ones},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := readImage(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Tensor("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.poisonBF16("b", 2, 0x7fc0); err != nil {
		t.Fatal(err)
	}
	for i, x := range m.bytes[b.Offset:][:b.Size] {
		want := byte(1)
		switch i {
		case 2 * (2*160 + 150):
			want = 0xc0
		case 2*(2*160+150) + 1:
			want = 0x7f
		}
		if x != want {
			t.Errorf("byte %d is %#x, want %#x", i, x, want)
		}
	}
	for tensor, row := range map[string]int64{"a": 0, "b": 3, "c": 0, "d": 0} {
		if err := m.poisonBF16(tensor, row, 0x7fc0); err == nil || !strings.Contains(err.Error(), tensor) {
			t.Errorf("row %d of %s: %v", row, tensor, err)
		}
	}
}

// TestMissingPrograms names what a build lacks before anything runs.
func TestMissingPrograms(t *testing.T) {
	l := fakeLab(t, "")
	if err := os.Remove(filepath.Join(l.tuned.Bin, "llama-server")); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), progress.To(io.Discard), Options{Stock: l.stock.Bin, Tuned: l.tuned.Bin, Model: l.model})
	if err == nil || !strings.Contains(err.Error(), "the stock build has no llama-server") || len(r.Outcomes) > 0 {
		t.Errorf("%v", err)
	}
}

// TestReportOnAFullDisk writes a report where there is no room: the one before it stays, and nothing else.
func TestReportOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	unmount, err := thisMachine().tmpfs(dir, 64*kib)
	if err != nil {
		t.Skip(err)
	}
	defer unmount()
	small := Report{Version: Version}
	if err := small.Write(dir); err != nil {
		t.Fatal(err)
	}
	large := Report{Version: Version, Outcomes: []Outcome{{Got: strings.Repeat("x", 128*kib)}}}
	if err := large.Write(dir); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want no space", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v (%v), want the report alone", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, FileName)); err != nil || !bytes.Contains(text, []byte(`"outcomes": null`)) {
		t.Errorf("the earlier report is %q (%v)", text, err)
	}
}
