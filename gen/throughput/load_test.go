package throughput

import (
	"math"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	busy, stolen, err := parseStat("cpu  100 20 30 4000 500 6 7 80 9 10\ncpu0 1 2 3\n")
	if err != nil || math.Abs(busy-1.63) > 1e-12 || math.Abs(stolen-0.8) > 1e-12 {
		t.Errorf("busy %v s, stolen %v s, %v", busy, stolen, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x 9"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestSince(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		name              string
		busy, stolen, own float64
		seconds, threads  int
		want              float64
	}{
		{"our own work", 20, 0, 20, 10, 2, 0},
		{"somebody's", 25, 0, 20, 10, 2, 0.25},
		{"the hypervisor's", 20, 5, 20, 10, 2, 0.25},
		{"both", 21, 1, 20, 10, 1, 0.2},
		{"ours is counted exactly, all in ticks", 19.9, 0, 20, 10, 2, 0},
		{"no time", 5, 0, 0, 0, 2, 0},
	} {
		before := load{at: start, busy: 7, stolen: 3, own: 2}
		after := load{start.Add(time.Duration(c.seconds) * time.Second), 7 + c.busy, 3 + c.stolen, 2 + c.own}
		// Up to least() nothing is said; the figures above are beyond it on fewer than 50 CPUs.
		if got := after.since(before, c.threads); least() < 1 && math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestMachineSeesOthers runs a busy program that is not yet waited for, as somebody else's is.
func TestMachineSeesOthers(t *testing.T) {
	before, err := machine()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 5000000 ]; do i=$((i+1)); done") // ends by itself in seconds
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	time.Sleep(600 * time.Millisecond)
	after, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if others := (after.busy - before.busy) - (after.own - before.own); others < 0.1 {
		t.Errorf("a program was busy for 0.6 s and others used %v s", others)
	}
	ended, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	if ended.own <= after.own {
		t.Errorf("a program that has ended is not counted as ours: %v s before, %v s after", after.own, ended.own)
	}
}
