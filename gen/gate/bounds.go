package gate

import (
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
// The noise of the quantized models is that of activations rounded to 8 bits: a last-bit difference moves some across a
// rounding edge, and the next layers see that. It saturates: another order of sums does not add to it. No bound on a whole model
// finds an error much below this noise (one wrong block in a matrix): the kernels' own tests compare bits.
//
// Bounds whose limit counts in stock's own value; see Gate.times.
var (
	meanKL = Gate{"mean KL divergence", "nats", report.AtMost, 2,
		"times stock's own; pairs of stock's orders of sums lie within 1.2 of each other, the mean over 7 tokens varies more"}
	p999KL = Gate{"99.9 % KL divergence", "nats", report.AtMost, 3,
		"times stock's own; the tail of 256 tokens varies by 1.6 from one text to the next"}
	maxAbs = Gate{"largest logit difference", "", report.AtMost, 3,
		"times stock's own; the largest of 33 million varies by 1.3 from one text to the next"}
	nmse = Gate{"NMSE of logits", "", report.AtMost, 2,
		"times stock's own; pairs of stock's orders of sums lie within 1.2 of each other, fewer tokens vary more"}
	flipGap = Gate{"gap where top-1 differs", "logits", report.AtMost, 1,
		"times stock's own largest logit difference; where stock's choice changes with its order of sums the lead lost was up to 0.6 of that"}
	greedyMargin = Gate{"stock's margin at the first difference", "logits", report.AtMost, 1,
		"times stock's own largest logit difference: a choice that leads by less may go either way, as for " + flipGap.Quantity}
)

// Bounds that stand for themselves.
var (
	top1 = Gate{"top-1 agreement", "", report.AtLeast, 0.85,
		"stock agrees with itself on 91 to 94 % of the tokens of random models, whose best tokens lie close together; the standard error is 1.7 % over 256 tokens, 2.4 % over 128"}
	scale = Gate{"scale error of logits", "", report.AtMost, 4e-3,
		"stock differs from itself by up to 1.3e-3, and over 7 tokens the error scatters around 0 by 1e-3; a matrix whose scale is off by half a percent shows"}

	identical = Gate{"differing outputs", "", report.AtMost, 0,
		"the kernels sum in one written-down order whatever the thread count, batch size and place in the batch; gated where stock's other operators keep the identity too"}
	repeatable = Gate{"differing outputs", "", report.AtMost, 0,
		"the same program on the same input gives the same bits"}
)

// minAgreement is the number of tokens from which on top1 is gated: of fewer, two or three near ties decide.
const minAgreement = 128

// The speed and memory bounds are what a throwaway integration of the kernels reached on two cores of a Zen 4 with the 1B
// shape and Q8_0. Those on time hold on hosts of boundVendor, and ungated says what becomes of them elsewhere; the one on memory
// holds everywhere, since no CPU makes a build hold its weights twice.
var (
	ppSpeed = Gate{"speed over stock", "x", report.AtLeast, 3.0,
		"the kernels reach 3.4 to 3.8 times stock's Q8_0 GEMM; attention and the rest keep stock's speed"}
	tgSpeed = Gate{"speed over stock", "x", report.AtLeast, 1.0,
		"decode must not be slower than stock; how much faster it can be depends on the share of the memory's speed that stock leaves"}
	tgOfRead = Gate{"share of the read loop", "%", report.AtLeast, 95,
		"decode reads every weight once; what is above a plain read of as many bytes is overhead"}
	batchedSpeed = map[int]Gate{ // by parallel sequences
		2: {"speed over stock", "x", report.AtLeast, 2.1, "up to six rows cost one sweep of the weights; stock takes one per row"},
		4: {"speed over stock", "x", report.AtLeast, 2.2, "up to six rows cost one sweep of the weights; stock's GEMM shares some"},
		8: {"speed over stock", "x", report.AtLeast, 2.5, "eight rows take two tiles of one sweep"},
	}
	loadTime = Gate{"load time over stock", "x", report.AtMost, 1.5,
		"packing is a few percent of a load; clearing pages dominates and all threads share it"}
	resident = Gate{"resident memory over stock", "x", report.AtMost, 1.03,
		"packed weights replace the plain ones; tied embeddings are held once"}

	// Reported beside the gates.
	readLimit       = Gate{Quantity: report.Limit, Unit: "GB/s"}
	opsLimit        = Gate{Quantity: report.Limit, Unit: "GOP/s"}
	tokensPerSecond = Gate{Quantity: "speed", Unit: "t/s"}
	opsPerSecond    = Gate{Quantity: "weight arithmetic", Unit: "GOP/s"}
	ofVNNIPeak      = Gate{Quantity: "share of VNNI peak", Unit: "%"}
	readRate        = Gate{Quantity: "read loop", Unit: "GB/s"}
	loadMillis      = Gate{Quantity: "load time", Unit: "ms"}
	residentMiB     = Gate{Quantity: "resident memory", Unit: "MiB"}
)

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
