package report

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func tableOf(t *testing.T, r Report, all bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Table(&b, all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTable(t *testing.T) {
	text := tableOf(t, sample(), true)
	for _, want := range []string{
		"a CPU, 2 cores, 2 threads used, load average 0.0, Linux 6.1", "compiler: clang 19", "set: ZT_LOG=1",
		"mean KL divergence", "0.0002 nats", "at most 0.001",
		"2.4 .. 2.6", "at least 3", "FAIL", "12346 t/s", "1 of 2 gates hold",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "BLAS") {
		t.Errorf("the table names a BLAS nobody reported:\n%s", text)
	}
}

// TestTableIsShort checks that failures and summaries are not lost among hundreds of results, and that none is lost for good.
func TestTableIsShort(t *testing.T) {
	r := failing()
	short, long := tableOf(t, r, false), tableOf(t, r, true)
	if a, b := strings.Index(short, "FAILED\n"), strings.Index(short, "\nroofline: "); a < 0 || b < a {
		t.Errorf("failures do not come first:\n%s", short)
	}
	for _, want := range []string{
		"accuracy: 1 of 24 gates FAIL", "identity: 1 of 3 gates FAIL", "architectures: all 26 gates hold", "load: the gate holds",
		"throughput: 94 results, none gated", "roofline: 10 results, none gated", "ZT_LOG=1 prints them", "52 of 54 gates hold",
	} {
		if !strings.Contains(short, want) {
			t.Errorf("it lacks %q:\n%s", want, short)
		}
	}
	line := regexp.MustCompile(`(?m)^  (pass|FAIL|info)  `)
	if n := len(line.FindAllString(short, -1)); n > 45 {
		t.Errorf("%d lines of results in the short table", n)
	}
	if n, want := len(line.FindAllString(long, -1)), len(r.Results)+len(r.Failed()); n != want {
		t.Errorf("%d lines of results in the long table, want %d", n, want)
	}
	// Of 26 architectures the one nearest to its bound.
	if n := strings.Count(short, "NMSE of logits"); n != 1 || !strings.Contains(short, "1.7e-05") {
		t.Errorf("%d lines for the architectures, want one with the largest", n)
	}
	if !strings.Contains(short, "1b-q8_0  tg128 at depth 4096  speed over stock") {
		t.Errorf("a ratio is hidden:\n%s", short)
	}
}

func TestUsed(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Result
		want float64
	}{
		{"half of at most", Result{Value: 1, Bound: &Bound{Side: AtMost, Limit: 2}}, 0.5},
		{"half of at least", Result{Value: 4, Bound: &Bound{Side: AtLeast, Limit: 2}}, 0.5},
		{"nothing of 0", Result{Value: 0, Bound: &Bound{Side: AtMost}}, 0},
		{"0 broken", Result{Value: 1, Bound: &Bound{Side: AtMost}}, 2},
		{"no bound", Result{Value: 1}, 0},
	} {
		if got := c.r.used(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
