package throughput

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Case is one workload. Its name is what Series find its speed under, in tokens a second.
type Case struct {
	Name      string
	Prompt    int // tokens computed in batches
	Steps     int // tokens of each sequence generated one by one
	Sequences int // generated at once
	Depth     int // tokens of context there from the start
}

// Tokens is what its speed counts.
func (c Case) Tokens() int { return c.Prompt + c.Steps*c.Sequences }

// The workloads. Peers can only do those of llama-bench and llama-batched-bench; what those of zt-probe stand for is
// measured once more with llama-bench where there are peers.
var (
	prompts    = []Case{{Name: "pp128", Prompt: 128}, {Name: "pp512", Prompt: 512}}
	longPrompt = Case{Name: "pp2048", Prompt: 2048}
	generation = Case{Name: "tg128", Steps: 128, Sequences: 1}
	parallel   = []Case{
		{Name: "tg, 2 sequences", Steps: parallelSteps, Sequences: 2},
		{Name: "tg, 4 sequences", Steps: parallelSteps, Sequences: 4},
		{Name: "tg, 8 sequences", Steps: parallelSteps, Sequences: 8},
	}
	deep = Case{Name: "tg128 at depth 4096", Steps: 128, Sequences: 1, Depth: 4096}

	// Of a sweep over many models.
	briefly = []Case{prompts[1], {Name: "tg32", Steps: 32, Sequences: 1}}
	batches = []Case{
		{Name: "tg, 1 sequence", Steps: parallelSteps, Sequences: 1},
		{Name: "tg, 4 sequences", Steps: parallelSteps, Sequences: 4},
		{Name: "tg, 8 sequences", Steps: parallelSteps, Sequences: 8},
	}

	// Of one feature of the runtime, or one number of threads, among many.
	alone = []Case{{Name: "tg64", Steps: 64, Sequences: 1}, prompts[1]}

	deepPeers  = Case{Name: "tg128 at depth 4096, llama-bench", Steps: 128, Sequences: 1, Depth: 4096}
	mixedPeers = Case{Name: "pp512+tg128", Prompt: 512, Steps: 128, Sequences: 1}
)

const (
	parallelPrompt = 8  // tokens of each sequence's prompt, which is not timed
	parallelSteps  = 32 // tokens generated of each
	coldPrompt     = 16 // tokens of the prompt that finds cold code and caches
	fewPrompts     = 3  // of a context that grows by each of them
)

// chat is a conversation: a system prompt with a first question, a short one, a paste of a page, a short one again. Prompts
// are three quarters of the tokens and, on a machine whose decode is four or more times slower than prefill, replies most of the time.
var chat = conversation{{192, 24}, {24, 32}, {96, 16}, {16, 32}}

type conversation []struct{ prompt, reply int }

// String is the conversation as zt-probe's --turns wants it.
func (c conversation) String() string {
	var turns []string
	for _, t := range c {
		turns = append(turns, fmt.Sprintf("%d+%d", t.prompt, t.reply))
	}
	return strings.Join(turns, ",")
}

// workload sums the conversation up.
func (c conversation) workload() Case {
	sum := Case{Name: "chat", Sequences: 1}
	for _, t := range c {
		sum.Prompt += t.prompt
		sum.Steps += t.reply
	}
	return sum
}

// What tests find beside speeds.
const (
	// ContextBytes is the size of the context that a deep generation starts from, and reads for every token.
	ContextBytes = "context bytes"

	// Of Alone: milliseconds to load the model and, of a build that counts them, the share of the threads' time in generation that they wait at
	// barriers, in percent, and the barriers of a token that each meets at.
	LoadMS   = "ms to load"
	Waits    = "percent of waiting"
	Barriers = "barriers of a token"
)

// Setup is what the workloads run on.
type Setup struct {
	Stock, Tuned program.Build
	Peers        []program.Build
	Model        string // path of the GGUF
	Threads      int
	Scratch      string // folder for a file as large as the context of the deep generation
	// Pace is the tokens a second of a prompt by Stock, roughly. On fast machines short tests are repeated.
	Pace float64
}

// MeasurePace measures Setup.Pace.
func (s Setup) MeasurePace(ctx context.Context) (float64, error) {
	found, err := s.bench(s.Stock, standard, prompts[:1], nil).Measure(ctx)
	return found[prompts[0].Name], err
}

// repetitions is how often a prompt of that many tokens is repeated so that its samples last a second together.
func (s Setup) repetitions(tokens int) int {
	return int(min(20, max(1, math.Ceil(s.Pace/float64(tokens)))))
}

// Tests returns all workloads as tests with stock in front, tuned next, then the peers. Only what peers' llama-bench says of its options is
// run here.
func (s Setup) Tests(ctx context.Context) []Test {
	dialects := make([]dialect, len(s.Peers))
	for i, p := range s.Peers {
		dialects[i] = learn(ctx, p)
	}
	own := []program.Build{s.Stock, s.Tuned}
	// everybody makes a test of what each build does.
	everybody := func(name string, cases []Case, subject func(program.Build, dialect) Subject) Test {
		t := Test{Name: name, Cases: cases}
		for _, b := range own {
			t.Subjects = append(t.Subjects, subject(b, standard))
		}
		for i, p := range s.Peers {
			peer := subject(p, dialects[i])
			peer.Peer = true
			t.Subjects = append(t.Subjects, peer)
		}
		return t
	}

	short := everybody("short prompts", prompts, func(b program.Build, d dialect) Subject {
		return s.bench(b, d, prompts, []string{"-r", strconv.Itoa(s.repetitions(prompts[1].Prompt))})
	})
	// llama-bench's own warm-up is a whole prompt, which costs as much as what it warms up for.
	long := everybody("long prompt", []Case{longPrompt}, func(b program.Build, d dialect) Subject {
		cases := []Case{{Prompt: coldPrompt}, longPrompt}
		return s.bench(b, d, cases, append([]string{"-r", strconv.Itoa(s.repetitions(longPrompt.Prompt))}, d.noWarmup...))
	})
	single := everybody("generation", []Case{generation}, func(b program.Build, d dialect) Subject {
		return s.bench(b, d, []Case{generation}, nil)
	})
	several := everybody("parallel sequences", parallel, func(b program.Build, _ dialect) Subject { return s.batched(b, parallel) })

	state := filepath.Join(s.Scratch, "context")
	talk := Test{Name: "chat", Cases: []Case{chat.workload()}}
	far := Test{Name: "deep generation", Cases: []Case{deep}, Prepare: func(ctx context.Context) error {
		// By the tuned build, because it is faster. Which one does not matter to speeds.
		_, err := s.probe(s.Tuned, Case{Name: "context", Steps: 1, Depth: deep.Depth, Sequences: 1}, "0+1", state).Measure(ctx)
		return err
	}}
	for _, b := range own {
		talk.Subjects = append(talk.Subjects, s.probe(b, talk.Cases[0], chat.String(), ""))
		far.Subjects = append(far.Subjects, s.probe(b, deep, fmt.Sprintf("0+%d", deep.Steps), state))
	}
	tests := []Test{short, single, several, talk, far, long}
	if len(s.Peers) > 0 {
		tests = append(tests,
			everybody("prompt and generation", []Case{mixedPeers}, func(b program.Build, d dialect) Subject {
				return s.bench(b, d, []Case{mixedPeers}, nil)
			}),
			everybody("deep generation, llama-bench", []Case{deepPeers}, func(b program.Build, d dialect) Subject {
				return s.bench(b, d, []Case{deepPeers}, nil)
			}))
	}
	return tests
}

// Brief returns what a sweep over many models measures of each: a prompt and a generation by both builds.
func (s Setup) Brief() Test {
	t := Test{Name: "prompt and generation", Cases: briefly}
	for _, b := range []program.Build{s.Stock, s.Tuned} {
		// A short prompt instead of llama-bench's own warm-up, which costs as much as what it warms up for.
		cases := append([]Case{{Prompt: coldPrompt}}, briefly...)
		t.Subjects = append(t.Subjects, s.bench(b, standard, cases, []string{"-r", strconv.Itoa(s.repetitions(briefly[0].Prompt)), "--no-warmup"}))
	}
	return t
}

// Batches returns generation by the tuned build alone, of one sequence and of several at once.
func (s Setup) Batches() Test {
	return Test{Name: "batches", Cases: batches, Subjects: []Subject{s.batched(s.Tuned, batches)}}
}

// AloneCases are what Alone and Defaults measure the speed of: a generation and a prompt.
func AloneCases() []Case { return slices.Clone(alone) }

// Alone measures a generation from an empty context and, behind it, prompts by one process of b, and how long it took to load the model.
// more are arguments of zt-probe.
func (s Setup) Alone(name string, b program.Build, more ...string) Subject {
	return Subject{Name: name, Measure: func(ctx context.Context) (map[string]float64, error) {
		turns := []string{fmt.Sprintf("0+%d", alone[0].Steps)}
		for range min(fewPrompts, s.repetitions(alone[1].Prompt)) {
			turns = append(turns, fmt.Sprintf("%d+0", alone[1].Prompt))
		}
		args := append([]string{"chat", "-m", s.Model, "-t", strconv.Itoa(s.Threads), "--turns", strings.Join(turns, ",")}, more...)
		lines, err := program.Run[chatLine](ctx, b.With("ZT_WAITS=1"), "zt-probe", args...)
		if err != nil {
			return nil, err
		}
		var prompts []float64
		found := map[string]float64{}
		for _, l := range lines[1:] {
			switch {
			case l.Prompt == alone[1].Prompt && l.PromptNS > 0:
				prompts = append(prompts, float64(l.Prompt)*1e9/l.PromptNS)
			case l.Reply == alone[0].Steps && l.ReplyNS > 0:
				found[alone[0].Name] = float64(l.Reply) * 1e9 / l.ReplyNS
				if l.Waited > 0 && l.Total > 0 {
					found[Waits], found[Barriers] = 100*l.Waited/l.Total, l.Barriers/float64(l.Reply*s.Threads)
				}
			}
		}
		if len(prompts) != len(turns)-1 || found[alone[0].Name] == 0 {
			return nil, fmt.Errorf("%s zt-probe chat timed %d prompts and %v t/s of generation, not %s", b.Name, len(prompts), found[alone[0].Name], strings.Join(turns, " "))
		}
		found[alone[1].Name] = statistics.Median(prompts)
		if ms := lines[0].LoadMS; ms > 0 {
			found[LoadMS] = ms
		}
		return found, nil
	}}
}

// Defaults measures a prompt and, behind it, a generation with as many threads as llama.cpp's own programs take for each where nobody says
// how many.
func (s Setup) Defaults(name string, b program.Build) Subject {
	return Subject{Name: name, Measure: func(ctx context.Context) (map[string]float64, error) {
		prompt, steps := alone[1].Prompt, alone[0].Steps
		stdout, _, err := b.Output(ctx, "llama-batched-bench", "-m", s.Model, "-npp", strconv.Itoa(prompt), "-ntg", strconv.Itoa(steps), "-npl", "1",
			"-c", strconv.Itoa(prompt+steps))
		if err != nil {
			return nil, err
		}
		for _, r := range parseBatched(stdout) {
			if r.sequences == 1 && r.prompt > 0 && r.steps > 0 {
				return map[string]float64{alone[1].Name: r.prompt, alone[0].Name: r.steps}, nil
			}
		}
		return nil, fmt.Errorf("%s llama-batched-bench printed no result", b.Name)
	}}
}

// bench is a call of llama-bench that measures cases. Only those with a name are reported. Cases of one call are prompts, after which one
// may be a generation, or one case.
func (s Setup) bench(b program.Build, d dialect, cases []Case, more []string) Subject {
	return Subject{Name: b.Name, Measure: func(ctx context.Context) (map[string]float64, error) {
		if d.why != "" {
			return nil, fmt.Errorf("%s", d.why)
		}
		args := []string{"-m", s.Model, "-t", strconv.Itoa(s.Threads), "-o", "json"}
		switch c := cases[0]; {
		case c.Prompt > 0 && c.Steps > 0:
			args = append(args, "-p", "0", "-n", "0", "-pg", fmt.Sprintf("%d,%d", c.Prompt, c.Steps))
		case c.Depth > 0 && d.after:
			args = append(args, "-p", "0", "-n", "0", "-gp", fmt.Sprintf("%d,%d", c.Depth, c.Steps))
		case c.Depth > 0 && d.depth:
			args = append(args, "-p", "0", "-n", strconv.Itoa(c.Steps), "-d", strconv.Itoa(c.Depth))
		case c.Depth > 0:
			return nil, fmt.Errorf("its llama-bench has neither -d nor -gp")
		case c.Steps > 0:
			args = append(args, "-p", "0", "-n", strconv.Itoa(c.Steps))
		default:
			var lengths []string
			steps := 0
			for _, c := range cases {
				if c.Prompt > 0 {
					lengths = append(lengths, strconv.Itoa(c.Prompt))
				}
				steps = max(steps, c.Steps)
			}
			args = append(args, "-p", strings.Join(lengths, ","), "-n", strconv.Itoa(steps))
		}
		if more == nil {
			more = []string{"-r", "1"}
		}
		stdout, _, err := b.Output(ctx, "llama-bench", append(args, more...)...)
		if err != nil {
			return nil, err
		}
		tests, err := parseBench(stdout)
		if err != nil {
			return nil, fmt.Errorf("%s llama-bench: %w", b.Name, err)
		}
		found := map[string]float64{}
		for _, c := range cases {
			rate, err := tests.rate(c, d)
			if err != nil {
				return nil, fmt.Errorf("%s llama-bench: %w", b.Name, err)
			}
			if c.Name != "" {
				found[c.Name] = rate
			}
		}
		return found, nil
	}}
}

// batched is a call of llama-batched-bench that measures cases.
func (s Setup) batched(b program.Build, cases []Case) Subject {
	return Subject{Name: b.Name, Measure: func(ctx context.Context) (map[string]float64, error) {
		var sequences []string
		most := 0
		for _, c := range cases {
			sequences = append(sequences, strconv.Itoa(c.Sequences))
			most = max(most, c.Sequences)
		}
		stdout, _, err := b.Output(ctx, "llama-batched-bench", "-m", s.Model, "-t", strconv.Itoa(s.Threads),
			"-npp", strconv.Itoa(parallelPrompt), "-ntg", strconv.Itoa(parallelSteps), "-npl", strings.Join(sequences, ","),
			"-c", strconv.Itoa(most*(parallelPrompt+parallelSteps)))
		if err != nil {
			return nil, err
		}
		rates := parseBatched(stdout)
		found := map[string]float64{}
		for _, c := range cases {
			i := slices.IndexFunc(rates, func(r batchRates) bool { return r.sequences == c.Sequences })
			if i < 0 {
				return nil, fmt.Errorf("%s llama-batched-bench printed no result for %d sequences", b.Name, c.Sequences)
			}
			found[c.Name] = rates[i].steps
		}
		return found, nil
	}}
}

// probe is a call of zt-probe chat that measures c as turns. The context of c's depth is kept in the file state.
func (s Setup) probe(b program.Build, c Case, turns, state string) Subject {
	return Subject{Name: b.Name, Measure: func(ctx context.Context) (map[string]float64, error) {
		args := []string{"chat", "-m", s.Model, "-t", strconv.Itoa(s.Threads), "--turns", turns}
		if c.Depth > 0 {
			args = append(args, "--depth", strconv.Itoa(c.Depth), "--state", state)
		}
		lines, err := program.Run[chatLine](ctx, b, "zt-probe", args...)
		if err != nil {
			return nil, err
		}
		tokens, ns := 0, 0.0
		for _, l := range lines[1:] {
			tokens += l.Prompt + l.Reply
			ns += l.PromptNS + l.ReplyNS
		}
		if tokens != c.Tokens() || ns <= 0 {
			return nil, fmt.Errorf("%s zt-probe chat timed %d tokens in %v ns, not %d tokens", b.Name, tokens, ns, c.Tokens())
		}
		found := map[string]float64{c.Name: float64(tokens) * 1e9 / ns}
		if c.Depth > 0 {
			found[ContextBytes] = lines[0].DepthBytes
		}
		return found, nil
	}}
}
