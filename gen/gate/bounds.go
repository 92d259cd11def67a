package gate

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Every bound of `mage verify`, and why it is where it is.
//
// The scale of accuracy is what stock differs from itself when nothing but the order of its sums changes. Verify measures it on
// every model with flash attention on and off, and most bounds are multiples of that. On the synthetic models of gen/model (256
// tokens, the pinned tree, clang 19 on an AVX-512 host) it was:
//
//	                                   mean KL  99.9 % KL  top-1   max abs  NMSE    scale    gap where top-1 differs
//	1b   Q8_0, flash attention off/on  2.5e-3   4.8e-3     91.8 %  0.44     6.5e-4  -3.4e-4  0.14
//	1b   Q8_0, ubatch 7/512            2.8e-3   6.2e-3     92.6 %  0.47     7.3e-4  -1.3e-3  0.20
//	tiny Q8_0, flash attention off/on  3.5e-3   1.3e-2     91.4 %  0.70     7.8e-4  -4.5e-4  0.21
//	the same, a second text            3.2e-3   7.9e-3     93.4 %  0.55     7.3e-4  -3.9e-4  0.12
//	the same, a third                  3.4e-3   8.6e-3     93.8 %  0.68     7.7e-4  -3.2e-4  0.23
//	tiny Q4_0, flash attention off/on  3.5e-3   8.9e-3     92.2 %  0.70     7.8e-4  -4.0e-4  0.26
//	tiny Q4_0, repack off/on           1.3e-3   3.0e-3     93.8 %  0.36     2.9e-4  -1.6e-4  0.14
//	tiny Q4_K, flash attention off/on  3.4e-3   9.1e-3     93.8 %  0.56     7.7e-4  -4.1e-4  0.33
//	tiny F16,  flash attention off/on  2.9e-5   1.2e-4     99.6 %  0.07     6.7e-6   9.1e-7  0.01
//
// On the trained model of gen/reference, of which every type is measured, and on a random one with 4 of 16 experts:
//
//	Q4_0, flash attention off/on       9e-5     7e-4       99.2 %  0.15     2.6e-5  -8e-5    0.02     other types of 4 bits and more in blocks of 32 alike
//	Q4_0, repack off/on                6e-5     4e-4       99.2 %  0.14     1.6e-5  -1e-4    0.02     IQ4_NL and MXFP4 a fifth of that, Q4_K and Q2_K 1.6e-4
//	Q4_K, flash attention off/on       2.6e-4   1.6e-3     98.4 %  0.22     6.8e-5   9e-4    0.04     other types in blocks of 256 alike
//	Q4_K, ubatch 7/512                 3.2e-4   1.5e-3     98.4 %  0.32     8.5e-5   6e-4    0.04
//	TQ2_0, flash attention off/on      7.2e-4   3.1e-3     97.3 %  0.37     1.6e-4  -6e-6    0.09     IQ1_M 4.6e-4
//	experts Q8_0, flash attention      1.5e-3   3.4e-2     96.1 %  1.3      3.6e-4  -2e-4    0.12
//	experts Q8_0, ubatch 7/512         4.7e-3   0.28       94.1 %  3.7      1.1e-3  -6e-4    1.1
//	experts Q4_K, flash attention      5.5e-3   0.23       90.6 %  3.1      1.3e-3  -6e-4    0.83
//
// Types that stock multiplies by one kernel with and without repack are not changed by that. With experts the tail is that of tokens
// that a last bit sends to another expert, so two of stock's orders are measured and the worse one counts.
//
// The noise of the quantized models is that of activations rounded to 8 bits: a last-bit difference moves some across a
// rounding edge, and the next layers see that. It saturates: another order of sums does not add to it. No bound on a whole model
// finds an error much below this noise (one wrong block in a matrix): the kernels' own tests compare bits.
//
// noiseFloor stands in for that scale where stock equals itself: in a model without attention, or one whose attention has a single
// implementation, flash attention changes nothing. It is the size of an error relative to the logits. Moving one activation by one
// step of its 8 bits changes a product of 256 by about 0.02 / sqrt(256) of its size, 1.2e-3, and on most tokens of such a model no
// activation lies so close to a rounding edge that it moves. Of upstream's architectures these are Grok, Mamba and Mamba 2, on which
// the tuned build differs by an NMSE of 8e-15 (no activation moved) to 4e-8; a scale twice too large in one block of each matrix
// makes 8e-4.
const noiseFloor = 1e-3

// floored is what to scale bounds with where stock differs from itself by own: no value is below that of independent Gaussian errors
// of noiseFloor times the logits' root mean square. The divergence of a row is half the variance of its errors under the
// softmax, at most half their variance; 10.8 is the 99.9th percentile of a squared Gaussian, and 5.5 standard deviations are
// the largest of 33 million.
func (own Divergence) floored() Divergence {
	size := noiseFloor * own.RMS
	own.MeanKL = max(own.MeanKL, size*size/2)
	own.P999KL = max(own.P999KL, 10.8*size*size/2)
	own.MaxAbs = max(own.MaxAbs, 5.5*size)
	own.NMSE = max(own.NMSE, noiseFloor*noiseFloor)
	own.DeltaP = max(own.DeltaP, size/4) // p changes with its logit by p (1-p)
	return own
}

// worse is the larger difference by each measure, for scaling bounds.
func (own Divergence) worse(other Divergence) Divergence {
	own.MeanKL, own.P999KL = max(own.MeanKL, other.MeanKL), max(own.P999KL, other.P999KL)
	own.Top1, own.FlipGap = min(own.Top1, other.Top1), max(own.FlipGap, other.FlipGap)
	own.MaxAbs, own.NMSE, own.DeltaP = max(own.MaxAbs, other.MaxAbs), max(own.NMSE, other.NMSE), max(own.DeltaP, other.DeltaP)
	return own
}

// criterion is the bound on one measure of how far a tuned model's logits are from stock's.
type criterion struct {
	Gate
	value func(Divergence) float64
	limit func(limit float64, own, d Divergence) float64 // Limit as it counts on a model of which stock differs from itself by own
}

// judge holds d to c, of whose limit own is the scale; d is for information where own is nil.
func (c criterion) judge(model, what string, d Divergence, own *Divergence) report.Result {
	g := c.Gate.only()
	if own != nil {
		g = c.Gate
		g.Limit = c.limit(g.Limit, *own, d)
	}
	m := Measurement{Value: c.value(d)}
	if c.Quantity == perplexity {
		m.Note = fmt.Sprintf("perplexity %.6g, stock's %.6g", math.Exp(d.GotNLL), math.Exp(d.RefNLL))
	}
	return g.Judge(model, what, m)
}

// timesOwn counts limits in what stock differs from itself.
func timesOwn(value func(Divergence) float64) func(float64, Divergence, Divergence) float64 {
	return func(limit float64, own, _ Divergence) float64 { return limit * value(own.floored()) }
}

// absolute leaves limits as they stand.
func absolute(limit float64, _, _ Divergence) float64 { return limit }

// agreement counts limits in standard errors below the rate at which stock agrees with itself, which is taken a little lower than
// observed (Laplace's rule of succession), so that full agreement leaves room for a near tie.
func agreement(limit float64, own, d Divergence) float64 {
	n := float64(own.Tokens)
	p := (n*own.Top1 + 1) / (n + 2)
	return p - limit*math.Sqrt(p*(1-p)/float64(d.Tokens))
}

// perplexityRatio counts limits in standard errors of the mean difference of log p. Where logits differ by noise of divergence KL,
// the log p of a token drawn from the model falls by KL on average and scatters by sqrt(2 KL).
func perplexityRatio(limit float64, own, d Divergence) float64 {
	kl := own.floored().MeanKL
	return math.Exp(kl + limit*math.Sqrt(2*kl/float64(d.Tokens)))
}

func meanKL(d Divergence) float64  { return d.MeanKL }
func p999KL(d Divergence) float64  { return d.P999KL }
func top1(d Divergence) float64    { return d.Top1 }
func flipGap(d Divergence) float64 { return d.FlipGap }
func maxAbs(d Divergence) float64  { return d.MaxAbs }
func nmse(d Divergence) float64    { return d.NMSE }

func scaleError(d Divergence) float64 { return math.Abs(d.Scale) }
func pplRatio(d Divergence) float64   { return math.Exp(d.GotNLL - d.RefNLL) }
func differing(d Divergence) float64  { return float64(d.Differing) }
func deltaP(d Divergence) float64     { return d.DeltaP }

const perplexity = "perplexity ratio" // a quantity

// byType holds the criteria of every quantized weight type that the tuned build has code of its own for. A model without any weight of
// these types gives stock's bits: sameBits.
var byType = map[gguf.Type][]criterion{
	gguf.Q4_0: roundedActivations, gguf.Q4_1: roundedActivations, gguf.Q5_0: roundedActivations, gguf.Q5_1: roundedActivations,
	gguf.Q8_0: roundedActivations, gguf.IQ4_NL: roundedActivations, gguf.MXFP4: roundedActivations, gguf.NVFP4: roundedActivations,
	gguf.Q2_K: roundedActivations, gguf.Q3_K: roundedActivations, gguf.Q4_K: roundedActivations, gguf.Q5_K: roundedActivations,
	gguf.Q6_K: roundedActivations, gguf.IQ4_XS: roundedActivations, gguf.IQ1_S: roundedActivations, gguf.IQ1_M: roundedActivations,
	gguf.IQ2_XXS: roundedActivations, gguf.IQ2_XS: roundedActivations, gguf.IQ2_S: roundedActivations, gguf.IQ3_XXS: roundedActivations,
	gguf.IQ3_S: roundedActivations, gguf.TQ1_0: roundedActivations, gguf.TQ2_0: roundedActivations,
}

// roundedActivations is for weights that meet activations of 8 bits in stock and in our kernels, with the same rounding and
// another order of sums.
var roundedActivations = []criterion{
	{Gate{report.MeanKL, "nats", report.AtMost, 2,
		"times stock's own; pairs of stock's orders of sums lie within 1.2 of each other, the mean over 7 tokens varies more"},
		meanKL, timesOwn(meanKL)},
	{Gate{"99.9 % KL divergence", "nats", report.AtMost, 3,
		"times stock's own; the tail of 256 tokens varies by 1.6 from one text to the next"},
		p999KL, timesOwn(p999KL)},
	{Gate{"top-1 agreement", "", report.AtLeast, 4,
		"standard errors below stock's agreement with itself, which is 91 to 94 % on random models, whose best tokens lie close together"},
		top1, agreement},
	{Gate{"gap where top-1 differs", "logits", report.AtMost, 1,
		"times stock's own largest logit difference; where stock's choice changes with its order of sums the lead lost was up to 0.6 of that"},
		flipGap, timesOwn(maxAbs)},
	{Gate{perplexity, "", report.AtMost, 4,
		"standard errors above what noise of stock's own size costs; a build that predicts worse shows though each token's change is small"},
		pplRatio, perplexityRatio},
	{Gate{"largest logit difference", "", report.AtMost, 3,
		"times stock's own; the largest of 33 million varies by 1.3 from one text to the next"},
		maxAbs, timesOwn(maxAbs)},
	{Gate{"NMSE of logits", "", report.AtMost, 2,
		"times stock's own; pairs of stock's orders of sums lie within 1.2 of each other, fewer tokens vary more"},
		nmse, timesOwn(nmse)},
	{Gate{"scale error of logits", "", report.AtMost, 4e-3,
		"stock differs from itself by up to 1.3e-3, and over 7 tokens the error scatters around 0 by 1e-3; a matrix whose scale is off by half a percent shows"},
		scaleError, absolute},
}

// sameBits is for weights that no code of ours meets, or none that rounds or adds otherwise than stock's: float weights.
var sameBits = []criterion{
	{Gate{"differing logits", "", report.AtMost, 0,
		"no weight of the model is of a quantized type that we have kernels for: both builds run the same code on it, or ours does its steps in stock's order"},
		differing, absolute},
}

// sameOrder is for weights that stock multiplies in the order of sums that ours have.
var sameOrder = []criterion{
	{Gate{"differing logits", "", report.AtMost, 0,
		"stock's kernels for these weights add in the same order, and both builds share all other code"},
		differing, absolute},
}

// floatOrder is for coded float weights, which are multiplied in the order that stock has for the type and the number of rows (avo/code).
var floatOrder = []criterion{
	{Gate{"differing logits", "", report.AtMost, 0,
		"codes give back every bit of a weight, and products are added in stock's order, for one row of activations as for many"},
		differing, absolute},
}

// Bounds on models of float weights.
var (
	otherSteps = Gate{"tokens made from other logits", "", report.AtMost, 0, floatOrder[0].Why}
	uncoded    = Gate{"matrices that are not coded", "", report.AtMost, 0,
		"one that stays on stock's path gives stock's bits, and the other gates nothing to judge"}
	codedAnyway = Gate{"coded matrices", "", report.AtMost, 0,
		"switched off, no tensor is coded"}

	codedBits = Gate{Quantity: report.Bits}
	codedGain = Gate{Quantity: report.Gain, Unit: "x"}
)

// Bounds on models that llama-zen-pack has stored.
var (
	storedSize = Gate{Quantity: "size over the GGUF's"}
	roundTrip  = Gate{"GGUFs that come back otherwise", "", report.AtMost, 0,
		"every byte of the GGUF is kept: metadata, paddings and what follows the last tensor as they are, weights without loss"}
	unnoticedFlips = Gate{"changes of a byte that go unnoticed", "", report.AtMost, 0,
		"a CRC finds every single changed byte, padding must be zero, and every byte is under one of the two"}
	flipsMade = Gate{"changes of a byte", "", report.AtLeast, 256 + randomFlips,
		"all of the preface and the random ones at the least; a check that tries none proves nothing"}
	acceptedFiles = Gate{"files accepted that must be refused", "", report.AtMost, 0,
		"checksums are verified before anything is used, and who does not know the form sees no GGUF"}
	unclearRefusals = Gate{"refusals that do not say why", "", report.AtMost, 0,
		"a user must learn from the message what the file is and how to go on"}
	leftFiles = Gate{"files left by what was refused", "", report.AtMost, 0,
		"results are renamed when they are whole, and removed when they are not"}
)

// order says of a type whether stock's kernels for prompts and for single tokens add in the order of ours. It names the upstream
// functions in avo/weight.
type order struct{ prompt, token bool }

// promptRows are the tokens from which on stock runs its kernels for prompts on weights of every type.
const promptRows = 8

// orders holds the types of which one does, as long as rows come in eights.
var orders = map[gguf.Type]order{
	gguf.Q4_0: {true, true}, gguf.IQ4_NL: {true, true}, gguf.MXFP4: {true, true},
	gguf.Q4_K: {false, true}, gguf.Q2_K: {false, true}, // its kernels for prompts do two floating-point steps or four where those for tokens do one
	gguf.IQ4_XS: {true, false}, gguf.IQ1_S: {true, false}, gguf.IQ1_M: {true, false}, gguf.IQ2_XXS: {true, false}, gguf.IQ2_XS: {true, false},
	gguf.IQ2_S: {true, false}, gguf.IQ3_XXS: {true, false}, gguf.IQ3_S: {true, false},
}

// stockOrder says where stock must give the logits of the model at path bit for bit: where it has our order for every matrix. Those with
// experts it multiplies by other kernels.
func stockOrder(path string) (order, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return order{}, err
	}
	defer f.Close()
	same, tied := order{true, true}, !slices.ContainsFunc(f.Tensors, func(t gguf.Tensor) bool { return t.Name == "output.weight" })
	found := false
	for _, t := range f.Tensors {
		if len(t.Shape) < 2 || t.Name == "token_embd.weight" && !tied {
			continue
		}
		o := orders[t.Type]
		if len(t.Shape) > 2 || t.Rows()%8 != 0 {
			o = order{}
		}
		same.prompt, same.token, found = same.prompt && o.prompt, same.token && o.token, true
	}
	return order{same.prompt && found, same.token && found}, nil
}

// criteriaFor returns the criteria of the model at path: those of the type in byType that most bytes of its matrices are of.
func criteriaFor(path string) ([]criterion, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bytes := map[gguf.Type]int64{}
	main, found := gguf.Type(0), false
	for _, t := range f.Tensors {
		if byType[t.Type] == nil || len(t.Shape) < 2 {
			continue
		}
		bytes[t.Type] += t.Size
		if !found || bytes[t.Type] > bytes[main] {
			main, found = t.Type, true
		}
	}
	if !found {
		return sameBits, nil
	}
	return byType[main], nil
}

// recordStep is the rounding of llama-perplexity's records: log p is kept in 16 bits over at most 16 nats.
const recordStep = 16.0 / 65535

// recorded is own with what rounding to recordStep adds: half a step at most to the divergence of a token, and on average, as
// the error of a mean of independent uniform errors, its four standard errors.
func (own Divergence) recorded() Divergence {
	own.MeanKL = max(own.MeanKL, 4*recordStep/math.Sqrt(12*float64(own.Tokens)))
	own.P999KL = max(own.P999KL, recordStep/2)
	return own
}

// opinionCriteria is what llama-perplexity measures of the criteria, and the difference of p. Of a model that must give stock's bits
// they count in what stock differs from its own record.
var opinionCriteria = append(slices.DeleteFunc(slices.Clone(roundedActivations), func(c criterion) bool {
	return !slices.Contains([]string{report.MeanKL, "99.9 % KL divergence", "top-1 agreement", perplexity}, c.Quantity)
}), criterion{Gate{"RMS difference of p", "", report.AtMost, 2,
	"times stock's own, as for the divergence: both follow the differences of logits"},
	deltaP, timesOwn(deltaP)})

// agreement of an instrument of upstream's with ours on the same tokens; Limit is the share of our value by which theirs may
// be another one besides what rounding explains.
type agreementBound struct {
	Gate
	value func(Divergence) float64
	limit func(limit float64, ours Divergence) float64
}

var agreements = []agreementBound{
	{Gate{"disagreement on mean KL divergence", "nats", report.AtMost, 0.01,
		"of ours, and the rounding of the record and of the print; upstream leaves out tokens less likely than e^-16"},
		meanKL, func(limit float64, ours Divergence) float64 {
			return limit*ours.MeanKL + 4*recordStep/math.Sqrt(12*float64(ours.Tokens)) + 1e-6
		}},
	{Gate{"disagreement on 99.9 % KL divergence", "nats", report.AtMost, 0.02,
		"of ours, and the rounding of the record of single tokens; the percentile lies between two of them"},
		p999KL, func(limit float64, ours Divergence) float64 { return limit*ours.P999KL + recordStep/2 + 1e-6 }},
	{Gate{"disagreement on top-1 agreement", "", report.AtMost, 2,
		"tokens of all, whose best two probabilities the record may round to one"},
		top1, func(limit float64, ours Divergence) float64 { return limit / float64(ours.Tokens) }},
	{Gate{"disagreement on log perplexity", "nats", report.AtMost, 1e-5,
		"upstream sums exponentials in float32"},
		func(d Divergence) float64 { return d.GotNLL }, func(limit float64, _ Divergence) float64 { return limit }},
	{Gate{"disagreement on RMS difference of p", "", report.AtMost, 0.02,
		"of ours, and the rounding of the record and of the print"},
		deltaP, func(limit float64, ours Divergence) float64 {
			return limit*ours.DeltaP + recordStep/math.Sqrt(12) + 1e-5
		}},
}

// What llama-results measures.
var (
	resultsCriterion = roundedActivations[slices.IndexFunc(roundedActivations, func(c criterion) bool { return c.Quantity == "NMSE of logits" })]
	resultsAgreement = agreementBound{Gate{"disagreement on NMSE of logits", "", report.AtMost, 1e-3,
		"of ours: upstream prints four digits and squares in float32"},
		nmse, func(limit float64, ours Divergence) float64 { return limit * ours.NMSE }}
)

// Bounds on the models of all architectures together; the criteria above hold for each of them.
var (
	archsCompared = Gate{"models compared", "", report.AtLeast, 120,
		"upstream's test-llama-archs writes 127, and stock can run 126 of them as Q8_0; a run that compared few would prove little"}
	archsCrashed = Gate{"models that stock alone runs", "", report.AtMost, 0,
		"what stock runs the tuned build must run, with logits that are numbers"}

	archsUnwritten   = Gate{Quantity: "models it cannot write"}
	archsNotCompared = Gate{Quantity: "models not compared"}
	archsDetail      = Gate{Quantity: "NMSE of logits"}
)

// Bounds on greedy decoding and on identities.
var (
	greedyMargin = Gate{"stock's margin at the first difference", "logits", report.AtMost, 1,
		"times stock's own largest logit difference: a choice that leads by less may go either way, as where top-1 differs"}

	identical = Gate{"differing outputs", "", report.AtMost, 0,
		"the kernels sum in one written-down order whatever the thread count, batch size and place in the batch; gated where stock's other operators keep the identity too"}
	unswitched = Gate{"differing outputs", "", report.AtMost, 0,
		"switches of threads and memory say who computes what when and where it lies, never what"}
	repeatable = Gate{"differing outputs", "", report.AtMost, 0,
		"the same program on the same input gives the same bits"}
)

// claims are the operators that the zen5 buffer type takes, on weights of every type in byType: matrices, not batches of them, of 16 rows
// or more, and experts of such.
var claims = func() (list []claim) {
	for _, t := range slices.Sorted(maps.Keys(byType)) {
		for op := range strings.SplitSeq(weightOps, ",") {
			list = append(list, claim{op, t.String()})
		}
	}
	return list
}()

// upstreamCases is how many of upstream's own cases there are of each claim, as far as upstreamFilter lets them pass: of MUL_MAT and of
// MUL_MAT_ID. The matrices of GET_ROWS have 5 rows or come in batches.
var upstreamCases = map[gguf.Type][2]int{
	gguf.Q4_0: {19, 37}, gguf.Q4_1: {19, 39}, gguf.Q5_0: {13, 3}, gguf.Q5_1: {13, 3}, gguf.Q8_0: {21, 39},
	gguf.IQ4_NL: {13, 3}, gguf.MXFP4: {18, 37}, gguf.NVFP4: {17, 37},
	gguf.Q2_K: {12, 3}, gguf.Q3_K: {12, 3}, gguf.Q4_K: {22, 47}, gguf.Q5_K: {14, 3}, gguf.Q6_K: {12, 3}, gguf.IQ4_XS: {13, 4},
	gguf.IQ1_S: {13, 4}, gguf.IQ1_M: {13, 4}, gguf.IQ2_XXS: {18, 38}, gguf.IQ2_XS: {13, 14}, gguf.IQ2_S: {13, 4},
	gguf.IQ3_XXS: {13, 4}, gguf.IQ3_S: {13, 4}, gguf.TQ1_0: {12, 3}, gguf.TQ2_0: {12, 3},
}

// upstreamFilter leaves out upstream's large cases, which are quantized for minutes (one of 128 experts has 10^9 weights) and show
// nothing that the others do not: those of more than four experts, and seven numbers of columns in large matrices.
const upstreamFilter = `^(?!.*(n_mats=([5-9]|[0-9]{2})|m=(4096|1023),n=[2-8],))`

// Bounds on the tests of single operators.
var (
	failedChecks = Gate{"failed checks", "", report.AtMost, 0,
		"bits are compared: with a plain loop in the order of sums that avo/weight writes down, and with stock's dequantization"}
	checksMade = Gate{"checks", "", report.AtLeast, 32,
		"16 shapes of experts and 21 of other matrices, each with two thread counts or more; a self test that leaves them out proves nothing"}
	pageChecksMade = Gate{"checks", "", report.AtLeast, 4,
		"each kind of check is made some times with other sizes or pages; what is left out may lose memory, or leave it to others"}
	threadChecksMade = Gate{"checks", "", report.AtLeast, 6,
		"threads of one domain and of several; a plan that nobody examines may drop a meeting that is needed"}
	encoderChecksMade = Gate{"checks", "", report.AtLeast, 48,
		"3 policies with 16 kinds of weights or more each; an encoder that a self test leaves out may lose weights"}
	codedChecksMade = Gate{"checks", "", report.AtLeast, 15,
		"5 shapes of experts with 3 numbers of threads, and more of all else; what is left out may differ from stock in its last bits"}
	upstreamProducts = Gate{"tests", "", report.AtLeast, 4,
		"what upstream has at least of each with k a multiple of 64; supporting less must not mean being tested less"}
	failedTests = Gate{"failed tests", "", report.AtMost, 0,
		"upstream's own bounds on the error, which it has for each operator"}
	upstreamTests = Gate{"tests", "", report.AtLeast, 1,
		"times the cases upstream has; supporting less must not mean being tested less"}
	graphTests = Gate{"tests", "", report.AtLeast, 2,
		"a prompt's graph and a token's have one each"}
	graphMisses = Gate{"unsupported tests", "", report.AtMost, 0,
		"what we claim does not run on stock's path in a model's graph"}
)

// Bounds on the sweep of shapes.
var (
	sweepSlower = Gate{"shapes slower than stock", "", report.AtMost, 0,
		"nobody is to be worse off than with stock, whatever the shape"}
	sweepUndecided = Gate{"shapes that noise left undecided", "", report.AtMost, 4,
		"a shape as fast as stock looks slower nine times in a row once in 500; more of them mean that others used the CPUs, and the sweep proves nothing until they do not"}
	sweepNMSE = Gate{"NMSE of results", "", report.AtMost, 1e-10,
		"of the worst shape: activations are rounded as stock does it and only the order of sums differs, which makes 2e-12 in rows of 16384; one block with the scale of its neighbour makes 1e-7 in the largest matrix"}
	sweepPacked = Gate{"shapes measured", "", report.AtLeast, 150,
		"of 200 drawn from the types that can be packed; a sweep that leaves many to stock's path proves little"}
	sweepStockBits = Gate{"shapes with other results than in the stock build", "", report.AtMost, 0,
		"what ours are compared with is stock's own code, untouched"}
	sweepStockSpeed = Gate{"speed over the stock build", "times", report.AtLeast, 0.95,
		"the same code on the same cached data: what ours are compared with must not be slower than stock is; a median over shapes moves by 1 to 2 % from process to process"}
	sweepRatio = Gate{Quantity: "speed of shapes over stock", Unit: "times"}
)

// Bounds on what people do besides running a model as it is. Logits are held to the criteria above.
var (
	compatAdapter = Gate{"divergence that the adapter makes", "nats", report.AtLeast, 0.1,
		"an adapter made to change every token moves it by 4; one that both builds ignore would make them agree"}
	compatCache = Gate{"logits that the cache changes", "", report.AtLeast, 1,
		"a quantized cache rounds keys and values; one that both builds ignore would make them agree"}
	compatBLAS = Gate{"NMSE of products", "", report.AtMost, 1e-10,
		"sums of F32 in another order differ by 1e-13 in squares; one wrong weight in a hundred thousand makes 1e-5"}
	compatOff = Gate{"differing logits", "", report.AtMost, 0,
		"switched off, our build is stock's"}
	compatQuantize = Gate{"differing files", "", report.AtMost, 0,
		"nothing of ours is in the quantizers"}
	compatEmbeddings = Gate{"NMSE of embeddings", "", report.AtMost, 3,
		"times stock's own with flash attention off and on, of what tells the texts apart"}
	compatRanks = Gate{"NMSE of scores", "", report.AtMost, 3,
		"times stock's own, as for embeddings"}
	compatAnswers = Gate{"answers that change in company", "", report.AtMost, 0,
		"a token's bits do not depend on the batch, nor on its place in it"}
	compatSlots = Gate{"slots used at once", "", report.AtLeast, slotClients,
		"clients that were served one after the other would prove nothing"}
)

// The speed and memory bounds are what a throwaway integration of the kernels reached on two cores of a Zen 4 with the 1B
// shape and Q8_0. Those on time hold on hosts of boundVendor; elsewhere notSlower takes the place of those on speed, and the rest are
// ungated. The one on memory holds everywhere, since no CPU makes a build hold its weights twice.
var (
	// speedGoals are by the workloads of gen/throughput.
	speedGoals = map[string]Gate{
		"pp128": ppSpeed,
		"pp512": ppSpeed,
		"pp2048": {report.SpeedOverStock, "x", report.AtLeast, 2.0,
			"as for shorter prompts, but attention takes a third of the time and keeps stock's speed; 2.4 was reached"},
		"tg128":               tgSpeed,
		"tg128 at depth 4096": tgSpeed,
		"tg, 2 sequences":     {report.SpeedOverStock, "x", report.AtLeast, 2.1, "up to six rows cost one sweep of the weights; stock takes one per row"},
		"tg, 4 sequences":     {report.SpeedOverStock, "x", report.AtLeast, 2.2, "up to six rows cost one sweep of the weights; stock's GEMM shares some"},
		"tg, 8 sequences":     {report.SpeedOverStock, "x", report.AtLeast, 2.5, "eight rows take two tiles of one sweep"},
		"chat": {report.SpeedOverStock, "x", report.AtLeast, 1.2,
			"a third of stock's time goes into prompts, which take a third of that, and decode must not be slower: 1 / (1/3 * 1/3 + 2/3) is 1.29, and short prompts gain less"},
	}
	ppSpeed = Gate{report.SpeedOverStock, "x", report.AtLeast, 3.0,
		"the kernels reach 3.4 to 3.8 times stock's Q8_0 GEMM; attention and the rest keep stock's speed"}
	tgSpeed = Gate{report.SpeedOverStock, "x", report.AtLeast, 1.0,
		"decode must not be slower than stock; how much faster it can be depends on the share of the memory's speed that stock leaves"}
	// notSlower takes the place of a goal on a CPU that it was not agreed for.
	notSlower = Gate{report.SpeedOverStock, "x", report.AtLeast, 1.0,
		"whatever the CPU, nobody is to be worse off than with stock"}
	tgOfRead = Gate{report.ReadShare, "%", report.AtLeast, 97,
		"decode reads every weight once; what is above a plain read of as many bytes is overhead"}
	loadTime = Gate{"load time over stock", "x", report.AtMost, 1.2,
		"packing is a few percent of a load; clearing pages dominates and all threads share it"}
	secondLoad = Gate{loadTime.Quantity, "x", report.AtMost, 0.3,
		"weights that another process has packed are mapped, not read"}
	resident = Gate{"resident memory over stock", "x", report.AtMost, 1.03,
		"packed weights replace the plain ones; tied embeddings are held once"}

	// Reported beside the gates.
	readLimit       = Gate{Quantity: report.Limit, Unit: "GB/s"}
	opsLimit        = Gate{Quantity: report.Limit, Unit: "GOP/s"}
	tokensPerSecond = Gate{Quantity: report.Speed, Unit: "t/s"}
	noise           = Gate{Quantity: report.Noise}
	opsPerSecond    = Gate{Quantity: report.WeightArithmetic, Unit: "GOP/s"}
	intensity       = Gate{Quantity: report.Intensity, Unit: "op/B"}
	ofVNNIPeak      = Gate{Quantity: "share of VNNI peak", Unit: "%"}
	ofReadBandwidth = Gate{Quantity: "share of read bandwidth", Unit: "%"}
	ofBoth          = Gate{Quantity: "share of both limits", Unit: "%"}
	readRate        = Gate{Quantity: "read loop", Unit: "GB/s"}
	loadMillis      = Gate{Quantity: report.LoadTime, Unit: "ms"}
	residentMiB     = Gate{Quantity: "resident memory", Unit: "MiB"}
)

// The goals of Types, agreed before the kernels were written for two cores of a Zen 4 and the 1B shape. Those on prompts follow what
// stock does with a type in the pinned tree.
var (
	typeGoals = map[string]Gate{
		"Q8_0":   typeGoal(3.2, "stock multiplies tiles of 4 columns with 256-bit VNNI and does not block for caches"),
		"Q4_0":   repackedVNNI,
		"IQ4_NL": repackedVNNI,
		"MXFP4":  repackedVNNI,
		"Q4_1":   typeGoal(3.0, "stock computes one dot product at a time"),
		"Q5_0":   typeGoal(3.0, "as for Q8_0, and stock unpacks the fifth bits again for every tile"),
		"Q5_1":   typeGoal(3.0, "stock computes one dot product at a time"),
		"NVFP4":  typeGoal(3.0, "stock computes one dot product at a time"),
		"Q2_K":   repackedK,
		"Q4_K":   repackedK,
		"Q3_K":   typeGoal(4.0, "stock computes one dot product at a time and unpacks the third bits in each"),
		"Q5_K":   typeGoal(4.5, "stock computes one dot product at a time and unpacks the fifth bits in each"),
		"Q6_K":   typeGoal(4.5, "stock computes one dot product at a time and unpacks two planes of bits in each"),
		"IQ4_XS": typeGoal(2.0, "stock decodes panels once for 8 columns and more and multiplies with 256-bit VNNI"),
	}
	repackedVNNI = typeGoal(2.2, "stock repacks the type and multiplies with 512-bit VNNI")
	repackedK    = typeGoal(2.0, "stock repacks the type and multiplies with 512-bit vectors, without VNNI")

	gridSpeed   = typeGoal(1.6, "stock decodes panels once for 8 columns and more; looking weights up takes both the same")
	gridDecode  = typeGoal(1.2, "looking weights up limits stock's decode more than memory does")
	expertSpeed = typeGoal(4.0, "stock multiplies one column at a time for each expert, ours are as many as chose it")

	// floatGoals are by what the weights are stored in and came from. Their bits are exact, and so are gated everywhere.
	floatGoals = map[string]floatGoal{
		"bf16":        floatsOf(12.1, 1.45, 1.1, "high bytes of trained weights come from 15 of 256 values but for one in ten thousand"),
		"f16":         floatsOf(14, 1.15, 1.0, "sign, exponent and two bits of the fraction come from 63 of 256 values but for one in a hundred"),
		"f16-of-bf16": floatsOf(12.5, 1.4, 1.0, "every weight is a BF16, and coded as one"),
		"f32-of-bf16": floatsOf(12.1, 2.5, 1.0, "every weight is a BF16, and coded as one"),
	}

	weightOfRead = Gate{report.ReadShare, "%", report.AtLeast, 93,
		"decode reads every weight once; unpacking them must hide behind that"}
	// batchGains are by the cases of throughput.Setup.Batches after the first.
	batchGains = []Gate{
		{report.BatchGain, "x", report.AtLeast, 3.3, "four rows cost one sweep of the weights and little more; attention and the rest cost four times as much"},
		{report.BatchGain, "x", report.AtLeast, 5.5, "eight rows take two tiles of one sweep"},
	}
)

// floatGoal is what is wanted of a kind of float weights.
type floatGoal struct{ bits, decode, prompt Gate }

func floatsOf(bits, decode, prompt float64, why string) floatGoal {
	return floatGoal{
		bits:   Gate{report.Bits, "", report.AtMost, bits, why},
		decode: typeGoal(decode, "decode takes the time that its bytes take; stock leaves a little of the memory's speed"),
		prompt: typeGoal(prompt, "weights are decoded once for many rows, and multiplied by stock's instructions in larger tiles"),
	}
}

// memory is the gate on the memory that a model holds over what it holds with stock, where a weight has plain bits.
func (g floatGoal) memory(plain float64) Gate {
	return Gate{report.MemoryOverStock, "x", report.AtMost, g.bits.Limit/plain + 0.05,
		"memory falls with the bits of weights; the twentieth is for what is no weight"}
}

func typeGoal(limit float64, why string) Gate {
	return Gate{report.SpeedOverStock, "x", report.AtLeast, limit, why}
}

// promptGoal is the gate for the speed of prompts over stock's.
func (m Weights) promptGoal() Gate {
	goal, agreed := typeGoals[m.Type]
	switch {
	case m.Code != "":
		return floatGoals[m.Type].prompt
	case m.Experts:
		return expertSpeed
	case m.Grid:
		return gridSpeed
	case agreed:
		return goal
	}
	return notSlower
}

// decodeGoal is the gate for the speed of generation over stock's.
func (m Weights) decodeGoal() Gate {
	switch {
	case m.Code != "":
		return floatGoals[m.Type].decode
	case m.Grid && !m.Experts:
		return gridDecode
	}
	return tgSpeed
}

// boundVendor is the CPUID vendor of the hosts that the speed bounds were agreed for.
const boundVendor = "AuthenticAMD"

// ungated says why a bound on time does not count on a CPU of vendor, "" where it does: on AMD. Elsewhere the same quantity is
// measured and reported. On Intel CVTDQ2PS and ADD issue to the ports of VPDPBUSD, where Zen has others for them, so an exact GEMM has a lower
// ceiling; and the share of memory's speed that stock leaves is another on every memory controller.
func (g Gate) ungated(vendor string) string {
	if g.Side == "" || vendor == boundVendor {
		return ""
	}
	return "the bound was agreed for AMD"
}
