package llama

import (
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/sgemm"
)

// keyBlock is how many keys attention takes at a time, leaving out the queries before all of them.
const keyBlock = 128

// pass holds the activations of one sequence. Matrices have a row per token.
type pass struct {
	shape    Shape
	tokens   []int32
	layers   []activations
	x, y     []float32 // residual stream before the output norm, and normed
	scale    []float32 // per token, of the output norm
	logits   []float32 // a row of the vocabulary per token; backward turns them into their gradient
	cos, sin []float32 // per token and pair of a head's elements

	// Gradients, used for one layer after the other.
	dx, dy, dq, dk, dv, datt []float32
	dgate, dup, dinner       []float32
	scores                   []float32 // gradient of a head's attention weights, a row of Context per token

	panel sgemm.Panel
}

// activations are what a layer's backward pass needs of its forward pass.
type activations struct {
	x, normed, scale []float32 // residual stream, normed, and the factors that normed it
	q, k, v          []float32 // q and k rotated
	weights          []float32 // of attention: per head a row of Context per token
	att              []float32
	x2, normed2      []float32 // the same after attention
	scale2           []float32
	gate, up, inner  []float32 // inner = silu(gate) * up
	sigmoid          []float32 // of gate
}

func newPass(s Shape) *pass {
	n := s.Context
	kv := s.KVHeads * s.HeadSize
	f := func(width int) []float32 { return make([]float32, n*width) }
	p := &pass{
		shape: s, x: f(s.Embedding), y: f(s.Embedding), scale: f(1), logits: f(s.Vocabulary),
		cos: f(s.HeadSize / 2), sin: f(s.HeadSize / 2),
		dx: f(s.Embedding), dy: f(s.Embedding), dq: f(s.Embedding), dk: f(kv), dv: f(kv), datt: f(s.Embedding),
		dgate: f(s.Inner), dup: f(s.Inner), dinner: f(s.Inner), scores: f(n),
	}
	for range s.Layers {
		p.layers = append(p.layers, activations{
			x: f(s.Embedding), normed: f(s.Embedding), scale: f(1),
			q: f(s.Embedding), k: f(kv), v: f(kv), weights: f(s.Heads * n), att: f(s.Embedding),
			x2: f(s.Embedding), normed2: f(s.Embedding), scale2: f(1),
			gate: f(s.Inner), up: f(s.Inner), inner: f(s.Inner), sigmoid: f(s.Inner),
		})
	}
	half := s.HeadSize / 2
	for t := range n {
		for i := range half {
			sin, cos := math.Sincos(float64(t) * math.Pow(RopeBase, -float64(i)/float64(half)))
			p.cos[t*half+i], p.sin[t*half+i] = float32(cos), float32(sin)
		}
	}
	return p
}

// multiply sets y to the product of x, rows of in elements, and the transposed matrix w of out rows.
func (p *pass) multiply(y, x, w []float32, out, in int) {
	clear(y)
	n := p.shape.Context
	p.panel.AddProduct(sgemm.Dense(y, n, out), sgemm.Dense(x, n, in), sgemm.Dense(w, out, in).T())
}

// multiplyBack adds the gradients of multiply's operands, given dy of its result. dx is not changed where it is nil.
func (p *pass) multiplyBack(dx, dw, dy, x, w []float32, out, in int) {
	n := p.shape.Context
	if dx != nil {
		p.panel.AddProduct(sgemm.Dense(dx, n, in), sgemm.Dense(dy, n, out), sgemm.Dense(w, out, in))
	}
	p.panel.AddProduct(sgemm.Dense(dw, out, in), sgemm.Dense(dy, n, out).T(), sgemm.Dense(x, n, in))
}

// forward computes the logits of Context tokens.
func (p *pass) forward(m *Model, tokens []int32) {
	s := p.shape
	p.tokens = tokens
	width := s.Embedding
	kv := s.KVHeads * s.HeadSize
	for t, id := range tokens {
		copy(p.x[t*width:][:width], m.embedding[int(id)*width:])
	}
	for i := range p.layers {
		a, w := &p.layers[i], &m.layers[i]
		copy(a.x, p.x)
		norm(a.normed, a.scale, a.x, w.attentionNorm)
		p.multiply(a.q, a.normed, w.q, width, width)
		p.multiply(a.k, a.normed, w.k, kv, width)
		p.multiply(a.v, a.normed, w.v, kv, width)
		p.rotate(a.q, s.Heads, 1)
		p.rotate(a.k, s.KVHeads, 1)
		p.attend(a)
		p.multiply(a.x2, a.att, w.o, width, width)
		add(a.x2, a.x)
		norm(a.normed2, a.scale2, a.x2, w.innerNorm)
		p.multiply(a.gate, a.normed2, w.gate, s.Inner, width)
		p.multiply(a.up, a.normed2, w.up, s.Inner, width)
		for i, g := range a.gate {
			a.sigmoid[i] = 1 / (1 + exp(-g))
			a.inner[i] = g * a.sigmoid[i] * a.up[i]
		}
		p.multiply(p.x, a.inner, w.down, width, s.Inner)
		add(p.x, a.x2)
	}
	norm(p.y, p.scale, p.x, m.outputNorm)
	p.multiply(p.logits, p.y, m.output, s.Vocabulary, width)
}

// loss returns the sum of -log of the probability of each target from token first on, and turns the logits into their gradient with
// respect to it, times weight. A logit row before first gets no gradient.
func (p *pass) loss(targets []int32, first int, weight float32) float64 {
	size := p.shape.Vocabulary
	sum := 0.0
	for t, target := range targets {
		row := p.logits[t*size:][:size]
		if t < first {
			clear(row)
			continue
		}
		logit := row[target]
		top, total := softmax(row)
		sum += math.Log(float64(total)) + float64(top) - float64(logit)
		row[target]--
		for i := range row {
			row[i] *= weight
		}
	}
	return sum
}

// backward adds the gradient of the loss to grad.
func (p *pass) backward(m *Model, grad *weights) {
	s := p.shape
	width := s.Embedding
	kv := s.KVHeads * s.HeadSize
	clear(p.dy)
	p.multiplyBack(p.dy, grad.output, p.logits, p.y, m.output, s.Vocabulary, width)
	clear(p.dx)
	normBack(p.dx, grad.outputNorm, p.dy, p.x, p.scale, m.outputNorm)
	for i := s.Layers - 1; i >= 0; i-- {
		a, w, g := &p.layers[i], &m.layers[i], &grad.layers[i]

		clear(p.dinner)
		p.multiplyBack(p.dinner, g.down, p.dx, a.inner, w.down, width, s.Inner)
		for i, d := range p.dinner {
			gate, sigmoid := a.gate[i], a.sigmoid[i]
			p.dup[i] = d * gate * sigmoid
			p.dgate[i] = d * a.up[i] * sigmoid * (1 + gate*(1-sigmoid))
		}
		clear(p.dy)
		p.multiplyBack(p.dy, g.gate, p.dgate, a.normed2, w.gate, s.Inner, width)
		p.multiplyBack(p.dy, g.up, p.dup, a.normed2, w.up, s.Inner, width)
		normBack(p.dx, g.innerNorm, p.dy, a.x2, a.scale2, w.innerNorm)

		clear(p.datt)
		p.multiplyBack(p.datt, g.o, p.dx, a.att, w.o, width, width)
		p.attendBack(a)
		p.rotate(p.dq, s.Heads, -1)
		p.rotate(p.dk, s.KVHeads, -1)
		clear(p.dy)
		p.multiplyBack(p.dy, g.q, p.dq, a.normed, w.q, width, width)
		p.multiplyBack(p.dy, g.k, p.dk, a.normed, w.k, kv, width)
		p.multiplyBack(p.dy, g.v, p.dv, a.normed, w.v, kv, width)
		normBack(p.dx, g.attentionNorm, p.dy, a.x, a.scale, w.attentionNorm)
	}
	for t, id := range p.tokens {
		add(grad.embedding[int(id)*width:][:width], p.dx[t*width:][:width])
	}
}

// head views head h of x, which has heads of them side by side.
func (p *pass) head(x []float32, h, heads int) sgemm.Matrix {
	n, size := p.shape.Context, p.shape.HeadSize
	return sgemm.Dense(x, n, heads*size).Part(0, h*size, n, size)
}

// attend computes each token's mean of the values up to it, weighted by softmax(q * k / sqrt(HeadSize)).
func (p *pass) attend(a *activations) {
	s := p.shape
	n, size := s.Context, s.HeadSize
	scale := float32(1 / math.Sqrt(float64(size)))
	clear(a.att)
	clear(a.weights)
	for h := range s.Heads {
		shared := h / (s.Heads / s.KVHeads)
		q, att := p.head(a.q, h, s.Heads), p.head(a.att, h, s.Heads)
		k, v := p.head(a.k, shared, s.KVHeads), p.head(a.v, shared, s.KVHeads)
		weights := sgemm.Dense(a.weights[h*n*n:][:n*n], n, n)
		eachKeyBlock(n, func(j, keys, queries int) {
			p.panel.AddProduct(weights.Part(j, j, queries, keys), q.Part(j, 0, queries, size), k.Part(j, 0, keys, size).T())
		})
		for t := range n {
			row := weights.Data[t*n:][:n]
			for j := range row[:t+1] {
				row[j] *= scale
			}
			softmax(row[:t+1])
			clear(row[t+1:])
		}
		eachKeyBlock(n, func(j, keys, queries int) {
			p.panel.AddProduct(att.Part(j, 0, queries, size), weights.Part(j, j, queries, keys), v.Part(j, 0, keys, size))
		})
	}
}

// attendBack sets dq, dk and dv from datt.
func (p *pass) attendBack(a *activations) {
	s := p.shape
	n, size := s.Context, s.HeadSize
	scale := float32(1 / math.Sqrt(float64(size)))
	clear(p.dq)
	clear(p.dk)
	clear(p.dv)
	for h := range s.Heads {
		shared := h / (s.Heads / s.KVHeads)
		q, dq, datt := p.head(a.q, h, s.Heads), p.head(p.dq, h, s.Heads), p.head(p.datt, h, s.Heads)
		k, dk := p.head(a.k, shared, s.KVHeads), p.head(p.dk, shared, s.KVHeads)
		v, dv := p.head(a.v, shared, s.KVHeads), p.head(p.dv, shared, s.KVHeads)
		weights, scores := sgemm.Dense(a.weights[h*n*n:][:n*n], n, n), sgemm.Dense(p.scores, n, n)
		clear(p.scores)
		eachKeyBlock(n, func(j, keys, queries int) {
			p.panel.AddProduct(scores.Part(j, j, queries, keys), datt.Part(j, 0, queries, size), v.Part(j, 0, keys, size).T())
		})
		for t := range n {
			w, d := weights.Data[t*n:][:t+1], p.scores[t*n:][:n]
			var mean float32
			for j, w := range w {
				mean += w * d[j]
			}
			for j, w := range w {
				d[j] = scale * w * (d[j] - mean)
			}
			clear(d[t+1:])
		}
		eachKeyBlock(n, func(j, keys, queries int) {
			p.panel.AddProduct(dv.Part(j, 0, keys, size), weights.Part(j, j, queries, keys).T(), datt.Part(j, 0, queries, size))
			p.panel.AddProduct(dk.Part(j, 0, keys, size), scores.Part(j, j, queries, keys).T(), q.Part(j, 0, queries, size))
			p.panel.AddProduct(dq.Part(j, 0, queries, size), scores.Part(j, j, queries, keys), k.Part(j, 0, keys, size))
		})
	}
}

// eachKeyBlock calls f for each block of keys from j on with its size and the number of queries from j on, of n tokens.
func eachKeyBlock(n int, f func(j, keys, queries int)) {
	for j := 0; j < n; j += keyBlock {
		f(j, min(keyBlock, n-j), n-j)
	}
}

// rotate turns each pair of neighbouring elements of every head by its position's angle times direction (Su et al., "RoFormer"; ggml
// calls this order of pairs GGML_ROPE_TYPE_NORMAL).
func (p *pass) rotate(x []float32, heads int, direction float32) {
	half := p.shape.HeadSize / 2
	for t := range p.shape.Context {
		cos, sin := p.cos[t*half:][:half], p.sin[t*half:][:half]
		for h := range heads {
			head := x[(t*heads+h)*2*half:][:2*half]
			for i, c := range cos {
				s := sin[i] * direction
				a, b := head[2*i], head[2*i+1]
				head[2*i], head[2*i+1] = a*c-b*s, a*s+b*c
			}
		}
	}
}

// norm sets y to the rows of x divided by their root mean square, times w. The factors 1/rms go to scale.
func norm(y, scale, x, w []float32) {
	for t := range scale {
		row := x[t*len(w):][:len(w)]
		var sum float32
		for _, v := range row {
			sum += v * v
		}
		scale[t] = float32(1 / math.Sqrt(float64(sum)/float64(len(w))+NormEpsilon))
		out := y[t*len(w):][:len(w)]
		for i, v := range row {
			out[i] = v * scale[t] * w[i]
		}
	}
}

// normBack adds the gradients of norm's operands, given dy of its result.
func normBack(dx, dw, dy, x, scale, w []float32) {
	for t, r := range scale {
		row, d := x[t*len(w):][:len(w)], dy[t*len(w):][:len(w)]
		var dot float32
		for i, v := range row {
			dot += d[i] * w[i] * v
			dw[i] += d[i] * v * r
		}
		dot *= r * r / float32(len(w))
		out := dx[t*len(w):][:len(w)]
		for i, v := range row {
			out[i] += r * (d[i]*w[i] - v*dot)
		}
	}
}

func add(to, x []float32) {
	for i, v := range x {
		to[i] += v
	}
}

// softmax replaces x by exp(x) over its sum. It returns the largest x and the sum of exp(x - largest).
func softmax(x []float32) (top, sum float32) {
	top = x[0]
	for _, v := range x {
		top = max(top, v)
	}
	for i, v := range x {
		e := exp(v - top)
		x[i] = e
		sum += e
	}
	inverse := 1 / sum
	for i := range x {
		x[i] *= inverse
	}
	return top, sum
}

// exp is e^x to about 2^-22 of the result: 2^n times the Taylor series of 2^f with |f| <= 1/2. It is 0 from where float32 has no normal
// number left, and +Inf above its range.
func exp(x float32) float32 {
	const log2e = 1.44269504088896341
	if x < -87 {
		return 0
	}
	if x > 88 {
		return float32(math.Inf(1))
	}
	// Adding 1.5 * 2^23 rounds to an integer, which the low bits of the sum then hold.
	const magic = 3 << 22
	y := x * log2e
	rounded := y + magic
	n := math.Float32bits(rounded) - math.Float32bits(magic)
	// The two parts of ln 2 make the difference exact to the last bits of x.
	const ln2, ln2Rest = 0.693359375, -2.12194440e-4
	m := rounded - magic
	f := x - m*ln2 - m*ln2Rest
	z := 1 + f*(1+f*(1./2+f*(1./6+f*(1./24+f*(1./120+f*(1./720))))))
	return math.Float32frombits(math.Float32bits(z) + n<<23)
}
