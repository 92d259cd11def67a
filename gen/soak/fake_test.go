package soak

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The soak is tested on a server whose fault is known: a symbolic link named llama-server to this test, beside a file that
// names the fault. It has no weights and no memory to leak: it writes down what it would hold, and the test reads that instead of /proc.

const (
	faultFile  = "fault"
	memoryFile = "memory"
	livesFile  = "lives"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "llama-server" {
		if err := fake(filepath.Dir(os.Args[0])); err != nil {
			fmt.Fprintf(os.Stderr, "0.00.001.000 E srv main: %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeBuild is a folder with a server of the given fault; "" has none.
func fakeBuild(t *testing.T, fault string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, faultFile), []byte(fault), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "llama-server")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fakeIdle is after how long without requests the fake drops its model.
const fakeIdle = 60 * time.Millisecond

// sick is the number of requests after which the faults that take time show. The transcript makes 66.
const sick = 80

type fakeServer struct {
	dir, fault string
	slots      chan struct{}

	mu       sync.Mutex
	requests int
	active   int
	stuck    bool // a slot works on for nobody
	last     time.Time
	asleep   bool
	unloaded int // times
	memory   Memory
}

func fake(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, faultFile))
	if err != nil {
		return err
	}
	f := flag.NewFlagSet("llama-server", flag.ContinueOnError)
	host, port, np := f.String("host", "", ""), f.String("port", "", ""), f.Int("np", 1, "")
	for _, name := range []string{"m", "t", "c", "lv", "fa", "threads-http", "cache-ram", "ctx-checkpoints", "sleep-idle-seconds"} {
		f.String(name, "", "")
	}
	f.Bool("no-ui", false, "")
	f.Bool("no-kv-unified", false, "")
	if err := f.Parse(os.Args[1:]); err != nil {
		return err
	}
	s := &fakeServer{dir: dir, fault: string(raw), slots: make(chan struct{}, *np), last: time.Now()}
	lives, _ := os.ReadFile(filepath.Join(dir, livesFile))
	if err := os.WriteFile(filepath.Join(dir, livesFile), append(lives, '.'), 0o644); err != nil {
		return err
	}
	if s.fault == "starts once" && len(lives) > 0 || s.fault == "never starts" {
		return fmt.Errorf("failed to load model")
	}
	s.memory = Memory{Resident: 300 << 20, Threads: 10, Files: 6}
	s.load(100 << 20)

	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"status": "ok"}) })
	mux.HandleFunc("GET /props", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"is_sleeping": s.sleeping()}) })
	mux.HandleFunc("GET /slots", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		reply(w, []map[string]any{{"is_processing": false}, {"is_processing": s.active > 0 || s.stuck}})
	})
	mux.HandleFunc("POST /completion", s.answer)
	mux.HandleFunc("POST /v1/chat/completions", s.answer)
	server := http.Server{Addr: *host + ":" + *port, Handler: mux}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-terminated.Done():
	}
	switch s.fault {
	case "ends badly":
		os.Exit(3)
	case "does not end":
		stop()
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Minute)
	}
	return nil
}

// load changes what is held by a model that comes or, negative, goes. The caller holds the lock or is alone.
func (s *fakeServer) load(bytes int64) {
	s.memory.Resident += bytes
	s.memory.AnonHuge += bytes
	s.asleep = bytes < 0
	s.note()
}

func (s *fakeServer) note() {
	text, err := json.Marshal(s.memory)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, memoryFile+".new"), text, 0o644)
	}
	if err == nil {
		err = os.Rename(filepath.Join(s.dir, memoryFile+".new"), filepath.Join(s.dir, memoryFile))
	}
	if err != nil {
		panic(err)
	}
}

func (s *fakeServer) sleeping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asleep && s.active == 0 && time.Since(s.last) > fakeIdle && s.fault != "keeps its model" {
		s.load(-100 << 20)
		s.unloaded++
		switch s.fault {
		case "leaks per reload":
			s.memory.Resident += 11 << 20
		case "leaks huge pages":
			s.memory.Resident += 2 << 20
			s.memory.AnonHuge += 2 << 20
		case "leaks pool pages":
			s.memory.HugeTLB += 2 << 20
		case "leaks files":
			s.memory.Files++
		case "leaks threads":
			s.memory.Threads++
		}
		s.note()
	}
	return s.asleep
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *fakeServer) answer(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Prompt      string
		Messages    []struct{ Content string }
		NPredict    int `json:"n_predict"`
		MaxTokens   int `json:"max_tokens"`
		NProbs      int `json:"n_probs"`
		Stream      bool
		Temperature float64
		Seed        uint32
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	isChat := len(ask.Messages) == 1
	if isChat {
		ask.Prompt, ask.NPredict = ask.Messages[0].Content, ask.MaxTokens
	}
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	s.mu.Lock()
	s.requests++
	n := s.requests
	s.active++
	parallel, tired := s.active > 1, s.fault == "tires" && s.unloaded >= enough
	if s.asleep {
		s.load(100 << 20)
	}
	if s.fault == "leaks per request" {
		s.memory.Resident += 100 << 10
		s.note()
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.active--
		s.last = time.Now()
		if r.Context().Err() != nil && s.fault == "keeps slots busy" {
			s.stuck = true
		}
	}()

	words := len(strings.Fields(ask.Prompt))
	hash := fnv.New32a()
	fmt.Fprint(hash, ask.Prompt, ask.Seed)
	tokens := make([]int, ask.NPredict)
	for i := range tokens {
		tokens[i] = int(hash.Sum32()>>8)%40000 + i
	}
	turn := min(5, len(tokens)-1)
	delay := 100 * time.Microsecond // for a token
	if tired {
		delay *= 40
	}
	if n > sick {
		switch {
		case s.fault == "forgets" && n%7 == 0 && words < exactRows, s.fault == "mixes up slots" && parallel && words < exactRows:
			tokens[turn]++
		case s.fault == "turns at ties" && words > exactRows:
			tokens[turn]++
		case s.fault == "turns anywhere" && words > exactRows:
			tokens[turn] += 30
		case s.fault == "loses its head" && words > exactRows:
			tokens[turn] += 1000
		case s.fault == "crashes":
			fmt.Fprintln(os.Stderr, "zen5.cpp:1: GGML_ASSERT(false) failed\nsome stack")
			os.Exit(134)
		case s.fault == "hangs":
			<-r.Context().Done()
			return
		case s.fault == "complains" && n%50 == 0:
			fmt.Fprintln(os.Stderr, "0.01.234.567 E srv update_slots: failed to decode")
		case s.fault == "refuses" && n%20 == 0:
			http.Error(w, "compute error", http.StatusInternalServerError)
			return
		case s.fault == "stops short" && n%20 == 0 && !isChat: // a streamed chat does not say how many tokens it has
			tokens = tokens[:len(tokens)-1]
		}
	}

	texts := make([]string, len(tokens))
	for i, token := range tokens {
		texts[i] = fmt.Sprintf(" %d", token)
	}
	stop, length := map[string]any{"stop": true, "stop_type": "limit", "tokens_predicted": len(tokens), "tokens_evaluated": words}, "length"
	if !ask.Stream {
		time.Sleep(delay * time.Duration(len(tokens)))
		if isChat {
			reply(w, map[string]any{
				"choices": []any{map[string]any{"finish_reason": length, "message": map[string]any{"content": strings.Join(texts, "")}}},
				"usage":   map[string]any{"prompt_tokens": words, "completion_tokens": len(tokens)},
			})
			return
		}
		stop["content"], stop["tokens"] = strings.Join(texts, ""), tokens
		if ask.NProbs > 0 {
			var all []any
			for _, token := range tokens {
				var tops []any
				for i := range ask.NProbs { // 0.05 apart
					tops = append(tops, map[string]any{"id": token + i, "logprob": -1 - 0.05*float64(i)})
				}
				all = append(all, map[string]any{"id": token, "top_logprobs": tops})
			}
			stop["completion_probabilities"] = all
		}
		reply(w, stop)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(v any) {
		text, _ := json.Marshal(v)
		fmt.Fprintf(w, "data: %s\n\n", text)
		w.(http.Flusher).Flush()
	}
	for i := range tokens {
		time.Sleep(delay)
		if r.Context().Err() != nil {
			return
		}
		if isChat {
			send(map[string]any{"choices": []any{map[string]any{"finish_reason": nil, "delta": map[string]any{"content": texts[i]}}}})
		} else {
			send(map[string]any{"content": texts[i], "tokens": tokens[i : i+1], "stop": false})
		}
	}
	if isChat {
		send(map[string]any{"choices": []any{map[string]any{"finish_reason": length, "delta": map[string]any{}}}})
		fmt.Fprint(w, "data: [DONE]\n\n")
	} else {
		send(stop)
	}
}
