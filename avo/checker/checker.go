// Package checker calls assembly functions the way a hostile but lawful caller would, and reports every rule of their
// calling convention that they break. It is for tests, fuzz targets and benchmarks, in the spirit of dav1d's checkasm.
//
// Two conventions are known: Go's ABI0, for the committed Go assembly, and System V AMD64, for what GNU as makes of the
// printed twin, loaded into the test process without cgo. A function runs on a stack of its own between guard pages and
// canaries, with random junk in every register that the convention leaves undefined. A fault inside it, or not coming back,
// fails the test that called it and names the buffer it ran out of; it does not end the process.
//
// Everything random comes from Rand, and every failure names the seed.
package checker

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"
)

type convention string

const (
	abi0    convention = "ABI0"
	systemV convention = "System V"
)

// Func is an assembly function that returns nothing.
type Func struct {
	Name string
	// Frame is how many bytes below its return address the function may write: locals, saved registers and, in System V,
	// the 128 bytes of red zone. Writing lower fails the call.
	Frame int

	abi   convention
	entry uintptr
}

// ABI0 is the Go assembly function at the ABI0 entry address addr, whose TEXT line declares frame bytes of locals. It must be
// NOSPLIT, or be made so by the assembler (a leaf with less than 128 bytes of frame). Assembly publishes such an address as
//
//	DATA ·kernelAddr(SB)/8, $·kernel(SB)
//	GLOBL ·kernelAddr(SB), RODATA, $8
//
// beside `var kernelAddr uintptr` in Go.
func ABI0(name string, addr uintptr, frame int) Func {
	if frame > 0 {
		frame += 8 // the assembler saves BP in functions with a frame
	}
	return Func{Name: name, Frame: frame, abi: abi0, entry: addr}
}

func (f Func) String() string { return f.Name + " (" + string(f.abi) + ")" }

const (
	maxArgs  = 14
	maxFrame = 16 << 10
)

// limit is far beyond any kernel on any test's data.
var limit = 10 * time.Second

// A 64-bit word of NaNs, whether read as two floats or one double, and the bits of it that may vary.
const (
	nans    = 0x7ff8_0000_7fc0_0000
	payload = 0x8007_ffff_803f_ffff
)

// Indexes into the general registers, in the order of their encoding.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

var gpNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

const (
	mxcsrControl = 0xffc0 // what mxcsr's owner sets; the six bits below only record what happened
	direction    = 1 << 10
)

// state is what the trampoline in call_amd64.s and Go tell each other.
type state struct {
	entry   uintptr
	checked uint32 // seed and read back the vector state
	tid     uint32 // the calling thread
	//lint:ignore U1000 set by the trampoline while that thread is inside the function
	armed uint32

	gp     [16]uint64 // registers at the call, and after it
	gpOut  [16]uint64
	opmask [8]uint64
	zmm    [32][8]uint64
	zmmOut [16][8]uint64

	flagsOut uint64
	mxcsrOut uint32

	goMXCSR uint32 // the trampoline's own
	//lint:ignore U1000 the trampoline's own
	goSP, goBP uint64

	signal    uint32 // that ended the call, or 0; the rest describes it
	faultAddr uint64
	faultPC   uint64
	faultErr  uint64
	faultTrap uint64
}

var (
	mu  sync.Mutex // one call at a time: there is one state and one stack
	now state
	// alive holds the arguments of the running call: it puts what they point to on the heap, where nothing moves.
	alive []any
)

// call enters now.entry. See call_amd64.s.
func call()

// foreignStack is the stack that functions run on, between two guard pages.
var foreignStack = sync.OnceValue(func() region {
	const room = 4 << 10 // for arguments and the canaries above them
	return mapRegion(maxFrame + 2*room)
})

// stackJunk is what the stack holds before a call, from a random offset on: canaries, and what locals start as.
var stackJunk = sync.OnceValue(func() []byte {
	junk := make([]byte, len(foreignStack().bytes)+junkOffsets)
	fillRandom(junk, rand.New(rand.NewPCG(1, 2)))
	return junk
})

const junkOffsets = 4 << 10

// Call calls f once with args and fails tb if f breaks its calling convention, faults, does not return within 10 seconds, or
// changes a byte around any buffer of this package.
//
// An argument is a slice or a pointer (its address is passed), an unsafe.Pointer, an int, int64, uint64 or uintptr, or an
// int32 or uint32: those leave junk in the upper half of their register or stack slot. At most 14 are passed. ABI0 lays them
// out as Go does, each aligned to its size, so two neighbouring 32-bit arguments share 8 bytes; System V gives each a
// register or 8 bytes of stack. Call skips the test where the CPU lacks AVX-512.
func (f Func) Call(tb testing.TB, args ...any) {
	tb.Helper()
	needAVX512(tb)
	s := streamOf(tb)
	mu.Lock()
	defer mu.Unlock()

	c := f.prepare(tb, s.Rand, args)
	defer release()
	now.checked = 1
	for i := range now.opmask {
		now.opmask[i] = s.Uint64()
	}
	for i := range now.zmm {
		for j := range now.zmm[i] {
			now.zmm[i][j] = nans | s.Uint64()&payload
		}
	}
	enter()

	var broken []string
	fault := now.signal != 0
	if fault {
		broken = append(broken, f.faulted(c))
	} else {
		broken = f.clobbered(c)
	}
	broken = append(broken, c.trespasses(f)...)
	broken = append(broken, bufferTrespasses()...)
	for _, b := range broken {
		tb.Errorf("%v: %s (ZT_SEED=%d)", f, b, s.seed)
	}
	if fault {
		tb.FailNow() // what it computed is not worth comparing
	}
}

// Bench runs f under b's loop with none of the checks but the guard pages, on the same stack, and states throughput as bytes
// a call. args are as in Call.
func (f Func) Bench(b *testing.B, bytes int64, args ...any) {
	b.Helper()
	needAVX512(b)
	s := streamOf(b)
	mu.Lock()
	defer mu.Unlock()
	c := f.prepare(b, s.Rand, args)
	defer release()
	now.checked = 0
	b.SetBytes(bytes)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now.tid = uint32(unix.Gettid())
	stackArgs := c.stack.bytes[c.sp-c.stack.addr():][:c.argBytes]
	saved := append([]byte(nil), stackArgs...)
	for b.Loop() {
		copy(stackArgs, saved) // they belong to the callee, which may have changed them
		call()
		if now.signal != 0 {
			b.Fatalf("%v: %s", f, f.faulted(c))
		}
	}
}

func needAVX512(tb testing.TB) {
	tb.Helper()
	if !cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL) {
		tb.Skip("this CPU lacks AVX-512 (F, BW, DQ, VL)")
	}
}

// frame is the stack of one call.
type frame struct {
	stack    region
	sp       uintptr // at the call instruction: the address of the first stack argument
	argBytes uintptr
	junk     []byte // what the stack held before its arguments were written
}

// prepare fills the stack, the general registers and the arguments of a call. The caller holds mu.
func (f Func) prepare(tb testing.TB, rng *rand.Rand, a []any) frame {
	tb.Helper()
	if len(a) > maxArgs {
		tb.Fatalf("%v: %d arguments; checker passes at most %d", f, len(a), maxArgs)
	}
	if f.Frame > maxFrame {
		tb.Fatalf("%v: a frame of %d bytes; checker has room for %d", f, f.Frame, maxFrame)
	}
	if f.abi == abi0 && splitsStack(f.entry) {
		tb.Fatalf("%v: begins with Go's stack check and so cannot run on another stack; mark it NOSPLIT", f)
	}
	installHandler()
	alive = a

	now.entry = f.entry
	now.signal = 0
	for i := range now.gp {
		now.gp[i] = rng.Uint64()
	}

	// The arguments' bytes, in junk.
	var area [8 * maxArgs]byte
	for i := 0; i < len(area); i += 8 {
		binary.LittleEndian.PutUint64(area[i:], rng.Uint64())
	}
	c := frame{stack: foreignStack(), junk: stackJunk()[rng.IntN(junkOffsets):]}
	registers := []int{rdi, rsi, rdx, rcx, r8, r9}
	for i, arg := range a {
		value, size := argument(tb, f, i, arg)
		if f.abi == systemV && i < len(registers) {
			junk := now.gp[registers[i]] << (8*size - 1) << 1
			now.gp[registers[i]] = value | junk
			continue
		}
		if f.abi == systemV {
			c.argBytes += -c.argBytes & 7
		} else {
			c.argBytes += -c.argBytes & (size - 1)
		}
		var le [8]byte
		binary.LittleEndian.PutUint64(le[:], value)
		copy(area[c.argBytes:], le[:size])
		c.argBytes += size
	}
	c.argBytes += -c.argBytes & 7

	// The convention promises an alignment and no more, so within it the stack pointer is random.
	align := uintptr(8)
	if f.abi == systemV {
		align = 16
	}
	const above = 1 << 10 // canaries
	c.sp = c.stack.end() - above - uintptr(len(area)) - align*uintptr(rng.IntN(16))
	c.sp &^= align - 1
	now.gp[rsp] = uint64(c.sp)

	copy(c.stack.bytes, c.junk)
	copy(c.stack.bytes[c.sp-c.stack.addr():], area[:c.argBytes])
	return c
}

// splitsStack reports whether the code at entry begins as Go's stack check does, by loading g: mov fs:[-8] to a register.
func splitsStack(entry uintptr) bool {
	code := **(**[9]byte)(unsafe.Pointer(&entry))
	return code[0] == 0x64 && code[2] == 0x8b && binary.LittleEndian.Uint32(code[5:]) == 0xfffffff8
}

// argument returns the bits of argument i and how many bytes of them the convention defines.
func argument(tb testing.TB, f Func, i int, arg any) (value uint64, size uintptr) {
	tb.Helper()
	switch v := arg.(type) {
	case int32:
		return uint64(uint32(v)), 4
	case uint32:
		return uint64(v), 4
	case int:
		return uint64(v), 8
	case int64:
		return uint64(v), 8
	case uint64:
		return v, 8
	case uintptr:
		return uint64(v), 8
	}
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.Slice, reflect.Pointer, reflect.UnsafePointer:
		return uint64(v.Pointer()), 8
	}
	tb.Fatalf("%v: argument %d is a %T; checker passes slices, pointers, and 32- and 64-bit integers", f, i, arg)
	panic("unreachable")
}

// enter makes the prepared call. The caller holds mu.
func enter() {
	runtime.LockOSThread() // the signal handler knows the call by its thread
	defer runtime.UnlockOSThread()
	now.tid = uint32(unix.Gettid())
	stop := startTimer(now.tid)
	call()
	stop()
}

func release() {
	runtime.KeepAlive(alive)
	alive = nil
}

// clobbered says what f did to the machine state that it had to preserve.
func (f Func) clobbered(c frame) (broken []string) {
	saved := []int{rbp}
	if f.abi == systemV {
		saved = []int{rbx, rbp, r12, r13, r14, r15}
	}
	for _, r := range saved {
		if now.gpOut[r] != now.gp[r] {
			broken = append(broken, fmt.Sprintf("clobbers %s: %#x before, %#x after", gpNames[r], now.gp[r], now.gpOut[r]))
		}
	}
	if off := int64(now.gpOut[rsp] - now.gp[rsp]); off != 0 {
		broken = append(broken, fmt.Sprintf("returns with rsp off by %+d bytes", off))
	}
	if now.flagsOut&direction != 0 {
		broken = append(broken, "leaves the direction flag set")
	}
	if (now.mxcsrOut^now.goMXCSR)&mxcsrControl != 0 {
		broken = append(broken, fmt.Sprintf("changes mxcsr: %#x before, %#x after", now.goMXCSR, now.mxcsrOut))
	}
	// The upper parts must be zero, or never have been touched. Their contents show it on every CPU and hypervisor, which
	// XGETBV's XINUSE does not, and let the registers hold junk before the call.
	var dirty []string
	for r, after := range now.zmmOut {
		for i := 2; i < 8; i++ {
			if after[i] != 0 && after[i] != now.zmm[r][i] {
				dirty = append(dirty, fmt.Sprintf("zmm%d", r))
				break
			}
		}
	}
	if dirty != nil {
		broken = append(broken, "returns without VZEROUPPER: dirty "+strings.Join(dirty, ", "))
	}
	return broken
}

// trespasses says what f wrote on the stack outside its arguments and its frame.
func (c frame) trespasses(f Func) (broken []string) {
	const returnAddress = 8
	sp := int(c.sp - c.stack.addr())
	low, high := sp-returnAddress-f.Frame, sp+int(c.argBytes)
	if i := lastDifference(c.stack.bytes[:low], c.junk[:low]); i >= 0 {
		broken = append(broken, fmt.Sprintf("writes below its stack: %d bytes below its return address, with a frame of %d",
			sp-returnAddress-i, f.Frame))
	}
	if i := firstDifference(c.stack.bytes[high:], c.junk[high:]); i >= 0 {
		broken = append(broken, fmt.Sprintf("writes above its arguments: %d bytes above its return address, with %d of arguments",
			high+i-sp+returnAddress, c.argBytes))
	}
	return broken
}
