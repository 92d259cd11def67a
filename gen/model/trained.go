package model

import (
	"math"
	"strings"
)

// trainedSuffix makes the name of any shape but an encoder's that of the same with trained weights' statistics: 1b-trained.
const trainedSuffix = "-trained"

// scatter is how the scales of a matrix's rows and columns are spread: standard deviations of the natural logarithm of their root mean
// squares. A trained weight is the product of the scale of its tensor, that of its row, that of its column, and a Gaussian number.
type scatter struct{ rows, columns float64 }

// scatters are those of the trained model of gen/reference (4 million parameters, 2000 steps of AdamW, rounded to BF16), by kind of
// matrix, as means over its four layers. TestTrained measures them again. Taking both scales out leaves weights with a kurtosis
// of 2.8 to 3.2, where Gaussian ones have 3, and no zeros: there is no more to imitate. What is left of the deviations of single
// rows, which a mean of 256 squares has by chance, is 0.04 and counted in. The scales of tensors are this package's own, which keep
// activations level at any width; the model's are 0.5 to 1.3 times 1/sqrt(row), as ours are, but for its embedding.
var scatters = map[string]scatter{
	"token_embd":  {0.40, 0.03},
	"output":      {0.30, 0.29},
	"attn_q":      {0.14, 0.08},
	"attn_k":      {0.17, 0.13},
	"attn_v":      {0.15, 0.16},
	"attn_output": {0.11, 0.13},
	"ffn_gate":    {0.09, 0.06},
	"ffn_up":      {0.12, 0.07},
	"ffn_down":    {0.07, 0.10},
}

// trained returns a matrix with the scatter of its kind, in the model of a seed. Those of experts are taken for those of one network.
func (t tensor) trained(seed uint64) tensor {
	_, part, _ := t.part()
	s, ok := scatters[strings.TrimSuffix(part, "_exps")]
	if !ok || t.dims == 1 {
		return t
	}
	t.rowScatter = s.rows
	key := gaussians(t.key(seed, -1)) // no row's
	t.columns = make([]float32, t.cols)
	for i := range t.columns {
		t.columns[i] = scale(s.columns, key.at(int64(i)))
	}
	return t
}

// scale is a log-normal number with a mean square of 1, of a Gaussian one.
func scale(deviation float64, x float32) float32 {
	return float32(math.Exp(float64(deviation*float64(x)) - float64(deviation*deviation))) // converted, or GOAMD64 might fuse them
}
