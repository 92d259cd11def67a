package throughput

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// load is what the CPUs have done up to a moment, in seconds of CPU time.
type load struct {
	at     time.Time
	busy   float64 // working for anybody
	stolen float64 // taken by the hypervisor
	own    float64 // working for this process and the programs it has run to their end
}

// least is the CPU time of others below which nothing can be said: /proc/stat counts in ticks, for each CPU.
func least() float64 { return 2 * tick * float64(runtime.NumCPU()) }

// tick is the unit of /proc/stat in seconds: USER_HZ, 100 a second on every Linux on x86 (proc_stat(5)).
const tick = 0.01

// since returns the CPU time that others took since before, the hypervisor among them, as a share of what threads could have used.
func (l load) since(before load, threads int) float64 {
	others := max(0, (l.busy-before.busy)-(l.own-before.own)) + l.stolen - before.stolen
	available := l.at.Sub(before.at).Seconds() * float64(threads)
	if others <= least() || available <= 0 {
		return 0
	}
	return others / available
}

// machine reads the load of this machine.
func machine() (load, error) {
	l := load{at: time.Now()}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l, err
	}
	if l.busy, l.stolen, err = parseStat(string(text)); err != nil {
		return l, err
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return l, err
		}
		l.own += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	return l, nil
}

// parseStat reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq and steal time of all CPUs together
// (proc_stat(5)). Time of guests is in user's.
func parseStat(text string) (busy, stolen float64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q, not with the time of all CPUs", line)
	}
	for i, f := range fields[1:9] {
		ticks, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		switch i {
		case 3, 4: // idle, waiting for a disk
		case 7:
			stolen = float64(ticks) * tick
		default:
			busy += float64(ticks) * tick
		}
	}
	return busy, stolen, nil
}
