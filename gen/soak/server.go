package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
)

// server is one process of llama-server.
type server struct {
	pid  int
	url  string
	http *http.Client
	log  serverLog
	ctx  context.Context // ends with the process
	kill func()          // ends the process if it still runs, and waits until it has ended

	exit error // of the process, once ctx has ended
}

// death is how a process ended that should not have, or not so.
type death string

func (d death) Error() string { return string(d) }

// hang is something that the server did not do in time.
type hang string

func (h hang) Error() string { return string(h) }

// launch starts a server with that many threads and waits until its model is loaded. The process ends with ctx or with this one, whichever comes first.
func (s *soaker) launch(ctx context.Context, threads int) (*server, error) {
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	running, kill := context.WithCancel(ctx)
	cmd := child.Command(running, filepath.Join(s.Build.Bin, "llama-server"),
		"-m", s.Model, "-t", strconv.Itoa(threads), "-np", strconv.Itoa(slots), "-c", strconv.Itoa(slots*slotContext),
		"--host", "127.0.0.1", "--port", strconv.Itoa(port), "--no-ui", "-lv", "2",
		"-fa", "on", "--no-kv-unified", // see exactRows
		"--threads-http", "16", // more than connections, or some come and go
		"--cache-ram", "0", "--ctx-checkpoints", "0", // caches that grow by design would hide what should not grow
		"--sleep-idle-seconds", "1")
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Env = append(os.Environ(), steadyMalloc...)
	cmd.Env = append(cmd.Env, s.Build.Env...)
	life, over := context.WithCancel(context.Background())
	srv := &server{
		url: fmt.Sprintf("http://127.0.0.1:%d", port),
		http: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: clients, DisableCompression: true,
		}},
		ctx: life,
	}
	srv.kill = func() { kill(); <-life.Done(); srv.http.CloseIdleConnections() }
	cmd.Stdout, cmd.Stderr = &srv.log, &srv.log

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig speaks of the thread that started the process
		defer over()
		err := cmd.Start()
		started <- err
		if err == nil {
			srv.exit = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		kill()
		return nil, err
	}
	srv.pid = cmd.Process.Pid
	for {
		var health struct{ Status string }
		if err := srv.get(ctx, "/health", &health); err == nil && health.Status == "ok" {
			return srv, nil
		}
		select {
		case <-ctx.Done():
			srv.kill()
			return nil, context.Cause(ctx)
		case <-srv.ctx.Done():
			kill()
			return nil, srv.end()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// steadyMalloc keeps glibc's malloc from holding on to memory that was freed, which grows for minutes and looks like a leak:
// one heap for all threads, not one for each that meets another; and, from 128 KiB on, blocks that always go back to the
// system, where it would raise that limit with each one freed.
var steadyMalloc = []string{"MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=131072"}

func (srv *server) ended() bool { return srv.ctx.Err() != nil }

// died says whether the process has ended, or does within a moment: a client may see that before the parent does.
func (srv *server) died() bool {
	select {
	case <-srv.ctx.Done():
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// end says how the process ended, which it must have.
func (srv *server) end() error {
	how := "exit status 0"
	if srv.exit != nil {
		how = srv.exit.Error()
	}
	return death(fmt.Sprintf("llama-server ended by itself (%s); its last line: %s", how, srv.log.lastLine()))
}

// get reads a JSON answer into v.
func (srv *server) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.url+path, nil)
	if err != nil {
		return err
	}
	response, err := srv.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, 16<<20)).Decode(v)
}

// until asks done again and again until it says yes.
func (srv *server) until(ctx context.Context, patience time.Duration, what string, done func(context.Context) (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := done(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case srv.ended():
			return srv.end()
		case ok:
			return nil
		case time.Now().After(deadline):
			if err != nil {
				what += ": " + err.Error()
			}
			return hang(fmt.Sprintf("after %v %s", patience, what))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// quiet waits until no slot works any more, which is soon after all clients have gone, and leaves no connection open.
func (srv *server) quiet(ctx context.Context, patience time.Duration) error {
	defer srv.http.CloseIdleConnections()
	return srv.until(ctx, patience, "slots still work for clients that have gone", func(ctx context.Context) (bool, error) {
		var slots []struct {
			Busy bool `json:"is_processing"`
		}
		err := srv.get(ctx, "/slots", &slots)
		for _, slot := range slots {
			if slot.Busy {
				return false, err
			}
		}
		return err == nil, err
	})
}

// sleep waits until the idle server has begun to unload its model.
func (srv *server) sleep(ctx context.Context, patience time.Duration) error {
	defer srv.http.CloseIdleConnections()
	return srv.until(ctx, patience, "the idle server still holds its model", func(ctx context.Context) (bool, error) {
		var props struct {
			Sleeping bool `json:"is_sleeping"`
		}
		err := srv.get(ctx, "/props", &props)
		return props.Sleeping, err
	})
}

// stop asks the server to end and waits until it has.
func (srv *server) stop(ctx context.Context, patience time.Duration) error {
	srv.http.CloseIdleConnections()
	if err := syscall.Kill(srv.pid, syscall.SIGTERM); err != nil {
		return srv.end()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(patience):
		return hang(fmt.Sprintf("%v after SIGTERM the server still runs", patience))
	case <-srv.ctx.Done():
	}
	if srv.exit != nil {
		return death(fmt.Sprintf("asked to end, llama-server did so with %v; its last line: %s", srv.exit, srv.log.lastLine()))
	}
	return nil
}

// serverLog keeps what matters of a server's output.
type serverLog struct {
	mu      sync.Mutex
	partial []byte
	last    []string // lines
	bad     []string // lines that report an error, the first of them
	n       int      // of all of them
}

// errorLine matches what llama.cpp prints in front of an error ("0.01.234.567 E srv ...", with colours off), and a failed assertion.
var errorLine = regexp.MustCompile(`^[0-9.]+ E |GGML_ASSERT|GGML_ABORT`)

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const keep = 10
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := strings.Cut(string(l.partial), "\n")
		if !found && len(l.partial) < 1<<16 {
			return len(p), nil
		}
		l.partial = []byte(rest)
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		l.last = append(l.last, line)
		l.last = l.last[max(0, len(l.last)-keep):]
		if errorLine.MatchString(line) {
			l.n++
			if len(l.bad) < keep {
				l.bad = append(l.bad, line)
			}
		}
	}
}

func (l *serverLog) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	// a crash prints the failed assertion before the stack
	for _, line := range slices.Concat(slices.Clone(l.bad), l.last) {
		if strings.Contains(line, "GGML_") {
			return line
		}
	}
	if len(l.last) == 0 {
		return "(none)"
	}
	return l.last[len(l.last)-1]
}

func (l *serverLog) errors() (n int, first []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n, slices.Clone(l.bad)
}
