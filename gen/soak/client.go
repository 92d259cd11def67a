package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// manner is how a question is asked.
type manner struct {
	stream bool
	cache  bool // the slot may start from what it holds of an earlier prompt
	tops   bool // tell the best tokens too

	// The client leaves after this many pieces, or after this long, whichever is set.
	leave      int
	leaveAfter time.Duration
}

func (m manner) leaves() bool { return m.leave > 0 || m.leaveAfter > 0 }

// errLeft is how a request ends that its client leaves.
var errLeft = errors.New("the client left")

// nTops is how many of the best tokens the transcript keeps.
const nTops = 40

// completion is an answer of /completion, whole or a piece of it.
type completion struct {
	Content       string `json:"content"`
	Tokens        []int  `json:"tokens"`
	Stop          bool   `json:"stop"`
	StopType      string `json:"stop_type"`
	Predicted     int    `json:"tokens_predicted"`
	Evaluated     int    `json:"tokens_evaluated"`
	Probabilities []struct {
		ID   int   `json:"id"`
		Tops []top `json:"top_logprobs"`
	} `json:"completion_probabilities"`
}

// chat is an answer of /v1/chat/completions, whole or a piece of it.
type chat struct {
	Choices []struct {
		Finish  string                   `json:"finish_reason"`
		Message struct{ Content string } `json:"message"`
		Delta   struct{ Content string } `json:"delta"`
	} `json:"choices"`
	Usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"usage"`
}

// ask puts a question to the server and returns the answer, or with errLeft as much of it as the client heard. An answer that is not
// what the interface promises is an error.
func (s *soaker) ask(ctx context.Context, srv *server, q *question, how manner) (a answer, err error) {
	patient, cancel := context.WithTimeoutCause(ctx, s.pace.patience, hang(fmt.Sprintf("%v without the whole answer to %q", s.pace.patience, brief(q.text))))
	defer cancel()
	alive, gone := context.WithCancelCause(patient)
	defer context.AfterFunc(srv.ctx, func() { gone(errOver) })()
	defer gone(nil)
	if how.leaveAfter > 0 {
		timer := time.AfterFunc(how.leaveAfter, func() { gone(errLeft) })
		defer timer.Stop()
	}
	defer func() {
		if err != nil && alive.Err() != nil {
			err = context.Cause(alive)
		}
	}()

	path, body := "/completion", map[string]any{
		"ignore_eos": true, "cache_prompt": how.cache, "stream": how.stream, "temperature": 0,
	}
	if q.seed != 0 {
		body["temperature"], body["seed"] = 0.8, q.seed
	}
	if q.chat {
		path = "/v1/chat/completions"
		body["messages"] = []map[string]string{{"role": "user", "content": q.text}}
		body["max_tokens"], body["reasoning_format"] = q.predict, "none"
	} else {
		body["prompt"], body["n_predict"], body["return_tokens"] = q.text, q.predict, true
		if how.tops {
			body["n_probs"] = nTops
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	request, err := http.NewRequestWithContext(alive, http.MethodPost, srv.url+path, bytes.NewReader(text))
	if err != nil {
		return a, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = how.stream              // the server promises to keep the connection, but closes it after a stream
	request.Header["Idempotency-Key"] = nil // sends nothing; lets net/http ask again where an idle connection was just closed
	response, err := srv.http.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return a, fmt.Errorf("%s: %s %s", path, response.Status, said)
	}
	if how.stream {
		return listen(response.Body, q, how)
	}
	if q.chat {
		var c chat
		if err := json.NewDecoder(response.Body).Decode(&c); err != nil {
			return a, fmt.Errorf("%s: %w", path, err)
		}
		if len(c.Choices) != 1 || c.Choices[0].Finish != "length" || c.Usage.Completion != q.predict {
			return a, fmt.Errorf("%s: not one answer of %d tokens: %+v", path, q.predict, c)
		}
		return answer{text: c.Choices[0].Message.Content, prompt: c.Usage.Prompt}, nil
	}
	var c completion
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	if c.StopType != "limit" || c.Predicted != q.predict || len(c.Tokens) != q.predict {
		return a, fmt.Errorf("%s: %d tokens and %d predicted, ended by %q, not %d tokens up to the limit", path, len(c.Tokens), c.Predicted, c.StopType, q.predict)
	}
	a = answer{text: c.Content, tokens: c.Tokens, prompt: c.Evaluated}
	if how.tops {
		// the list leaves out tokens that do not end a character
		a.tops = make([][]top, len(a.tokens))
		for i, token := range a.tokens {
			if len(c.Probabilities) > 0 && c.Probabilities[0].ID == token {
				a.tops[i], c.Probabilities = c.Probabilities[0].Tops, c.Probabilities[1:]
			}
		}
	}
	return a, nil
}

// listen reads an answer that comes piece by piece.
func listen(body io.Reader, q *question, how manner) (a answer, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for pieces := 0; lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			if lines.Text() == "" {
				continue
			}
			return a, fmt.Errorf("a stream with the line %q", brief(lines.Text()))
		}
		if q.chat {
			var c chat
			if err := json.Unmarshal([]byte(data), &c); err != nil || len(c.Choices) != 1 {
				return a, fmt.Errorf("a piece of chat that is %q (%v)", brief(data), err)
			}
			a.text += c.Choices[0].Delta.Content
			if finish := c.Choices[0].Finish; finish == "length" {
				return a, drain(lines)
			} else if finish != "" {
				return a, fmt.Errorf("a chat that ended by %q, not at its length", finish)
			}
		} else {
			var c completion
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				return a, fmt.Errorf("a piece that is %q: %w", brief(data), err)
			}
			a.text += c.Content
			a.tokens = append(a.tokens, c.Tokens...)
			if c.Stop {
				if c.StopType != "limit" || c.Predicted != q.predict {
					return a, fmt.Errorf("a stream that ended by %q after %d tokens, not by the limit of %d", c.StopType, c.Predicted, q.predict)
				}
				return a, drain(lines)
			}
		}
		if pieces++; pieces == how.leave {
			return a, errLeft
		}
	}
	if err := lines.Err(); err != nil {
		return a, err
	}
	return a, errors.New("a stream without an end")
}

// drain reads what follows the last piece, so that the connection serves again.
func drain(lines *bufio.Scanner) error {
	for lines.Scan() {
	}
	return lines.Err()
}

// choose is what a client asks next, and how. Of 20 requests 13 are within the limits of exactness, 3 are long, 4 are left.
func (s *soaker) choose(rng *rand.Rand) (*question, manner) {
	list := map[length][]*question{}
	for _, q := range s.questions {
		list[q.length] = append(list[q.length], q)
	}
	pick := func(list []*question) *question { return list[rng.IntN(len(list))] }
	switch n := rng.IntN(20); {
	case n < 8:
		return pick(list[short]), manner{cache: rng.IntN(2) == 0}
	case n < 13:
		return pick(list[short]), manner{cache: rng.IntN(2) == 0, stream: true}
	case n < 16:
		return pick(list[long]), manner{} // never from the cache: what that holds depends on the batches it was made in
	case n < 18:
		return pick(list[short]), manner{stream: true, leave: 1 + rng.IntN(6)}
	case n < 19:
		return pick(list[long]), manner{stream: true, leave: 1 + rng.IntN(6)}
	default:
		return pick(s.questions), manner{leaveAfter: time.Duration(rng.IntN(50)) * time.Millisecond}
	}
}

// load has all clients ask for some time, and until they are answered. In no time, one of them asks once.
func (s *soaker) load(ctx context.Context, srv *server, length time.Duration) error {
	if length == 0 {
		q := s.questions[0]
		s.book.note(ctx, srv, q, manner{}, func() (answer, error) { return s.ask(ctx, srv, q, manner{}) })
	}
	end := time.Now().Add(length)
	if end.After(s.end) {
		end = s.end
	}
	var all sync.WaitGroup
	for _, rng := range s.schedules {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil && !srv.ended() && !s.book.hopeless() {
				q, how := s.choose(rng)
				s.book.note(ctx, srv, q, how, func() (answer, error) { return s.ask(ctx, srv, q, how) })
			}
		})
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case srv.ended():
		return srv.end()
	case s.book.hopeless():
		return errOver
	}
	return nil
}
