package gguf

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// goldenHex is a file of one metadata entry and one tensor of two bytes, put together by hand from the layout in gguf.h.
const goldenHex = `
47475546 03000000 0100000000000000 0100000000000000
0400000000000000 6e616d65 08000000 0300000000000000 746f79
0100000000000000 77 01000000 0200000000000000 18000000 0000000000000000
000000000000000000000000
2a d6 000000000000000000000000000000000000000000000000000000000000`

func golden(t testing.TB) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(goldenHex), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func constant(data ...byte) func([]byte, int64) error {
	return func(dst []byte, _ int64) error {
		if copy(dst, data) != len(dst) {
			return errors.New("short data")
		}
		return nil
	}
}

func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "golden.gguf")
	tensors := []Source{{"w", I8, []int64{2}, constant(42, 0xd6)}}
	if err := Write(context.Background(), path, []KV{{"name", "toy"}}, tensors, nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := golden(t); !bytes.Equal(got, want) {
		t.Errorf("wrote\n% x\nwant\n% x", got, want)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := f.Tensor("w")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f.Data(w))
	if err != nil || !bytes.Equal(data, []byte{42, 0xd6}) {
		t.Errorf("tensor w holds % x, %v; want 2a d6", data, err)
	}
}

// everyValue has a metadata entry of each type that GGUF knows.
var everyValue = []KV{
	{"u8", uint8(200)}, {"i8", int8(-3)}, {"u16", uint16(60000)}, {"i16", int16(-30000)},
	{"u32", uint32(1 << 31)}, {"i32", int32(-1 << 31)}, {"u64", uint64(1 << 63)}, {"i64", int64(-1 << 63)},
	{"f32", float32(0.1)}, {"f64", math.Pi}, {"yes", true}, {"no", false}, {"string", "a\x00b\nc"}, {"empty", ""},
	{"u8s", []uint8{1, 2}}, {"i8s", []int8{-1}}, {"u16s", []uint16{1, 2, 3}}, {"i16s", []int16{-5}},
	{"u32s", []uint32{7}}, {"i32s", []int32{-7, 8}}, {"u64s", []uint64{9}}, {"i64s", []int64{-9}},
	{"f32s", []float32{1, 2}}, {"f64s", []float64{3}}, {"bools", []bool{true, false}}, {"strings", []string{"", "x"}},
	{"none", []int32{}}, {alignmentKey, uint32(64)},
}

func TestRoundTrip(t *testing.T) {
	// Rows of 70000 bytes make a chunk of seven and leave a shorter one, whatever order the goroutines take them in.
	const rows = 40
	row := func(r int64) []byte {
		b := make([]byte, 70000)
		for i := range b {
			b[i] = byte(int64(i) + 31*r)
		}
		return b
	}
	tensors := []Source{
		{"scalar", F32, nil, constant(0, 0, 128, 63)},
		{"rows", I8, []int64{70000, rows / 2, 2}, func(dst []byte, first int64) error {
			for len(dst) > 0 {
				dst = dst[copy(dst, row(first)):]
				first++
			}
			return nil
		}},
		{"q", Q8_0, []int64{32}, constant(make([]byte, 34)...)},
		{"nothing", F32, []int64{4, 0}, constant()},
	}
	path := filepath.Join(t.TempDir(), "all.gguf")
	var last atomic.Int64
	err := Write(context.Background(), path, everyValue, tensors, func(done, total int64) { last.Store(max(last.Load(), done)) })
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !reflect.DeepEqual(f.Metadata, everyValue) {
		t.Errorf("metadata\n%v\nwant\n%v", f.Metadata, everyValue)
	}
	if f.Alignment != 64 || f.Version != 3 {
		t.Errorf("alignment %d, version %d; want 64, 3", f.Alignment, f.Version)
	}
	for i, s := range tensors {
		g := f.Tensors[i]
		if g.Name != s.Name || g.Type != s.Type || fmt.Sprint(g.Shape) != fmt.Sprint(s.Shape) || g.Offset%64 != 0 {
			t.Errorf("tensor %d is %+v; want %s %s %v at a multiple of 64", i, g, s.Name, s.Type, s.Shape)
		}
	}
	data, err := io.ReadAll(f.Data(f.Tensors[1]))
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for r := range int64(rows) {
		want = append(want, row(r)...)
	}
	if !bytes.Equal(data, want) {
		t.Error("tensor rows does not hold what was written")
	}
	if last.Load() < 70000*rows {
		t.Errorf("progress ended at %d bytes", last.Load())
	}
	if _, err := Get[uint32](f, "u32"); err != nil {
		t.Error(err)
	}
	if _, err := Get[string](f, "u32"); err == nil || !strings.Contains(err.Error(), "uint32") {
		t.Errorf("Get[string] of a uint32: %v", err)
	}
	if _, err := Get[string](f, "gone"); err == nil || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("Get of a missing key: %v", err)
	}
	if _, err := f.Tensor("gone"); err == nil || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("Tensor of a missing name: %v", err)
	}
}

// TestTypeSizes holds the type table to bits per weight, which llama-quantize and the model pages print.
func TestTypeSizes(t *testing.T) {
	for name, want := range map[string]float64{
		"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6,
		"q2_K": 2.625, "q3_K": 3.4375, "Q4_K": 4.5, "q5_k": 5.5, "q6_K": 6.5625, "iq4_nl": 4.5, "iq4_xs": 4.25,
		"mxfp4": 4.25, "nvfp4": 4.5, "tq1_0": 1.6875, "tq2_0": 2.0625, "iq2_xxs": 2.0625, "iq2_xs": 2.3125, "iq2_s": 2.5625,
		"iq3_xxs": 3.0625, "iq3_s": 3.4375, "iq1_s": 1.5625, "iq1_m": 1.75, "q1_0": 1.125, "q2_0": 2.25, "i32": 32,
	} {
		typ, err := ParseType(name)
		if err != nil {
			t.Error(err)
			continue
		}
		elements, size := typ.Block()
		if got := 8 * float64(size) / float64(elements); got != want {
			t.Errorf("%s: %v bits a weight, want %v", name, got, want)
		}
	}
	if _, err := ParseType("q7"); err == nil || !strings.Contains(err.Error(), `"q7"`) {
		t.Errorf("ParseType(q7): %v", err)
	}
}

// file builds files by hand, right or wrong.
type file struct{ bytes.Buffer }

func (f *file) put(values ...any) *file {
	for _, v := range values {
		if s, ok := v.(string); ok {
			binary.Write(f, binary.LittleEndian, uint64(len(s)))
			f.WriteString(s)
			continue
		}
		if err := binary.Write(f, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return f
}

func header(version uint32, tensors, kvs uint64) *file {
	f := new(file)
	f.WriteString("GGUF")
	return f.put(version, tensors, kvs)
}

// data ends a file: padding to 32 and n bytes of data.
func (f *file) data(n int) []byte {
	f.Write(make([]byte, -f.Len()&31+n))
	return f.Bytes()
}

const u32, u64 = uint32(0), uint64(0)

// lies are files that a reader must refuse, with the parts of the message that it must give.
var lies = []struct {
	name string
	file []byte
	want []string
}{
	{"empty", nil, []string{"truncated", "header"}},
	{"not GGUF", []byte("PK\x03\x04 and more"), []string{"not a GGUF file", `"PK\x03\x04"`}},
	{"version 1", header(1, 0, 0).Bytes(), []string{"version 1"}},
	{"version 4", header(4, 0, 0).Bytes(), []string{"version 4"}},
	{"big endian", header(3<<24, 0, 0).Bytes(), []string{"big-endian"}},
	{"truncated header", header(3, 0, 0).Bytes()[:20], []string{"truncated", "header", "offset 16", "ends at 20"}},
	{"2^40 tensors", header(3, 1<<40, 0).Bytes(), []string{"truncated", "tensor list", "1099511627776"}},
	{"2^63 tensors", header(3, 1<<63, 0).Bytes(), []string{"truncated", "tensor list"}},
	{"2^64-1 entries", header(3, 0, math.MaxUint64).Bytes(), []string{"truncated", "metadata", "18446744073709551615"}},
	{"endless key", header(3, 0, 1).put(uint64(1<<50), u64).Bytes(), []string{"truncated", "key of metadata entry 0", "1125899906842624"}},
	{"empty key", header(3, 0, 1).put("", u32, u64).Bytes(), []string{"metadata entry 0", "empty key"}},
	{"same key twice", header(3, 0, 2).put("k", u32, uint8(1), "k", u32, uint8(1)).Bytes(), []string{"entries 0 and 1", `"k"`}},
	{"unknown value type", header(3, 0, 1).put("k", uint32(13), u64).Bytes(), []string{`"k"`, "type 13"}},
	{"endless string", header(3, 0, 1).put("k", uint32(8), uint64(math.MaxUint64)).Bytes(), []string{"truncated", `"k"`}},
	{"endless array", header(3, 0, 1).put("k", uint32(9), uint32(5), uint64(1<<61), u64).Bytes(), []string{"truncated", `"k"`, "2305843009213693952 items"}},
	{"endless array of strings", header(3, 0, 1).put("k", uint32(9), uint32(8), uint64(1<<61), u64).Bytes(), []string{"truncated", `"k"`}},
	{"array of arrays", header(3, 0, 1).put("k", uint32(9), uint32(9), uint64(1), u64).Bytes(), []string{`"k"`, "array of arrays"}},
	{"array of unknown", header(3, 0, 1).put("k", uint32(9), uint32(77), uint64(1), u64).Bytes(), []string{`"k"`, "type 77"}},
	{"alignment of wrong type", header(3, 0, 1).put(alignmentKey, uint32(10), uint64(32)).Bytes(), []string{alignmentKey, "uint64"}},
	{"alignment 0", header(3, 0, 1).put(alignmentKey, uint32(4), uint32(0)).Bytes(), []string{alignmentKey, "power of two"}},
	{"alignment 48", header(3, 0, 1).put(alignmentKey, uint32(4), uint32(48)).Bytes(), []string{alignmentKey, "48"}},
	{"nameless tensor", header(3, 1, 0).put("", uint32(1), uint64(4), u32, u64).data(16), []string{"tensor 0", "empty name"}},
	{"long name", header(3, 1, 0).put(strings.Repeat("n", 64), uint32(1), uint64(4), u32, u64).data(16), []string{"tensor 0", "64 bytes"}},
	{"same tensor twice", header(3, 2, 0).put("w", uint32(1), uint64(8), u32, u64, "w", uint32(1), uint64(8), u32, uint64(32)).data(64), []string{"tensors 0 and 1", `"w"`}},
	{"five dimensions", header(3, 1, 0).put("w", uint32(5), [5]uint64{1, 1, 1, 1, 1}, u32, u64).data(16), []string{`"w"`, "5 dimensions"}},
	{"2^32-1 dimensions", header(3, 1, 0).put("w", uint32(math.MaxUint32), u64, u64).data(16), []string{`"w"`, "4294967295 dimensions"}},
	{"negative dimension", header(3, 1, 0).put("w", uint32(1), uint64(1<<63), u32, u64).data(16), []string{`"w"`, "negative"}},
	{"overflowing dimensions", header(3, 1, 0).put("w", uint32(2), uint64(1<<33), uint64(1<<33), u32, u64).data(16), []string{`"w"`, "2^60"}},
	{"unknown tensor type", header(3, 1, 0).put("w", uint32(1), uint64(4), uint32(43), u64).data(16), []string{`"w"`, "type 43"}},
	{"removed tensor type", header(3, 1, 0).put("w", uint32(1), uint64(4), uint32(4), u64).data(16), []string{`"w"`, "type 4"}},
	{"row is no multiple of the block", header(3, 1, 0).put("w", uint32(1), uint64(48), uint32(8), u64).data(64), []string{`"w"`, "48", "32", "q8_0"}},
	{"misaligned offset", header(3, 1, 0).put("w", uint32(1), uint64(4), u32, uint64(8)).data(64), []string{`"w"`, "misaligned", "8"}},
	{"absurd offset", header(3, 1, 0).put("w", uint32(1), uint64(4), u32, uint64(1<<63)).data(64), []string{`"w"`, "9223372036854775808"}},
	{"overlapping tensors", header(3, 2, 0).put("v", uint32(1), uint64(16), u32, u64, "w", uint32(1), uint64(16), u32, uint64(32)).data(128), []string{`"w"`, `"v"`, "overlaps", "64"}},
	{"gap", header(3, 2, 0).put("v", uint32(1), uint64(8), u32, u64, "w", uint32(1), uint64(8), u32, uint64(64)).data(128), []string{`"w"`, `"v"`, "gap"}},
	{"truncated data", header(3, 1, 0).put("w", uint32(2), uint64(8), uint64(3), u32, u64).data(95), []string{"truncated", `"w"`, "96 bytes", "f32 [8 3]"}},
	{"no data at all", header(3, 1, 0).put("w", uint32(1), uint64(4), u32, u64).Bytes(), []string{"truncated", `"w"`, "16 bytes"}},
	{"2^59 elements claimed", header(3, 1, 0).put("w", uint32(1), uint64(1<<59), u32, u64).data(64), []string{"truncated", `"w"`}},
}

func TestLies(t *testing.T) {
	for _, c := range lies {
		t.Run(c.name, func(t *testing.T) {
			var err error
			if n := allocated(func() { _, err = Read(bytes.NewReader(c.file), int64(len(c.file)), "toy.gguf") }); n > 64<<10 {
				t.Errorf("%d bytes allocated for a file of %d", n, len(c.file))
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(c.want, "toy.gguf: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not mention %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
		})
	}
}

// TestEveryTruncation cuts a file at each length: only the padding behind the last tensor may go.
func TestEveryTruncation(t *testing.T) {
	whole := golden(t)
	needed := len(whole) - 30
	for n := range len(whole) {
		_, err := Read(bytes.NewReader(whole[:n]), int64(n), "cut.gguf")
		if n >= needed && err != nil {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
		if n < needed && (err == nil || !strings.Contains(err.Error(), "truncated")) {
			t.Errorf("%d of %d bytes: %v, want it called truncated", n, len(whole), err)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzRead: whatever the bytes, Read neither panics nor allocates out of proportion, it explains itself in one line, and what it
// accepts it reads again the same from what the writer makes of it.
func FuzzRead(f *testing.F) {
	f.Add(golden(f))
	for _, c := range lies {
		f.Add(c.file)
	}
	p, err := layOut(everyValue, []Source{{"v", Q8_0, []int64{64, 2}, nil}, {"w", BF16, []int64{3}, nil}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(p.header, make([]byte, p.size-int64(len(p.header)))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var file *File
		var err error
		// The smallest entry or tensor of a dozen bytes costs some 300 as a struct and a map entry; a map grows by doubling.
		if n := allocated(func() { file, err = Read(bytes.NewReader(b), int64(len(b)), "fuzz") }); n > uint64(64<<10+200*len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(b))
		}
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q has several lines", err)
			}
			return
		}
		var tensors []Source
		for _, x := range file.Tensors {
			if x.Offset < 0 || x.Size < 0 || x.Offset+x.Size > int64(len(b)) {
				t.Fatalf("tensor %+v is outside of a file of %d", x, len(b))
			}
			tensors = append(tensors, Source{x.Name, x.Type, x.Shape, nil})
		}
		p, err := layOut(file.Metadata, tensors)
		if err != nil {
			t.Fatalf("read but cannot be written: %v", err)
		}
		if p.size > int64(len(b))+2*file.Alignment {
			t.Fatalf("a file of %d bytes is written as one of %d", len(b), p.size)
		}
		// Without the data, which the fuzzer may have made large only in name.
		again, err := Read(zeros{p.header}, p.size, "again")
		if err != nil {
			t.Fatalf("written but cannot be read: %v", err)
		}
		for i, kv := range file.Metadata { // compared as bytes, in which NaN equals itself
			a, errA := appendValue(nil, kv.Value)
			b, errB := appendValue(nil, again.Metadata[i].Value)
			if kv.Key != again.Metadata[i].Key || errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Fatalf("metadata entry %d was %v and is %v", i, kv, again.Metadata[i])
			}
		}
		for i, x := range file.Tensors {
			y := again.Tensors[i]
			if x.Name != y.Name || x.Type != y.Type || x.Size != y.Size || fmt.Sprint(x.Shape) != fmt.Sprint(y.Shape) {
				t.Fatalf("tensor %d was %+v and is %+v", i, x, y)
			}
		}
	})
}

// zeros is a header followed by zeros without end.
type zeros struct{ header []byte }

func (z zeros) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(z.header)) {
		copy(b, z.header[off:])
	}
	return len(b), nil
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none.gguf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := func(name string, typ Type, shape ...int64) Source { return Source{name, typ, shape, constant()} }
	for _, c := range []struct {
		name     string
		metadata []KV
		tensors  []Source
		want     string
	}{
		{"int value", []KV{{"k", 7}}, nil, "no type for a int"},
		{"no value", []KV{{"k", nil}}, nil, "no value"},
		{"empty key", []KV{{"", "v"}}, nil, "empty key"},
		{"same key", []KV{{"k", "v"}, {"k", "v"}}, nil, `"k"`},
		{"alignment", []KV{{alignmentKey, uint32(3)}}, nil, "power of two"},
		{"same tensor", nil, []Source{ok("w", F32, 1), ok("w", F32, 1)}, `"w"`},
		{"short row", nil, []Source{ok("w", Q4_K, 128)}, "256"},
		{"huge", nil, []Source{ok("w", F32, 1<<59), ok("x", F32, 1<<59), ok("y", F32, 1<<59)}, "2^62"},
	} {
		path := filepath.Join(t.TempDir(), "bad.gguf")
		if err := Write(context.Background(), path, c.metadata, c.tensors, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to mention %q", c.name, err, c.want)
		}
		noFiles(t, filepath.Dir(path))
	}
}

func noFiles(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("%s holds %v, %v; want nothing", dir, entries, err)
	}
}

func TestNothingLeftBehind(t *testing.T) {
	big := []int64{1 << 20, 8}
	boom := errors.New("boom")
	t.Run("a source fails", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.gguf")
		err := Write(context.Background(), path, nil, []Source{{"w", I8, big, func([]byte, int64) error { return boom }}}, nil)
		if !errors.Is(err, boom) || !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("%v, want boom and the tensor", err)
		}
		noFiles(t, filepath.Dir(path))
	})
	t.Run("cancelled", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.gguf")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		err := Write(ctx, path, nil, []Source{{"w", I8, big, func([]byte, int64) error { cancel(boom); return nil }}}, nil)
		if !errors.Is(err, boom) {
			t.Errorf("%v, want the cause of the cancellation", err)
		}
		noFiles(t, filepath.Dir(path))
	})
	t.Run("two writers", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.gguf")
		inner := func([]byte, int64) error {
			return Write(context.Background(), path, nil, []Source{{"w", I8, []int64{1}, constant(1)}}, nil)
		}
		err := Write(context.Background(), path, nil, []Source{{"w", I8, []int64{1}, inner}}, nil)
		if err == nil || !strings.Contains(err.Error(), "another process is writing it") {
			t.Errorf("%v, want the second writer refused", err)
		}
	})
	t.Run("after a kill", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path+".partial", make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Write(context.Background(), path, []KV{{"name", "toy"}}, []Source{{"w", I8, []int64{2}, constant(42, 0xd6)}}, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, golden(t)) {
			t.Errorf("the leftovers show in the new file: %v", err)
		}
	})
}

// TestFullDisk fills a tmpfs of 1 MiB, found full when the space is reserved.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, 0)
	path := filepath.Join(dir, "x.gguf")
	produced := false
	err := Write(context.Background(), path, nil, []Source{{"w", I8, []int64{1 << 20, 2}, func([]byte, int64) error {
		produced = true
		return nil
	}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "disk full: the file needs 2.0 MiB and 1.0 MiB are free") {
		t.Errorf("%v, want the disk called full with both sizes", err)
	}
	if produced {
		t.Error("work was done before the disk was found full")
	}
	noFiles(t, dir)
}
