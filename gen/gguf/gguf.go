// Package gguf reads and writes GGUF files, the format of llama.cpp's models.
//
// The layout (version 3, little endian, as ggml/include/gguf.h describes it): the magic "GGUF", a uint32 version, uint64
// counts of tensors and of metadata entries; the entries, each a key, a uint32 value type and the value; per tensor its name,
// uint32 number of dimensions, the dimensions as int64 with the row length first, uint32 element type, and uint64 offset into
// the data; then, from the next multiple of the alignment on, the data. Strings are a uint64 length and their bytes; an array
// value is a uint32 element type, a uint64 count and the elements.
package gguf

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
)

const (
	magic            = "GGUF"
	version          = 3
	alignmentKey     = "general.alignment"
	defaultAlignment = 32
	maxDims          = 4
	maxName          = 63 // bytes; ggml stores tensor names in 64 with a terminating zero
)

// KV is a metadata entry. Value holds a uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32, float64, bool or
// string, or a slice of one of these.
type KV struct {
	Key   string
	Value any
}

// Value types with a layout of their own.
const (
	typeString = 8
	typeArray  = 9
)

// valueTypes holds the Go type of each value type by its number in a file.
var valueTypes = [...]reflect.Type{
	0:          reflect.TypeFor[uint8](),
	1:          reflect.TypeFor[int8](),
	2:          reflect.TypeFor[uint16](),
	3:          reflect.TypeFor[int16](),
	4:          reflect.TypeFor[uint32](),
	5:          reflect.TypeFor[int32](),
	6:          reflect.TypeFor[float32](),
	7:          reflect.TypeFor[bool](),
	typeString: reflect.TypeFor[string](),
	typeArray:  nil,
	10:         reflect.TypeFor[uint64](),
	11:         reflect.TypeFor[int64](),
	12:         reflect.TypeFor[float64](),
}

// Tensor describes a tensor of a file.
type Tensor struct {
	Name   string
	Type   Type
	Shape  []int64 // elements per dimension, the row length first; empty for a single element
	Offset int64   // bytes from the start of the file
	Size   int64   // bytes
}

// Rows returns the number of rows: the product of all dimensions but the first.
func (t Tensor) Rows() int64 {
	n := int64(1)
	for _, d := range t.Shape[min(1, len(t.Shape)):] {
		n *= d
	}
	return n
}

// File is the description of a GGUF file. Tensor data stays on disk.
type File struct {
	Name      string // as given to Open or Read
	Version   uint32
	Alignment int64
	Metadata  []KV
	Tensors   []Tensor // in the order of their data

	r      io.ReaderAt
	keys   map[string]int
	byName map[string]int
}

// Close closes the file that Open opened.
func (f *File) Close() error {
	if c, ok := f.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Value returns the metadata value of key, or nil where there is none.
func (f *File) Value(key string) any {
	if i, ok := f.keys[key]; ok {
		return f.Metadata[i].Value
	}
	return nil
}

// Get returns the metadata value of key, which must be there and be a T. (A function, since methods take no type parameters.)
func Get[T any](f *File, key string) (T, error) {
	v, ok := f.Value(key).(T)
	if !ok {
		if found := f.Value(key); found != nil {
			return v, fmt.Errorf("%s: metadata key %s holds a %T, not a %T", f.Name, quote(key), found, v)
		}
		return v, fmt.Errorf("%s: no metadata key %s", f.Name, quote(key))
	}
	return v, nil
}

// Tensor returns the description of the tensor called name.
func (f *File) Tensor(name string) (Tensor, error) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: no tensor %s", f.Name, quote(name))
	}
	return f.Tensors[i], nil
}

// Data reads the bytes of a tensor of f.
func (f *File) Data(t Tensor) *io.SectionReader { return io.NewSectionReader(f.r, t.Offset, t.Size) }

// quote makes a string from a file fit for a one-line message.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "..."
	}
	return strconv.Quote(s)
}
