package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// HistoryName is the folder, beside the report, of one small file per finished run.
const HistoryName = "history"

// kept is how many runs of one host are remembered: some years of releases, or a week of work, and still a page that can be read.
const kept = 100

// entryVersion is the version of the layout of Entry. Entries of another are skipped.
const entryVersion = 1

// Entry is what is remembered of a run.
type Entry struct {
	Version   int       `json:"version"`
	Date      time.Time `json:"date"`
	CPU       string    `json:"cpu"`
	Cores     int       `json:"cores"`
	Threads   int       `json:"threads"`
	Target    string    `json:"target"`
	Toolchain string    `json:"toolchain"`
	Gates     int       `json:"gates"`  // that counted
	Failed    int       `json:"failed"` // of them
	Points    []Point   `json:"points"`

	path string // of the file it was read from
}

// Point is one number of a run that a later run is compared with.
type Point struct {
	Model    string               `json:"model"`
	Case     string               `json:"case"`
	Quantity string               `json:"quantity"`
	Value    float64              `json:"value"`
	Interval *statistics.Interval `json:"interval,omitempty"`
}

// worstKL is the largest share of its bound that the mean KL divergence of a model reached.
const worstKL = MeanKL + " as a share of its bound"

// Entry returns what is to be remembered of r: the ratios to stock, the share of the read loop, and how much of its bound the
// KL divergence used.
func (r Report) Entry() Entry {
	e := Entry{
		Version: entryVersion, Date: r.Date, CPU: r.Environment.CPU, Cores: r.Environment.Cores, Threads: r.Threads,
		Target: r.Environment.Target, Toolchain: r.Environment.Toolchain, Gates: r.Gated(), Failed: len(r.Failed()),
	}
	worst := map[string]int{} // index of a model's worstKL
	for _, x := range r.Results {
		ours := x.Build == "" || x.Build == Tuned
		switch {
		case (x.Quantity == SpeedOverStock || x.Quantity == ReadShare) && ours:
			e.Points = append(e.Points, Point{x.Model, x.Case, x.Quantity, x.Value, x.Interval})
		case x.Quantity == MeanKL && x.Gated() && x.Bound != nil && x.Bound.Limit > 0:
			i, ok := worst[x.Model]
			if !ok {
				i = len(e.Points)
				worst[x.Model] = i
				e.Points = append(e.Points, Point{Model: x.Model, Quantity: worstKL})
			}
			if share := x.Value / x.Bound.Limit; share >= e.Points[i].Value {
				e.Points[i].Value, e.Points[i].Case = share, x.Case
			}
		}
	}
	return e
}

// fileName is the name of e's file. Runs of one workspace cannot share a second.
func (e Entry) fileName() string { return e.Date.UTC().Format("20060102T150405Z") + ".json" }

// like says whether f's numbers may be set beside e's: the same machine, threads and target.
func (e Entry) like(f Entry) bool {
	return e.CPU == f.CPU && e.Cores == f.Cores && e.Threads == f.Threads && e.Target == f.Target
}

// readHistory returns the entries in dir, oldest first, and a note for each file that is not one. A folder that is not there
// is empty.
func readHistory(dir string) (entries []Entry, notes []string, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue // one being written
		}
		e, err := readEntry(filepath.Join(dir, f.Name()))
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s was skipped: %v", f.Name(), err))
			continue
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Date.Compare(b.Date) })
	return entries, notes, nil
}

func readEntry(path string) (Entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err // the path is known
		}
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, err
	}
	if e.Version != entryVersion {
		return Entry{}, fmt.Errorf("layout version %d, not %d", e.Version, entryVersion)
	}
	if e.Date.IsZero() {
		return Entry{}, errors.New("it has no date")
	}
	e.path = path
	return e, nil
}

// prune removes the oldest of more than kept entries of e's host from dir. Other hosts' and unreadable files stay.
func prune(dir string, e Entry) error {
	entries, _, err := readHistory(dir)
	if err != nil {
		return err
	}
	var own []Entry
	for _, f := range entries {
		if f.CPU == e.CPU && f.Cores == e.Cores {
			own = append(own, f)
		}
	}
	for _, f := range own[:max(0, len(own)-kept)] {
		if err := os.Remove(f.path); err != nil {
			return err
		}
	}
	return nil
}
