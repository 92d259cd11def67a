package fault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// image is a model file in memory, to be altered.
type image struct {
	*gguf.File
	bytes []byte
}

func readImage(path string) (image, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return image{}, err
	}
	f, err := gguf.Read(bytes.NewReader(raw), int64(len(raw)), path)
	return image{f, raw}, err
}

// entry is where the fields of a tensor's entry in the header are: its dimensions (int64 each), its type (uint32) and its offset in
// the data (uint64).
type entry struct{ dims, typ, offset int }

func (m image) entry(t gguf.Tensor) (entry, error) {
	// The name with its length before it: a word of the vocabulary cannot be taken for it, since the entries come last.
	name := append(binary.LittleEndian.AppendUint64(nil, uint64(len(t.Name))), t.Name...)
	at := bytes.LastIndex(m.bytes[:m.data()], name)
	if at < 0 {
		return entry{}, fmt.Errorf("%s: no entry for tensor %s", m.Name, t.Name)
	}
	e := entry{dims: at + len(name) + 4}
	e.typ = e.dims + 8*len(t.Shape)
	e.offset = e.typ + 4
	return e, nil
}

// data is where the header ends.
func (m image) data() int64 { return m.Tensors[0].Offset }

// alter writes a copy of the lab's model after change has had its way with it, and returns its path.
func (l *lab) alter(name string, change func(*image) error) (string, error) {
	return l.alterOf(l.model, name, change)
}

// alterOf is alter for another model.
func (l *lab) alterOf(model, name string, change func(*image) error) (string, error) {
	m, err := readImage(model)
	if err != nil {
		return "", err
	}
	if err := change(&m); err != nil {
		return "", err
	}
	path := filepath.Join(l.models, name+".gguf")
	return path, os.WriteFile(path, m.bytes, 0o644)
}

// copyModel makes a copy of the lab's model that may be replaced or cut.
func (l *lab) copyModel() (string, error) {
	return l.alter("copy", func(*image) error { return nil })
}

// sparse writes a model that is sound but for its feed-forward network, which is so wide that the weights take at least size bytes. Its
// data is one hole: it takes no room on disk.
func (l *lab) sparse(size int64) (string, error) {
	m, err := readImage(l.model)
	if err != nil {
		return "", err
	}
	const key = "llama.feed_forward_length"
	width, err := gguf.Get[uint32](m.File, key)
	if err != nil {
		return "", err
	}
	var others, each int64 // bytes of the tensors without a side of that width; of those with one, for each 32 of it
	wide := func(t gguf.Tensor) int {
		for i, d := range t.Shape {
			if d == int64(width) {
				return i
			}
		}
		return -1
	}
	for _, t := range m.Tensors {
		if i := wide(t); i >= 0 {
			each += t.Type.RowBytes(32 * t.Shape[0] * t.Rows() / int64(width))
		} else {
			others += t.Size
		}
	}
	wider := (size - others + each - 1) / each * 32
	at := bytes.Index(m.bytes, []byte(key)) + len(key) + 4
	if got := binary.LittleEndian.Uint32(m.bytes[at:]); got != width {
		return "", fmt.Errorf("%s: %s is not where it should be", m.Name, key)
	}
	binary.LittleEndian.PutUint32(m.bytes[at:], uint32(wider))
	var offset int64
	for _, t := range m.Tensors {
		e, err := m.entry(t)
		if err != nil {
			return "", err
		}
		if i := wide(t); i >= 0 {
			t.Shape[i] = wider
			binary.LittleEndian.PutUint64(m.bytes[e.dims+8*i:], uint64(wider))
		}
		binary.LittleEndian.PutUint64(m.bytes[e.offset:], uint64(offset))
		offset += (t.Type.RowBytes(t.Shape[0])*t.Rows() + m.Alignment - 1) / m.Alignment * m.Alignment
	}
	path := filepath.Join(l.models, "sparse.gguf")
	if err := os.WriteFile(path, m.bytes[:m.data()], 0o644); err != nil {
		return "", err
	}
	return path, os.Truncate(path, m.data()+offset)
}
