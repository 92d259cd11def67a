package topology

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The sources of zt-host that read a topology. log.cpp needs llama.cpp, so the tests have a log of their own.
var sources = []string{"affinity", "bandwidth", "governor", "switches", "threads", "topology"}

const ownLog = `#include "ggml-host/log.h"
#include <cstdarg>
#include <cstdio>
namespace ggml::host {
void note(const char *, ...) {}
void warn(const char * format, ...) { va_list args; va_start(args, format); vfprintf(stderr, format, args); va_end(args); fputs("\n", stderr); }
}
`

// host is zt-host made of our sources alone, with a compiler's checks of memory and arithmetic where it has them.
var host struct {
	once sync.Once
	path string
	skip string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if host.path != "" {
		os.RemoveAll(filepath.Dir(host.path))
	}
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	host.once.Do(func() { host.path, host.skip, host.err = compile() })
	if host.skip != "" {
		t.Skip(host.skip)
	}
	if host.err != nil {
		t.Fatal(host.err)
	}
	return host.path
}

func compile() (path, skip string, err error) {
	cxx, err := exec.LookPath("c++")
	if err != nil {
		return "", err.Error(), nil
	}
	dir, err := os.MkdirTemp("", "zt-topology-")
	if err != nil {
		return "", "", err
	}
	// Copies, so that go test knows which files the result depends on.
	files := map[string]string{"log.cpp": ownLog}
	read := func(name, path string) {
		text, readErr := os.ReadFile(path)
		files[name], err = string(text), errors.Join(err, readErr)
	}
	const folder, main = "../../templates/ggml/src/ggml-host/", "zt-host.cpp"
	read(main, "../../templates/tools/zt-host/"+main)
	headers, err := filepath.Glob(folder + "*.h")
	for _, path := range headers {
		read("ggml-host/"+filepath.Base(path), path)
	}
	args := []string{"-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-pthread", "-I.", "-o", "zt-host", "log.cpp", main}
	for _, s := range sources {
		s = "ggml-host/" + s + ".cpp"
		read(s, "../../templates/ggml/src/"+s)
		args = append(args, s)
	}
	for name, text := range files {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	if err != nil {
		return "", "", err
	}
	call := func(more ...string) error {
		cmd := exec.Command(cxx, append(slices.Clone(args), more...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cxx, err, out)
		}
		return nil
	}
	if err = call("-fsanitize=address,undefined", "-fno-sanitize-recover=all"); err != nil {
		err = call() // the compiler may lack the libraries of its checks
	}
	return filepath.Join(dir, "zt-host"), "", err
}

// line is a line of zt-host topology.
type line struct {
	// The machine.
	Text                        string
	Cores, L3s, Nodes, Packages int
	Online, Quota               int
	Guessed                     bool
	L3Bytes                     []int `json:"l3_bytes"`

	// A CPU.
	CPU                     *int
	Core, L3, Node, Package int
	First                   bool `json:"first_of_core"`

	// A node.
	Memory   *int
	Bytes    int
	Distance []int

	Default int `json:"default_threads"`

	// Threads.
	Threads int
	CPUs    []int
	Pinned  bool
	Domains []int
	Why     string
}

// answer is what zt-host says of a machine.
type answer struct {
	machine   line
	cpus      []line
	memory    []line
	byDefault int
	threads   []line // the default number first
}

// ask runs zt-host below root, or on this machine where that is "".
func ask(t *testing.T, root string, env []string, numbers ...int) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args := []string{"topology"}
	for _, n := range numbers {
		args = append(args, "-n", fmt.Sprint(n))
	}
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Env = append(os.Environ(), append(env, "ZT_SYSFS="+root, "ASAN_OPTIONS=detect_leaks=0")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zt-host: %v\n%s", err, &stderr)
	}
	var a answer
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		switch {
		case l.Text != "":
			a.machine = l
		case l.CPU != nil:
			a.cpus = append(a.cpus, l)
		case l.Memory != nil:
			a.memory = append(a.memory, l)
		case l.Default > 0:
			a.byDefault = l.Default
		default:
			a.threads = append(a.threads, l)
		}
	}
	return a
}

// write makes m below a folder of the test.
func write(t *testing.T, m Machine) string {
	t.Helper()
	dir := t.TempDir()
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// each returns n equal numbers.
func each(n, number int) []int { return slices.Repeat([]int{number}, n) }

// placed is where n threads should run.
type placed struct {
	cpus    []int
	domains []int // nil: they are not pinned
	why     string
}

func TestMachines(t *testing.T) {
	quota := Ryzen9950X
	quota.CPUMax = "450000 100000"
	free := Ryzen9950X
	free.CPUMax = "max 100000"
	half := Ryzen9950X
	half.Affinity = slices.Concat(Span(4, 15), Span(20, 31))
	alone := Ryzen9950X
	alone.Affinity = []int{11}
	smtOff := Ryzen9950X
	smtOff.Offline = Span(16, 31)
	noSMT := Ryzen9950X
	noSMT.SMT = false
	holes := Ryzen9950X
	holes.Offline = []int{0, 3, 16, 19, 9}
	round := Machine{Sockets: 2, L3: []int{32 * mib}, Cores: 4, SMT: true, Memory: 32, RoundRobin: true}
	const confined = "this process may not use the whole machine"

	var steps []int // the first core of each L3 of a 9755
	for i := range 16 {
		steps = append(steps, 8*i)
	}
	for _, c := range []struct {
		name       string
		machine    Machine
		text       string
		cores, l3s int
		nodes      int
		byDefault  int
		places     map[int]placed
	}{
		{"9950X", Ryzen9950X, "16 cores, 32 CPUs, 2 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package", 16, 2, 1, 16, map[int]placed{
			1:  {[]int{0}, nil, "it is alone"},
			2:  {[]int{0, 8}, []int{0, 1}, "each within its L3: 1 + 1"},
			5:  {[]int{0, 1, 2, 8, 9}, nil, "they are no even share of 2 L3s"},
			6:  {[]int{0, 1, 2, 8, 9, 10}, []int{0, 0, 0, 1, 1, 1}, "each within its L3: 3 + 3"},
			16: {Span(0, 15), slices.Concat(each(8, 0), each(8, 1)), "each within its L3: 8 + 8"},
			17: {slices.Concat(Span(0, 7), []int{16}, Span(8, 15)), nil, "they are more than the 16 cores"},
			32: {slices.Concat(Span(0, 7), Span(16, 23), Span(8, 15), Span(24, 31)), nil, "they are more than the 16 cores"},
			33: {nil, nil, "they are more than the 16 cores"},
		}},
		{"9950X3D", Ryzen9950X3D, "16 cores, 32 CPUs, 2 L3s (1 with 8 cores and 32 MiB, 1 with 8 cores and 96 MiB), 1 NUMA node, 1 package", 16, 2, 1, 16, map[int]placed{
			4: {[]int{0, 1, 8, 9}, []int{0, 0, 1, 1}, "each within its L3: 2 + 2"},
		}},
		{"9755 NPS1", EPYC9755, "128 cores, 256 CPUs, 16 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package", 128, 16, 1, 128, map[int]placed{
			16:  {steps, Span(0, 15), "each within its L3: 16 times 1"},
			128: {Span(0, 127), nil, ""},
		}},
		{"9755 NPS4", EPYC9755NPS4, "128 cores, 256 CPUs, 16 L3s (8 cores and 32 MiB each), 4 NUMA nodes, 1 package", 128, 16, 4, 128, map[int]placed{
			4: {[]int{0, 32, 64, 96}, nil, "they are no even share of 16 L3s"},
			6: {[]int{0, 8, 32, 40, 64, 96}, nil, "they are no even share of 16 L3s"},
		}},
		{"two 9755", DualEPYC9755, "256 cores, 512 CPUs, 32 L3s (8 cores and 32 MiB each), 2 NUMA nodes, 2 packages", 256, 32, 2, 256, map[int]placed{
			2:   {[]int{0, 128}, nil, "they are no even share of 32 L3s"},
			3:   {[]int{0, 8, 128}, nil, "they are no even share of 32 L3s"},
			256: {Span(0, 255), nil, ""},
		}},
		{"two 9755 NPS4", DualEPYC9755NPS4, "256 cores, 512 CPUs, 32 L3s (8 cores and 32 MiB each), 8 NUMA nodes, 2 packages", 256, 32, 8, 256, map[int]placed{
			4: {[]int{0, 32, 128, 160}, nil, "they are no even share of 32 L3s"},
		}},
		{"virtual machine", VM, "2 cores, 2 CPUs, 1 L3 (2 cores and 480 MiB), 1 NUMA node, 1 package", 2, 1, 1, 2, map[int]placed{
			2: {[]int{0, 1}, nil, "they share one L3"},
		}},
		{"no caches, no nodes", Bare, "4 cores, 4 CPUs, 1 L3 (4 cores), 1 NUMA node, 1 package; some of it guessed", 4, 1, 1, 4, map[int]placed{
			4: {Span(0, 3), nil, "they share one L3"},
		}},
		{"SMT off in the kernel", smtOff, "16 cores, 16 CPUs, 2 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package", 16, 2, 1, 16, map[int]placed{
			16: {Span(0, 15), nil, ""},
		}},
		{"SMT off in the firmware", noSMT, "16 cores, 16 CPUs, 2 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package", 16, 2, 1, 16, map[int]placed{
			16: {Span(0, 15), nil, ""},
		}},
		{"CPUs offline", holes, "14 cores, 27 CPUs, 2 L3s (1 with 6 cores and 32 MiB, 1 with 8 cores and 32 MiB), 1 NUMA node, 1 package", 14, 2, 1, 14, map[int]placed{
			// the sibling of 9 stands in for it
			14: {[]int{1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 25}, slices.Concat(each(6, 0), each(8, 1)), "each within its L3: 6 + 8"},
		}},
		{"half a CCD taken away", half, "12 cores, 24 CPUs of 32, 2 L3s (1 with 4 cores and 32 MiB, 1 with 8 cores and 32 MiB), 1 NUMA node, 1 package", 12, 2, 1, 12, map[int]placed{
			6:  {[]int{4, 5, 6, 8, 9, 10}, nil, confined},
			12: {Span(4, 15), nil, confined},
		}},
		{"one CPU left", alone, "1 core, 1 CPU of 32, 1 L3 (1 core and 32 MiB), 1 NUMA node, 1 package", 1, 1, 1, 1, map[int]placed{
			1: {[]int{11}, nil, "it is alone"},
		}},
		{"the time of four CPUs", quota, "16 cores, 32 CPUs, 2 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package, the time of 4 CPUs", 16, 2, 1, 4, map[int]placed{
			4: {[]int{0, 1, 8, 9}, nil, confined},
		}},
		{"no limit of time", free, "16 cores, 32 CPUs, 2 L3s (8 cores and 32 MiB each), 1 NUMA node, 1 package", 16, 2, 1, 16, nil},
		{"numbers round the sockets", round, "8 cores, 16 CPUs, 2 L3s (4 cores and 32 MiB each), 2 NUMA nodes, 2 packages", 8, 2, 2, 8, map[int]placed{
			3: {[]int{0, 2, 1}, nil, "they are no even share of 2 L3s"},
			8: {[]int{0, 2, 4, 6, 1, 3, 5, 7}, slices.Concat(each(4, 0), each(4, 1)), "each within its L3: 4 + 4"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := write(t, c.machine)
			var numbers []int
			for n := range c.places {
				numbers = append(numbers, n)
			}
			a := ask(t, root, nil, numbers...)
			if a.machine.Text != c.text {
				t.Errorf("%q, not %q", a.machine.Text, c.text)
			}
			if got, want := []int{a.machine.Cores, a.machine.L3s, a.machine.Nodes, a.byDefault}, []int{c.cores, c.l3s, c.nodes, c.byDefault}; !slices.Equal(got, want) {
				t.Errorf("cores, L3s, nodes, default threads %v, not %v", got, want)
			}
			for _, l := range a.threads[1:] {
				want := c.places[l.Threads]
				if !slices.Equal(l.CPUs, want.cpus) {
					t.Errorf("%d threads on CPUs %v, not %v", l.Threads, l.CPUs, want.cpus)
				}
				if want.why != "" && (l.Why != want.why || !slices.Equal(l.Domains, want.domains) || l.Pinned != (want.domains != nil)) {
					t.Errorf("%d threads: pinned %v, L3s %v, %q; not %v, %q", l.Threads, l.Pinned, l.Domains, l.Why, want.domains, want.why)
				}
			}
			if len(a.threads) != len(c.places)+1 || a.threads[0].Threads != c.byDefault {
				t.Errorf("%d placements, the first of %d threads", len(a.threads), a.threads[0].Threads)
			}
		})
	}
}

// TestMap compares every CPU, L3 and node of each machine with its description.
func TestMap(t *testing.T) {
	half := DualEPYC9755NPS4
	half.Affinity = slices.Concat(Span(100, 140), Span(300, 310))
	for name, m := range map[string]Machine{"9950X3D": Ryzen9950X3D, "9755 NPS4": EPYC9755NPS4, "two 9755": DualEPYC9755, "part of two 9755 NPS4": half, "VM": VM} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, write(t, m), nil)
			all := m.cpus()
			ids := m.Affinity
			if ids == nil {
				ids = Span(0, len(all)-1)
			}
			if len(a.cpus) != len(ids) || a.machine.Online != len(all) {
				t.Fatalf("%d CPUs of %d, not %d of %d", len(a.cpus), a.machine.Online, len(ids), len(all))
			}
			type thing struct {
				kind  string
				index int
			}
			was, is := map[thing]int{}, map[thing]int{} // numbers of ours for numbers of the machine, and the other way
			met := map[[2]int]bool{}
			for i, l := range a.cpus {
				c := all[ids[i]]
				if *l.CPU != ids[i] {
					t.Fatalf("CPU %d, not %d", *l.CPU, ids[i])
				}
				for _, p := range []struct {
					kind      string
					want, got int
				}{{"core", c.socket<<16 | c.core, l.Core}, {"L3", c.l3, l.L3}, {"node", c.node, l.Node}, {"package", c.socket, l.Package}} {
					to, from := thing{p.kind, p.want}, thing{p.kind, p.got}
					if n, known := is[to]; known && n != p.got {
						t.Errorf("CPU %d has %s %d, others of the same have %d", ids[i], p.kind, p.got, n)
					}
					if n, known := was[from]; known && n != p.want {
						t.Errorf("CPU %d shares %s %d with CPUs that are elsewhere", ids[i], p.kind, p.got)
					}
					is[to], was[from] = p.got, p.want
				}
				core := [2]int{c.socket, c.core}
				if l.First == met[core] {
					t.Errorf("CPU %d is the first of its core: %v", ids[i], l.First)
				}
				met[core] = true
			}
			for i, bytes := range a.machine.L3Bytes {
				if want := m.L3[was[thing{"L3", i}]%len(m.L3)] << 10; bytes != want {
					t.Errorf("L3 %d of %d bytes, not %d", i, bytes, want)
				}
			}
			for i, node := range a.memory {
				if i < a.machine.Nodes && *node.Memory != was[thing{"node", i}] {
					t.Errorf("node %d is the kernel's %d, not %d", i, *node.Memory, was[thing{"node", i}])
				}
				if node.Bytes != m.Memory<<30 || len(node.Distance) != len(a.memory) || node.Distance[i] != local {
					t.Errorf("node %d: %d bytes, distances %v", i, node.Bytes, node.Distance)
				}
				for j, d := range node.Distance {
					if same := *node.Memory/m.nodes() == *a.memory[j].Memory/m.nodes(); i != j && d != map[bool]int{true: neighbour, false: remote}[same] {
						t.Errorf("nodes %d and %d are %d apart", i, j, d)
					}
				}
			}
			if want := m.sockets() * m.nodes(); len(a.memory) != want {
				t.Errorf("%d nodes with memory, not %d", len(a.memory), want)
			}
		})
	}
}

func TestPin(t *testing.T) {
	root := write(t, Ryzen9950X)
	if l := ask(t, root, []string{"ZT_PIN=0"}).threads[0]; l.Pinned || l.Why != "ZT_PIN=0" {
		t.Errorf("ZT_PIN=0: pinned %v, %q", l.Pinned, l.Why)
	}
	confined := Ryzen9950X
	confined.Affinity = Span(0, 7)
	l := ask(t, write(t, confined), []string{"ZT_PIN=1"}).threads[0]
	if !l.Pinned || l.Threads != 8 || l.Why != "each on a CPU of its own, by L3: 8" {
		t.Errorf("ZT_PIN=1: %d threads, pinned %v, %q", l.Threads, l.Pinned, l.Why)
	}
	if l := ask(t, root, []string{"ZT_PIN=maybe"}).threads[0]; !l.Pinned {
		t.Errorf("ZT_PIN=maybe is not taken for auto: %q", l.Why)
	}
}

// TestHostile gives each kind of file contents that no kernel writes. What is left must be a machine, in seconds and without a fault of memory.
func TestHostile(t *testing.T) {
	m := Machine{L3: []int{32 * mib, 32 * mib}, Cores: 2, SMT: true, Memory: 64, Affinity: Span(0, 7), CPUMax: "400000 100000"}
	kinds := map[string]string{} // a file of each kind, by what it is about
	for path := range m.files() {
		kind := strings.NewReplacer("cpu1/", "*/", "cpu5/", "*/").Replace(path)
		if !strings.Contains(path, "devices/system/cpu/cpu") || kind != path {
			kinds[strings.Replace(kind, "index2", "index3", 1)] = path
		}
	}
	if len(kinds) < 14 {
		t.Fatalf("only %d kinds of files", len(kinds))
	}
	contents := map[string]string{
		"empty": "", "minus": "-1", "open range": "0-", "backward": "7-0", "comma": "0,", "commas": strings.Repeat(",", 1<<20),
		"huge": "99999999999999999999", "huge range": "0-99999999999999999999", "many": "0-8191", "too many": "0-8192", "zero byte": "0\x000",
		"long": strings.Repeat("0,", 1<<20) + "0", "words": "400000 0", "other": "5",
	}
	for kind, path := range kinds {
		t.Run(kind, func(t *testing.T) {
			root := write(t, m)
			path := filepath.Join(root, path)
			check := func(what string) {
				a := ask(t, root, nil, 1, 7)
				n := len(a.cpus)
				if n == 0 || a.byDefault < 1 || a.byDefault > n || a.machine.Cores > n || a.machine.L3s > n || a.machine.Cores < 1 || a.machine.L3s < 1 {
					t.Errorf("%s: %d CPUs, %d threads: %s", what, n, a.byDefault, a.machine.Text)
				}
			}
			for what, text := range contents {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				check(what)
			}
			for what, make := range map[string]func() error{
				"missing":  func() error { return nil },
				"folder":   func() error { return os.Mkdir(path, 0o755) },
				"pipe":     func() error { return unix.Mkfifo(path, 0o644) },
				"circular": func() error { return os.Symlink(path, path) },
				"device":   func() error { return os.Symlink("/dev/zero", path) },
			} {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				if err := make(); err != nil {
					t.Fatal(err)
				}
				check(what)
			}
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		a := ask(t, t.TempDir(), nil)
		if len(a.cpus) != 1 || a.byDefault != 1 || !a.machine.Guessed {
			t.Errorf("%d CPUs, %d threads: %s", len(a.cpus), a.byDefault, a.machine.Text)
		}
	})
}

// TestHere asks about this machine, where the kernel says what this process may use.
func TestHere(t *testing.T) {
	a := ask(t, "", nil)
	if len(a.cpus) != runtime.NumCPU() || a.byDefault < 1 || a.byDefault > len(a.cpus) {
		t.Errorf("%d CPUs, %d threads; Go counts %d", len(a.cpus), a.byDefault, runtime.NumCPU())
	}

	last := *a.cpus[len(a.cpus)-1].CPU
	runtime.LockOSThread() // and let the thread die with its mask
	var one unix.CPUSet
	one.Set(last)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Skip(err)
	}
	b := ask(t, "", nil)
	if len(b.cpus) != 1 || *b.cpus[0].CPU != last || b.byDefault != 1 || b.machine.Online != a.machine.Online {
		t.Errorf("on CPU %d alone: %s", last, b.machine.Text)
	}
}
