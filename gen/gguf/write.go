package gguf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Source is a tensor to be written, with the function that produces its rows.
type Source struct {
	Name  string
	Type  Type
	Shape []int64 // elements per dimension, the row length first

	// Rows fills dst with encoded rows: as many as fit, from row first on, where rows count through all dimensions but the first.
	// It is called from several goroutines at once, for pieces in any order.
	Rows func(dst []byte, first int64) error
}

// chunkBytes is how much of a tensor is produced and written at a time: enough to make the write call cheap, little enough that
// the bytes are still in the cache when it copies them.
const chunkBytes = 512 << 10

// Write writes a GGUF file of version 3 with the tensors in the given order, producing their data on GOMAXPROCS goroutines. What
// the file holds does not depend on their number. wrote, if not nil, hears of progress in bytes, from several goroutines.
//
// The file appears at path when it is complete and safe on disk; until then it is path.partial, which is removed on any error
// and when ctx is cancelled, and reused after a kill. All its space is reserved at the start, so that a full disk is found
// before the work and not after it.
func Write(ctx context.Context, path string, metadata []KV, tensors []Source, wrote func(done, total int64)) error {
	p, err := layOut(metadata, tensors)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := createPartial(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = p.write(ctx, f, wrote); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		if errors.Is(err, unix.ENOSPC) {
			err = diskFull(path, p.size)
		}
	}
	return err
}

// createPartial opens path.partial empty and locked, so that no second writer shares it.
func createPartial(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Another writer may have finished, and renamed this very file, between the open and the lock.
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			if there, err = os.Stat(f.Name()); err == nil && !os.SameFile(mine, there) || errors.Is(err, os.ErrNotExist) {
				err = unix.EWOULDBLOCK
			}
		}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: another process is writing it; wait for it to end", path)
		}
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

func diskFull(path string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err != nil {
		return fmt.Errorf("%s: disk full: the file needs %.1f MiB", path, float64(size)/(1<<20))
	}
	free := float64(fs.Bavail) * float64(fs.Bsize)
	return fmt.Errorf("%s: disk full: the file needs %.1f MiB and %.1f MiB are free; make room and run again",
		path, float64(size)/(1<<20), free/(1<<20))
}

// plan is a file laid out but not written.
type plan struct {
	header []byte // up to the first tensor's data
	chunks []chunk
	size   int64 // of the file
}

// chunk is a run of rows of one tensor.
type chunk struct {
	source *Source
	first  int64 // row
	offset int64 // in the file
	bytes  int64
}

func layOut(metadata []KV, tensors []Source) (*plan, error) {
	b := append([]byte(nil), magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(metadata)))
	seen := map[string]bool{}
	for _, kv := range metadata {
		if kv.Key == "" {
			return nil, errors.New("a metadata entry has an empty key")
		}
		if seen[kv.Key] {
			return nil, fmt.Errorf("two metadata entries have the key %s", quote(kv.Key))
		}
		seen[kv.Key] = true
		b = appendString(b, kv.Key)
		var err error
		if b, err = appendValue(b, kv.Value); err != nil {
			return nil, fmt.Errorf("metadata key %s: %w", quote(kv.Key), err)
		}
	}
	align, err := alignment(metadata)
	if err != nil {
		return nil, err
	}

	var offset int64 // from the start of the data
	sizes := make([]int64, len(tensors))
	clear(seen)
	for i := range tensors {
		t := &tensors[i]
		if err := checkName(t.Name); err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("two tensors have the name %s", quote(t.Name))
		}
		seen[t.Name] = true
		if sizes[i], err = t.Type.size(t.Shape); err != nil {
			return nil, fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Shape)))
		for _, d := range t.Shape {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(offset))
		if offset = pad(offset+sizes[i], align); offset < 0 || offset > 1<<62 {
			return nil, fmt.Errorf("the data up to tensor %s exceeds 2^62 bytes", quote(t.Name))
		}
	}
	if len(tensors) > 0 {
		b = append(b, make([]byte, pad(int64(len(b)), align)-int64(len(b)))...)
	}

	p := &plan{header: b, size: int64(len(b)) + offset}
	at := int64(len(b))
	for i := range tensors {
		t := &tensors[i]
		row := t.Type.RowBytes(1)
		if len(t.Shape) > 0 {
			row = t.Type.RowBytes(t.Shape[0])
		}
		for done := int64(0); done < sizes[i]; {
			n := min(max(chunkBytes/row, 1)*row, sizes[i]-done)
			p.chunks = append(p.chunks, chunk{t, done / row, at + done, n})
			done += n
		}
		at = pad(at+sizes[i], align)
	}
	return p, nil
}

func (p *plan) write(ctx context.Context, f *os.File, wrote func(done, total int64)) error {
	if err := reserve(f, p.size); err != nil {
		return err
	}
	if _, err := f.WriteAt(p.header, 0); err != nil {
		return err
	}
	var next, done atomic.Int64
	done.Store(int64(len(p.header)))
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			var buf []byte
			for {
				i := next.Add(1) - 1
				if i >= int64(len(p.chunks)) {
					return nil
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				c := p.chunks[i]
				buf = slices.Grow(buf[:0], int(c.bytes))[:c.bytes]
				if err := c.source.Rows(buf, c.first); err != nil {
					return fmt.Errorf("tensor %s: %w", quote(c.source.Name), err)
				}
				if _, err := f.WriteAt(buf, c.offset); err != nil {
					return err
				}
				if n := done.Add(c.bytes); wrote != nil {
					wrote(n, p.size)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.Sync()
}

// reserve makes f size bytes long, with all of them on disk where the file system can say so.
func reserve(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return f.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("reserve %d bytes for %s: %w", size, f.Name(), err)
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func appendValue(b []byte, v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return nil, errors.New("no value")
	}
	elem := rv.Type()
	array := elem.Kind() == reflect.Slice
	if array {
		elem = elem.Elem()
	}
	typ := slices.Index(valueTypes[:], elem)
	if typ < 0 {
		return nil, fmt.Errorf("GGUF has no type for a %T", v)
	}
	if array {
		b = binary.LittleEndian.AppendUint32(b, typeArray)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(typ))
	if array {
		b = binary.LittleEndian.AppendUint64(b, uint64(rv.Len()))
	}
	switch v := v.(type) {
	case string:
		return appendString(b, v), nil
	case []string:
		for _, s := range v {
			b = appendString(b, s)
		}
		return b, nil
	}
	return binary.Append(b, binary.LittleEndian, v)
}
