package model

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// What the weights aim at. Files made with other values are told apart by fingerprint.
const (
	logitSpread   = 3.0 // standard deviation of a position's logits
	blockGain     = 1.0 // what each attention or feed-forward block adds to the residual stream, in embeddings
	peak          = 2.0 // standard deviation of attention scores; 1 would make every head a plain average
	attentionSize = 0.5 // root mean square of an attention head's output for values of size 1
	gateSize      = 0.6 // root mean square of silu(gate) * up for two independent inputs of size 1
	routerSpread  = 2.0 // standard deviation of the logits that choose a token's experts: some are sure, few choices are a tie
	normSpread    = 0.1 // standard deviation of the elements of a norm around 1

	// A trained model has a few channels of the residual stream far larger than the rest, and norms that take them down
	// again. They decide how well blocks of activations quantize.
	outlierEvery = 256 // channels per outlier
	outlierGain  = 8
)

// tensor is a matrix, with one dimension a row, with three a matrix for each expert, of Gaussian weights.
type tensor struct {
	name       string
	cols, rows int64 // rows of all experts
	experts    int64 // 0 for none
	dims       int
	mean, std  float32

	outlier   float32   // scales the rows of outlier channels in a matrix, their elements in a norm; 0 for 1
	alternate bool      // every other column has the other sign
	values    []float32 // instead of Gaussians

	rowScatter float64   // of the logarithm of a row's scale
	columns    []float32 // scales of columns, none for 1

	converted bool // rounded to from before it is stored; not so values, which converters compute
	from      gguf.Type
}

func matrix(name string, in, out int, std float64) tensor {
	return tensor{name: name, cols: int64(in), rows: int64(out), dims: 2, std: float32(std)}
}

func norm(name string, n int) tensor {
	return tensor{name: name, cols: int64(n), rows: 1, dims: 1, mean: 1, std: normSpread, outlier: 1. / outlierGain}
}

// shape returns the elements of each dimension, the row length first.
func (t tensor) shape() []int64 {
	switch t.dims {
	case 1:
		return []int64{t.cols}
	case 2:
		return []int64{t.cols, t.rows}
	}
	return []int64{t.cols, t.rows / t.experts, t.experts}
}

// each turns a matrix into one for each of n experts.
func (t tensor) each(n int) tensor {
	t.experts, t.dims = int64(n), 3
	t.rows *= t.experts
	return t
}

func (t tensor) outliers() tensor    { t.outlier = outlierGain; return t }
func (t tensor) alternating() tensor { t.alternate = true; return t }

// part returns the layer that t is in, and its name there or, if it is in none, in the model: attn_q of blk.0.attn_q.weight.
func (t tensor) part() (layer int, part string, inLayer bool) {
	name := strings.TrimSuffix(t.name, ".weight")
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		number, part, _ := strings.Cut(rest, ".")
		if layer, err := strconv.Atoi(number); err == nil {
			return layer, part, true
		}
	}
	return 0, name, false
}

// source returns t for the writer as a type, with the blocks of that type where it has no encoder.
func (t tensor) source(seed uint64, typ gguf.Type, b *blocks) gguf.Source {
	s := gguf.Source{Name: t.name, Type: typ, Shape: t.shape()}
	row := s.Type.RowBytes(t.cols)
	s.Rows = func(dst []byte, first int64) error {
		var x []float32
		if b == nil {
			x = make([]float32, t.cols)
		}
		for r := first; len(dst) > 0; r++ {
			if b != nil {
				b.fill(dst[:row], t.key(seed, r), float64(t.size(seed, r)))
			} else {
				t.row(x, seed, r)
				if t.converted && t.values == nil {
					round(x, t.from)
				}
				gguf.Encode(dst[:row], s.Type, x)
			}
			dst = dst[row:]
		}
		return nil
	}
	return s
}

// round makes every element the nearest number of a type, BF16 or F16.
func round(x []float32, t gguf.Type) {
	b := make([]byte, t.RowBytes(int64(len(x))))
	gguf.Encode(b, t, x)
	for i := range x {
		bits := binary.LittleEndian.Uint16(b[2*i:])
		if x[i] = math.Float32frombits(uint32(bits) << 16); t == gguf.F16 {
			x[i] = ieee.Float16(bits)
		}
	}
}

// key is what row r in the model of a seed is drawn from.
func (t tensor) key(seed uint64, r int64) uint64 {
	h := fnv.New64a()
	h.Write([]byte(t.name))
	h.Write(binary.LittleEndian.AppendUint64(nil, seed))
	return mix(h.Sum64() + uint64(r)*odd)
}

// size is the standard deviation of the elements of row r.
func (t tensor) size(seed uint64, r int64) float32 {
	std := t.std
	if t.rowScatter != 0 {
		std *= scale(t.rowScatter, gaussians(t.key(seed, -2)).at(r)) // no row's key, nor that of the columns
	}
	if t.experts != 0 {
		r %= t.rows / t.experts
	}
	if t.outlier != 0 && t.dims > 1 && isOutlier(seed, r) {
		std *= t.outlier
	}
	return std
}

// row fills x with row r of the tensor in the model of a seed.
func (t tensor) row(x []float32, seed uint64, r int64) {
	if t.values != nil {
		copy(x, t.values)
		return
	}
	gaussians(t.key(seed, r)).fill(x)
	std := t.size(seed, r)
	for i := range x {
		// The conversion keeps the compiler from fusing product and sum, which would make the bits depend on GOAMD64.
		x[i] = t.mean + float32(std*x[i])
	}
	for i, c := range t.columns {
		x[i] *= c
	}
	if t.alternate {
		for i := 1; i < len(x); i += 2 {
			x[i] = -x[i]
		}
	}
	if t.outlier != 0 && t.dims == 1 {
		for i := range x {
			if isOutlier(seed, int64(i)) {
				x[i] *= t.outlier
			}
		}
	}
}

// fingerprint stands for the weights that tensors have with a seed: the first row of each, which every constant and every step
// of the generator shows in.
func fingerprint(tensors []tensor, seed uint64) uint64 {
	h := fnv.New64a()
	for _, t := range tensors {
		x := make([]float32, t.cols)
		t.row(x, seed, 0)
		b := make([]byte, 4*len(x))
		gguf.Encode(b, gguf.F32, x)
		h.Write(b)
	}
	return h.Sum64()
}

// isOutlier says whether a channel of the residual stream is one, the same in all layers of a model.
func isOutlier(seed uint64, channel int64) bool {
	return mix(mix(seed)^uint64(channel))%outlierEvery == 0
}

// gaussians is a sequence of independent numbers from the standard normal distribution, each computed from its position alone.
// The number is the key of the sequence.
type gaussians uint64

// odd is 2^64 divided by the golden ratio, the increment of SplitMix64 (Steele, Lea and Flood 2014).
const odd = 0x9e3779b97f4a7c15

// mix is SplitMix64's output function, a bijection that scatters neighbouring inputs.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// quantiles are the middles of equally likely slices of the normal distribution, for the sum of two to have variance 1. The sum
// reaches 5.2 standard deviations and takes 8 million values; it needs no logarithm and, unlike a ziggurat, no rejections.
var quantiles = func() (q [1 << quantileBits]float32) {
	var exact [len(q)]float64
	var squares float64
	for i := range exact {
		exact[i] = math.Erfinv((2*float64(i)+1)/float64(len(q)) - 1)
		squares += exact[i] * exact[i]
	}
	scale := math.Sqrt(float64(len(q)) / squares / 2)
	for i, x := range exact {
		q[i] = float32(x * scale)
	}
	return q
}()

const quantileBits = 12

// pair returns numbers 2i and 2i + 1 of the sequence.
func (g gaussians) pair(i uint64) (float32, float32) {
	const mask = 1<<quantileBits - 1
	h := mix(uint64(g) + (i+1)*odd)
	return quantiles[h&mask] + quantiles[h>>quantileBits&mask],
		quantiles[h>>(2*quantileBits)&mask] + quantiles[h>>(3*quantileBits)&mask]
}

func (g gaussians) at(i int64) float32 {
	a, b := g.pair(uint64(i) / 2)
	if i%2 == 1 {
		return b
	}
	return a
}

func (g gaussians) fill(x []float32) {
	for i := 0; i+1 < len(x); i += 2 {
		x[i], x[i+1] = g.pair(uint64(i) / 2)
	}
	if len(x)%2 == 1 {
		x[len(x)-1] = g.at(int64(len(x) - 1))
	}
}
