package report

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// Host fills in what this machine says of itself. What it does not say is left empty.
func Host() Environment {
	e := Environment{CPU: target.Host().String(), Cores: runtime.NumCPU()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		e.LoadAverage = float64(info.Loads[0]) / (1 << 16) // sysinfo(2): fixed point with 16 bits of fraction
		e.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
	}
	const mm = "/sys/kernel/mm"
	// The file lists all choices with the current one in brackets.
	if _, after, ok := strings.Cut(line(mm, "transparent_hugepage/enabled"), "["); ok {
		e.TransparentPages, _, _ = strings.Cut(after, "]")
	}
	e.HugePages, _ = strconv.Atoi(line(mm, "hugepages/hugepages-2048kB/nr_hugepages"))
	e.HugePagesFree, _ = strconv.Atoi(line(mm, "hugepages/hugepages-2048kB/free_hugepages"))
	for _, v := range os.Environ() {
		if key, value, ok := strings.Cut(v, "="); ok && strings.HasPrefix(key, "ZT_") {
			if e.Switches == nil {
				e.Switches = map[string]string{}
			}
			e.Switches[key] = value
		}
	}
	return e
}

func line(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
