package gate

import (
	"fmt"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// Every bound of `mage verify`, and why it is where it is.
//
// The scale of the accuracy bounds is what stock differs from itself when nothing but the order of its own sums changes. On
// the synthetic models of gen/model (256 tokens, the pinned tree, clang 19 on an AVX-512 host):
//
//	                                   mean KL  99.9 % KL  top-1   max abs  NMSE    scale    gap where top-1 differs
//	1b   Q8_0, flash attention off/on  1.5e-3   2.5e-3     93.0 %  0.32     3.9e-4  -2.4e-4  0.13
//	1b   Q8_0, ubatch 7/512            1.6e-3   2.4e-3     92.6 %  0.37     4.0e-4  -3.3e-4  0.13
//	tiny Q8_0, flash attention off/on  1.1e-3   2.6e-3     94.1 %  0.33     3.5e-4  -2.0e-4  0.19 (worst of three texts)
//	tiny Q4_0, flash attention off/on  1.1e-3   2.2e-3     97.3 %  0.31     3.6e-4  -2.2e-4  0.12
//	tiny Q4_0, repack off/on           4.5e-4   8.4e-4     98.0 %  0.21     1.4e-4  -2.7e-5  0.04
//	tiny Q4_K, flash attention off/on  1.1e-3   2.9e-3     93.4 %  0.34     3.5e-4  -2.4e-4  0.10
//	tiny F16,  flash attention off/on  6.7e-6   1.7e-5     99.2 %  0.03     2.1e-6  -5.3e-6  0.005
//
// The noise of the quantized models is that of activations rounded to 8 bits: a last-bit difference moves some across a
// rounding edge, and the next layers see that. It saturates: another order of sums does not add to it. The absolute bounds
// are about three times the largest line, and random weights are the worst case; meanKLOverStock holds models with less noise
// (trained ones, float weights) to their own scale. No bound on a whole model finds an error much below this noise (one wrong
// block in a matrix): the kernels' own tests compare bits.
var (
	meanKL = Gate{"mean KL divergence", "nats", report.AtMost, 5e-3,
		"stock differs from itself by up to 1.6e-3 when its order of sums changes"}
	meanKLOverStock = Gate{"mean KL over stock's own", "", report.AtMost, 3,
		"stock's own is its divergence with flash attention off from on, on the same model; other pairs of stock's orders lie within 1.1 of it, and the mean over 7 tokens varies by half"}
	p999KL = Gate{"99.9 % KL divergence", "nats", report.AtMost, 1e-2,
		"stock differs from itself by up to 2.9e-3"}
	top1 = Gate{"top-1 agreement", "", report.AtLeast, 0.85,
		"stock agrees with itself on 92.6 to 98 % of the tokens; the standard error over 256 tokens is 1.6 %, over 128 it is 2.3 %"}
	maxAbs = Gate{"largest logit difference", "", report.AtMost, 1,
		"stock differs from itself by up to 0.37 in 33 million logits with a standard deviation of 2 to 3"}
	nmse = Gate{"NMSE of logits", "", report.AtMost, 1.2e-3,
		"stock differs from itself by up to 4.0e-4"}
	scale = Gate{"scale error of logits", "", report.AtMost, 1.2e-3,
		"stock differs from itself by up to 3.3e-4, most of which is its noise: random error shrinks the least squares factor by half the NMSE"}
	flipGap = Gate{"gap where top-1 differs", "logits", report.AtMost, greedyMargin.Limit,
		"as for greedy tokens"}

	// Tokens that tie to within the noise may go either way.
	greedyMargin = Gate{"stock's margin at the first difference", "logits", report.AtMost, 0.5,
		"where stock's choice changes with the order of its sums, the first choice led by up to 0.19 logits; a lead of 0.5 is lost only if two logits move toward each other by 0.25 each, two thirds of the largest move seen in 33 million"}

	identical = Gate{"differing outputs", "", report.AtMost, 0,
		"the kernels sum in one written-down order whatever the thread count, batch size and place in the batch; gated where stock's other operators keep the identity too"}
	repeatable = Gate{"differing outputs", "", report.AtMost, 0,
		"the same program on the same input gives the same bits"}
)

// minAgreement is the number of tokens from which on top1 is gated: of fewer, two or three near ties decide.
const minAgreement = 128

// The speed and memory bounds are what a throwaway integration of the kernels reached on two cores of a Zen 4 with the 1B
// shape and Q8_0. They hold on hosts of boundVendor; onHost says what becomes of them elsewhere.
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
	tokensPerSecond = Gate{Quantity: "speed", Unit: "t/s"}
	opsPerSecond    = Gate{Quantity: "weight arithmetic", Unit: "GOP/s"}
	ofVNNIPeak      = Gate{Quantity: "share of VNNI peak", Unit: "%"}
	readRate        = Gate{Quantity: "read loop", Unit: "GB/s"}
	loadMillis      = Gate{Quantity: "load time", Unit: "ms"}
	residentMiB     = Gate{Quantity: "resident memory", Unit: "MiB"}
)

// boundVendor is the CPUID vendor of the hosts that the speed bounds were agreed for.
const boundVendor = "AuthenticAMD"

// onHost is g as it counts on a CPU of vendor: a speed bound does on AMD alone, and elsewhere the same quantity is measured and
// reported. On Intel CVTDQ2PS and ADD issue to the ports of VPDPBUSD, where Zen has others for them, so an exact GEMM has a lower
// ceiling; and the share of memory's speed that stock leaves is another on every memory controller.
func (g Gate) onHost(vendor string) (counts Gate, note string) {
	if g.Side == "" || vendor == boundVendor {
		return g, ""
	}
	return g.only(), fmt.Sprintf("%s %s on AMD, no bound here", g.Side, report.Number(g.Limit))
}
