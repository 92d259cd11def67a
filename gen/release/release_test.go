package release

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/soak"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

const zen5CPU = "AMD Ryzen 9 9950X (16 cores) (AuthenticAMD family 1Ah model 44h)"

// tree makes a small build to release and the options for it.
func tree(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	zen5, err := target.Find("zen5")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer // does not compress to nothing
	for i := range 4000 {
		fmt.Fprintf(&text, "%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	w := workspace.Workspace{Root: root, Out: filepath.Join(root, "out"), Cache: filepath.Join(root, "cache")}
	file("patches/pin.toml", "pinned")
	file("patches/0001-hook.patch", "a patch")
	file("patches/notes.txt", "not part of the queue")
	o := Options{
		Workspace: w, Target: zen5, Version: "1.2.3", Epoch: time.Unix(1700000000, 5e8),
		Programs: []string{
			file("out/bin/llama-server", "\x7fELF server "+Mark("1.2.3", "zen5")+text.String()),
			file("out/bin/llama-cli", "\x7fELF cli "+Mark("1.2.3", "zen5")+text.String()),
		},
		Licenses: map[string]string{"llama.cpp/LICENSE": file("LICENSE-a", "MIT"), "LICENSE": file("LICENSE-b", "ours")},
		Patches:  w.Patches(),
		Kernels:  map[string][]byte{"zt_gemm": []byte("vpdpbusd"), "zt_gemv": []byte("vpdpbusds")},
		Compiler: "clang 19.1.7", BLAS: "BLIS 0.9.0 <upstream>",
		Pin: pin.Pin{
			LlamaCpp: pin.LlamaCpp{Repository: "r", Tag: "v0.5.0", Tree: "aaaa", NPM: pin.NPM{Package: "p", Version: "3"}},
			AOCLBLAS: pin.AOCLBLAS{Repository: "b", Tag: "5.1", Commit: "bbbb"},
		},
		Report: w.Report(),
	}
	if err := soaked(o).Write(o.Report); err != nil {
		t.Fatal(err)
	}
	return o
}

// soaked is a soak's report that proves o.
func soaked(o Options) soak.Report {
	text, err := os.ReadFile(o.Programs[0])
	if err != nil {
		panic(err)
	}
	return soak.Report{Version: soak.Version, Program: fmt.Sprintf("%x", sha256.Sum256(text)), Planned: soak.ForRelease.Seconds(),
		Results: []report.Result{{Case: "memory", Quantity: "growth per request", Value: 5, Verdict: report.Pass}}}
}

// passing is a report that proves o.
func passing(o Options) report.Report {
	programs := map[string]string{"zt-probe": "not released"}
	for _, path := range o.Programs {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		programs[filepath.Base(path)] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	return report.Report{
		Version: report.Version, Date: o.Epoch.UTC(), Threads: 2, Rounds: 3,
		Environment: report.Environment{CPU: zen5CPU, Target: "zen5", Compiler: o.Compiler, BLAS: o.BLAS, Toolchain: o.Version,
			Programs: map[string]map[string]string{report.Tuned: programs}},
		Results: []report.Result{
			{Model: "1b", Case: "pp512", Quantity: "speed over stock", Value: 3.2,
				Bound: &report.Bound{Side: report.AtLeast, Limit: 3, Why: "goal"}, Verdict: report.Pass},
			{Model: "1b", Case: "pp512", Quantity: "speed", Value: 300, Verdict: report.Info},
		},
	}
}

func write(t *testing.T, ctx context.Context, o Options) (archive, said string, err error) {
	t.Helper()
	var log bytes.Buffer
	err = progress.To(&log).Step(ctx, "release", func(ctx context.Context, s *progress.Step) (err error) {
		archive, err = Write(ctx, s, o)
		return err
	})
	return archive, log.String(), err
}

func mustWrite(t *testing.T, o Options) (archive, said string) {
	t.Helper()
	archive, said, err := write(t, t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return archive, said
}

type packed struct {
	tar.Header
	text []byte
}

// unpack lists an archive without the code under test.
func unpack(t *testing.T, archive string) []packed {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var all []packed
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, packed{*h, text})
	}
}

// repack writes an archive of entries to a new file.
func repack(t *testing.T, entries []packed) string {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, e := range entries {
		e.Size = int64(len(e.text))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "repacked.tar.zst")
	if err := os.WriteFile(p, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func readManifest(t *testing.T, archive string) (m manifest) {
	t.Helper()
	for _, e := range unpack(t, archive) {
		if path.Base(e.Name) == "manifest.json" {
			if err := json.Unmarshal(e.text, &m); err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	t.Fatal("no manifest.json")
	return m
}

// nothingLeft fails if the archive folder holds anything.
func nothingLeft(t *testing.T, o Options) {
	t.Helper()
	entries, err := os.ReadDir(o.Workspace.Dist())
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

func TestContents(t *testing.T) {
	o := tree(t)
	archive, _ := mustWrite(t, o)
	const folder = "llama-zen-turbo-1.2.3-zen5-linux-amd64-unverified"
	if want := filepath.Join(o.Workspace.Dist(), folder+".tar.zst"); archive != want {
		t.Errorf("wrote %s, want %s", archive, want)
	}
	var names []string
	sums := map[string]string{}
	var listed string
	for _, e := range unpack(t, archive) {
		name, ok := strings.CutPrefix(e.Name, folder+"/")
		if !ok {
			t.Errorf("%s is outside %s", e.Name, folder)
		}
		names = append(names, name)
		wantMode := int64(0o644)
		if e.Typeflag == tar.TypeDir || strings.HasPrefix(name, "bin/") {
			wantMode = 0o755
		}
		if e.Mode != wantMode || e.Uid != 0 || e.Gid != 0 || e.Uname+e.Gname != "" || e.ModTime.UnixNano() != 1700000000e9 {
			t.Errorf("%s: mode %o, owner %d:%d, time %v", name, e.Mode, e.Uid, e.Gid, e.ModTime)
		}
		if name == "SHA256SUMS" {
			listed = string(e.text)
		} else if e.Typeflag == tar.TypeReg {
			sums[name] = fmt.Sprintf("%x", sha256.Sum256(e.text))
		}
	}
	want := []string{"", "bin/", "bin/llama-cli", "bin/llama-server", "licenses/", "licenses/LICENSE",
		"licenses/llama.cpp/", "licenses/llama.cpp/LICENSE", "manifest.json", "SHA256SUMS"}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("entries\n%q\nwant\n%q", names, want)
	}
	lines := strings.Split(strings.TrimSuffix(listed, "\n"), "\n")
	if len(lines) != len(sums) {
		t.Errorf("%d sums for %d files", len(lines), len(sums))
	}
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		if sums[name] != sum {
			t.Errorf("sum of %s is %s, want %s", name, sum, sums[name])
		}
	}

	m := readManifest(t, archive)
	hash := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	if len(m.Patches) != 2 || m.Patches["0001-hook.patch"] != hash("a patch") || m.Patches["pin.toml"] != hash("pinned") {
		t.Errorf("patches: %v", m.Patches)
	}
	if len(m.Kernels) != 2 || m.Kernels["zt_gemm"] != hash("vpdpbusd") {
		t.Errorf("kernels: %v", m.Kernels)
	}
	if m.Version != "1.2.3" || m.Target.Name != "zen5" || m.Compiler != o.Compiler || m.BLAS != o.BLAS || m.Pins.LlamaCpp.Tree != "aaaa" ||
		m.Pins.LlamaCpp.NPM != "p@3" || m.Pins.AOCLBLAS.Commit != "bbbb" || m.Date.Unix() != 1700000000 {
		t.Errorf("manifest: %+v", m)
	}
}

func TestSameBytesTwice(t *testing.T) {
	o := tree(t)
	if err := passing(o).Write(o.Report); err != nil {
		t.Fatal(err)
	}
	first, _ := mustWrite(t, o)
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	// Neither order nor what the file system says of the programs matters.
	o.Programs[0], o.Programs[1] = o.Programs[1], o.Programs[0]
	if err := errors.Join(os.Chtimes(o.Programs[0], time.Unix(1, 0), time.Unix(1, 0)), os.Chmod(o.Programs[0], 0o777)); err != nil {
		t.Fatal(err)
	}
	second, _ := mustWrite(t, o)
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !bytes.Equal(a, b) {
		t.Errorf("%s (%d bytes) and %s (%d bytes) differ", first, len(a), second, len(b))
	}
	o.Epoch = o.Epoch.Add(time.Second)
	third, _ := mustWrite(t, o)
	if c, err := os.ReadFile(third); err != nil || bytes.Equal(a, c) {
		t.Errorf("another time gives the same archive (%v)", err)
	}
}

func TestVerified(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*report.Report)
		reason string // "" for verified
	}{
		"passing":   {func(r *report.Report) {}, ""},
		"failing":   {func(r *report.Report) { r.Results[0].Verdict = report.Fail }, "1b pp512 speed over stock"},
		"undecided": {func(r *report.Report) { r.Results[0].Verdict = report.Info }, "1b pp512 speed over stock"},
		"a bound of another CPU's": {func(r *report.Report) {
			r.Results = append(r.Results, report.Result{Quantity: "speed", Bound: &report.Bound{Side: report.AtLeast}, Verdict: report.Info, Ungated: "because"})
		}, ""},
		"no gates":      {func(r *report.Report) { r.Results = r.Results[1:] }, "no gate"},
		"accuracy only": {func(r *report.Report) { r.AccuracyOnly = true }, "only the accuracy gates"},
		"zen 4": {func(r *report.Report) { r.Environment.CPU = "AMD EPYC 9654 (AuthenticAMD family 19h model 11h)" },
			"family 19h model 11h) is not AMD Zen 5"},
		"zen 6":            {func(r *report.Report) { r.Environment.CPU = "AMD X (AuthenticAMD family 1Ah model 50h)" }, "is not AMD Zen 5"},
		"intel":            {func(r *report.Report) { r.Environment.CPU = "Intel X (GenuineIntel family 1Ah model 44h)" }, "is not AMD Zen 5"},
		"nameless CPU":     {func(r *report.Report) { r.Environment.CPU = "AMD Zen 5" }, "no family and model"},
		"bringup":          {func(r *report.Report) { r.Environment.Target = "bringup" }, `target "bringup"`},
		"another compiler": {func(r *report.Report) { r.Environment.Compiler = "gcc 14" }, `compiler "gcc 14"`},
		"another version":  {func(r *report.Report) { r.Environment.Toolchain = "1.2.2" }, `version "1.2.2"`},
		"another program": {func(r *report.Report) { r.Environment.Programs[report.Tuned]["llama-server"] = "abc" },
			"the gates ran on another build: llama-server has SHA-256 "},
		"a program of another build": {func(r *report.Report) {
			r.Environment.Programs = map[string]map[string]string{report.Stock: r.Environment.Programs[report.Tuned]}
		}, "the gates ran on a build without llama-"},
		"another BLAS": {func(r *report.Report) { r.Environment.BLAS = "none" }, `BLAS "none"`},
	} {
		t.Run(name, func(t *testing.T) {
			o := tree(t)
			r := passing(o)
			c.change(&r)
			if err := r.Write(o.Report); err != nil {
				t.Fatal(err)
			}
			archive, said := mustWrite(t, o)
			m := readManifest(t, archive)
			verified := c.reason == ""
			if m.Verified != verified || strings.Contains(archive, "-unverified") == verified || strings.Contains(said, "unverified") == verified {
				t.Errorf("verified %v as %s, said %q; want %v", m.Verified, filepath.Base(archive), said, verified)
			}
			if !strings.Contains(m.Reason, c.reason) || verified && m.Reason != "" {
				t.Errorf("reason %q, want %q", m.Reason, c.reason)
			}
			var inside report.Report
			if m.Gates == nil || m.Gates.CPU != r.Environment.CPU {
				t.Fatalf("gates: %+v, want the report's CPU", m.Gates)
			}
			if err := json.Unmarshal(m.Gates.Report, &inside); err != nil || len(inside.Results) != len(r.Results) {
				t.Errorf("the manifest's report: %v, %d results", err, len(inside.Results))
			}
		})
	}

	for name, c := range map[string]struct {
		change func(*soak.Report)
		reason string
	}{
		"another server soaked": {func(r *soak.Report) { r.Program = "abc" }, "another llama-server"},
		"a short soak":          {func(r *soak.Report) { r.Planned = 60 }, "took 1m0s, not 24 hours"},
		"a failed soak":         {func(r *soak.Report) { r.Results[0].Verdict = report.Fail }, "growth per request of 5"},
		"an interrupted soak":   {func(r *soak.Report) { r.Interrupted = true }, "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tree(t)
			r := soaked(o)
			c.change(&r)
			if err := errors.Join(passing(o).Write(o.Report), r.Write(o.Report)); err != nil {
				t.Fatal(err)
			}
			archive, _ := mustWrite(t, o)
			if m := readManifest(t, archive); m.Verified || !strings.Contains(m.Reason, c.reason) {
				t.Errorf("verified %v, reason %q, want %q", m.Verified, m.Reason, c.reason)
			}
		})
	}

	t.Run("no soak", func(t *testing.T) {
		o := tree(t)
		if err := errors.Join(passing(o).Write(o.Report), os.Remove(filepath.Join(o.Report, soak.FileName))); err != nil {
			t.Fatal(err)
		}
		archive, _ := mustWrite(t, o)
		if m := readManifest(t, archive); m.Verified || !strings.Contains(m.Reason, "mage soak -duration=24h") {
			t.Errorf("verified %v, reason %q, want what to run", m.Verified, m.Reason)
		}
	})

	t.Run("no report", func(t *testing.T) {
		archive, _ := mustWrite(t, tree(t))
		if m := readManifest(t, archive); m.Verified || m.Gates != nil || !strings.Contains(m.Reason, "have not run") {
			t.Errorf("%+v", m)
		}
	})
}

func TestCPURoundTrip(t *testing.T) {
	for _, want := range []target.CPU{
		{Name: "AMD Ryzen 9 (x) 9950X", Vendor: "AuthenticAMD", Family: 0x1a, Model: 0x44},
		{Name: "", Vendor: "GenuineIntel", Family: 6, Model: 0xcf},
	} {
		got, err := parseCPU(want.String())
		if err != nil || got.Name != want.Name || got.Vendor != want.Vendor || got.Family != want.Family || got.Model != want.Model {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	bringup, err := target.Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	put := func(t *testing.T, path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, *Options)
		want   []string
	}{
		"bringup": {func(t *testing.T, o *Options) { o.Target = bringup }, []string{"bringup", "ZT_TARGET=zen5"}},
		"missing program": {func(t *testing.T, o *Options) { os.Remove(o.Programs[1]) },
			[]string{"bin/llama-cli is missing", "ZT_TARGET=zen5 mage build"}},
		"no programs":   {func(t *testing.T, o *Options) { o.Programs = nil }, []string{"ZT_TARGET=zen5 mage build"}},
		"empty program": {func(t *testing.T, o *Options) { put(t, o.Programs[0], "") }, []string{"llama-server", "mage build"}},
		"program of bringup": {func(t *testing.T, o *Options) { put(t, o.Programs[0], "ELF "+Mark("1.2.3", "bringup")) },
			[]string{"llama-server is not a build", "ZT_TARGET=zen5 mage build"}},
		"program of another version": {func(t *testing.T, o *Options) { put(t, o.Programs[0], "ELF "+Mark("1.2.2", "zen5")) },
			[]string{"llama-server is not a build of version 1.2.3"}},
		"same name twice": {func(t *testing.T, o *Options) { o.Programs = append(o.Programs, o.Programs[0]) },
			[]string{"two files", "bin/llama-server"}},
		"missing license": {func(t *testing.T, o *Options) { os.Remove(o.Licenses["LICENSE"]) }, []string{"LICENSE-b is missing"}},
		"no licenses":     {func(t *testing.T, o *Options) { o.Licenses = nil }, []string{"no licenses"}},
		"license outside": {func(t *testing.T, o *Options) { o.Licenses["../x"] = o.Licenses["LICENSE"] }, []string{`"../x"`}},
		"no pin":          {func(t *testing.T, o *Options) { os.Remove(filepath.Join(o.Patches, "pin.toml")) }, []string{"pin.toml is missing"}},
		"version":         {func(t *testing.T, o *Options) { o.Version = "1/2" }, []string{`"1/2"`}},
		"no time":         {func(t *testing.T, o *Options) { o.Epoch = time.Time{} }, []string{"time of the commit"}},
		"broken report": {func(t *testing.T, o *Options) {
			os.MkdirAll(o.Report, 0o755)
			put(t, filepath.Join(o.Report, report.FileName), "{")
		}, []string{"verify.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := tree(t)
			c.change(t, &o)
			_, _, err := write(t, t.Context(), o)
			if err == nil {
				t.Fatal("released")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q, want one line with %q", err, want)
				}
			}
			nothingLeft(t, o)
		})
	}
}

// A step may be cancelled after it began.
func TestCancelled(t *testing.T) {
	o := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := progress.To(io.Discard).Step(ctx, "release", func(ctx context.Context, s *progress.Step) error {
		cancel()
		_, err := Write(ctx, s, o)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	nothingLeft(t, o)
}

func TestDiskFull(t *testing.T) {
	o := tree(t)
	if err := os.MkdirAll(o.Workspace.Dist(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", o.Workspace.Dist(), "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(o.Workspace.Dist(), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	_, _, err := write(t, t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "disk full") || !strings.Contains(err.Error(), "ZT_OUT") {
		t.Errorf("%v, want it to say that the disk is full and what to do", err)
	}
	nothingLeft(t, o)
}

func TestPartialOfKilledRun(t *testing.T) {
	o := tree(t)
	want, _ := mustWrite(t, o)
	if err := os.Rename(want, want+".partial"); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, o)
	if entries, err := os.ReadDir(o.Workspace.Dist()); err != nil || len(entries) != 1 {
		t.Errorf("%v (%v), want the archive alone", entries, err)
	}
}

func TestVerifyDetects(t *testing.T) {
	archive, _ := mustWrite(t, tree(t))
	if err := Verify(archive); err != nil {
		t.Fatal(err)
	}
	if err := Verify(repack(t, unpack(t, archive))); err != nil {
		t.Fatalf("repacked unchanged: %v", err)
	}
	entries := unpack(t, archive)
	for i, e := range entries {
		if e.Typeflag != tar.TypeReg {
			continue
		}
		changed := append([]packed(nil), entries...)
		changed[i].text = bytes.Clone(e.text)
		changed[i].text[len(e.text)/2] ^= 1
		if err := Verify(repack(t, changed)); err == nil {
			t.Errorf("a flipped bit in %s goes unnoticed", e.Name)
		}
		without := append(append([]packed(nil), entries[:i]...), entries[i+1:]...)
		if err := Verify(repack(t, without)); err == nil {
			t.Errorf("the loss of %s goes unnoticed", e.Name)
		}
		twice := append(append([]packed(nil), entries...), e)
		if err := Verify(repack(t, twice)); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s twice: %v", e.Name, err)
		}
	}
	added := entries[2]
	added.Name += "-added"
	if err := Verify(repack(t, append(entries, added))); err == nil || !strings.Contains(err.Error(), "SHA256SUMS lacks bin/") {
		t.Errorf("a file without a sum: %v", err)
	}

	// The compressed file itself, damaged and cut.
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	for at := 16; at < len(raw); at += len(raw)/20 + 1 {
		bad := bytes.Clone(raw)
		bad[at] ^= 1
		if err := os.WriteFile(damaged, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Verify(damaged); err == nil {
			t.Errorf("a flipped bit in byte %d of %d goes unnoticed", at, len(raw))
		}
		if err := os.WriteFile(damaged, raw[:at], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Verify(damaged); err == nil {
			t.Errorf("an end at byte %d of %d goes unnoticed", at, len(raw))
		}
	}
}

func TestLicenses(t *testing.T) {
	root, checkout := t.TempDir(), t.TempDir()
	put := func(p string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte("text"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(root, "LICENSE"))
	for _, name := range []string{"LICENSE", "licenses/LICENSE-jsonhpp", "vendor/a/LICENSE.md", "vendor/a/b/COPYING", "vendor/a/license.cpp.h/x.h",
		"vendor/a/notices.c", "src/LICENSE"} {
		put(filepath.Join(checkout, name))
	}
	if _, err := Licenses(root, checkout); err == nil || !strings.Contains(err.Error(), "sgemm.cpp") {
		t.Errorf("without sgemm.cpp: %v", err)
	}
	put(filepath.Join(checkout, "ggml/src/ggml-cpu/llamafile/sgemm.cpp"))
	all, err := Licenses(root, checkout)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"llama-zen-turbo/LICENSE", "llama.cpp/LICENSE", "llama.cpp/licenses/LICENSE-jsonhpp",
		"llama.cpp/vendor/a/LICENSE.md", "llama.cpp/vendor/a/b/COPYING", "llama.cpp/ggml/src/ggml-cpu/llamafile/sgemm.cpp"} {
		if _, err := os.Stat(all[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d texts: %v", len(all), all)
	}
}
