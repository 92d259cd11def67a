package fault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var fileScenarios = []scenario{
	{"every way to read a file", "the same answer", everyMode},
	{"file replaced under a running server", "the same answer; the next start gives the new model's", replacedServing},
	{"file replaced in the middle of a load", "the old file's answer", replacedLoading},
	{"file cut in the middle of a load", "one line says that the file ended too early", cutLoading},
	{"file cut or overwritten under a running server, --load-mode none", "the same answer", brokenStaged},
	{"file cut under a running server, mapped", "ends as stock does", cutMapped},
}

// otherModel writes a sound model that answers otherwise.
func (l *lab) otherModel() (string, error) {
	return l.alter("other", func(m *image) error {
		t, err := m.Tensor("token_embd.weight")
		if err != nil {
			return err
		}
		// the words' rows in another order
		row, rows := t.Type.RowBytes(t.Shape[0]), t.Rows()
		old := append([]byte(nil), m.bytes[t.Offset:t.Offset+t.Size]...)
		for r := range rows {
			copy(m.bytes[t.Offset+r*row:], old[(r+1)%rows*row:][:row])
		}
		return nil
	})
}

// everyMode is what the others rest on: weights are packed from the mapping or from pieces of the file.
func everyMode(ctx context.Context, l *lab) (string, error) {
	modes := []string{"auto", "none", "mmap", "dio"}
	for _, mode := range modes {
		e, err := l.run(ctx, l.completion(l.model).with("--load-mode", mode, "--check-tensors"))
		if err == nil {
			err = l.answered(ctx, e, l.completion(l.model))
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("the same answer in modes %s", strings.Join(modes, ", ")), nil
}

// replacedServing renames another model over the one that a server has loaded, as a download or an update does.
func replacedServing(ctx context.Context, l *lab) (string, error) {
	for _, mode := range []string{"auto", "none"} {
		path, err := l.copyModel()
		if err != nil {
			return "", err
		}
		other, err := l.otherModel()
		if err != nil {
			return "", err
		}
		c := l.service(path).with("--load-mode", mode)
		s, err := l.serve(ctx, c, 0)
		if err != nil {
			return "", err
		}
		before, err := s.answer(ctx)
		if err == nil {
			err = os.Rename(other, path)
		}
		if err != nil {
			return "", err
		}
		for range 2 {
			answer, err := s.answer(ctx)
			if err == nil {
				err = same(s.call, answer, before)
			}
			if err != nil {
				return "", err
			}
		}
		e, err := s.stop(ctx)
		if err := firstError(err, e.failed()); err != nil {
			return "", err
		}
		if s, err = l.serve(ctx, c, 0); err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err == nil && answer == before {
			err = fmt.Errorf("the new model's answer is the old one's: %s", s.call)
		}
		if err != nil {
			return "", err
		}
		if e, err = s.stop(ctx); firstError(err, e.failed()) != nil {
			return "", firstError(err, e.failed())
		}
	}
	return "the same answer, then the new model's", nil
}

func replacedLoading(ctx context.Context, l *lab) (string, error) {
	for _, mode := range []string{"auto", "none"} {
		path, err := l.copyModel()
		if err != nil {
			return "", err
		}
		other, err := l.otherModel()
		if err != nil {
			return "", err
		}
		s, err := l.standStill(ctx, l.greedy(path).with("-lm", mode))
		if err != nil {
			return "", err
		}
		if err := os.Rename(other, path); err != nil {
			return "", err
		}
		e, err := s.goOn(ctx)
		if err == nil {
			err = l.answered(ctx, e, l.greedy(l.model))
		}
		if err != nil {
			return "", err
		}
	}
	return "the old file's answer", nil
}

// cutLoading cuts the file in load mode none. A mapped file that is cut ends any program with SIGBUS; see cutMapped.
func cutLoading(ctx context.Context, l *lab) (string, error) {
	path, err := l.copyModel()
	if err != nil {
		return "", err
	}
	s, err := l.standStill(ctx, l.greedy(path).with("-lm", "none"))
	if err != nil {
		return "", err
	}
	if err := os.Truncate(path, 1<<16); err != nil {
		return "", err
	}
	e, err := s.goOn(ctx)
	if err != nil {
		return "", err
	}
	return e.refused("reached end of file", "read error")
}

func brokenStaged(ctx context.Context, l *lab) (string, error) {
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err != nil {
		return "", err
	}
	for _, breakIt := range []func(string) error{
		func(path string) error { return os.Truncate(path, 0) },
		func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			size, err := os.Stat(path)
			if err == nil {
				_, err = f.WriteAt(make([]byte, size.Size()), 0)
			}
			return err
		},
	} {
		path, err := l.copyModel()
		if err != nil {
			return "", err
		}
		s, err := l.serve(ctx, staged(l.service(path)), 0)
		if err != nil {
			return "", err
		}
		if err := breakIt(path); err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err == nil {
			err = same(s.call, answer, want)
		}
		if err != nil {
			return "", err
		}
		if e, err := s.stop(ctx); firstError(err, e.failed()) != nil {
			return "", firstError(err, e.failed())
		}
	}
	return "the same answer", nil
}

// cutMapped cuts a file that is still mapped: norms stay in the mapping, packed weights do not. Reading past the end of a mapped file
// is a bus error, which stock does not survive either; what is held here is that nothing worse happens, such as a wrong answer.
func cutMapped(ctx context.Context, l *lab) (string, error) {
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err != nil {
		return "", err
	}
	var ends []string
	for _, b := range []struct {
		name string
		c    call
	}{{"stock", l.service("")}, {"tuned", l.service("")}} {
		path, err := l.copyModel()
		if err != nil {
			return "", err
		}
		b.c = l.service(path)
		if b.name == "stock" {
			b.c.build = l.stock
		}
		s, err := l.serve(ctx, b.c, 0)
		if err != nil {
			return "", err
		}
		if err := os.Truncate(path, 1<<16); err != nil {
			return "", err
		}
		answer, err := s.answer(ctx)
		if err != nil && ctx.Err() != nil {
			return "", err
		}
		if err == nil {
			if b.name == "tuned" && answer != want {
				return "", same(s.call, answer, want)
			}
			if e, err := s.stop(ctx); firstError(err, e.failed()) != nil {
				return "", firstError(err, e.failed())
			}
			ends = append(ends, b.name+" answers")
			continue
		}
		e, err := s.wait(ctx)
		if err != nil {
			return "", err
		}
		if e.signal != unix.SIGBUS {
			return "", firstError(e.failed(), fmt.Errorf("ended with exit status 0: %s", e.call))
		}
		ends = append(ends, b.name+" ends by "+unix.SignalName(e.signal))
	}
	if len(ends) != 2 {
		return "", fmt.Errorf("only %v", ends)
	}
	return fmt.Sprintf("%s, %s: a model file must be replaced, not changed in place, or loaded with --load-mode none", ends[0], ends[1]), nil
}

var diskScenarios = []scenario{
	{"no room for zt-probe's output", "one line says so; no partial file", fullDisk},
}

func fullDisk(ctx context.Context, l *lab) (string, error) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		return "", skip("no /dev/full: %v", err)
	}
	defer full.Close()
	c := l.greedy(l.model)
	c.stdout = full
	e, err := l.run(ctx, c)
	if err != nil {
		return "", err
	}
	got, err := e.refused(unix.ENOSPC.Error(), "No space left on device")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(l.models, "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	unmount, err := l.tmpfs(dir, 64*kib)
	if err != nil {
		return got, nil // without root this is all
	}
	defer unmount()
	e, err = l.run(ctx, call{build: l.tuned, name: "zt-probe", args: []string{
		"logits", "-m", l.model, "-t", threads, "-n", "7", "-o", filepath.Join(dir, "logits")}})
	if err != nil {
		return "", err
	}
	if got, err = e.refused("No space left on device"); err != nil {
		return "", err
	}
	left, err := os.ReadDir(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left %s on the full disk: %s", left[0].Name(), e.call)
	}
	return got, err
}
