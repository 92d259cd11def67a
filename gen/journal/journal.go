// Package journal lets a long run that was interrupted go on where it stopped. Each finished measurement is appended to a file at
// once; a run that finds the file of an earlier one takes its measurements over instead of taking them again.
//
// The file holds JSON lines: first the Key, then {"name":...,"value":...} for each measurement.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Key is everything that measurements depend on, by name: hashes of the programs, the model, options. A journal with another Key
// holds measurements of something else.
type Key map[string]string

// Journal is the record of one run. Its methods may be called from several goroutines.
type Journal struct {
	path string
	kept int
	why  string

	mu    sync.Mutex
	file  *os.File
	found map[string]json.RawMessage // finished by an earlier run
	taken map[string]bool            // asked for in this one
}

// layout is the version of the file. It grows when a line changes its meaning.
const layout = 1

type head struct {
	Layout int `json:"journal"`
	Key    Key `json:"key"`
}

type entry struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// Open goes on with the journal at path if it was kept under the same key, and otherwise starts a new one there. Its folder is made
// where it is missing. A run that was killed while it wrote leaves an incomplete last line, which is dropped.
func Open(path string, key Key) (*Journal, error) {
	j := &Journal{path: path, found: map[string]json.RawMessage{}, taken: map[string]bool{}}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	valid := 0 // bytes of complete lines
	if err == nil {
		if valid, j.why = j.read(text, key); j.why != "" {
			valid = 0
			clear(j.found)
		}
		j.kept = len(j.found)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if j.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	err = j.file.Truncate(int64(valid))
	if err == nil && valid == 0 {
		err = j.append(head{layout, key})
	}
	if err != nil {
		j.file.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

// read takes over the measurements in text and returns the length of the lines that are whole, or why none can be used.
func (j *Journal) read(text []byte, key Key) (valid int, why string) {
	for line := range bytes.Lines(text) {
		if line[len(line)-1] != '\n' {
			break
		}
		if valid == 0 {
			var h head
			if json.Unmarshal(line, &h) != nil || h.Layout != layout {
				return 0, "it is of another version"
			}
			if changed := differences(h.Key, key); changed != nil {
				return 0, fmt.Sprintf("%s changed", list(changed))
			}
		} else {
			var e entry
			if json.Unmarshal(line, &e) != nil || e.Name == "" {
				break // what follows a damaged line cannot be trusted either
			}
			j.found[e.Name] = e.Value
		}
		valid += len(line)
	}
	return valid, ""
}

// differences are the names whose values differ, sorted.
func differences(a, b Key) []string {
	names := map[string]bool{}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			names[name] = true
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// list joins at most three names.
func list(names []string) string {
	text := names[0]
	for i, n := range names[1:] {
		if i == 2 {
			return fmt.Sprintf("%s and %d more", text, len(names)-3)
		}
		text += ", " + n
	}
	return text
}

// append writes v as one line with a single write, so that no other failure than a kill in the midst of it leaves half a line.
func (j *Journal) append(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(text, '\n'))
	return err
}

// Kept is the number of measurements taken over from an earlier run.
func (j *Journal) Kept() int { return j.kept }

// Stale says why the measurements of an earlier run were thrown away; "" if there were none or they are kept.
func (j *Journal) Stale() string { return j.why }

// Has says whether the measurement called name was finished by an earlier run.
func (j *Journal) Has(name string) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.found[name]
	return ok
}

// Close keeps the file for the next run.
func (j *Journal) Close() error { return j.file.Close() }

// Remove ends a journal whose run is finished: the next one starts anew.
func (j *Journal) Remove() error {
	err := j.file.Close()
	if rerr := os.Remove(j.path); err == nil {
		err = rerr
	}
	return err
}

// Do returns the measurement called name: the one that an earlier run finished, or else what f measures now, which it records.
// What f returns with an error is not recorded. T must survive encoding/json. Each name can be asked for once in a run: two
// measurements of the same name are a mistake of the caller's. Without a Journal, Do is f.
func Do[T any](ctx context.Context, j *Journal, name string, f func(context.Context) (T, error)) (T, error) {
	var value T
	if j == nil {
		return f(ctx)
	}
	j.mu.Lock()
	stored, ok := j.found[name]
	again := j.taken[name]
	j.taken[name] = true
	j.mu.Unlock()
	if again {
		return value, fmt.Errorf("journal: two measurements are called %q", name)
	}
	if ok {
		if err := json.Unmarshal(stored, &value); err != nil {
			return value, fmt.Errorf("%s: the measurement %q is not readable: %w; remove the file to take all of them again", j.path, name, err)
		}
		return value, nil
	}
	value, err := f(ctx)
	if err != nil {
		return value, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	text, err := json.Marshal(value)
	if err == nil {
		err = j.append(entry{name, text})
	}
	if err != nil {
		return value, fmt.Errorf("journal: the measurement %q cannot be recorded: %w", name, err)
	}
	return value, nil
}
