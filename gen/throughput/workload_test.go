package throughput

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// fakeBuild is a folder of shell scripts that note how they are called in the file calls.
func fakeBuild(t *testing.T, name string, scripts map[string]string) program.Build {
	t.Helper()
	dir := t.TempDir()
	for program, script := range scripts {
		text := "#!/bin/sh\necho \"" + program + " $*\" >> " + dir + "/calls\n" + script
		if err := os.WriteFile(filepath.Join(dir, program), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return program.Build{Name: name, Bin: dir}
}

func calls(t *testing.T, b program.Build) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.Bin, "calls"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// everyTest is an output of llama-bench with every test that any workload asks for: a token takes 2 ms, 1 and 3 in the other samples.
func everyTest() string {
	var tests []string
	for _, c := range []Case{{Prompt: 16}, prompts[0], prompts[1], longPrompt, generation, briefly[1], deepPeers, mixedPeers} {
		n := c.Prompt + c.Steps
		tests = append(tests, fmt.Sprintf(`{"n_prompt": %d, "n_gen": %d, "n_depth": %d, "samples_ns": [%d, %d, %d]}`,
			c.Prompt, c.Steps, c.Depth, n*1e6, n*3e6, n*2e6))
	}
	return "cat <<'EOT'\nsome engines say hello\n[\n" + strings.Join(tests, ",\n") + "\n]\nEOT\n"
}

const batchedTable = `cat <<'EOT'

llama_batched_bench: n_kv_max = 320, n_batch = 2048

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|     8 |     32 |    2 |     80 |    0.401 |    39.92 |    1.136 |    14.08 |    1.537 |    20.82 |
|     8 |     32 |    4 |    160 |    0.005 |  6861.06 |    1.903 |    16.81 |    1.908 |    33.54 |
|     8 |     32 |    8 |    320 |    0.005 |  6861.06 |    1.903 |    21.25 |    1.908 |    33.54 |
EOT
`

const chatLines = `
case "$*" in
*--depth*)
  echo '{"command":"chat","depth_bytes":1000}'
  case "$*" in *0+128*) n=128;; *) n=1;; esac
  echo "{\"prompt\":0,\"prompt_ns\":0,\"reply\":$n,\"reply_ns\":${n}000000}" ;;
*)
  echo '{"command":"chat","depth_bytes":0}'
  echo '{"prompt":300,"prompt_ns":200000000,"reply":100,"reply_ns":300000000}'
  echo '{"prompt":28,"prompt_ns":16000000,"reply":4,"reply_ns":24000000}' ;;
esac
`

func ownBuild(t *testing.T, name string) program.Build {
	return fakeBuild(t, name, map[string]string{"llama-bench": everyTest(), "llama-batched-bench": batchedTable, "zt-probe": chatLines})
}

func TestWorkloads(t *testing.T) {
	help := `case "$*" in
*--help*) echo "  -gp <pp,tg>"; echo "  -w, --warmup <0|1>  (default: 1)"; exit;;
*-gp*) echo '['; echo '{"n_prompt": 4096, "n_gen": 128, "samples_ns": [320000000]}'; echo ']'; exit;;
esac` + "\n"
	old := `case "$*" in *--help*) echo "usage: -p -n -pg"; exit;; *2048*) echo "error: that is too long" >&2; exit 1;; esac` + "\n"
	s := Setup{
		Stock: ownBuild(t, "stock"), Tuned: ownBuild(t, "tuned"),
		Peers: []program.Build{
			fakeBuild(t, "ik", map[string]string{"llama-bench": help + everyTest(), "llama-batched-bench": batchedTable}),
			fakeBuild(t, "old", map[string]string{"llama-bench": old + everyTest()}),
			fakeBuild(t, "broken", map[string]string{"llama-bench": "echo not for this CPU >&2; exit 1"}),
		},
		Model: "m.gguf", Threads: 3, Scratch: "/scratch", Pace: 300,
	}
	session := Session{Least: 2, Most: 2, machine: quiet}
	tests := s.Tests(context.Background())
	found, err := session.Run(context.Background(), tests)
	if err != nil {
		t.Fatal(err)
	}

	want := map[string]float64{
		"pp128": 500, "pp512": 500, "pp2048": 500, "tg128": 500, "pp512+tg128": 500, "tg128 at depth 4096, llama-bench": 500,
		"tg, 2 sequences": 14.08, "tg, 4 sequences": 16.81, "tg, 8 sequences": 21.25,
		"chat": 432 / 0.54, "tg128 at depth 4096": 1000,
	}
	seen := map[string]bool{}
	for i, test := range tests {
		for _, c := range test.Cases {
			seen[c.Name] = true
			for _, build := range []string{"stock", "tuned"} {
				got := found[i].Values(build, c.Name)
				if len(got) != 2 || math.Abs(got[0]-want[c.Name]) > 1e-9*want[c.Name] {
					t.Errorf("%s of %s: %v, want two times %v", c.Name, build, got, want[c.Name])
				}
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("workloads are %v, want those of %v", seen, want)
	}

	by := map[string]Series{}
	for _, f := range found {
		by[f.Test] = f
	}
	for _, c := range []struct{ test, peer, missing string }{
		{"long prompt", "ik", ""},
		{"deep generation, llama-bench", "ik", ""},
		{"parallel sequences", "ik", ""},
		{"short prompts", "old", ""},
		{"prompt and generation", "old", ""},
		{"long prompt", "old", "that is too long"},
		{"deep generation, llama-bench", "old", "its llama-bench has neither -d nor -gp"},
		{"parallel sequences", "old", "llama-batched-bench"},
		{"generation", "broken", "not for this CPU"},
	} {
		got := by[c.test].Missing(c.peer)
		if got == "" != (c.missing == "") || !strings.Contains(got, c.missing) || strings.Contains(got, "\n") {
			t.Errorf("%s of %s is missing because %q, want %q", c.test, c.peer, got, c.missing)
		}
	}
	if got := by["deep generation"].Values("tuned", ContextBytes); len(got) != 2 || got[0] != 1000 {
		t.Errorf("the context has %v bytes", got)
	}

	stock := strings.Join(calls(t, s.Stock), "\n")
	for _, want := range []string{
		"llama-bench -m m.gguf -t 3 -o json -p 128,512 -n 0 -r 1",
		"llama-bench -m m.gguf -t 3 -o json -p 16,2048 -n 0 -r 1 --no-warmup",
		"llama-bench -m m.gguf -t 3 -o json -p 0 -n 128 -r 1",
		"llama-bench -m m.gguf -t 3 -o json -p 0 -n 128 -d 4096 -r 1",
		"llama-bench -m m.gguf -t 3 -o json -p 0 -n 0 -pg 512,128 -r 1",
		"llama-batched-bench -m m.gguf -t 3 -npp 8 -ntg 32 -npl 2,4,8 -c 320",
		"zt-probe chat -m m.gguf -t 3 --turns 192+24,24+32,96+16,16+32",
		"zt-probe chat -m m.gguf -t 3 --turns 0+128 --depth 4096 --state /scratch/context",
	} {
		if !strings.Contains(stock+"\n", want+"\n") {
			t.Errorf("stock was not called with %q but\n%s", want, stock)
		}
	}
	for _, want := range []string{"-p 16,2048 -n 0 -r 1 --warmup 0", "-p 0 -n 0 -gp 4096,128 -r 1"} {
		if ik := strings.Join(calls(t, s.Peers[0]), "\n"); !strings.Contains(ik, want) {
			t.Errorf("ik was not called with %s but\n%s", want, ik)
		}
	}
	if got := by["deep generation, llama-bench"].Values("ik", deepPeers.Name); len(got) != 2 || got[0] != 400 {
		t.Errorf("generation after a prompt by ik: %v, want two times 400", got)
	}
	if broken := calls(t, s.Peers[2]); len(broken) != 1 {
		t.Errorf("a build that cannot print its options was called with %v", broken)
	}
	tuned := calls(t, s.Tuned)
	if n := strings.Count(strings.Join(tuned, "\n"), "--turns 0+1 "); n != 1 {
		t.Errorf("the context was made %d times", n)
	}
}

// TestBriefWorkloads measures what a sweep over many models asks of each.
func TestBriefWorkloads(t *testing.T) {
	one := strings.Replace(batchedTable, "|    2 |", "|    1 |", 1)
	s := Setup{Stock: ownBuild(t, "stock"), Model: "m.gguf", Threads: 3, Pace: 600,
		Tuned: fakeBuild(t, "tuned", map[string]string{"llama-bench": everyTest(), "llama-batched-bench": one})}
	session := Session{Least: 2, Most: 2, machine: quiet}
	found, err := session.Run(context.Background(), []Test{s.Brief(), s.Batches()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		series      int
		build, what string
		want        float64
	}{
		{0, "stock", "pp512", 500}, {0, "tuned", "pp512", 500}, {0, "stock", "tg32", 500}, {0, "tuned", "tg32", 500},
		{1, "tuned", "tg, 1 sequence", 14.08}, {1, "tuned", "tg, 4 sequences", 16.81}, {1, "tuned", "tg, 8 sequences", 21.25},
	} {
		if got := found[c.series].Values(c.build, c.what); len(got) != 2 || math.Abs(got[0]-c.want) > 1e-9*c.want {
			t.Errorf("%s of %s: %v, want two times %v", c.what, c.build, got, c.want)
		}
	}
	want := "llama-bench -m m.gguf -t 3 -o json -p 16,512 -n 32 -r 2 --no-warmup"
	if got := calls(t, s.Stock); !slices.Equal(got, []string{want, want}) {
		t.Errorf("stock was called with %q, want %q twice", got, want)
	}
	if got := calls(t, s.Tuned); len(got) != 4 || got[2] != "llama-batched-bench -m m.gguf -t 3 -npp 8 -ntg 32 -npl 1,4,8 -c 320" {
		t.Errorf("tuned was called with %q", got)
	}
}

func TestPace(t *testing.T) {
	s := Setup{Stock: ownBuild(t, "stock"), Model: "m", Threads: 1}
	pace, err := s.MeasurePace(context.Background())
	if err != nil || pace != 500 {
		t.Errorf("%v, %v", pace, err)
	}
	for pace, want := range map[float64]int{0: 1, 100: 1, 513: 2, 1e9: 20} {
		s.Pace = pace
		if got := s.repetitions(512); got != want {
			t.Errorf("at %v t/s a prompt of 512 is repeated %d times, want %d", pace, got, want)
		}
	}
}

func TestOutputRefused(t *testing.T) {
	for want, script := range map[string]string{
		"not a list of tests":                "echo hello",
		"no test of 128 + 0 tokens at depth": `echo '['; echo ']'`,
	} {
		s := Setup{Stock: fakeBuild(t, "stock", map[string]string{"llama-bench": script})}
		if _, err := s.MeasurePace(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b := fakeBuild(t, "stock", map[string]string{"llama-batched-bench": "echo '| 8 | 32 | 2 | 80 | 1 | 1 | 1 | 5.5 | 1 | 1 |'",
		"zt-probe": `echo '{"depth_bytes":1}'; echo '{"prompt":5,"prompt_ns":1}'`})
	if _, err := (Setup{}).batched(b, parallel).Measure(context.Background()); err == nil || !strings.Contains(err.Error(), "no result for 4 sequences") {
		t.Errorf("a table with one row: %v", err)
	}
	if _, err := (Setup{}).probe(b, chat.workload(), chat.String(), "").Measure(context.Background()); err == nil ||
		!strings.Contains(err.Error(), "timed 5 tokens") {
		t.Errorf("another conversation: %v", err)
	}
}

func TestPeers(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"good/llama-bench": 0o755, "plain/llama-bench": 0o644} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(dir, "good")
	peers, err := Peers("ik=" + good + ", fork-2=" + good)
	if err != nil || len(peers) != 2 || peers[0].Name != "ik" || peers[1].Name != "fork-2" || peers[1].Bin != good {
		t.Errorf("%+v, %v", peers, err)
	}
	if peers, err := Peers(""); err != nil || peers != nil {
		t.Errorf("none: %+v, %v", peers, err)
	}
	for text, want := range map[string]string{
		good:                         "is not NAME=FOLDER",
		"ik=":                        "is not NAME=FOLDER",
		"a b=" + good:                "is not NAME=FOLDER",
		"stock=" + good:              "a build called stock already",
		"ik=" + good + ",ik=" + good: "a build called ik already",
		"ik=" + dir:                  "name the folder that its llama-bench is in",
		"ik=" + dir + "/plain":       "is not a program",
		"ik=" + good + ",":           "is not NAME=FOLDER",
	} {
		if _, err := Peers(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "ZT_PEERS") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestRealOutput reads what the programs of the pinned tree print.
func TestRealOutput(t *testing.T) {
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, cases := range map[string][]Case{
		"llama-bench-prompts.json": prompts, "llama-bench-mixed.json": {mixedPeers}, "llama-bench-deep.json": {deepPeers},
	} {
		tests, err := parseBench(read(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, c := range cases {
			if rate, err := tests.rate(c, standard); err != nil || rate <= 0 {
				t.Errorf("%s: %s at %v t/s, %v", name, c.Name, rate, err)
			}
		}
		if _, err := tests.rate(Case{Prompt: 128, Depth: 1}, standard); err == nil {
			t.Errorf("%s has a test that nobody ran", name)
		}
	}
	if rates := parseBatched(read("llama-batched-bench.txt")); fmt.Sprint(rates) != "[{2 1154.48 4.73} {4 434.92 20.78} {8 313.62 30.15}]" {
		t.Errorf("llama-batched-bench: %v", rates)
	}
	lines, err := program.Lines[chatLine](read("zt-probe-chat.jsonl"))
	if err != nil || len(lines) != len(chat)+1 || lines[1].Prompt != chat[0].prompt || lines[4].Reply != chat[3].reply || lines[1].PromptNS <= 0 {
		t.Errorf("zt-probe chat: %+v, %v", lines, err)
	}
	pinned := fakeBuild(t, "pinned", map[string]string{"llama-bench": "cat <<'EOT'\n" + string(read("llama-bench-help.txt")) + "EOT\n"})
	if d := learn(context.Background(), pinned); fmt.Sprint(d) != fmt.Sprint(standard) {
		t.Errorf("the pinned llama-bench speaks %+v, not %+v", d, standard)
	}
}
