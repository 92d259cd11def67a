package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
)

// Open reads the description of the GGUF file at path and checks it against the file's size, so that every tensor it names can
// be read. It accepts what llama.cpp accepts: versions 2 and 3, and tensor data in order without gaps. The error is one line
// that names the file and the entry or tensor at fault.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	file, err := Read(f, info.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return file, nil
}

// Read is Open for size bytes at r; name stands in errors.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	d := &decoder{r: bufio.NewReader(io.NewSectionReader(r, 0, size)), size: size}
	f := &File{Name: name, r: r, keys: map[string]int{}, byName: map[string]int{}}
	err := d.file(f)
	if d.err != nil { // an earlier failure explains whatever was made of the zeros read since
		err = d.err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// decoder reads values in sequence. After the first failure, which err keeps, it returns zeros.
type decoder struct {
	r         *bufio.Reader
	off, size int64
	at        func() string // names what is being read
	err       error
}

// need records an error unless n items of at least width bytes each can still follow. Every allocation is preceded by it, so
// that a lying count costs nothing.
func (d *decoder) need(n, width uint64) bool {
	if d.err != nil {
		return false
	}
	left := uint64(d.size - d.off)
	if n > left/width {
		if width == 1 {
			d.err = fmt.Errorf("truncated: %s wants %d bytes at offset %d, but the file ends at %d", d.at(), n, d.off, d.size)
		} else {
			d.err = fmt.Errorf("truncated: %s wants %d items of at least %d bytes at offset %d, but the file ends at %d",
				d.at(), n, width, d.off, d.size)
		}
		return false
	}
	return true
}

func (d *decoder) bytes(n uint64) []byte {
	if !d.need(n, 1) {
		return nil
	}
	b := make([]byte, n)
	d.full(b)
	return b
}

func (d *decoder) full(b []byte) {
	if _, err := io.ReadFull(d.r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file shrank while it was read")
		}
		d.err = fmt.Errorf("%s: %w", d.at(), err)
		clear(b)
	}
	d.off += int64(len(b))
}

func (d *decoder) uint32() uint32 {
	var b [4]byte
	if d.need(4, 1) {
		d.full(b[:])
	}
	return binary.LittleEndian.Uint32(b[:])
}

func (d *decoder) uint64() uint64 {
	var b [8]byte
	if d.need(8, 1) {
		d.full(b[:])
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (d *decoder) string() string { return string(d.bytes(d.uint64())) }

func (d *decoder) file(f *File) error {
	d.at = func() string { return "the header" }
	if m := d.bytes(uint64(len(magic))); d.err == nil && string(m) != magic {
		return fmt.Errorf("not a GGUF file: it starts with %q, not %q", m, magic)
	}
	f.Version = d.uint32()
	switch {
	case d.err != nil:
	case f.Version != 0 && f.Version&0xffff == 0:
		return fmt.Errorf("a big-endian GGUF file; only little-endian ones are supported")
	case f.Version < 2 || f.Version > version:
		return fmt.Errorf("GGUF version %d; only 2 and %d are supported", f.Version, version)
	}
	nTensors, nKV := d.uint64(), d.uint64()
	// The smallest metadata entry is an empty key, a type and one byte; the smallest tensor has an empty name and no dimensions.
	d.at = func() string { return "the metadata" }
	d.need(nKV, 8+4+1)
	d.at = func() string { return "the tensor list" }
	d.need(nTensors, 8+4+4+8)
	for i := uint64(0); i < nKV && d.err == nil; i++ {
		d.at = func() string { return fmt.Sprintf("the key of metadata entry %d", i) }
		key := d.string()
		if d.err != nil {
			break
		}
		if key == "" {
			return fmt.Errorf("metadata entry %d has an empty key", i)
		}
		if j, ok := f.keys[key]; ok {
			return fmt.Errorf("metadata entries %d and %d have the same key %s", j, i, quote(key))
		}
		d.at = func() string { return fmt.Sprintf("metadata key %s", quote(key)) }
		v, err := d.value(d.uint32())
		if err != nil {
			return fmt.Errorf("%s: %w", d.at(), err)
		}
		f.keys[key] = len(f.Metadata)
		f.Metadata = append(f.Metadata, KV{key, v})
	}
	if d.err != nil {
		return d.err
	}
	var err error
	if f.Alignment, err = alignment(f.Metadata); err != nil {
		return err
	}
	for i := uint64(0); i < nTensors; i++ {
		d.at = func() string { return fmt.Sprintf("the name of tensor %d", i) }
		t := Tensor{Name: d.string()}
		if d.err != nil {
			return d.err
		}
		if err := checkName(t.Name); err != nil {
			return fmt.Errorf("tensor %d: %w", i, err)
		}
		if j, ok := f.byName[t.Name]; ok {
			return fmt.Errorf("tensors %d and %d have the same name %s", j, i, quote(t.Name))
		}
		d.at = func() string { return fmt.Sprintf("the description of tensor %s", quote(t.Name)) }
		dims := d.uint32()
		if d.err == nil && dims > maxDims {
			return fmt.Errorf("tensor %s has %d dimensions; at most %d are allowed", quote(t.Name), dims, maxDims)
		}
		for range dims {
			t.Shape = append(t.Shape, int64(d.uint64()))
		}
		t.Type = Type(d.uint32())
		offset := d.uint64()
		if d.err != nil {
			return d.err
		}
		if t.Size, err = t.Type.size(t.Shape); err != nil {
			return fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
		if offset > 1<<62 {
			return fmt.Errorf("tensor %s starts at an absurd offset: %d", quote(t.Name), offset)
		}
		t.Offset = int64(offset)
		f.byName[t.Name] = len(f.Tensors)
		f.Tensors = append(f.Tensors, t)
	}
	return d.place(f)
}

// place checks the tensors' offsets, which so far count from the start of the data, and makes them count from the start of the
// file.
func (d *decoder) place(f *File) error {
	data := pad(d.off, f.Alignment)
	var end int64 // of the tensor before, padded, from the start of the data
	previous := "the start of the data"
	for i := range f.Tensors {
		t := &f.Tensors[i]
		switch {
		case t.Offset%f.Alignment != 0:
			return fmt.Errorf("tensor %s is misaligned: its offset %d is not a multiple of %d", quote(t.Name), t.Offset, f.Alignment)
		case t.Offset < end:
			return fmt.Errorf("tensor %s at offset %d overlaps %s, which ends at %d", quote(t.Name), t.Offset, previous, end)
		case t.Offset > end:
			return fmt.Errorf("tensor %s starts at offset %d, but %s ends at %d: llama.cpp allows no gaps", quote(t.Name), t.Offset, previous, end)
		}
		// Compared without a sum: offset and size may each be near 2^63.
		if t.Size > d.size-data-t.Offset {
			return fmt.Errorf("truncated: tensor %s (%s %v) has %d bytes at offset %d of the data, which starts at %d, but the file ends at %d",
				quote(t.Name), t.Type, t.Shape, t.Size, t.Offset, data, d.size)
		}
		end = pad(t.Offset+t.Size, f.Alignment)
		previous = "tensor " + quote(t.Name)
		t.Offset += data
	}
	return nil
}

// value reads a metadata value of the given type. It leaves a failure to read in d.err.
func (d *decoder) value(typ uint32) (any, error) {
	switch {
	case d.err != nil:
		return nil, nil
	case typ == typeString:
		return d.string(), nil
	case typ == typeArray:
		return d.array(d.uint32(), d.uint64())
	}
	v, err := d.array(typ, 1)
	if v == nil {
		return nil, err
	}
	return reflect.ValueOf(v).Index(0).Interface(), nil
}

// array reads n elements of the given type; nil means that it failed.
func (d *decoder) array(typ uint32, n uint64) (any, error) {
	switch {
	case d.err != nil:
		return nil, nil
	case typ == typeArray:
		return nil, errors.New("an array of arrays, which llama.cpp does not read")
	case typ >= uint32(len(valueTypes)):
		return nil, fmt.Errorf("unknown value type %d", typ)
	case typ == typeString:
		if !d.need(n, 8) {
			return nil, nil
		}
		v := make([]string, 0, n)
		for uint64(len(v)) < n && d.err == nil {
			v = append(v, d.string())
		}
		return v, nil
	}
	width := uint64(valueTypes[typ].Size())
	if !d.need(n, width) {
		return nil, nil
	}
	v := reflect.MakeSlice(reflect.SliceOf(valueTypes[typ]), int(n), int(n)).Interface()
	_, err := binary.Decode(d.bytes(n*width), binary.LittleEndian, v)
	return v, err
}

func alignment(metadata []KV) (int64, error) {
	for _, kv := range metadata {
		if kv.Key != alignmentKey {
			continue
		}
		a, ok := kv.Value.(uint32)
		if !ok {
			return 0, fmt.Errorf("metadata key %q holds a %T, not a uint32", alignmentKey, kv.Value)
		}
		if a == 0 || a&(a-1) != 0 {
			return 0, fmt.Errorf("metadata key %q is %d, not a power of two", alignmentKey, a)
		}
		return int64(a), nil
	}
	return defaultAlignment, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case len(name) > maxName:
		return fmt.Errorf("name %s has %d bytes; at most %d are allowed", quote(name), len(name), maxName)
	}
	return nil
}

// pad rounds n up to a multiple of a, a power of two.
func pad(n, a int64) int64 { return (n + a - 1) &^ (a - 1) }
