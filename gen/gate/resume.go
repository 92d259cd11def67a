package gate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/switches"
)

// finished is a part of the run as the journal keeps it: what it found, and what later parts read of it.
type finished struct {
	Results []report.Result       `json:"results"`
	Notes   []string              `json:"notes,omitempty"`
	Own     map[string]Divergence `json:"own,omitempty"`
	Limits  roofline.Limits       `json:"limits"`
}

// step runs a part of the verification, of a model or, where that is empty, of them all; or it takes the part over from a run that was
// interrupted.
func (v *verifier) step(ctx context.Context, log *progress.Log, name, model string, run func(context.Context, *progress.Step) error) error {
	key, prefix := name, ""
	if model != "" {
		key, prefix = model+", "+name, model+": "
	}
	return log.Step(ctx, name, func(ctx context.Context, s *progress.Step) error {
		v.part = name
		results, notes := v.results, v.Environment.Notes
		v.results, v.Environment.Notes = nil, nil
		s.Did("%sfinished by the run that was interrupted", prefix)
		part, err := journal.Do(ctx, v.journal, key, func(ctx context.Context) (finished, error) {
			if err := run(ctx, s); err != nil {
				return finished{}, err
			}
			return finished{v.results, v.Environment.Notes, v.own, v.limits}, finite(v.results)
		})
		v.results, v.Environment.Notes = slices.Concat(results, part.Results), slices.Concat(notes, part.Notes)
		maps.Copy(v.own, part.Own)
		if err == nil {
			v.limits = part.Limits
		}
		return err
	})
}

// resume opens the journal at path and says what becomes of what it holds.
func (v *verifier) resume(ctx context.Context, log *progress.Log, path string) error {
	key, err := v.key()
	if err != nil {
		return err
	}
	if v.journal, err = journal.Open(path, key); err != nil {
		return err
	}
	kept, stale := v.journal.Kept(), v.journal.Stale()
	if kept == 0 && stale == "" {
		return nil
	}
	return log.Step(ctx, "resume", func(_ context.Context, s *progress.Step) error {
		if stale != "" {
			s.Did("not: a run was interrupted, but %s since", stale)
			return nil
		}
		s.Did("going on with the run that was interrupted; %d measurements are kept", kept)
		v.note(fmt.Sprintf("%d measurements are of a run that was interrupted", kept))
		return nil
	})
}

// key is everything that results depend on.
func (v *verifier) key() (journal.Key, error) {
	e := v.Environment
	key := journal.Key{
		"the CPU": e.CPU, "the number of CPUs": strconv.Itoa(e.Cores), "the kernel": e.Kernel, "the version": e.Toolchain,
		"transparent huge pages": e.TransparentPages, "the pool of huge pages": strconv.Itoa(e.HugePages),
		"the number of threads": strconv.Itoa(v.Threads), "ZT_ROUNDS": strconv.Itoa(v.Rounds),
		"what is measured":     fmt.Sprintf("accuracy only %v, speed only %v, architectures %v", v.AccuracyOnly, v.SpeedOnly, v.StockTests != ""),
		"the choice of models": strings.Join(v.weights, " "),
	}
	for _, s := range switches.All() {
		if s.When == switches.Run {
			key[s.Name] = os.Getenv(s.Name)
		}
	}
	for build, programs := range e.Programs {
		for name, sum := range programs {
			key[build+" "+name] = sum
		}
	}
	if !v.SpeedOnly {
		sums, err := sums(v.tests.Bin, UpstreamTests)
		if err != nil {
			return nil, err
		}
		for name, sum := range sums {
			key["test "+name] = sum
		}
	}
	if v.Compatibility != nil {
		for _, path := range v.Compatibility.files() {
			st, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			key["file "+path] = fmt.Sprintf("%d bytes of %v", st.Size(), st.ModTime().UTC())
		}
	}
	for _, m := range v.Models {
		st, err := os.Stat(m.Path)
		if err != nil {
			return nil, err
		}
		key["model "+m.Name] = fmt.Sprintf("%s, %d bytes of %v, %+v", m.Path, st.Size(), st.ModTime().UTC(), m)
	}
	return key, nil
}

// sums returns the SHA-256 of the named programs in a folder, in hex; without names of all programs there. Names that are
// not there are left out.
func sums(folder string, names []string) (map[string]string, error) {
	if names == nil {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if st, err := os.Stat(filepath.Join(folder, e.Name())); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				names = append(names, e.Name())
			}
		}
	}
	found := map[string]string{}
	for _, name := range names {
		sum, err := hashFile(filepath.Join(folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		found[name] = hex.EncodeToString(sum[:])
	}
	return found, nil
}
