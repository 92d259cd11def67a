package child

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestGrandchildrenEndWithTheContext(t *testing.T) {
	for _, c := range []struct{ name, trap string }{{"obedient", ""}, {"ignoring SIGTERM", "trap '' TERM; "}} {
		t.Run(c.name, func(t *testing.T) {
			pidFile := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd := Command(ctx, "sh", "-c", c.trap+"sleep 60 & echo $! > "+pidFile+".new; mv "+pidFile+".new "+pidFile+"; wait")
			cmd.Stdout = new(bytes.Buffer) // a pipe that the grandchild inherits
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var text []byte
			for len(text) == 0 {
				time.Sleep(10 * time.Millisecond)
				text, _ = os.ReadFile(pidFile)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			start := time.Now()
			if err := cmd.Wait(); err == nil {
				t.Error("Wait reports success")
			}
			for syscall.Kill(pid, 0) == nil && !zombie(pid) {
				if time.Since(start) > 5*time.Second {
					t.Fatalf("process %d still runs", pid)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// zombie reports whether a process has ended but nobody has asked for its status: an orphan in a container without init.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}
