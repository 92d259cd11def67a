package gate

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// fakeShapes is `zt-probe shapes` with the given fault. Of 200 shapes that it draws the first half is of one type.
func fakeShapes(args []string, fault string) error {
	var shapes []string
	drawn, ms := false, ""
	for i, a := range args {
		switch a {
		case "--shape":
			shapes = append(shapes, args[i+1])
		case "--ms":
			ms = args[i+1]
		case "-n":
			drawn = true
			n, err := strconv.Atoi(args[i+1])
			if err != nil {
				return err
			}
			for i := range n {
				shapes = append(shapes, fmt.Sprintf("%s,m=%d,k=256,n=%d%s", []string{"q8_0", "q4_K"}[2*i/n], 16+i, 1+i%7, []string{"", ",cold"}[i%2]))
			}
		}
	}
	for _, shape := range shapes {
		typ, rest, _ := strings.Cut(shape, ",")
		row, _, _ := strings.Cut(strings.TrimPrefix(rest, "m="), ",")
		m, err := strconv.Atoi(row)
		if err != nil {
			return err
		}
		p := product{Shape: shape, Type: typ, Packed: true, StockHash: shape, NMSE: 1e-13, Busy: 1}
		first := ms == strconv.Itoa(sweepTime)
		for i := range 9 {
			if ms == "0" {
				break
			}
			p.StockNS = append(p.StockNS, 1000+float64(i))
			p.TunedNS = append(p.TunedNS, 400)
		}
		some := m < 22 // six of them, of one type
		switch {
		case fault == "slow shapes" && some, fault == "shapes slow at first" && some && first, fault == "busy at first" && some:
			if fault == "busy at first" {
				if !first {
					break
				}
				p.Busy = 0.5
			}
			for i := range p.TunedNS {
				p.TunedNS[i] = 1100
			}
		case fault == "busy machine":
			p.Busy = 0.5
		case fault == "noisy shapes" && some:
			for i := range p.TunedNS {
				p.TunedNS[i] = []float64{1200, 900, 1100}[i%3]
			}
		case fault == "wrong products" && m == 130:
			p.NMSE = 1e-8
		case fault == "another stock" && m == 150:
			p.StockHash = "another"
		case fault == "slow stock side":
			for i := range p.StockNS {
				p.StockNS[i] *= 1.2
			}
		case fault == "packs little" && m%2 == 0:
			p.Packed, p.TunedNS = false, nil
		case fault == "half timed":
			p.TunedNS = p.TunedNS[:len(p.TunedNS)/2]
		}
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
		if fault == "shapes missing" && !drawn {
			break
		}
	}
	return nil
}

func TestSweepGates(t *testing.T) {
	model := Model{Name: "m", Path: writeModel(t, true)}
	for _, c := range []struct {
		stock, tuned string
		accuracyOnly bool
		want         []string // in the error; none if all gates hold
	}{
		{"", "", false, nil},
		{"", "slow shapes", false, []string{"q8_0 shapes slower than stock is 6, not at most 0"}},
		{"", "slow shapes", true, nil},
		{"", "shapes slow at first", false, nil},
		{"", "busy at first", false, nil},
		{"", "busy machine", false, []string{"shapes that noise left undecided is 200, not at most 4"}},
		{"", "busy machine", true, nil},
		{"", "noisy shapes", false, []string{"shapes that noise left undecided is 6, not at most 4"}},
		{"", "wrong products", true, []string{"q4_K NMSE of results is 1e-08, not at most 1e-10"}},
		{"", "another stock", true, []string{"stock's side shapes with other results than in the stock build is 1, not at most 0"}},
		{"", "slow stock side", false, []string{"stock's side speed over the stock build is 0.8333, not at least 0.95"}},
		{"slow stock side", "", false, nil},
		{"", "packs little", true, []string{"shapes measured is 100, not at least 150"}},
		{"", "half timed", false, []string{"zt-probe shapes was asked for q8_0,m=16,k=256,n=1 and timed q8_0,m=16,k=256,n=1 4 times, stock's 9 times"}},
		{"shapes missing", "", true, []string{"the tuned build computed 200 shapes, stock 1 of the same"}},
	} {
		t.Run(c.stock+"/"+c.tuned, func(t *testing.T) {
			t.Parallel()
			r, _, err := verify(t, c.stock, c.tuned, model, Options{AccuracyOnly: c.accuracyOnly, Threads: 2})
			if (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v; want %q in it", err, want)
				}
			}
			for _, x := range r.Results {
				if x.Part != "shapes" {
					continue
				}
				switch {
				case x.Verdict == report.Fail && x.Quantity == sweepSlower.Quantity && !strings.HasPrefix(x.Note, "q8_0,m=16,k=256,n=1 0.91; "):
					t.Errorf("the note %q does not begin with the slowest shape", x.Note)
				case x.Verdict == report.Fail && x.Quantity == sweepNMSE.Quantity && !strings.HasPrefix(x.Note, "q4_K,m=130,k=256,n=3, seed "):
					t.Errorf("the note %q does not say what to repeat", x.Note)
				case x.Quantity == sweepSlower.Quantity && c.accuracyOnly:
					t.Errorf("%s was judged where accuracy alone was asked for", x.Name())
				}
			}
		})
	}
}
