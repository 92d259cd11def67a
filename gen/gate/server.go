package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// serverTimeout is how long a llama-server and all that is asked of it may take.
const serverTimeout = 2 * time.Minute

// serve runs llama-server of b on 127.0.0.1 for as long as use takes, which asks it.
func serve(ctx context.Context, b program.Build, m Model, args []string, use func(context.Context, server) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, serverTimeout, fmt.Errorf("%s llama-server was not done within %v", b.Name, serverTimeout))
	defer cancel()
	port, err := child.FreePort()
	if err != nil {
		return err
	}
	args = append([]string{"-m", m.Path, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--no-ui"}, args...)
	cmd := child.Command(ctx, filepath.Join(b.Bin, "llama-server"), args...)
	cmd.Env = append(os.Environ(), b.Env...)
	var log child.Output
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var exit error
	go func() {
		defer close(ended)
		exit = cmd.Wait()
	}()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cancel() // kills it
			<-ended
		}
	}()

	s := server{url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	for {
		if s.get(ctx, "/health") == nil {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			return fmt.Errorf("%s llama-server %s ended before it was ready (%v): %s", b.Name, strings.Join(args, " "), exit, complaints(log.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := use(ctx, s); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s llama-server %s: %w", b.Name, strings.Join(args, " "), err)
	}
	return nil
}

// server is a running llama-server.
type server struct{ url string }

func (s server) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	return s.do(request, nil)
}

// post asks for path with a JSON body and reads the JSON answer.
func (s server) post(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	return s.do(request, answer)
}

func (s server) do(request *http.Request, answer any) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.300s", request.URL.Path, response.Status, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: %w in %.300s", request.URL.Path, err, text)
	}
	return nil
}
