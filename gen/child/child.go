// Package child starts programs that start others (git its transports, npm its workers) so that none of them outlives the
// context it was started with.
package child

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// grace is how long a program gets between being asked to stop and being killed.
const grace = time.Second

// Command is exec.CommandContext for a process group of its own: when ctx ends the whole group gets SIGTERM, which lets git
// remove its lock files, and a second later SIGKILL.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		time.AfterFunc(grace, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	// A grandchild that ignores SIGTERM holds the output pipes open; Wait must not hang on it.
	cmd.WaitDelay = 2 * grace
	return cmd
}
