package gate

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

// Logits is a file of `zt-probe logits`: the logits of every token of a text. Its layout, little endian: "ZTLOGIT1",
// uint32 n, uint32 vocabulary size, int32 token ids [n], float32 logits [n][vocabulary size].
type Logits struct {
	Tokens []int32
	Vocab  int

	f    *os.File
	data int64 // offset of the logits
}

const logitsMagic = "ZTLOGIT1"

// OpenLogits opens the file at path. A file that is cut short or too long is an error.
func OpenLogits(path string) (*Logits, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := readLogits(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("logits %s: %w", path, err)
	}
	return l, nil
}

func readLogits(f *os.File) (*Logits, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(f)
	var head struct {
		Magic    [len(logitsMagic)]byte
		N, Vocab uint32
	}
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil || string(head.Magic[:]) != logitsMagic {
		return nil, fmt.Errorf("not a logits file")
	}
	l := &Logits{Vocab: int(head.Vocab), f: f, data: int64(binary.Size(head)) + 4*int64(head.N)}
	// Both counts are below 1<<32, so the product of the two may overflow only the last factor; compare by division.
	if rest := info.Size() - l.data; head.N == 0 || head.Vocab < 2 || rest < 0 || rest%(4*int64(head.N)) != 0 ||
		rest/(4*int64(head.N)) != int64(head.Vocab) {
		return nil, fmt.Errorf("%d tokens and a vocabulary of %d do not make a file of %d bytes", head.N, head.Vocab, info.Size())
	}
	l.Tokens = make([]int32, head.N)
	return l, binary.Read(r, binary.LittleEndian, l.Tokens)
}

// Close closes the file.
func (l *Logits) Close() error { return l.f.Close() }

// row reads the logits after token i into dst, which holds Vocab values, through raw, which holds four bytes for each. A
// logit that is not a finite number is an error.
func (l *Logits) row(i int, dst []float32, raw []byte) error {
	if _, err := l.f.ReadAt(raw, l.data+int64(i)*int64(len(raw))); err != nil && err != io.EOF {
		return err
	}
	for j := range dst {
		dst[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
		if v := float64(dst[j]); math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s: the logit of id %d after token %d is %v", l.f.Name(), j, i, v)
		}
	}
	return nil
}

// Divergence is how far the logits of one build are from those of another on the same tokens.
type Divergence struct {
	Tokens    int
	Differing int     // logits that are another number
	MeanKL    float64 // mean over tokens of the Kullback-Leibler divergence of got from ref, in nats
	P999KL    float64 // its 99.9th percentile; with fewer than a thousand tokens close to the largest
	Top1      float64 // share of tokens whose most likely next token is the same
	MaxAbs    float64 // largest difference of two logits
	NMSE      float64 // sum of squared differences over sum of squared ref logits
	Scale     float64 // least squares factor from ref's logits to got's, less 1: random error leaves it near 0, a wrong scale does not
	FlipGap   float64 // where the most likely tokens differ: the largest lead that ref's had, in logits; 0 where none differ
	RMS       float64 // root mean square of ref's logits

	// Of the tokens whose successor the file holds, which is all but its last. 0 if there are none.
	RefNLL, GotNLL float64 // mean of -log p of the token that follows, in nats; its exponential is the perplexity
	DeltaP         float64 // root mean square difference of its p
}

// Compare measures got against ref. Softmax and sums are in float64. Both must hold the same tokens.
func Compare(ref, got *Logits) (Divergence, error) {
	rows := make([]int, len(ref.Tokens))
	for i := range rows {
		rows[i] = i
	}
	return CompareRows(ref, got, rows)
}

// CompareRows is Compare on the logits after the tokens at the given places alone.
func CompareRows(ref, got *Logits, places []int) (Divergence, error) {
	if ref.Vocab != got.Vocab || !slices.Equal(ref.Tokens, got.Tokens) {
		return Divergence{}, fmt.Errorf("%s and %s are of different tokens or vocabularies", ref.f.Name(), got.f.Name())
	}
	n := len(places)
	rows := make([]rowDivergence, n)
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			a, b, raw := make([]float32, ref.Vocab), make([]float32, ref.Vocab), make([]byte, 4*ref.Vocab)
			for i := range next {
				place := places[i]
				if errs[i] = ref.row(place, a, raw); errs[i] == nil {
					errs[i] = got.row(place, b, raw)
				}
				if errs[i] != nil {
					continue
				}
				follower := -1
				if place+1 < len(ref.Tokens) {
					follower = int(ref.Tokens[place+1])
				}
				rows[i] = compareRow(a, b, follower)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()

	d := Divergence{Tokens: n}
	kl := make([]float64, n)
	var same, followed int
	var squares, refSquares, product, refNLL, gotNLL, deltaP2 float64
	for i, r := range rows {
		if errs[i] != nil {
			return Divergence{}, errs[i]
		}
		kl[i] = r.kl
		d.MeanKL += r.kl / float64(n)
		d.Differing += r.differing
		d.MaxAbs = max(d.MaxAbs, r.maxAbs)
		squares += r.squares
		refSquares += r.refSquares
		product += r.product
		if r.same {
			same++
		} else {
			d.FlipGap = max(d.FlipGap, r.gap)
		}
		if r.followed {
			followed++
			refNLL += r.refNLL
			gotNLL += r.gotNLL
			deltaP := math.Exp(-r.gotNLL) - math.Exp(-r.refNLL)
			deltaP2 += deltaP * deltaP
		}
	}
	d.P999KL = statistics.Quantile(kl, 0.999)
	d.Top1 = float64(same) / float64(n)
	if refSquares == 0 {
		return Divergence{}, fmt.Errorf("%s: every logit is 0", ref.f.Name())
	}
	d.NMSE = squares / refSquares
	d.Scale = product/refSquares - 1
	d.RMS = math.Sqrt(refSquares / float64(n) / float64(ref.Vocab))
	if followed > 0 {
		d.RefNLL, d.GotNLL = refNLL/float64(followed), gotNLL/float64(followed)
		d.DeltaP = math.Sqrt(deltaP2 / float64(followed))
	}
	return d, nil
}

type rowDivergence struct {
	differing                    int
	kl, maxAbs                   float64
	squares, refSquares, product float64 // sums of (ref-got)^2, ref^2, ref*got
	same                         bool    // the largest logit is of the same id
	gap                          float64 // ref's largest logit less its logit of got's largest id
	followed                     bool    // the next token is known
	refNLL, gotNLL               float64 // -log p of the next token
}

// compareRow compares two rows of finite logits; follower is the id of the token that follows, negative if none does.
// KL(p||q) is the sum of p (log p - log q) with p the softmax of ref and q that of got: the p-weighted mean of ref - got, less
// the difference of the logarithms of the sums of exponentials.
func compareRow(ref, got []float32, follower int) rowDivergence {
	pTop, qTop := argmax(ref), argmax(got)
	r := rowDivergence{same: pTop == qTop, gap: float64(ref[pTop]) - float64(ref[qTop])}
	pMax, qMax := float64(ref[pTop]), float64(got[qTop])
	var pSum, qSum, weighted float64
	for i := range ref {
		a, b := float64(ref[i]), float64(got[i])
		e := math.Exp(a - pMax)
		pSum += e
		qSum += math.Exp(b - qMax)
		weighted += e * (a - b)
		r.maxAbs = max(r.maxAbs, math.Abs(a-b))
		r.squares += (a - b) * (a - b)
		r.refSquares += a * a
		r.product += a * b
		if a != b {
			r.differing++
		}
	}
	pLog, qLog := pMax+math.Log(pSum), qMax+math.Log(qSum)
	r.kl = max(weighted/pSum-pLog+qLog, 0) // a divergence; rounding of nearly equal rows may leave less
	if follower >= 0 && follower < len(ref) {
		r.followed = true
		r.refNLL, r.gotNLL = pLog-float64(ref[follower]), qLog-float64(got[follower])
	}
	return r
}

// argmax is the index of the largest value, the lowest of equals.
func argmax(x []float32) int {
	top := 0
	for i, v := range x {
		if v > x[top] {
			top = i
		}
	}
	return top
}
