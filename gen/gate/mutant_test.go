package gate

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/throughput"
)

// hosts are machines to simulate: noise is by how much the logarithm of a run's speed is off, for run after run.
var hosts = []struct {
	name  string
	noise func(*rand.Rand) func() float64
}{
	{"quiet", steady(0.005)},
	{"3 % noise", steady(0.03)},
	{"5 % noise", steady(0.05)},
	{"10 % noise", steady(0.10)},
	// Something else takes a share of the machine in one run of five.
	{"interference", func(r *rand.Rand) func() float64 {
		return func() float64 {
			x := 0.02 * r.NormFloat64()
			if r.Float64() < 0.2 {
				x -= 0.3 * r.Float64()
			}
			return x
		}
	}},
	// Speed rises or falls steadily, by up to a third in all.
	{"drift", func(r *rand.Rand) func() float64 {
		at, step := 0.0, 0.02*(2*r.Float64()-1)
		return func() float64 {
			at += step
			return at + 0.02*r.NormFloat64()
		}
	}},
	{"random walk", func(r *rand.Rand) func() float64 {
		at := 0.0
		return func() float64 {
			at += 0.05 * r.NormFloat64()
			return at + 0.01*r.NormFloat64()
		}
	}},
	// Whole runs at 33 or 55 GB/s of memory, anew for each run or for some time.
	{"bimodal memory, run by run", bimodal(0.5)},
	{"bimodal memory, a few runs", bimodal(0.2)},
	{"bimodal memory, many runs", bimodal(0.03)},
}

func steady(sigma float64) func(*rand.Rand) func() float64 {
	return func(r *rand.Rand) func() float64 { return func() float64 { return sigma * r.NormFloat64() } }
}

// bimodal is memory that changes its mood between two runs with the given chance.
func bimodal(flip float64) func(*rand.Rand) func() float64 {
	return func(r *rand.Rand) func() float64 {
		fast := r.Float64() < 0.5
		return func() float64 {
			if r.Float64() < flip {
				fast = !fast
			}
			x := 0.01 * r.NormFloat64()
			if fast {
				x += math.Log(55. / 33)
			}
			return x
		}
	}
}

// verdicts simulates sessions of a tuned build that is ratio times as fast as stock, on a machine with such noise: the session of `mage
// verify` has the two take turns, and the gate judges what it found. It returns the share that passes as not slower than
// stock, and the share that would if the bootstrap of the ratios alone decided.
func verdicts(t *testing.T, ratio float64, noise func(*rand.Rand) func() float64, turns, sessions int) (passed, naive float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(turns), uint64(1000*ratio)))
	for range sessions {
		next := noise(rng)
		build := func(name string, speed float64) throughput.Subject {
			return throughput.Subject{Name: name, Measure: func(context.Context) (map[string]float64, error) {
				return map[string]float64{"tg128": speed * math.Exp(next())}, nil
			}}
		}
		session := throughput.Session{Least: turns, Most: turns, Unwatched: true}
		found, err := session.Run(context.Background(), []throughput.Test{{Subjects: []throughput.Subject{build("stock", 20), build("tuned", 20*ratio)}}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := found[0].Compare("stock", "tuned", "tg128")
		if err != nil {
			t.Fatal(err)
		}
		if notSlower.Judge("m", "tg128", Measurement{Samples: c.Ratios, Same: c.Same}).Verdict == report.Pass {
			passed += 1 / float64(sessions)
		}
		if statistics.Bootstrap(c.Ratios).Low >= notSlower.Limit {
			naive += 1 / float64(sessions)
		}
	}
	return passed, naive
}

// TestSlowdownInNoise checks that a build which is 1 % slower than stock does not pass as fast as stock because of noise, however
// few turns there are. The interval promises one pass in forty; what it takes for granted of the noise must not make it more.
func TestSlowdownInNoise(t *testing.T) {
	const sessions = 2000
	fooled := 0.0 // the bootstrap alone
	for _, turns := range []int{MinRounds, leastTurns, mostTurns, 12} {
		for _, h := range hosts {
			passed, naive := verdicts(t, 0.99, h.noise, turns, sessions)
			if passed > 0.025 {
				t.Errorf("%d turns on a machine with %s: %.1f %% of builds that are 1 %% slower pass", turns, h.name, 100*passed)
			}
			fooled = max(fooled, naive)
		}
	}
	if fooled < 0.05 {
		t.Errorf("the noise here would not fool anybody: the bootstrap alone passes %.1f %%", 100*fooled)
	}
}

// TestSpeedupInNoise checks that the caution does not keep a build from passing that is 1.3 times as fast. Where the memory changes its
// speed by more than that from run to run a few turns cannot tell, and the share of the read loop has to.
func TestSpeedupInNoise(t *testing.T) {
	for _, c := range []struct {
		host  string
		turns int
		want  float64
	}{
		{"quiet", MinRounds, 1}, {"3 % noise", MinRounds, 0.95}, {"3 % noise", leastTurns, 0.99}, {"5 % noise", leastTurns, 0.98}, {"drift", leastTurns, 0.99},
		{"random walk", leastTurns, 0.95}, {"interference", mostTurns, 0.8}, {"10 % noise", 12, 0.95}, {"bimodal memory, many runs", 12, 0.95},
	} {
		for _, h := range hosts {
			if h.name != c.host {
				continue
			}
			if passed, _ := verdicts(t, 1.3, h.noise, c.turns, 1000); passed < c.want {
				t.Errorf("%d turns on a machine with %s: %.1f %% of builds 1.3 times as fast pass, want %.0f %%", c.turns, c.host, 100*passed, 100*c.want)
			}
		}
	}
}
