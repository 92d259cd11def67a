package throughput

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/journal"
)

// quiet is a machine that nobody else uses.
func quiet() (load, error) { return load{}, nil }

// recorder makes subjects that note who ran and find growing numbers.
type recorder struct{ ran []string }

func (r *recorder) subject(test, name string) Subject {
	return Subject{Name: name, Measure: func(context.Context) (map[string]float64, error) {
		r.ran = append(r.ran, test+name)
		return map[string]float64{"speed": float64(len(r.ran))}, nil
	}}
}

func TestOrder(t *testing.T) {
	var r recorder
	s := Session{Least: 3, Most: 3, machine: quiet}
	_, err := s.Run(context.Background(), []Test{
		{Name: "p", Subjects: []Subject{r.subject("p", "A"), r.subject("p", "B"), r.subject("p", "C")}},
		{Name: "q", Subjects: []Subject{r.subject("q", "A"), r.subject("q", "B")}},
	})
	want := "pA pB pC pC pB pA qA qB qB qA pA pB pC qA qB"
	if got := strings.Join(r.ran, " "); err != nil || got != want {
		t.Errorf("ran %s, %v; want %s", got, err, want)
	}
}

// TestDriftCancels takes speeds of equal builds on a machine that becomes 5 % slower from run to run.
func TestDriftCancels(t *testing.T) {
	speed := 100.0
	same := func(name string) Subject {
		return Subject{Name: name, Measure: func(context.Context) (map[string]float64, error) {
			speed *= 0.95
			return map[string]float64{"x": speed}, nil
		}}
	}
	s := Session{Least: 4, Most: 4, machine: quiet}
	found, err := s.Run(context.Background(), []Test{{Subjects: []Subject{same("A"), same("B")}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := found[0].Compare("A", "B", "x")
	if err != nil {
		t.Fatal(err)
	}
	product := 1.0
	for _, r := range c.Ratios {
		product *= r
	}
	if math.Abs(product-1) > 1e-12 || math.Abs(c.Ratios[0]-0.95) > 1e-12 {
		t.Errorf("ratios %v of equal builds have the product %v", c.Ratios, product)
	}
	// Neighbours differ by one step, the outer ones by three.
	want := []float64{math.Pow(0.95, 3), 0.95, math.Pow(0.95, 3), 0.95}
	for i, x := range c.Same {
		if len(c.Same) != 4 || math.Abs(x-want[i]) > 1e-12 {
			t.Fatalf("A/A ratios are %v, want %v", c.Same, want)
		}
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		budget time.Duration
		want   int
	}{{0, 8}, {time.Nanosecond, 4}, {time.Hour, 8}} {
		var r recorder
		s := Session{Least: 4, Most: 8, Budget: c.budget, machine: quiet}
		found, err := s.Run(context.Background(), []Test{
			{Name: "p", Subjects: []Subject{r.subject("p", "A")}},
			{Name: "q", Fixed: true, Subjects: []Subject{r.subject("q", "A")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(found[0].Values("A", "speed")); got != c.want {
			t.Errorf("a budget of %v took %d turns, want %d", c.budget, got, c.want)
		}
		if got := len(found[1].Values("A", "speed")); got != 4 {
			t.Errorf("a test with fixed turns took %d", got)
		}
	}
	r := run{Session: &Session{Budget: 100 * time.Second}, series: []Series{{turns: []turn{{Spent: 8}, {Spent: 12}}}}, spent: 80}
	if !r.affords(0, 2) || r.affords(0, 3) {
		t.Error("80 of 100 s are spent; two turns of 10 s fit, three do not")
	}
}

// busy is a machine where others use all CPUs during the given calls of once, counted from 0.
func busy(during ...int) func() (load, error) {
	calls, others := 0, 0.0
	return func() (load, error) {
		if calls%2 == 1 && slices.Contains(during, calls/2) {
			others += 10
		}
		calls++
		return load{at: time.Unix(int64(10*calls), 0), busy: others}, nil
	}
}

func TestDisturbedTurnsAreRepeated(t *testing.T) {
	for _, c := range []struct {
		name   string
		during []int
		want   []float64 // the values that count: recorder counts up
		note   string
	}{
		{"quiet", nil, []float64{1, 2, 3, 4}, ""},
		{"once", []int{1}, []float64{1, 3, 4, 5}, "1 of 4 turns taken again, 1 times in all, because others used the CPUs"},
		{"for long", []int{0, 1, 2}, []float64{3, 4, 5, 6}, "1 of 4 turns taken again, 2 times in all, because others used the CPUs; " +
			"others used up to 100 % of the CPUs during 1 of 4 turns that count"},
	} {
		var r recorder
		s := Session{Least: 4, Most: 4, Threads: 1, machine: busy(c.during...)}
		found, err := s.Run(context.Background(), []Test{{Subjects: []Subject{r.subject("", "A")}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := found[0].Values("A", "speed"); !slices.Equal(got, c.want) || found[0].Note() != c.note {
			t.Errorf("%s: %v, %q; want %v, %q", c.name, got, found[0].Note(), c.want, c.note)
		}
	}
	// On a machine that is never quiet repetition ends.
	var r recorder
	always := make([]int, 100)
	for i := range always {
		always[i] = i
	}
	s := Session{Least: 20, Most: 20, Threads: 1, machine: busy(always...)}
	if _, err := s.Run(context.Background(), []Test{{Subjects: []Subject{r.subject("", "A")}}}); err != nil || len(r.ran) != 20+sessionRepeats {
		t.Errorf("20 turns took %d runs, %v", len(r.ran), err)
	}
	if _, err := s.Run(context.Background(), []Test{{Subjects: []Subject{r.subject("", "B")}}}); err != nil || len(r.ran) != 40+sessionRepeats {
		t.Errorf("20 more turns in the same session made %d runs of all, %v", len(r.ran), err)
	}
}

func TestPeerFails(t *testing.T) {
	var r recorder
	calls := 0
	peer := Subject{Name: "ik", Peer: true, Measure: func(context.Context) (map[string]float64, error) {
		calls++
		if calls == 3 {
			return nil, errors.New("unknown option")
		}
		return map[string]float64{"speed": 7}, nil
	}}
	s := Session{Least: 6, Most: 6, machine: quiet}
	found, err := s.Run(context.Background(), []Test{{Name: "p", Subjects: []Subject{r.subject("", "A"), r.subject("", "B"), peer}}})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 3 || found[0].Missing("ik") != "unknown option" || found[0].Missing("A") != "" || len(found[0].Values("A", "speed")) != 6 {
		t.Errorf("the peer ran %d times and is missing because %q; A ran %d times", calls, found[0].Missing("ik"), len(found[0].Values("A", "speed")))
	}
	if c, err := found[0].Compare("A", "ik", "speed"); err != nil || len(c.Ratios) != 2 {
		t.Errorf("compared with the peer: %+v, %v", c, err)
	}
	if _, err := found[0].Compare("A", "nobody", "speed"); err == nil || !strings.Contains(err.Error(), "needs two") {
		t.Errorf("compared with nobody: %v", err)
	}
}

func TestOwnFailureEnds(t *testing.T) {
	for want, measure := range map[string]func(context.Context) (map[string]float64, error){
		"out of cheese":        func(context.Context) (map[string]float64, error) { return nil, errors.New("out of cheese") },
		"p of A found 0 as x":  func(context.Context) (map[string]float64, error) { return map[string]float64{"x": 0}, nil },
		"p of A found NaN as ": func(context.Context) (map[string]float64, error) { return map[string]float64{"x": math.NaN()}, nil },
	} {
		s := Session{Least: 2, Most: 2, machine: quiet}
		_, err := s.Run(context.Background(), []Test{{Name: "p", Subjects: []Subject{{Name: "A", Measure: measure}}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPeerHangs(t *testing.T) {
	var r recorder
	peer := Subject{Name: "ik", Peer: true, Measure: func(ctx context.Context) (map[string]float64, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	s := Session{Least: 2, Most: 2, machine: quiet, grace: 10 * time.Millisecond}
	found, err := s.Run(context.Background(), []Test{{Subjects: []Subject{r.subject("", "A"), peer}}})
	if err != nil || !strings.Contains(found[0].Missing("ik"), "did not end within") {
		t.Errorf("%v, missing because %q", err, found[0].Missing("ik"))
	}
	// A canceled session is not the peer's fault.
	ctx, cancel := context.WithCancelCause(context.Background())
	s = Session{Least: 2, Most: 2, machine: quiet}
	go cancel(errors.New("interrupted"))
	if _, err := s.Run(ctx, []Test{{Subjects: []Subject{peer}}}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v, want that it was interrupted", err)
	}
}

// TestResume interrupts a session at every run of every build: the next one ends with the same values and takes no finished turn again.
func TestResume(t *testing.T) {
	const turns, runs = 4, 2 * 2 * 4
	session := func(path string, stop int) ([]Series, []string, error) {
		j, err := journal.Open(path, journal.Key{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var ran []string
		taken := map[string]int{}
		subject := func(test, name string) Subject {
			return Subject{Name: name, Measure: func(context.Context) (map[string]float64, error) {
				if len(ran) == stop {
					return nil, errors.New("interrupted")
				}
				ran = append(ran, test+name)
				taken[test+name]++
				return map[string]float64{"x": float64(len(test+name) + taken[test+name])}, nil
			}}
		}
		s := Session{Name: "m, ", Least: turns, Most: turns, Journal: j, machine: quiet}
		found, err := s.Run(context.Background(), []Test{
			{Name: "p", Subjects: []Subject{subject("p", "A"), subject("p", "B")}},
			{Name: "q", Subjects: []Subject{subject("q", "A"), subject("q", "B")}},
		})
		return found, ran, err
	}
	for stop := range runs {
		path := filepath.Join(t.TempDir(), "j")
		_, first, err := session(path, stop)
		if err == nil || len(first) != stop {
			t.Fatalf("not interrupted at run %d: %v, %v", stop, first, err)
		}
		found, second, err := session(path, -1)
		if err != nil {
			t.Fatal(err)
		}
		// Half a turn is taken again as a whole: its two runs belong side by side.
		if whole := stop / 2 * 2; whole+len(second) != runs {
			t.Errorf("interrupted at run %d: then ran %v", stop, second)
		}
		for _, f := range found {
			for _, name := range []string{"A", "B"} {
				if got := f.Values(name, "x"); len(got) != turns {
					t.Errorf("interrupted at run %d: %s of %s has %v", stop, f.Test, name, got)
				}
			}
		}
	}
	// A third session takes everything from the journal, to the same result.
	path := filepath.Join(t.TempDir(), "j")
	want, _, err := session(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, ran, err := session(path, 0)
	if err != nil || len(ran) != 0 || !reflect.DeepEqual(values(got), values(want)) {
		t.Errorf("a finished session ran %v again, %v; it has %v, want %v", ran, err, values(got), values(want))
	}
}

func values(all []Series) string {
	text := ""
	for _, s := range all {
		text += fmt.Sprint(s.Test, s.Values("A", "x"), s.Values("B", "x"))
	}
	return text
}

func TestPrepare(t *testing.T) {
	var r recorder
	prepared := 0
	test := Test{Name: "p", Subjects: []Subject{r.subject("", "A")}, Prepare: func(context.Context) error {
		if prepared++; len(r.ran) > 0 {
			t.Error("prepared after the first run")
		}
		return nil
	}}
	s := Session{Least: 3, Most: 3, machine: quiet}
	if _, err := s.Run(context.Background(), []Test{test}); err != nil || prepared != 1 {
		t.Errorf("prepared %d times, %v", prepared, err)
	}
	test.Prepare = func(context.Context) error { return errors.New("disk full") }
	if _, err := s.Run(context.Background(), []Test{test}); err == nil {
		t.Error("went on unprepared")
	}
}
