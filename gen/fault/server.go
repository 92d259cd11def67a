package fault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/child"
)

// server is a running llama-server.
type server struct {
	*process
	port int
}

// serve starts c, a call of llama-server, on a free port, or on the given one, and waits until it is ready.
func (l *lab) serve(ctx context.Context, c call, port int) (*server, error) {
	if port == 0 {
		var err error
		if port, err = child.FreePort(); err != nil {
			return nil, err
		}
	}
	p, err := l.start(ctx, c.with("--host", "127.0.0.1", "--port", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	s := &server{p, port}
	for !p.ended() {
		if response, err := http.Get(s.url("/health")); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	e, err := p.wait(ctx)
	if err == nil {
		err = e.failed()
	}
	if err == nil {
		err = fmt.Errorf("ended before it was ready: %s", e.call)
	}
	return nil, err
}

func (s *server) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", s.port, path) }

// request asks for n tokens after the prompt, greedily and without what earlier requests left in the cache.
func (s *server) request(ctx context.Context, n int, stream bool) (*http.Response, error) {
	body, err := json.Marshal(map[string]any{
		"prompt": prompt, "n_predict": n, "temperature": 0, "cache_prompt": false, "ignore_eos": true, "stream": stream,
	})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url("/completion"), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, s.broken(err)
	}
	return response, nil
}

// broken says why a connection broke: mostly because the server has just ended.
func (s *server) broken(err error) error {
	select {
	case <-s.done:
		if failed := s.end.failed(); failed != nil {
			return failed
		}
	case <-time.After(time.Second):
	}
	return fmt.Errorf("%s: %w", s.call, err)
}

// answer is the server's greedy answer to the prompt.
func (s *server) answer(ctx context.Context) (string, error) {
	response, err := s.request(ctx, answerTokens, false)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return "", s.broken(err)
	}
	var reply struct{ Content string }
	if err := json.Unmarshal(raw, &reply); err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", s.call, response.Status, raw)
	}
	return reply.Content, nil
}

// generate starts an answer of n tokens and returns when the first has come. The answer goes on until stop is called or the
// server ends.
func (s *server) generate(ctx context.Context, n int) (stop func(), err error) {
	response, err := s.request(ctx, n, true)
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "data:") {
		err = fmt.Errorf("%s: no stream but %q", s.call, line)
	}
	return func() { response.Body.Close() }, err
}

// stop asks the server to end and returns how it did.
func (s *server) stop(ctx context.Context) (end, error) {
	s.kill(unix.SIGTERM)
	return s.wait(ctx)
}
