package gate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// BufferType and CodedBufferType are the ggml buffer types that tuned builds keep packed and coded weights in.
const (
	BufferType      = "CPU_ZEN5"
	CodedBufferType = "CPU_ZEN5_CODED"
)

// UpstreamTests are the tests of upstream that Verify runs from Options.Tests.
var UpstreamTests = []string{"test-backend-ops", "test-export-graph-ops"}

// weightOps are the operators of ggml that read weights.
const weightOps = "MUL_MAT,MUL_MAT_ID,GET_ROWS"

// operators tests single operators on weights in our buffer type: with our own test, which compares bits, and with upstream's, on its own
// cases and on those in the graphs of models.
func (v *verifier) operators(ctx context.Context, s *progress.Step) error {
	s.Count(0, 3, "zt-selftest")
	checks, err := v.selfTest(ctx)
	if err != nil {
		return err
	}
	skipped := ""
	if v.types == nil {
		pages := 0
		if pages, skipped, err = v.pageTest(ctx); err != nil {
			return err
		}
		checks += pages
	}
	s.Count(1, 3, "test-backend-ops")
	own, err := v.backendOps(ctx, BufferType, "-p", v.upstreamFilter())
	if err != nil {
		return err
	}
	v.judgeOwnCases(own)

	tests := own.total()
	if v.types == nil {
		coded, err := v.backendOps(ctx, CodedBufferType, "-p", `^type(_a)?=(`+strings.Join(codedTypes, "|")+`),`)
		if err != nil {
			return err
		}
		for _, t := range codedTypes {
			for _, op := range codedProducts {
				c := claim{op, t}
				found := cmp.Or(coded[c], &operatorTests{})
				v.judge(upstreamProducts, "", "test-backend-ops coded "+c.String(), Measurement{Value: float64(found.run)})
				v.judge(failedTests, "", "test-backend-ops coded "+c.String(), Measurement{Value: float64(found.failed), Note: found.failure})
			}
		}
		tests += coded.total()
	}
	for _, m := range v.Models {
		if !m.Operators {
			continue
		}
		s.Count(2, 3, m.Name+" graph")
		file := filepath.Join(v.scratch, "graph.txt")
		if _, _, err := v.tests.Output(ctx, "test-export-graph-ops", "-m", m.Path, "-t", strconv.Itoa(v.Threads), "-o", file); err != nil {
			return err
		}
		graph, err := v.backendOps(ctx, BufferType, "--test-file", file)
		if err != nil {
			return err
		}
		want, err := claimsOf(m.Path)
		if err != nil {
			return err
		}
		v.judgeGraph(m.Name, graph, want)
		tests += graph.total()
	}
	s.Did("%d checks of our own, %d tests of upstream's on %s%s", checks, tests, BufferType, skipped)
	return nil
}

// selfTestLine is a line of zt-selftest: the seed, then one for each kind of check.
type selfTestLine struct {
	Seed   *uint32 `json:"seed"`
	Type   string  `json:"type"`  // of the weights
	Check  string  `json:"check"` // an operator, or another promise of the buffer type
	Passed int     `json:"passed"`
	Failed int     `json:"failed"`
	// Why no check of the kind was made.
	Skipped string `json:"skipped"`
}

// tallies is how many checks zt-selftest made of each kind, and why it made none of some.
type tallies struct {
	checks  int
	made    map[claim]int
	skipped map[claim]string
}

// selfTests runs zt-selftest and judges the checks that failed.
func (v *verifier) selfTests(ctx context.Context, args ...string) (tallies, error) {
	// It fails if a check does, and then says so in its output as well.
	stdout, stderr, failed := v.tuned.Output(ctx, "zt-selftest", args...)
	lines, err := program.Lines[selfTestLine](stdout)
	if err != nil {
		return tallies{}, cmp.Or(failed, err)
	}
	note := ""
	firstFailure := func(l selfTestLine) string {
		for line := range strings.Lines(string(stderr)) {
			if where, ok := strings.CutPrefix(strings.TrimSpace(line), fmt.Sprintf("FAIL %s %s: ", l.Type, l.Check)); ok {
				return "first: " + where
			}
		}
		return ""
	}
	found := tallies{made: map[claim]int{}, skipped: map[claim]string{}}
	broken := 0
	for _, l := range lines {
		if l.Seed != nil {
			note = fmt.Sprintf("seed %d", *l.Seed)
			continue
		}
		if l.Skipped != "" {
			found.skipped[claim{l.Check, l.Type}] = l.Skipped
			continue
		}
		n := l.Passed + l.Failed
		found.checks += n
		broken += l.Failed
		found.made[claim{l.Check, l.Type}] = n
		why := ""
		if l.Failed > 0 {
			why = firstFailure(l)
		}
		v.judge(failedChecks, "", fmt.Sprintf("zt-selftest %s %s", l.Type, l.Check), Measurement{Value: float64(l.Failed), Note: join(note, why)})
	}
	if failed != nil && broken == 0 {
		return tallies{}, failed
	}
	return found, nil
}

// pageTest judges what zt-selftest says of the page policy. It returns how many checks were made, and what was skipped, for the step's line.
func (v *verifier) pageTest(ctx context.Context) (checks int, skipped string, err error) {
	found, err := v.selfTests(ctx, "pages")
	if err != nil {
		return 0, "", err
	}
	var reasons []string
	for _, check := range slices.Concat(pageChecks, poolChecks) {
		c := claim{check, "pages"}
		if why, ok := found.skipped[c]; ok && slices.Contains(poolChecks, check) {
			if !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
			continue
		}
		v.judge(pageChecksMade, "", "zt-selftest "+c.String(), Measurement{Value: float64(found.made[c])})
	}
	if reasons != nil {
		skipped = fmt.Sprintf("; %d checks of pages skipped: %s", len(found.skipped), strings.Join(reasons, ", "))
	}
	return found.checks, skipped, nil
}

// selfTest judges what zt-selftest says of weights and returns how many checks it made.
func (v *verifier) selfTest(ctx context.Context) (checks int, err error) {
	var args []string
	for _, t := range v.types {
		args = append(args, "-t", t)
	}
	found, err := v.selfTests(ctx, args...)
	if err != nil {
		return 0, err
	}
	made := found.made
	for _, c := range v.claims() {
		v.judge(checksMade, "", "zt-selftest "+c.String(), Measurement{Value: float64(made[c])})
	}
	if v.types == nil || slices.Contains(v.types, threadsType) {
		for _, check := range threadChecks {
			v.judge(threadChecksMade, "", fmt.Sprintf("zt-selftest %s %s", threadsType, check), Measurement{Value: float64(made[claim{check, threadsType}])})
		}
	}
	for _, t := range codedTypes {
		if v.types != nil && !slices.Contains(v.types, t) {
			continue
		}
		for _, check := range encoderChecks {
			v.judge(encoderChecksMade, "", fmt.Sprintf("zt-selftest %s %s", t, check), Measurement{Value: float64(made[claim{check, t}])})
		}
		for _, check := range slices.Concat(codedProducts, []string{"GET_ROWS", "round trip"}) {
			v.judge(codedChecksMade, "", fmt.Sprintf("zt-selftest %s %s", t, check), Measurement{Value: float64(made[claim{check, t}])})
		}
	}
	return found.checks, nil
}

// pageChecks are what zt-selftest checks of the page policy anywhere, poolChecks what needs huge page pools that it may change.
var (
	pageChecks = []string{"sizes", "double free", "threads", "cycles", "account", "switches", "purposes", "no memory", "no huge page when off"}
	poolChecks = []string{"pool exhausted midway", "race for the pool", "threads and a pool", "1 GiB pool", "1 GiB pool absent"}
)

// codedTypes are the types of weights that are coded, codedProducts the products of such weights, and encoderChecks what zt-selftest checks
// of the encoder with each type.
var (
	codedTypes    = []string{"bf16", "f16", "f32"}
	codedProducts = []string{"MUL_MAT", "MUL_MAT_ID"}
	encoderChecks = []string{
		"coded round trip", "coded layout", "coded choice", "coded bits", "coded size", "coded twice", "coded faults",
	}
)

// threadsType stands in place of a type for what zt-selftest checks of threads: that none leaves a meeting early, that work dealt out is done once,
// that plans keep apart what disturbs each other, and that graphs have the results of one thread.
const threadsType = "threads"

var threadChecks = []string{"meeting", "deal", "plan", "graph"}

// claim is an operator on one type of weights.
type claim struct {
	op      string // as ggml calls it
	weights string // ggml's name of their type
}

func (c claim) String() string { return c.weights + " " + c.op }

// claims returns the claims to examine.
func (v *verifier) claims() []claim {
	if v.types == nil {
		return claims
	}
	return slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return !slices.Contains(v.types, c.weights) })
}

// upstreamFilter is upstreamFilter for the types to examine.
func (v *verifier) upstreamFilter() string {
	if v.types == nil {
		return upstreamFilter
	}
	return `^(?=type(_a)?=(` + strings.Join(v.types, "|") + `),)` + strings.TrimPrefix(upstreamFilter, "^")
}

// operatorTests is what became of the tests of one operator and weight type.
type operatorTests struct {
	run, failed int
	unsupported int    // the buffer type does not take such weights, or the operator on them
	failure     string // the first one
}

type testsByClaim map[claim]*operatorTests

func (t testsByClaim) total() (n int) {
	for _, x := range t {
		n += x.run
	}
	return n
}

// backendOps runs upstream's tests of operators that read weights, with the weights in a buffer type of ours.
func (v *verifier) backendOps(ctx context.Context, bufferType string, args ...string) (testsByClaim, error) {
	args = append([]string{"test", "-b", "CPU", "--buft", bufferType, "-o", weightOps, "--output", "csv"}, args...)
	stdout, _, err := v.tests.Output(ctx, "test-backend-ops", args...)
	found, parseErr := parseBackendOps(stdout)
	if parseErr != nil {
		return nil, cmp.Or(err, parseErr)
	}
	failed := 0
	for _, t := range found {
		failed += t.failed
	}
	if err != nil && failed == 0 {
		return nil, err
	}
	return found, nil
}

// parseBackendOps reads the output of `test-backend-ops --output csv`. The message of a test that fails stands before its line.
func parseBackendOps(text []byte) (testsByClaim, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.LazyQuotes = true
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("test-backend-ops printed no table: %w", err)
	}
	column := func(row []string, name string) string { return row[slices.Index(header, name)] }
	for _, name := range []string{"backend_name", "op_name", "op_params", "supported", "error_message"} {
		if !slices.Contains(header, name) {
			return nil, fmt.Errorf("test-backend-ops prints no %s", name)
		}
	}
	found := testsByClaim{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("test-backend-ops output: %w", err)
		}
		c := claim{column(row, "op_name"), weightType(column(row, "op_params"))}
		t := found[c]
		if t == nil {
			t = &operatorTests{}
			found[c] = t
		}
		switch {
		case column(row, "supported") != "1":
			t.unsupported++
			continue
		case column(row, "error_message") != "":
			t.failed++
			if t.failure == "" {
				said, _, _ := strings.Cut(column(row, "backend_name"), ` "`) // without the quoted name behind it
				t.failure = fmt.Sprintf("%s(%s): %s", c.op, column(row, "op_params"), said)
			}
		}
		t.run++
	}
	return found, nil
}

// weightTypes finds the type of the weights in the parameters of a test: of a case of upstream's own, or of one from a graph, where
// type is the result's.
var weightTypes = []*regexp.Regexp{
	regexp.MustCompile(`\btype_a=(\w+)`), regexp.MustCompile(`\bsources=(\w+)`), regexp.MustCompile(`\btype=(\w+)`),
}

func weightType(params string) string {
	for _, re := range weightTypes {
		if m := re.FindStringSubmatch(params); m != nil {
			return m[1]
		}
	}
	return "unknown"
}

// judgeOwnCases holds upstream's own cases to what we claim.
func (v *verifier) judgeOwnCases(found testsByClaim) {
	const source = "test-backend-ops"
	for _, c := range v.claims() {
		t := cmp.Or(found[c], &operatorTests{})
		least := graphTests.only()
		if n := c.cases(); n > 0 {
			least = upstreamTests.times(float64(n))
		}
		v.judgeTests("", source, c, t, least, graphMisses.only())
	}
	v.judgeOthers("", source, found)
}

// judgeGraph holds the operators in the graph of a model to what we claim: all of want must be there, and nothing claimed may be left to
// stock.
func (v *verifier) judgeGraph(model string, found testsByClaim, want []claim) {
	const source = "its graph's"
	for _, c := range v.claims() {
		switch {
		case slices.Contains(want, c):
			v.judgeTests(model, source, c, cmp.Or(found[c], &operatorTests{}), graphTests, graphMisses)
		case found[c] != nil:
			v.judgeTests(model, source, c, found[c], graphTests.only(), graphMisses)
		}
	}
	v.judgeOthers(model, source, found)
}

// judgeTests records the tests of one claim: how many ran, how many did not for want of support, and how many failed.
func (v *verifier) judgeTests(model, source string, c claim, t *operatorTests, run, misses Gate) {
	what := source + " " + c.String()
	v.judge(run, model, what, Measurement{Value: float64(t.run)})
	v.judge(misses, model, what, Measurement{Value: float64(t.unsupported)})
	if t.run > 0 {
		v.judge(failedTests, model, what, Measurement{Value: float64(t.failed), Note: t.failure})
	}
}

// judgeOthers records tests on weights that we claim nothing of: how many there are of an operator, and those that ran all the same.
func (v *verifier) judgeOthers(model, source string, found testsByClaim) {
	for op := range strings.SplitSeq(weightOps, ",") {
		others := 0
		for _, c := range slices.SortedFunc(maps.Keys(found), func(a, b claim) int { return strings.Compare(a.weights, b.weights) }) {
			switch {
			case c.op != op || slices.Contains(claims, c):
			case found[c].run > 0:
				v.judgeTests(model, source, c, found[c], graphTests.only(), graphMisses.only())
			default:
				others += found[c].unsupported
			}
		}
		if others > 0 {
			v.judge(graphMisses.only(), model, fmt.Sprintf("%s other %s", source, op), Measurement{Value: float64(others)})
		}
	}
}

// cases is the number of upstream's own cases of c.
func (c claim) cases() int {
	t, err := gguf.ParseType(c.weights)
	if err != nil {
		return 0
	}
	switch c.op {
	case "MUL_MAT":
		return upstreamCases[t][0]
	case "MUL_MAT_ID":
		return upstreamCases[t][1]
	}
	return 0
}

// claimsOf returns the claims that the graph of the model at path must meet: rows of the embedding are read, experts are multiplied by
// those that a router chooses, and all other matrices as they are.
func claimsOf(path string) ([]claim, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tied := !slices.ContainsFunc(f.Tensors, func(t gguf.Tensor) bool { return t.Name == "output.weight" })
	var want []claim
	for _, t := range f.Tensors {
		if len(t.Shape) < 2 {
			continue
		}
		ops := []string{"MUL_MAT"}
		switch {
		case t.Name == "token_embd.weight" && tied:
			ops = append(ops, "GET_ROWS")
		case t.Name == "token_embd.weight":
			ops = []string{"GET_ROWS"}
		case len(t.Shape) == 3:
			ops = []string{"MUL_MAT_ID"}
		}
		for _, op := range ops {
			if c := (claim{op, t.Type.String()}); slices.Contains(claims, c) && !slices.Contains(want, c) {
				want = append(want, c)
			}
		}
	}
	return want, nil
}
