// Package report is what `mage verify` found: a file for programs (verify.json, whose layout schema.json describes), a page and
// a table for people, and a history of earlier runs; and what `mage types`, `mage features` and `mage scaling` found, in the same layout.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Version is the version of the JSON layout below. It grows when a field changes its meaning or goes away.
const Version = 2

// Report is the content of verify.json.
type Report struct {
	Version      int         `json:"version"`
	Date         time.Time   `json:"date"`
	Environment  Environment `json:"environment"`
	Threads      int         `json:"threads"`
	Rounds       int         `json:"rounds"`        // turns of each speed measurement at least; 0 where accuracy was asked for alone
	AccuracyOnly bool        `json:"accuracy_only"` // no timing was done
	Results      []Result    `json:"results"`
}

// Environment is where and of what the results were made.
type Environment struct {
	CPU              string            `json:"cpu"`
	Cores            int               `json:"cores"` // logical CPUs this process may use
	Kernel           string            `json:"kernel"`
	LoadAverage      float64           `json:"load_average"` // runnable processes over the last minute, when the run began
	MemoryBytes      int64             `json:"memory_bytes"`
	TransparentPages string            `json:"transparent_huge_pages"` // always, madvise or never
	HugePages        int               `json:"huge_pages"`             // 2 MiB pages in the hugetlb pool
	HugePagesFree    int               `json:"huge_pages_free"`        // of them free
	Switches         map[string]string `json:"switches,omitempty"`     // ZT_* variables that were set
	Target           string            `json:"target,omitempty"`       // a name from gen/target
	Compiler         string            `json:"compiler,omitempty"`     // name and version
	BLAS             string            `json:"blas,omitempty"`         // name and version, "none" without
	Pins             map[string]string `json:"pins,omitempty"`         // source to tag and hash
	Toolchain        string            `json:"toolchain,omitempty"`    // version of this project
	// Programs are the SHA-256 of the programs that were measured and of those beside them, by build and name.
	Programs map[string]map[string]string `json:"programs,omitempty"`
	Notes    []string                     `json:"notes,omitempty"` // anything else a reader must know
}

// Verdict says whether a measurement keeps its bound.
type Verdict string

const (
	Pass Verdict = "pass"
	Fail Verdict = "FAIL"
	Info Verdict = "info" // measured and reported, not gated
)

// Result is one measurement and what became of it.
type Result struct {
	Part     string               `json:"part"`               // of the run it belongs to: accuracy, identity, throughput ...
	Model    string               `json:"model"`              // name of the model it was taken on
	Build    string               `json:"build,omitempty"`    // whose measurement it is: stock, tuned or a peer; empty for what compares builds
	Case     string               `json:"case"`               // what ran, such as "prefill 256" or "pp512"
	Quantity string               `json:"quantity"`           // what was measured, such as "mean KL divergence"
	Unit     string               `json:"unit,omitempty"`     // empty for a plain number
	Value    float64              `json:"value"`              // the measurement; of several samples, their median
	Interval *statistics.Interval `json:"interval,omitempty"` // 95 % confidence interval of Value
	Samples  []float64            `json:"samples,omitempty"`  // what Value is the median of, in the order taken
	Bound    *Bound               `json:"bound,omitempty"`    // what Value must keep; nil if nothing
	Verdict  Verdict              `json:"verdict"`
	Ungated  string               `json:"ungated,omitempty"` // why Bound does not count here; empty where it does
	Note     string               `json:"note,omitempty"`    // how to read the value
}

// Bound limits a value from one side.
type Bound struct {
	Side  Side    `json:"side"`
	Limit float64 `json:"limit"`
	Why   string  `json:"why"` // why the limit is where it is
}

// Side is the side of its limit on which a value must stay. The limit itself is allowed.
type Side string

const (
	AtMost  Side = "at most"
	AtLeast Side = "at least"
)

// Name names a result: model, case and quantity.
func (r Result) Name() string {
	var parts []string
	for _, s := range []string{r.Model, r.Case, r.Quantity} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, " ")
}

// Gated says whether r had to keep a bound.
func (r Result) Gated() bool { return r.Verdict != Info }

// Gated returns how many results had to keep a bound.
func (r Report) Gated() int {
	n := 0
	for _, result := range r.Results {
		if result.Gated() {
			n++
		}
	}
	return n
}

// Failed returns the results whose bound was broken.
func (r Report) Failed() []Result {
	var failed []Result
	for _, result := range r.Results {
		if result.Verdict == Fail {
			failed = append(failed, result)
		}
	}
	return failed
}

// Read reads the report of `mage verify` in dir. A report of another Version is an error.
func Read(dir string) (Report, error) { return read(dir, FileName, "verify") }

// ReadTypes reads that of `mage types`.
func ReadTypes(dir string) (Report, error) { return ReadSurvey(dir, TypesName) }

// ReadSurvey reads that of `mage types`, `mage features` or `mage scaling`, by the name of its file.
func ReadSurvey(dir, name string) (Report, error) {
	return read(dir, name, strings.TrimSuffix(name, ".json"))
}

// read reads a report that a target of mage writes.
func read(dir, name, target string) (Report, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return Report{}, fmt.Errorf("%w; `mage %s` writes it", err, target)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != Version {
		return Report{}, fmt.Errorf("%s has layout version %d and this program reads %d; run `mage %s` again", path, r.Version, Version, target)
	}
	return r, nil
}

// Number prints v with four significant digits, and whole numbers whole.
func Number(v float64) string {
	if a := math.Abs(v); v == math.Trunc(v) && a < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	} else if a >= 1e4 && a < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
