package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// The fakes of upstream's instruments run the fake zt-probe and say what it comes to in upstream's words.

// fakeCompare holds what a fake build gives for tokens to what stock gives.
func fakeCompare(fault string, faOff bool, tokens []int32, places []int) (d Divergence, err error) {
	dir, err := os.MkdirTemp("", "fake")
	if err != nil {
		return d, err
	}
	defer os.RemoveAll(dir)
	var l [2]*Logits
	for i, fault := range []string{"", fault} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := fakeLogits(path, tokens, fault, "", i == 1 && faOff, 1, 512, "prefill"); err != nil {
			return d, err
		}
		if l[i], err = OpenLogits(path); err != nil {
			return d, err
		}
		defer l[i].Close()
	}
	return CompareRows(l[0], l[1], places)
}

const fakeBOS = 7

func fakePerplexity(fault string, args []string) error {
	f := flag.NewFlagSet("llama-perplexity", flag.ContinueOnError)
	base, fa, kl := f.String("kl-divergence-base", "", ""), f.String("fa", "", ""), f.Bool("kl-divergence", false, "")
	for _, name := range []string{"m", "c", "b", "ub", "t", "f", "chunks"} {
		f.String(name, "", "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if fault == "silent" {
		fmt.Fprintln(os.Stderr, "perplexity: you need at least 1024 tokens")
		return nil
	}
	if !*kl {
		tokens, err := fakeTokens("", 2*opinionContext)
		if err != nil {
			return err
		}
		tokens[0] = fakeBOS
		file, err := os.Create(*base)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := file.WriteString(recordMagic); err != nil {
			return err
		}
		return errors.Join(binary.Write(file, binary.LittleEndian, []uint32{opinionContext, fakeVocab, 2}), binary.Write(file, binary.LittleEndian, tokens))
	}
	b, err := readRecord(*base)
	if err != nil {
		return err
	}
	d, err := fakeCompare(fault, *fa == "off", b.fed(uint32(fakeBOS)), b.predicted())
	if err != nil {
		return err
	}
	if fault == "liar" {
		d.MeanKL *= 1.5
	}
	if fault == "forgetful" && !fakeAgain(*base+".asked") {
		return nil
	}
	fmt.Fprintf(os.Stderr, "0.00.892.981 I kl_divergence: computing over %d chunks, n_ctx=%d, batch_size=512, n_seq=1\n", b.chunks, b.context)
	fmt.Printf("Mean PPL(Q)                   : %10.6f ± %10.6f\n", math.Exp(d.GotNLL), 0.1)
	fmt.Printf("Mean    KLD: %10.6f ± %10.6f\n", d.MeanKL, 0.1)
	fmt.Printf("99.9%%   KLD: %10.6f\n", d.P999KL)
	fmt.Printf("RMS Δp    : %6.3f ± %5.3f %%\n", 100*d.DeltaP, math.NaN())
	fmt.Printf("Same top p: %6.3f ± %5.3f %%\n", 100*d.Top1, 0.1)
	return nil
}

func fakeTokenize(args []string) error {
	f := flag.NewFlagSet("llama-tokenize", flag.ContinueOnError)
	file := f.String("f", "", "")
	f.String("m", "", "")
	f.Bool("ids", false, "")
	f.Bool("log-disable", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	n, err := fakeWords(*file)
	fmt.Println(strings.ReplaceAll(fmt.Sprint(make([]int, n)), " ", ", "))
	return err
}

// fakeWords is the number of words in a file, which are the fakes' tokens.
func fakeWords(path string) (int, error) {
	text, err := os.ReadFile(path)
	return len(strings.Fields(string(text))), err
}

// fakeAgain says whether it was asked about path before.
func fakeAgain(path string) bool {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644)
	f.Close()
	return err != nil
}

func fakeResults(fault string, args []string) error {
	f := flag.NewFlagSet("llama-results", flag.ContinueOnError)
	prompt, out, fa, check := f.String("f", "", ""), f.String("o", "", ""), f.String("fa", "", ""), f.Bool("check", false, "")
	for _, name := range []string{"m", "c", "b", "ub", "t"} {
		f.String(name, "", "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	n, err := fakeWords(*prompt)
	if err != nil {
		return err
	}
	if n%4 != 0 || n > promptTokens {
		return fmt.Errorf("GGML_ASSERT(obj_new) failed with %d tokens", n)
	}
	tokens, err := fakeTokens("", n)
	if err != nil {
		return err
	}
	if !*check {
		return gguf.Write(context.Background(), *out, nil, []gguf.Source{{Name: "tokens", Type: gguf.I32, Shape: []int64{int64(n)}, Rows: func(dst []byte, _ int64) error {
			_, err := binary.Encode(dst, binary.LittleEndian, tokens)
			return err
		}}}, func(int64, int64) {})
	}
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	d, err := fakeCompare(fault, *fa == "off", tokens, places)
	if err != nil {
		return err
	}
	if fault == "mute" || fault == "forgetful" && !fakeAgain(*out+".asked") {
		return nil
	}
	fmt.Fprintf(os.Stderr, "0.03.597.126 I main: loading results\n0.03.881.837 I main: NMSE=%.3e\n", d.NMSE)
	if d.NMSE > 1e-6 {
		fmt.Println("FAIL")
		return errors.New("exit status 1")
	}
	return nil
}

// TestOpinionsOfRealPrograms checks what is read of the real programs' output, kept from the pinned tree on a synthetic model.
func TestOpinionsOfRealPrograms(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	k, err := parseKL(read("llama-perplexity-kl.txt"))
	want := klStatistics{tokens: 8 * 127, ppl: 5541449.166620, meanKL: 0.001170, p999KL: 0.003700, deltaP: 0, sameTop: 0.95965}
	if err != nil || k != want {
		t.Errorf("read %+v, %v; want %+v", k, err, want)
	}
	same, err := parseKL(read("llama-perplexity-same.txt"))
	if err != nil {
		t.Fatal(err)
	}
	d := k.divergence(same)
	near(t, "log of the perplexity ratio", d.GotNLL-d.RefNLL, math.Log(5541449.166620/5548457.010673))
	if self := same.divergence(same); self.MeanKL != 0 || self.Top1 != 1 || pplRatio(self) != 1 {
		t.Errorf("stock against itself is %+v", self) // it prints a mean KL divergence of -0.000000
	}

	short := read("llama-perplexity-short.txt")
	if _, err := parseKL(short); err == nil {
		t.Error("too short a text gave statistics")
	}
	if got := complaints(short); !strings.HasPrefix(got, "perplexity: you need at least 1024 tokens") || !strings.HasSuffix(got, "only 357 tokens") {
		t.Errorf("of too short a text it says %q", got)
	}
	if m := resultsNMSE.FindStringSubmatch(read("llama-results-check.txt")); m == nil || m[1] != "2.071e-04" {
		t.Errorf("llama-results finds an NMSE of %q", m)
	}
}

func TestParseKLRefuses(t *testing.T) {
	text, err := os.ReadFile("testdata/llama-perplexity-kl.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"Mean    KLD:   0.001170", "Mean    KLD:       -nan", "its Mean KLD is -nan"},
		{"Same top p: 95.965", "Same top p:  inf", "its Same top p is inf"},
		{"99.9%   KLD", "99.8%   KLD", "it prints no 99.9% KLD"},
		{"RMS Δp", "MSE Δp", "it prints no RMS Δp"},
		{"over 8 chunks", "over some chunks", "how many chunks"},
		{"over 8 chunks", "over 0 chunks", "0 chunks"},
	} {
		said := strings.Replace(string(text), c.old, c.new, 1)
		if said == string(text) {
			t.Fatalf("the sample has no %q", c.old)
		}
		if _, err := parseKL(said); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.new, err, c.want)
		}
	}
}

func TestRecord(t *testing.T) {
	write := func(context, chunks uint32, tokens int) string {
		path := filepath.Join(t.TempDir(), "record")
		b := []byte(recordMagic)
		for _, x := range []uint32{context, 100, chunks} {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		for i := range tokens {
			b = binary.LittleEndian.AppendUint32(b, uint32(i%90+1))
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b, err := readRecord(write(opinionContext, 2, 2*opinionContext))
	if err != nil {
		t.Fatal(err)
	}
	places := b.predicted()
	if len(places) != 2*255 || places[0] != 256 || places[254] != 510 || places[255] != 512+256 {
		t.Errorf("%d places from %d on are predicted", len(places), places[0])
	}
	if fed := b.fed(uint32(1)); fed[0] != 1 || fed[512] != 1 || b.tokens[512] == 1 || fed[513] != b.tokens[513] {
		t.Errorf("chunks begin with %d and %d, want the token that begins texts", fed[0], fed[512])
	}
	for _, bos := range []any{nil, uint32(2), "1"} {
		if fed := b.fed(bos); fed[512] != b.tokens[512] {
			t.Errorf("with %v as the first token of texts, of which this one does not begin with it, a chunk does", bos)
		}
	}
	for name, path := range map[string]string{
		"another context":  write(256, 2, 512),
		"no chunks":        write(opinionContext, 0, 0),
		"billions of them": write(opinionContext, math.MaxUint32, 5),
		"cut short":        write(opinionContext, 2, 1000),
		"another file":     "testdata/llama-perplexity-kl.txt",
		"none":             "/nowhere",
	} {
		if _, err := readRecord(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// withText is a model with a text of n words.
func withText(t *testing.T, typ gguf.Type, n int) Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(strings.Repeat("word ", n)), 0o644); err != nil {
		t.Fatal(err)
	}
	return Model{Name: "m", Path: writeModelOf(t, typ, true), Text: path}
}

func TestOpinions(t *testing.T) {
	for _, c := range []struct {
		tuned string
		typ   gguf.Type
		fail  []string // names of the gates that fail
	}{
		{"", gguf.Q8_0, nil},
		{"", gguf.F32, nil},
		{"other noise", gguf.Q8_0, nil},
		{"liar", gguf.Q8_0, nil}, // of nothing
		{"noisy", gguf.Q8_0, []string{"m zt-probe, 2 chunks of 512 tokens mean KL divergence", "m llama-perplexity, 2 chunks of 512 tokens mean KL divergence",
			"m llama-perplexity, 2 chunks of 512 tokens RMS difference of p", "m llama-results --check, 240 tokens NMSE of logits"}},
		{"wrong scale", gguf.Q8_0, []string{"m zt-probe, 2 chunks of 512 tokens scale error of logits"}},
		{"other noise", gguf.F32, []string{"m zt-probe, 2 chunks of 512 tokens differing logits", "m llama-perplexity, 2 chunks of 512 tokens mean KL divergence",
			"m llama-results --check, 240 tokens NMSE of logits"}},
	} {
		t.Run(fmt.Sprint(c.tuned, c.typ), func(t *testing.T) {
			t.Parallel()
			r, _, err := verify(t, "", c.tuned, withText(t, c.typ, 500), Options{AccuracyOnly: true, Threads: 2})
			if (err == nil) != (c.fail == nil) {
				t.Error(err)
			}
			if len(r.Results) < 20 {
				t.Errorf("%d results alone", len(r.Results))
			}
			for _, name := range c.fail {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%s does not fail: %v", name, err)
				}
			}
			for _, x := range r.Failed() {
				if strings.Contains(x.Quantity, "disagreement") {
					t.Errorf("the instruments disagree: %s is %v, not at most %v", x.Name(), x.Value, x.Bound.Limit)
				}
			}
		})
	}
}

// TestInstrumentsDisagree checks that a number of upstream's that is not what zt-probe finds fails, however good it is.
func TestInstrumentsDisagree(t *testing.T) {
	r, _, err := verify(t, "liar", "other noise", withText(t, gguf.Q8_0, 500), Options{AccuracyOnly: true, Threads: 2})
	if err == nil {
		t.Fatal("no gate fails")
	}
	failed := r.Failed()
	if len(failed) != 1 || failed[0].Name() != "m stock -fa off/on, llama-perplexity and zt-probe, 2 chunks of 512 tokens disagreement on mean KL divergence" {
		t.Errorf("%v", err)
	}
	if failed[0].Verdict != report.Fail || failed[0].Note == "" {
		t.Errorf("the disagreement is %+v; want both values in its note", failed[0])
	}
}

// TestLostLines checks that an instrument whose last lines got lost is asked again, and gives the same report.
func TestLostLines(t *testing.T) {
	m := withText(t, gguf.Q8_0, 500)
	o := Options{AccuracyOnly: true, Threads: 2}
	want, _, err := verify(t, "", "", m, o)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := verify(t, "forgetful", "", m, o)
	if err != nil || !reflect.DeepEqual(got.Results, want.Results) {
		t.Errorf("%v, with other results than from instruments that lose nothing: %v", err, !reflect.DeepEqual(got.Results, want.Results))
	}
}

func TestOpinionErrors(t *testing.T) {
	for _, c := range []struct {
		fault string
		words int
		want  string
	}{
		{"silent", 500, "stock llama-perplexity"},
		{"mute", 500, "tuned llama-results --check printed no NMSE"},
		{"crash in llama-perplexity", 500, "stock llama-perplexity"},
		{"", 3, "no beginning of"},
	} {
		stock, tuned := c.fault, c.fault
		if c.fault == "mute" {
			stock = ""
		}
		_, _, err := verify(t, stock, tuned, withText(t, gguf.Q8_0, c.words), Options{AccuracyOnly: true, Threads: 2})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", c.fault, err, c.want)
		}
	}
	m := withText(t, gguf.Q8_0, 500)
	m.Text = "/nowhere/text"
	if _, _, err := verify(t, "", "", m, Options{AccuracyOnly: true, Threads: 2}); err == nil || !strings.Contains(err.Error(), "text of model m") {
		t.Errorf("%v, want the missing text", err)
	}
}
