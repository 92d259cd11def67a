package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// The gates are tested with programs that print what such programs print and whose faults are known: scripts named zt-probe,
// llama-bench and so on that run this test again with these variables.
const (
	fakeProgram = "FAKE_PROGRAM"
	fakeFault   = "FAKE_FAULT"
	fakeLog     = "FAKE_LOG" // file that gets a line for each call
)

var fakes = slices.Concat(programs, []string{"zt-selftest", ArchsProgram, "llama-quantize", "llama-server", "llama-gguf-split", packer}, OpinionPrograms, UpstreamTests)

func TestMain(m *testing.M) {
	if name := os.Getenv(fakeProgram); name != "" {
		if err := fake(name, os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "some log line\n%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeBuild returns a folder of programs with the given fault; "" has none.
func fakeBuild(t *testing.T, fault string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, p := range fakes {
		script := fmt.Sprintf("#!/bin/sh\n%s=%s %s='%s' exec '%s' \"$@\"\n", fakeProgram, p, fakeFault, strings.ReplaceAll(fault, "'", `'\''`), self)
		if err := os.WriteFile(filepath.Join(dir, p), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const fakeVocab = 500

func fake(program string, args []string) error {
	fault := os.Getenv(fakeFault)
	if path := os.Getenv(fakeLog); path != "" {
		if err := fakeCall(path, program, args); err != nil {
			return err
		}
	}
	command := program
	if program == "zt-probe" {
		command, args = args[0], args[1:]
	}
	if fault == "crash in "+command {
		return errors.New("out of cheese")
	}
	if len(args) == 1 && args[0] == "--help" {
		fmt.Println("  -d, --n-depth <n>\n  --no-warmup")
		return nil
	}
	if command == "zt-selftest" || slices.Contains(UpstreamTests, command) {
		return fakeOperators(command, args, fault)
	}
	if program == packer {
		return fakePack(args, fault)
	}
	plain, err := fakeReads(program, args, fault)
	if err != nil {
		return err
	}
	if !slices.Equal(plain, args) && fault == "ulp when stored" {
		fault = "one ulp"
	}
	args = plain
	switch program {
	case ArchsProgram:
		return fakeArchs(fault, args)
	case "llama-quantize":
		return fakeQuantize(fault, args)
	case "llama-server":
		return fakeServer(args, fault)
	case "llama-perplexity":
		return fakePerplexity(fault, args)
	case "llama-results":
		return fakeResults(fault, args)
	case "llama-tokenize":
		return fakeTokenize(args)
	}
	if command == "shapes" {
		return fakeShapes(args, fault)
	}
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	threads, n, out := f.Int("t", 1, ""), f.Int("n", 0, ""), f.String("o", "", "")
	fa, ub, mode, load := f.String("fa", "auto", ""), f.Int("ub", 512, ""), f.String("mode", "prefill", ""), f.String("lm", "auto", "")
	model, tokens := f.String("m", "", ""), f.String("tokens", "", "")
	lora, cache, noRepack := f.String("lora", "", ""), f.String("ctk", "f16", ""), f.Bool("no-repack", false, "")
	hold := f.Bool("hold", false, "")
	f.Int("chunk", 0, "")
	prompts, depth, mixed := f.String("p", "", ""), f.Int("d", 0, ""), f.String("pg", "", "")
	turns, at := f.String("turns", "", ""), f.Int("depth", 0, "")
	f.Bool("no-warmup", false, "")
	sequences := f.String("npl", "", "")
	shape := f.String("shape", "", "")
	for _, name := range []string{"seqs", "slot", "r", "npp", "ntg", "c", "state", "ctv"} {
		f.String(name, "", "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if what, on, ok := strings.Cut(fault, " on "); ok { // a fault on the models whose path says so
		fault = ""
		if strings.Contains(*model, on) {
			fault = what
		}
		switch fault {
		case "crash":
			return errors.New("out of cheese")
		case "hang":
			time.Sleep(time.Minute)
		}
	}
	slow := 1.0
	if fault == "slow" {
		slow = 4
	} else if fault == "fast" {
		slow = 0.25
	} else if strings.HasPrefix(fault, "waits") && os.Getenv("ZT_GRAPH") == "0" {
		slow = 2
	}
	if fault == "waits, and crashes with copies" && os.Getenv("ZT_AHEAD") == "copy" {
		return errors.New("out of cheese")
	}
	switch command {
	case "logits":
		if !*noRepack && os.Getenv("ZT_DISABLE") != "1" {
			if err := fakeCoded(*model, fault); err != nil {
				return err
			}
		}
		ids, err := fakeTokens(*tokens, *n)
		if err != nil {
			return err
		}
		special := ""
		switch {
		case *lora != "" && fault != "adapter ignored":
			special = "adapter"
		case *cache != "f16" && fault != "cache not quantized":
			special = "cache"
		}
		if fault == "ulp with 11 bits" && os.Getenv("ZT_CODE") == "11" {
			fault = "one ulp"
		}
		if fault == "other bits without a plan" && os.Getenv("ZT_GRAPH") == "0" {
			fault = "one ulp"
		}
		if fault == "packs regardless" && *noRepack || fault == "cannot be disabled" && os.Getenv("ZT_DISABLE") == "1" {
			fault = "one ulp"
		}
		return fakeLogits(*out, ids, fault, special, *fa == "off", *threads, *ub, *mode)
	case "gemm":
		nmse := 1e-13
		if fault == "wrong by BLAS" && os.Getenv("ZT_BLAS") == "slices" {
			nmse = 1e-4
		}
		fmt.Printf("{\"type\":%q,\"name\":\"ours\",\"nmse\":%g}\n{\"name\":\"stock\",\"nmse\":0}\n", strings.SplitN(*shape, ",", 2)[0], nmse)
	case "greedy":
		for i := range *n {
			token, margin := i, 1.0
			if i == 150 {
				margin = 0.01
			}
			if fault == "token off at 100" && i == 100 || fault == "token off at a tie" && i == 150 {
				token++
			}
			bits := i
			if fault == "bits off at 100" && i == 100 || fault == "bits off with 11 bits" && os.Getenv("ZT_CODE") == "11" {
				bits++
			}
			text := fmt.Sprintf("%016x", bits)
			if fault == "old probe" {
				text = ""
			}
			fmt.Printf("{\"step\":%d,\"token\":%d,\"logit\":9,\"second\":3,\"margin\":%g,\"bits\":\"%s\"}\n", i, token, margin, text)
		}
		return fakeCoded(*model, fault)
	case "speed":
		if err := fakeCoded(*model, fault); err != nil {
			return err
		}
		fmt.Printf("{\"weight_bytes\":1000000,\"read_bytes\":2000000}\n{\"read_ns\":200000}\n")
		for range *n {
			fmt.Printf("{\"token_ns\":%d,\"read_ns\":200000}\n", int(101000*max(1, slow)))
		}
		fmt.Printf("{\"median_percent_of_read\":99}\n")
	case "load":
		if err := fakeCoded(*model, fault); err != nil {
			return err
		}
		rss := 1000
		if fault == "fat" && *load == "auto" {
			rss = 1100
		}
		ms := 100 * slow
		if os.Getenv("ZT_SHARE") == "1" && !*hold {
			ms /= 4
		}
		fmt.Printf("{\"when\":\"load\",\"ms\":%g,\"rss\":1}\n{\"when\":\"decode\",\"ms\":3,\"rss\":%d,\"hugetlb\":1000}\n", ms, rss)
		if *hold {
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		}
	case "chat":
		// A token takes a millisecond in a prompt and 100 in a reply.
		counts := ""
		if strings.HasPrefix(fault, "waits") && os.Getenv("ZT_WAITS") == "1" {
			counts = fmt.Sprintf(",\"barriers\":%g,\"waited\":%g,\"total\":1000", 64*float64(*threads)*100*slow, 50*slow)
		}
		fmt.Printf("{\"load_ms\":%g,\"depth_bytes\":%d}\n", 100*slow, 100**at)
		for turn := range strings.SplitSeq(*turns, ",") {
			var prompt, reply int
			if _, err := fmt.Sscanf(turn, "%d+%d", &prompt, &reply); err != nil {
				return err
			}
			fmt.Printf("{\"prompt\":%d,\"prompt_ns\":%g,\"reply\":%d,\"reply_ns\":%g%s}\n", prompt, 1e6*slow*float64(prompt), reply, 1e8*slow*float64(reply), counts)
		}
	case "llama-bench":
		var tests []string
		test := func(prompt, gen int) {
			tests = append(tests, fmt.Sprintf("{\"n_prompt\":%d,\"n_gen\":%d,\"n_depth\":%d,\"samples_ns\":[%g,%g]}", prompt, gen, *depth, 1e8*slow, 1.02e8*slow))
		}
		for p := range strings.SplitSeq(*prompts, ",") {
			if n, err := strconv.Atoi(p); err == nil && n > 0 {
				test(n, 0)
			}
		}
		if *n > 0 {
			test(0, *n)
		}
		var prompt, gen int
		if _, err := fmt.Sscanf(*mixed, "%d,%d", &prompt, &gen); err == nil {
			test(prompt, gen)
		}
		fmt.Printf("[\n%s\n]\n", strings.Join(tests, ",\n"))
	case "llama-batched-bench":
		for n := range strings.SplitSeq(*sequences, ",") {
			rate := map[string]float64{"1": 2.5, "2": 5, "4": 10, "8": 15}[n]
			if fault == "batches for nothing" {
				rate = 2.5
			}
			fmt.Printf("| 8 | 32 | %s | 80 | 1 | 1 | 1 | %.2f | 1 | 1 |\n", n, rate/slow)
		}
	}
	return nil
}

// fakeCoded says what was coded, as ZT_LOG=1 has it.
func fakeCoded(model, fault string) error {
	code := os.Getenv("ZT_CODE")
	if os.Getenv("ZT_LOG") != "1" || fault == "codes nothing" || code == "off" && fault != "codes though off" {
		return nil
	}
	if info, err := os.Stat(model); err == nil && info.Size() == 0 {
		return nil // a model that is only a file
	}
	names, err := toCode(model)
	if err != nil {
		return err
	}
	f, err := gguf.Open(model)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintln(os.Stderr, "zen5: a line about something else")
	for i, name := range names {
		if i == 0 && fault == "leaves one" {
			continue
		}
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		bits := 12.06
		if code == "11" {
			bits = 11.38
		}
		fmt.Fprintf(os.Stderr, "zen5: %s: coded %s 1 x %d x %d: %.2f bits a weight (B12 20 panels, B16 5 panels), expected gain 1.33x\n",
			name, t.Type, t.Rows(), t.Shape[0], bits)
	}
	return nil
}

// fakeCall adds a line to the log at path, of which the first line is the number of calls that are let through.
func fakeCall(path, program string, args []string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if most, err := strconv.Atoi(lines[0]); err != nil || len(lines) > most {
		return errors.New("interrupted")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, program, strings.Join(args, " "))
	return err
}

// fakeTokens reads the first n tokens of a file, or makes up some.
func fakeTokens(path string, n int) ([]int32, error) {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(i % 97)
	}
	if path == "" {
		return tokens, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for i := range tokens {
		if _, err := fmt.Fscan(f, &tokens[i]); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// fakeLogits writes logits that are a function of the token's place and of what is special about the run, give or take the fault.
func fakeLogits(path string, tokens []int32, fault, special string, faOff bool, threads, ub int, mode string) error {
	n := len(tokens)
	if n == 0 {
		return errors.New("no tokens")
	}
	var rows []float32
	for i := range n {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		noise := rand.New(rand.NewPCG(2, uint64(i)))
		for range fakeVocab {
			x := 2 * rng.NormFloat64()
			e := 0.03 * noise.NormFloat64()
			if faOff {
				x += e
			}
			switch special {
			case "adapter":
				x += 2 * noise.NormFloat64()
			case "cache":
				x += 0.5 * e
			}
			switch {
			case fault == "other noise":
				x -= e
			case fault == "wrong scale":
				x *= 1.01
			case fault == "one ulp" && len(rows) == 77:
				x = float64(math.Nextafter32(float32(x), 100))
			case fault == "noisy":
				x += 10 * e
			case fault == "threads" && threads > 1 && n == 33 && mode == "decode":
				x += 1e-5
			case fault == "batch" && ub < 64 && mode == "prefill":
				x += 1e-5
			}
			rows = append(rows, float32(x))
		}
	}
	if fault == "one row" && n > 5 {
		for j := range fakeVocab {
			rows[5*fakeVocab+j] = rows[6*fakeVocab+j]
		}
	}
	if fault == "not a number" {
		rows[len(rows)-1] = float32(math.NaN())
	}
	if fault == "unrepeatable" {
		rows[0] += float32(os.Getpid()) * 1e-6
	}
	content := logitsBytes(tokens, fakeVocab, rows)
	if fault == "cut short" {
		content = content[:len(content)-3]
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	fmt.Println(`{"command":"logits"}`)
	return nil
}

// logitsBytes is the content of a logits file.
func logitsBytes(tokens []int32, vocab int, rows []float32) []byte {
	var b bytes.Buffer
	b.WriteString(logitsMagic)
	binary.Write(&b, binary.LittleEndian, []uint32{uint32(len(tokens)), uint32(vocab)})
	binary.Write(&b, binary.LittleEndian, tokens)
	binary.Write(&b, binary.LittleEndian, rows)
	return b.Bytes()
}
