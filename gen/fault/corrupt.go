package fault

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

var corruptScenarios = []scenario{
	{"scales that are not numbers, --check-tensors", "refused with the tensor's name, as by stock", checkedTensors},
	{"rows with scales that are not numbers", "those logits are not numbers, as in stock; all others keep their bits", poisonedRows},
	{"a layer with scales that are not numbers", "ends as stock does; a server goes on answering", poisonedLayer},
	{"float weights that are not numbers, --check-tensors", "refused with the tensor's name, as by stock", checkedFloats},
	{"rows of coded float weights that are not numbers", "those logits are not numbers, as in stock; all others keep their bits", poisonedFloats},
	{"file cut short", "refused in one line, as by stock", cutFile},
	{"header that lies", "refused in one line, as by stock", lyingHeader},
}

// FP16 numbers that are none.
const (
	halfNaN = 0x7e00
	halfInf = 0x7c00
)

// BF16 numbers that are none: a quiet NaN, one that conversions would make quiet, and infinities.
var notBF16 = []uint16{0x7fc0, 0x7f81, 0xff80, 0x7f80}

// poisonBF16 sets a weight in a row of a BF16 tensor, behind the first block that is coded.
func (m *image) poisonBF16(tensor string, row int64, weight uint16) error {
	const column = 150
	t, err := m.Tensor(tensor)
	if err != nil {
		return err
	}
	if t.Type != gguf.BF16 || row >= t.Rows() || t.Shape[0] <= column {
		return fmt.Errorf("%s: tensor %s is %s with %d rows of %d", m.Name, tensor, t.Type, t.Rows(), t.Shape[0])
	}
	binary.LittleEndian.PutUint16(m.bytes[t.Offset+row*t.Type.RowBytes(t.Shape[0])+2*column:], weight)
	return nil
}

// poison sets the first scale in a row of a Q8_0 tensor: a block begins with its scale.
func (m *image) poison(tensor string, row int64, scale uint16) error {
	t, err := m.Tensor(tensor)
	if err != nil {
		return err
	}
	if t.Type != gguf.Q8_0 || row >= t.Rows() {
		return fmt.Errorf("%s: tensor %s is %s with %d rows", m.Name, tensor, t.Type, t.Rows())
	}
	binary.LittleEndian.PutUint16(m.bytes[t.Offset+row*t.Type.RowBytes(t.Shape[0]):], scale)
	return nil
}

// both runs c with stock and tuned.
func (l *lab) both(ctx context.Context, c call) (stock, tuned end, err error) {
	for _, b := range []struct {
		build program.Build
		to    *end
	}{{l.stock, &stock}, {l.tuned, &tuned}} {
		c.build = b.build
		if *b.to, err = l.run(ctx, c); err != nil {
			return stock, tuned, err
		}
	}
	return stock, tuned, nil
}

// bothRefuse is nil if both builds refuse c, tuned with a line that holds one of the phrases. (Stock's programs may end before their
// last lines are printed.)
func (l *lab) bothRefuse(ctx context.Context, c call, phrases ...string) (string, error) {
	stock, tuned, err := l.both(ctx, c)
	if err != nil {
		return "", err
	}
	if err := stock.crashed(); err != nil || stock.code == 0 {
		return "", fmt.Errorf("stock does not refuse this (%v): %s", err, stock.call)
	}
	return tuned.refused(phrases...)
}

func checkedTensors(ctx context.Context, l *lab) (got string, err error) {
	const tensor = "blk.2.ffn_down.weight"
	for _, scale := range []uint16{halfNaN, halfInf} {
		model, err := l.alter("poisoned", func(m *image) error { return m.poison(tensor, 7, scale) })
		if err != nil {
			return "", err
		}
		for _, mode := range []string{"auto", "none"} {
			c := l.completion(model).with("--check-tensors", "--load-mode", mode)
			if got, err = l.bothRefuse(ctx, c, "tensor '"+tensor+"' has invalid data"); err != nil {
				return "", err
			}
		}
	}
	return got, nil
}

func checkedFloats(ctx context.Context, l *lab) (got string, err error) {
	const tensor = "blk.1.ffn_up.weight"
	for _, weight := range notBF16 {
		model, err := l.alterOf(l.floats, "poisoned", func(m *image) error { return m.poisonBF16(tensor, 7, weight) })
		if err != nil {
			return "", err
		}
		if got, err = l.bothRefuse(ctx, l.completion(model).with("--check-tensors"), "tensor '"+tensor+"' has invalid data"); err != nil {
			return "", err
		}
	}
	return got, nil
}

// logits are what zt-probe logits writes.
type logits struct {
	tokens []int32
	rows   [][]float32 // per token, one for each word of the vocabulary
}

// logitsOf runs zt-probe logits over a few tokens.
func (l *lab) logitsOf(ctx context.Context, b program.Build, model string) (logits, error) {
	const magic = "ZTLOGIT1"
	path := filepath.Join(l.models, "logits")
	e, err := l.run(ctx, call{build: b, name: "zt-probe", args: []string{"logits", "-m", model, "-t", threads, "-n", "7", "-o", path}})
	if err == nil {
		err = e.failed()
	}
	if err != nil {
		return logits{}, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return logits{}, err
	}
	if len(raw) < 16 || string(raw[:8]) != magic {
		return logits{}, fmt.Errorf("no logits in %s", path)
	}
	n, words := binary.LittleEndian.Uint32(raw[8:]), binary.LittleEndian.Uint32(raw[12:])
	all := logits{tokens: make([]int32, n), rows: make([][]float32, n)}
	at, err := binary.Decode(raw[16:], binary.LittleEndian, all.tokens)
	at += 16
	for i := range all.rows {
		all.rows[i] = make([]float32, words)
		if err == nil {
			_, err = binary.Decode(raw[at:], binary.LittleEndian, all.rows[i])
			at += 4 * int(words)
		}
	}
	return all, err
}

func poisonedRows(ctx context.Context, l *lab) (string, error) {
	return l.poisonedRows(ctx, l.model, func(m *image, tensor string, i int, row int64) error {
		return m.poison(tensor, row, []uint16{halfNaN, halfInf}[i%2])
	})
}

// poisonedFloats has numbers in the palettes of panels that no other weight has.
func poisonedFloats(ctx context.Context, l *lab) (string, error) {
	return l.poisonedRows(ctx, l.floats, func(m *image, tensor string, i int, row int64) error {
		return m.poisonBF16(tensor, row, notBF16[i])
	})
}

// poisonedRows takes rows of the output matrix of a model from a full panel, from both sides of its end, and the last row, in a panel that is
// not full. poison alters row number i of them.
func (l *lab) poisonedRows(ctx context.Context, healthyModel string, poison func(m *image, tensor string, i int, row int64) error) (string, error) {
	const tensor = "token_embd.weight"
	m, err := readImage(healthyModel)
	if err != nil {
		return "", err
	}
	t, err := m.Tensor(tensor)
	if err != nil {
		return "", err
	}
	healthy, err := l.logitsOf(ctx, l.tuned, healthyModel)
	if err != nil {
		return "", err
	}
	poisoned := []int64{31, 32, 100, t.Rows() - 1}
	if slices.ContainsFunc(healthy.tokens, func(token int32) bool { return slices.Contains(poisoned, int64(token)) }) {
		return "", fmt.Errorf("the tokens %v of zt-probe are among the rows %v", healthy.tokens, poisoned)
	}
	model, err := l.alterOf(healthyModel, "poisoned", func(m *image) error {
		for i, row := range poisoned {
			if err := poison(m, tensor, i, row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, b := range []program.Build{l.stock, l.tuned} {
		found, err := l.logitsOf(ctx, b, model)
		if err != nil {
			return "", err
		}
		for i, row := range found.rows {
			for word, x := range row {
				number := !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0)
				switch bad := slices.Contains(poisoned, int64(word)); {
				case bad == number:
					return "", fmt.Errorf("%s: token %d: logit %d is %v", b.Name, i, word, x)
				case !bad && b.Name == l.tuned.Name && math.Float32bits(x) != math.Float32bits(healthy.rows[i][word]):
					return "", fmt.Errorf("%s: token %d: logit %d is %v, and %v without the poisoned rows", b.Name, i, word, x, healthy.rows[i][word])
				}
			}
		}
	}
	return fmt.Sprintf("of %d logits %d are not numbers, all others keep their bits", t.Rows(), len(poisoned)), nil
}

func poisonedLayer(ctx context.Context, l *lab) (string, error) {
	var got string
	for _, scale := range []uint16{halfNaN, halfInf} {
		model, err := l.alter("poisoned", func(m *image) error { return m.poison("blk.1.attn_q.weight", 3, scale) })
		if err != nil {
			return "", err
		}
		stock, tuned, err := l.both(ctx, l.completion(model))
		if err == nil {
			err = stock.crashed()
		}
		if err == nil {
			err = tuned.crashed()
		}
		if err == nil && stock.code != tuned.code {
			err = fmt.Errorf("stock ends with exit status %d and tuned with %d: %s%s", stock.code, tuned.code, tuned.call, tuned.last())
		}
		if err != nil {
			return "", err
		}
		s, err := l.serve(ctx, l.service(model), 0)
		if err != nil {
			return "", err
		}
		for range 2 {
			if _, err := s.answer(ctx); err != nil {
				return "", err
			}
		}
		e, err := s.stop(ctx)
		if err := firstError(err, e.failed()); err != nil {
			return "", err
		}
		got = fmt.Sprintf("exit status %d as stock; the server answers", tuned.code)
	}
	return got, nil
}

// saysBroken are the phrases with which llama.cpp says what is wrong with a file.
var saysBroken = []string{"corrupted or incomplete", "failed to read", "invalid magic", "not within the file bounds", "read error"}

func cutFile(ctx context.Context, l *lab) (string, error) {
	m, err := readImage(l.model)
	if err != nil {
		return "", err
	}
	header, size := m.data(), int64(len(m.bytes))
	cuts := []int64{0, 3, 20, header / 2, header - 100, header, header + (size-header)/2, size - 1}
	for _, n := range cuts {
		path := filepath.Join(l.models, fmt.Sprintf("cut-%d.gguf", n))
		if err := os.WriteFile(path, m.bytes[:n], 0o644); err != nil {
			return "", err
		}
		if _, err := l.bothRefuse(ctx, l.completion(path), saysBroken...); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d cuts refused", len(cuts)), nil
}

func lyingHeader(ctx context.Context, l *lab) (string, error) {
	const tensor = "blk.1.ffn_up.weight"
	field := func(change func(m *image, e entry)) func(*image) error {
		return func(m *image) error {
			t, err := m.Tensor(tensor)
			if err != nil {
				return err
			}
			e, err := m.entry(t)
			if err == nil {
				change(m, e)
			}
			return err
		}
	}
	put32, put64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	lies := []struct {
		name    string
		change  func(*image) error
		phrases string // separated by |
	}{
		{"a magic of another format", func(m *image) error { copy(m.bytes, "GGML"); return nil }, "invalid magic"},
		{"a version of the future", func(m *image) error { put32(m.bytes[4:], 99); return nil }, "version"},
		{"more tensors than there are", func(m *image) error { put64(m.bytes[8:], 1<<40); return nil }, "failed to read|n_tensors"},
		{"more metadata than there is", func(m *image) error { put64(m.bytes[16:], 1<<40); return nil }, "failed to read|n_kv"},
		{"an unknown type", field(func(m *image, e entry) { put32(m.bytes[e.typ:], 250) }), "invalid ggml type"},
		{"a type that ggml has removed", field(func(m *image, e entry) { put32(m.bytes[e.typ:], 4) }), "invalid|block size|type"},
		{"another type of other size", field(func(m *image, e entry) { put32(m.bytes[e.typ:], uint32(gguf.Q4_0)) }), "offset"},
		{"an offset past the end", field(func(m *image, e entry) { put64(m.bytes[e.offset:], 1<<40) }), "offset"},
		{"an offset inside another tensor", field(func(m *image, e entry) { put64(m.bytes[e.offset:], 0) }), "offset"},
		{"rows of another length", field(func(m *image, e entry) { put64(m.bytes[e.dims:], 192) }), "offset"},
		{"a dimension below 0", field(func(m *image, e entry) { put64(m.bytes[e.dims+8:], 1<<63) }), "invalid number of elements"},
		{"dimensions whose product overflows", field(func(m *image, e entry) { put64(m.bytes[e.dims+8:], 1<<59+1) }), "total number of elements"},
		{"dimensions swapped", field(func(m *image, e entry) {
			a, b := m.bytes[e.dims:e.dims+8], m.bytes[e.dims+8:e.dims+16]
			for i := range a {
				a[i], b[i] = b[i], a[i]
			}
		}), "wrong shape"},
	}
	for i, lie := range lies {
		path, err := l.alter(fmt.Sprintf("lie-%d", i), lie.change)
		if err != nil {
			return "", err
		}
		if _, err := l.bothRefuse(ctx, l.completion(path), strings.Split(lie.phrases, "|")...); err != nil {
			return "", fmt.Errorf("%s: %w", lie.name, err)
		}
	}
	return fmt.Sprintf("%d lies refused", len(lies)), nil
}
