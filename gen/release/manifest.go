package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/soak"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// layout is the version of manifest.json. It grows when a field changes its meaning or goes away.
const layout = 1

// manifest is the content of manifest.json. Hashes are SHA-256 in hex.
type manifest struct {
	Layout   int               `json:"layout"`
	Version  string            `json:"version"`
	Date     time.Time         `json:"date"` // of the sources
	Target   targetInfo        `json:"target"`
	Verified bool              `json:"verified"`
	Reason   string            `json:"reason,omitempty"` // why not verified
	Pins     pins              `json:"pins"`
	Patches  map[string]string `json:"patches"` // file name to hash, pin.toml among them
	Kernels  map[string]string `json:"kernels"` // name to hash of the generated source
	Compiler string            `json:"compiler"`
	BLAS     string            `json:"blas"`
	Gates    *gates            `json:"gates"` // null where they have not run
}

type targetInfo struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Flags []string `json:"flags"`
}

type pins struct {
	LlamaCpp source `json:"llama_cpp"`
	AOCLBLAS source `json:"aocl_blas"`
}

type source struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Tree       string `json:"tree,omitempty"`
	Commit     string `json:"commit,omitempty"`
	NPM        string `json:"npm,omitempty"` // package@version that carries the same tree
}

// gates is what `mage verify` found, and where.
type gates struct {
	CPU    string          `json:"cpu"`
	Report json.RawMessage `json:"report"` // verify.json
}

// encode prints m. Struct fields come in their order and map keys sorted, so equal manifests are equal bytes.
func (m manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(m)
	return b.Bytes(), err
}

// describe makes the manifest of o.
func describe(o Options) (manifest, error) {
	m := manifest{
		Layout:  layout,
		Version: o.Version,
		Date:    time.Unix(o.Epoch.Unix(), 0).UTC(),
		Target:  targetInfo{o.Target.Name, o.Target.Title, o.Target.Flags},
		Pins: pins{
			LlamaCpp: source{
				Repository: o.Pin.LlamaCpp.Repository, Tag: o.Pin.LlamaCpp.Tag, Tree: o.Pin.LlamaCpp.Tree,
				NPM: o.Pin.LlamaCpp.NPM.Package + "@" + o.Pin.LlamaCpp.NPM.Version,
			},
			AOCLBLAS: source{Repository: o.Pin.AOCLBLAS.Repository, Tag: o.Pin.AOCLBLAS.Tag, Commit: o.Pin.AOCLBLAS.Commit},
		},
		Patches:  map[string]string{},
		Kernels:  map[string]string{},
		Compiler: o.Compiler,
		BLAS:     o.BLAS,
	}
	for _, pattern := range []string{"pin.toml", "*.patch"} {
		paths, err := filepath.Glob(filepath.Join(o.Patches, pattern))
		if err != nil {
			return manifest{}, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return manifest{}, err
			}
			m.Patches[filepath.Base(path)] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	if m.Patches["pin.toml"] == "" {
		return manifest{}, fmt.Errorf("%s is missing; it is part of the checkout", filepath.Join(o.Patches, "pin.toml"))
	}
	for name, text := range o.Kernels {
		m.Kernels[name] = fmt.Sprintf("%x", sha256.Sum256(text))
	}

	text, err := os.ReadFile(filepath.Join(o.Report, report.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		m.Reason = "the gates have not run: there is no " + report.FileName
		return m, nil
	} else if err != nil {
		return manifest{}, err
	}
	r, err := report.Read(o.Report)
	if err != nil {
		return manifest{}, err
	}
	m.Gates = &gates{r.Environment.CPU, text}
	if m.Reason = doubt(o, r); m.Reason == "" {
		if m.Reason, err = soakDoubt(o); err != nil {
			return manifest{}, err
		}
	}
	m.Verified = m.Reason == ""
	return m, nil
}

// doubt says why r does not prove that o is as good as its gates ask; "" if it does.
func doubt(o Options, r report.Report) string {
	e := r.Environment
	cpu, err := parseCPU(e.CPU)
	if err == nil {
		err = o.Target.Accepts(cpu)
	}
	if err != nil {
		return "the gates ran on a CPU that the target does not accept: " + err.Error()
	}
	// A report of another build proves nothing about this one.
	for _, c := range []struct{ what, theirs, ours string }{
		{"target", e.Target, o.Target.Name},
		{"version", e.Toolchain, o.Version},
		{"compiler", e.Compiler, o.Compiler},
		{"BLAS", e.BLAS, o.BLAS},
	} {
		if c.theirs != c.ours {
			return fmt.Sprintf("the gates ran on another build: %s %q, not %q", c.what, c.theirs, c.ours)
		}
	}
	for _, path := range slices.Sorted(slices.Values(o.Programs)) {
		name := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		switch sum := fmt.Sprintf("%x", sha256.Sum256(text)); e.Programs[report.Tuned][name] {
		case sum:
		case "":
			return "the gates ran on a build without " + name
		default:
			return fmt.Sprintf("the gates ran on another build: %s has SHA-256 %s, not %s", name, sum, e.Programs[report.Tuned][name])
		}
	}
	if r.AccuracyOnly {
		return "only the accuracy gates ran"
	}
	gated := 0
	var broken []string
	for _, x := range r.Results {
		if x.Gated() {
			gated++
		}
		// Bounds that do not count on this CPU are no gates; one that was left undecided without a reason is a doubt.
		if x.Verdict == report.Fail || x.Bound != nil && x.Verdict != report.Pass && x.Ungated == "" {
			broken = append(broken, x.Name())
		}
	}
	if broken != nil {
		return "these gates do not hold: " + strings.Join(broken, ", ")
	}
	if gated == 0 {
		return "the report holds no gate"
	}
	return ""
}

// soakDoubt says why no soak proves that o's llama-server bears a long time of use; "" if one does.
func soakDoubt(o Options) (string, error) {
	for _, path := range o.Programs {
		if filepath.Base(path) != "llama-server" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		r, err := soak.Read(o.Report)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("there is no %s; `mage soak -duration=%.0fh` writes it", soak.FileName, soak.ForRelease.Hours()), nil
		} else if err != nil {
			return "", err
		}
		return r.Doubt(fmt.Sprintf("%x", sha256.Sum256(text))), nil
	}
	return "", nil
}

// cpuForm is the end of target.CPU.String. A name may hold brackets of its own.
var cpuForm = regexp.MustCompile(`^(.*) \((\S+) family ([0-9A-F]+)h model ([0-9A-F]+)h\)$`)

// parseCPU undoes target.CPU.String. The features are not in it; programs of a target that ran had them, for its guard asks.
func parseCPU(s string) (target.CPU, error) {
	m := cpuForm.FindStringSubmatch(s)
	if m == nil {
		return target.CPU{}, fmt.Errorf("the report's CPU %q has no family and model", s)
	}
	family, err := strconv.ParseInt(m[3], 16, 32)
	if err != nil {
		return target.CPU{}, err
	}
	model, err := strconv.ParseInt(m[4], 16, 32)
	if err != nil {
		return target.CPU{}, err
	}
	return target.CPU{
		Name: m[1], Vendor: m[2], Family: int(family), Model: int(model),
		Has: func(cpuid.FeatureID) bool { return true },
	}, nil
}
