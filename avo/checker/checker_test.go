package checker

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker/internal/fixture"
)

// recorder is a testing.TB that keeps failures to itself.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) { r.failures = append(r.failures, fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}
func (r *recorder) FailNow() { runtime.Goexit() }

// failures returns what f reports to its testing.TB.
func failures(t *testing.T, f func(tb testing.TB)) []string {
	t.Helper()
	needAVX512(t)
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.failures
}

// wantFailure requires one failure that matches want and names the function and the seed.
func wantFailure(t *testing.T, name, want string, f func(tb testing.TB)) {
	t.Helper()
	got := failures(t, f)
	if len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
		t.Errorf("%s reports %q, want one failure matching %q", name, got, want)
		return
	}
	if !strings.HasPrefix(got[0], name+" (") || !strings.Contains(got[0], "ZT_SEED=") {
		t.Errorf("%q should begin with the function's name and end with the seed", got[0])
	}
}

const sound = `
	.section .rodata
	.p2align 6
table:	.quad 11, 22, 33, 44
	.text

	.macro function name
	.globl \name
	.type \name, @function
\name:
	.endm

# sum(dst, a1..a13): *dst = sum of i*a_i
	function sum
	pushq %rbx
	mov %rsi, %rax
	imul $2, %rdx, %rbx
	add %rbx, %rax
	imul $3, %rcx, %rbx
	add %rbx, %rax
	imul $4, %r8, %rbx
	add %rbx, %rax
	imul $5, %r9, %rbx
	add %rbx, %rax
	i = 6
	.rept 8
	imul $i, 16+8*(i-6)(%rsp), %rbx
	add %rbx, %rax
	i = i + 1
	.endr
	mov %rax, (%rdi)
	popq %rbx
	ret

# mixed(dst, int32, int32, int64, uint32): *dst = the four, widened
	function mixed
	movslq %esi, %rsi
	mov %rsi, (%rdi)
	movslq %edx, %rdx
	mov %rdx, 8(%rdi)
	mov %rcx, 16(%rdi)
	mov %r8d, %r8d
	mov %r8, 24(%rdi)
	ret

# lookup(dst, i): *dst = table[i], by way of an aligned slot in the red zone
	function lookup
	lea table(%rip), %rax
	mov (%rax,%rsi,8), %rax
	vmovq %rax, %xmm1
	movaps %xmm1, -24(%rsp)
	mov -24(%rsp), %rax
	mov %rax, (%rdi)
	ret

	function zeroupper
	vpabsb %ymm21, %ymm9
	vpternlogd $0xff, %zmm1, %zmm1, %zmm1
	vzeroupper
	ret

	function high_registers
	vpternlogd $0xff, %zmm16, %zmm16, %zmm31
	kxnorq %k1, %k1, %k1
	ret

	function callee_saved
	.irp r, rbx, rbp, r12, r13, r14, r15
	push %\r
	xor %\r, %\r
	.endr
	.irp r, r15, r14, r13, r12, rbp, rbx
	pop %\r
	.endr
	ret

# copy(dst, src, n int32)
	function copy
	mov %edx, %ecx
	rep movsb
	ret

# spin(n)
	function spin
1:	dec %rdi
	jne 1b
	ret
`

func TestSoundSystemV(t *testing.T) {
	needAVX512(t)
	f := Assemble(t, sound)
	rng := Rand(t)
	for range 200 {
		var dst [4]int64
		a := make([]any, 14)
		var want int64
		a[0] = &dst
		for i := 1; i < 14; i++ {
			v := rng.Int64()
			a[i] = v
			want += int64(i) * v
		}
		f["sum"].Call(t, a...)
		if dst[0] != want {
			t.Fatalf("sum: %d, want %d", dst[0], want)
		}
		mixed(t, f["mixed"])
		f["lookup"].Call(t, &dst, 2)
		if dst[0] != 33 {
			t.Fatalf("lookup: %d, want 33", dst[0])
		}
		f["zeroupper"].Call(t)
		f["high_registers"].Call(t)
		f["callee_saved"].Call(t)
		n := rng.IntN(300)
		src := AtEnd[int8](t, "src", n, 1)
		for _, dst := range [][]int8{AtEnd[int8](t, "dst", n, 1), AtStart[int8](t, "dst", n)} {
			f["copy"].Call(t, dst, src, int32(n))
			for i := range dst {
				if dst[i] != src[i] {
					t.Fatalf("copy of %d: byte %d differs", n, i)
				}
			}
		}
	}
}

func TestSoundABI0(t *testing.T) {
	needAVX512(t)
	sum := ABI0("Sum", fixture.SumAddr, 0)
	locals := ABI0("Locals", fixture.LocalsAddr, 64)
	rng := Rand(t)
	for range 200 {
		var dst, want uint64
		a := make([]any, 14)
		a[0] = &dst
		for i := 1; i < 14; i++ {
			v := rng.Uint64()
			a[i] = v
			want += uint64(i) * v
		}
		sum.Call(t, a...)
		if dst != want {
			t.Fatalf("Sum: %d, want %d", dst, want)
		}
		v := rng.Uint64()
		locals.Call(t, &dst, v)
		if dst != v {
			t.Fatalf("Locals: %d, want %d", dst, v)
		}
		mixed(t, ABI0("Mixed", fixture.MixedAddr, 0))
	}
}

// mixed checks that 32-bit arguments arrive in the places of f's convention.
func mixed(t *testing.T, f Func) {
	t.Helper()
	rng := Rand(t)
	var got [4]int64
	a, b, c, d := int32(rng.Uint32()), int32(rng.Uint32()), rng.Int64(), rng.Uint32()
	f.Call(t, &got, a, b, c, d)
	if want := [4]int64{int64(a), int64(b), c, int64(d)}; got != want {
		t.Fatalf("%v stores %d, want %d", f, got, want)
	}
}

// brokenSystemV are functions that each break one rule, and what the report of it says.
var brokenSystemV = []struct {
	name, code string
	args       func(tb testing.TB) []any
	want       string
}{
	{"rbx", "xor %ebx, %ebx", nil, `clobbers rbx: 0x[0-9a-f]+ before, 0x0 after`},
	{"rbp", "xor %ebp, %ebp", nil, `clobbers rbp`},
	{"r12", "inc %r12", nil, `clobbers r12`},
	{"r13", "inc %r13", nil, `clobbers r13`},
	{"r14", "inc %r14", nil, `clobbers r14`},
	{"r15", "inc %r15", nil, `clobbers r15`},
	{"rsp_high", "ret $24", nil, `rsp off by \+24`},
	{"rsp_low", "mov (%rsp), %rax; sub $16, %rsp; jmp *%rax", nil, `rsp off by -24`},
	{"direction", "std", nil, `direction flag`},
	{"mxcsr", "movl $0x9f80, -4(%rsp); ldmxcsr -4(%rsp)", nil, `changes mxcsr: 0x1f[0-9a-f]+ before, 0x9f80 after`},
	{"dirty_zmm", "vpabsb %zmm20, %zmm6", nil, `without VZEROUPPER: dirty zmm6 `},
	{"dirty_ymm", "vpabsb %ymm20, %ymm15", nil, `without VZEROUPPER: dirty zmm15 `},
	{"below", "notb -4097(%rsp)", nil, `writes below its stack: 4097 bytes below its return address, with a frame of 4096`},
	{"above", "notl 8(%rsp)", nil, `writes above its arguments: 8 bytes above its return address, with 0`},
	{"above_args", "notl 24(%rsp)", func(testing.TB) []any { return []any{1, 2, 3, 4, 5, 6, 7, 8} },
		`writes above its arguments: 24 bytes above its return address, with 16`},
	{"overflow", "mov %al, -25000(%rsp)", nil, `writes beyond the end of its stack, at overflow`},
	{"write_after", "notb 100(%rdi)", atEnd, `writes byte 1 past the end of buffer "b" \(100 bytes\), at write_after\+0x0`},
	{"read_after", "mov 97(%rdi), %eax", atEnd, `reads byte 1 past the end of buffer "b" \(100 bytes\)`},
	{"write_before", "notb -1(%rdi)", atEnd, `wrote byte 1 before the start of buffer "b"`},
	{"read_before", "mov -1(%rdi), %al", atStart, `reads byte 1 before the start of buffer "b"`},
	{"write_after_canary", "notb 100(%rdi)", atStart, `wrote byte 1 past the end of buffer "b"`},
	{"upper_half", "mov (%rdi,%rsi), %al", func(tb testing.TB) []any {
		return []any{AtEnd[byte](tb, "b", 100, 1), int32(5)}
	}, `faults at|reads 0x[0-9a-f]+, which is no buffer`},
	{"null", "mov 0, %eax", nil, `reads 0x0, which is no buffer`},
	{"wild", "mov $0x1234, %eax; jmp *%rax", nil, `jumps to 0x1234, which is no buffer of this test's, at pc 0x1234`},
	{"illegal", "ud2", nil, `does not have, at illegal\+0x0`},
	{"breakpoint", "int3", nil, `INT3`},
	{"divide", "xor %ecx, %ecx; div %ecx", nil, `divides by zero at divide\+0x2`},
	{"misaligned", "movaps -16(%rsp), %xmm0", nil, `misaligned`},
}

func atEnd(tb testing.TB) []any   { return []any{AtEnd[byte](tb, "b", 100, 1)} }
func atStart(tb testing.TB) []any { return []any{AtStart[byte](tb, "b", 100)} }

func TestBrokenSystemV(t *testing.T) {
	needAVX512(t)
	var source strings.Builder
	for _, b := range brokenSystemV {
		fmt.Fprintf(&source, ".type %s, @function\n%s:\n\t%s\n\tret\n", b.name, b.name, b.code)
	}
	f := Assemble(t, source.String())
	for _, b := range brokenSystemV {
		t.Run(b.name, func(t *testing.T) {
			for range 50 {
				wantFailure(t, b.name, b.want, func(tb testing.TB) {
					var args []any
					if b.args != nil {
						args = b.args(tb)
					}
					f[b.name].Call(tb, args...)
				})
				if t.Failed() {
					break
				}
			}
		})
	}
}

func TestBrokenABI0(t *testing.T) {
	for _, b := range []struct {
		name  string
		addr  uintptr
		frame int
		args  func(tb testing.TB) []any
		want  string
	}{
		{"BadBP", fixture.BadBPAddr, 0, nil, `clobbers rbp`},
		{"BadSP", fixture.BadSPAddr, 0, nil, `rsp off by \+8`},
		{"Dirty", fixture.DirtyAddr, 0, nil, `without VZEROUPPER: dirty zmm3 `},
		{"Below", fixture.BelowAddr, 16, nil, `writes below its stack: 25 bytes below its return address, with a frame of 24`},
		{"Load", fixture.LoadAddr, 0, func(tb testing.TB) []any {
			b := AtEnd[byte](tb, "b", 64, 64)
			return []any{unsafe.Add(unsafe.Pointer(&b[0]), 64)}
		}, `reads byte 1 past the end of buffer "b"`},
	} {
		t.Run(b.name, func(t *testing.T) {
			wantFailure(t, b.name, b.want, func(tb testing.TB) {
				var args []any
				if b.args != nil {
					args = b.args(tb)
				}
				ABI0(b.name, b.addr, b.frame).Call(tb, args...)
			})
		})
	}
}

// What the convention leaves undefined is junk, different each time; rsp has the promised alignment and no more.
func TestJunk(t *testing.T) {
	needAVX512(t)
	f := Assemble(t, `
	.type dump, @function
dump:	mov %rsp, (%rdi)
	mov %rax, 8(%rdi)
	mov %r10, 16(%rdi)
	mov %r11, 24(%rdi)
	mov %rsi, 32(%rdi)
	.irp k, 0,1,2,3,4,5,6,7
	kmovq %k\k, 64+8*\k(%rdi)
	.endr
	.irp z, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovdqu64 %zmm\z, 128+64*\z(%rdi)
	.endr
	ret
`)["dump"]
	const words = 16 + 32*8
	seen := map[uint64]int{}
	var sp [4]int
	for range 100 {
		got := AtEnd[uint64](t, "dump", words, 64)
		f.Call(t, got, uint32(7))
		if got[0]%16 != 8 {
			t.Fatalf("rsp is %#x at the entry", got[0])
		}
		sp[got[0]%64/16]++
		if uint32(got[4]) != 7 {
			t.Fatalf("a 32-bit 7 arrives as %#x", got[4])
		}
		for i, w := range got[1:] {
			if i+1 >= 5 && i+1 < 8 {
				continue // not written
			}
			seen[w]++
			if i+1 >= 16 && (!math.IsNaN(math.Float64frombits(w)) || !math.IsNaN(float64(math.Float32frombits(uint32(w))))) {
				t.Fatalf("word %d of zmm%d is %#x, which is not NaN", (i+1)%8, (i+1-16)/8, w)
			}
		}
	}
	for w, n := range seen {
		if n > 1 {
			t.Errorf("%#x occurs %d times", w, n)
		}
	}
	for i, n := range sp {
		if n == 0 {
			t.Errorf("rsp was never %d modulo 64", 16*i+8)
		}
	}
}

// What a caller does wrong ends the test before the call.
func TestBadCalls(t *testing.T) {
	sum := ABI0("Sum", fixture.SumAddr, 0)
	for want, f := range map[string]func(testing.TB){
		"mark it NOSPLIT":              func(tb testing.TB) { ABI0("Split", fixture.SplitAddr, 256).Call(tb, 1) },
		"15 arguments; .* at most 14":  func(tb testing.TB) { sum.Call(tb, make([]any, 15)...) },
		"argument 1 is a float32":      func(tb testing.TB) { sum.Call(tb, 1, float32(2)) },
		"argument 0 is a <nil>":        func(tb testing.TB) { sum.Call(tb, nil) },
		"room for":                     func(tb testing.TB) { ABI0("Big", fixture.SumAddr, 1<<20).Call(tb) },
		"aligned to 3":                 func(tb testing.TB) { AtEnd[byte](tb, "b", 8, 3) },
		"as: exit status 1(?s:.*)nope": func(tb testing.TB) { Assemble(tb, "\tnope\n") },
		"undefined reference to .*far": func(tb testing.TB) { Assemble(tb, "\tcall far\n") },
		"absolute addresses":           func(tb testing.TB) { Assemble(tb, "f: ret\n .data\n .quad f\n") },
	} {
		got := failures(t, f)
		if len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
			t.Errorf("got %q, want one failure matching %q", got, want)
		}
	}
}

func TestNoBinutils(t *testing.T) {
	skipped := false
	t.Run("empty PATH", func(t *testing.T) {
		t.Cleanup(func() { skipped = t.Skipped() })
		t.Setenv("PATH", "")
		Assemble(t, sound)
	})
	if !skipped {
		t.Error("a test that assembles without binutils is not skipped")
	}
}

// A test that writes around a buffer itself, without a call, hears of it when it ends.
func TestTrespassWithoutCall(t *testing.T) {
	r := &recorder{}
	t.Run("buffer", func(t *testing.T) {
		r.TB = t
		b := AtEnd[byte](r, "b", 100, 1)
		*(*byte)(unsafe.Add(unsafe.Pointer(&b[0]), -3)) ^= 1
	})
	if want := `something wrote byte 3 before the start of buffer "b"`; len(r.failures) != 1 || !strings.HasPrefix(r.failures[0], want) {
		t.Errorf("got %q, want one failure that begins with %s", r.failures, want)
	}
}

func TestTimeout(t *testing.T) {
	needAVX512(t)
	f := Assemble(t, sound)["spin"]
	defer func(d time.Duration) { limit = d }(limit)
	limit = 30 * time.Millisecond
	wantFailure(t, "spin", `has not returned after 30ms, at spin\+0x0`, func(tb testing.TB) { f.Call(tb, 0) })
	f.Call(t, 1) // and the harness still works
}

// A fault in Go code is still a Go panic once the harness has been at work.
func TestGoFaults(t *testing.T) {
	needAVX512(t)
	ABI0("Spin", fixture.SpinAddr, 0).Call(t, 1)
	defer func() {
		if err, ok := recover().(runtime.Error); !ok || !strings.Contains(err.Error(), "nil pointer") {
			t.Errorf("a nil dereference panics with %v", err)
		}
	}()
	var p *int
	*p = 1
}

// The runtime preempts, collects and profiles while a thread is on the foreign stack.
func TestSignalsDuringCall(t *testing.T) {
	needAVX512(t)
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("GOMAXPROCS is 1")
	}
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Logf("without a CPU profile: %v", err)
	} else {
		defer pprof.StopCPUProfile()
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		defer debug.SetGCPercent(debug.SetGCPercent(10))
		var keep [][]byte
		cycles := 0
		for {
			select {
			case <-stop:
				stopped <- cycles
				runtime.KeepAlive(keep)
				return
			default:
				keep = append(keep[max(0, len(keep)-100):], make([]byte, 10_000))
				runtime.GC()
				cycles++
			}
		}
	}()
	const n = 100_000_000 // about 30 ms
	begin := time.Now()
	sysv := Assemble(t, sound)["spin"]
	for range 8 {
		sysv.Call(t, n)
		ABI0("Spin", fixture.SpinAddr, 0).Call(t, n)
	}
	each := time.Since(begin) / 16
	close(stop)
	if cycles := <-stopped; cycles == 0 || each < 10*time.Millisecond {
		t.Errorf("%d collections during calls of %v: too few or too short to show anything", cycles, each)
	}
}

func TestSeed(t *testing.T) {
	t.Setenv("ZT_SEED", "42")
	draw := func(name string) (v uint64) {
		t.Run(name, func(t *testing.T) { v = Rand(t).Uint64() })
		return v
	}
	a, b := draw("a"), draw("b")
	if a == b {
		t.Error("two tests draw the same numbers")
	}
	var again uint64
	t.Run("again", func(t *testing.T) {
		again = Rand(named{t, "TestSeed/a"}).Uint64()
	})
	if again != a {
		t.Errorf("ZT_SEED=42 gives %d, then %d", a, again)
	}
	t.Setenv("ZT_SEED", "x")
	if got := failures(t, func(tb testing.TB) { Rand(tb) }); len(got) != 1 || !strings.Contains(got[0], "ZT_SEED=x") {
		t.Errorf("ZT_SEED=x reports %q, want a failure that names it", got)
	}
}

type named struct {
	testing.TB
	name string
}

func (n named) Name() string { return n.name }

func BenchmarkCall(b *testing.B) {
	var dst uint64
	ABI0("Locals", fixture.LocalsAddr, 64).Bench(b, 8, &dst, 5)
	if dst != 5 {
		b.Errorf("Locals stores %d, want 5", dst)
	}
}

func BenchmarkCheckedCall(b *testing.B) {
	var dst uint64
	f := ABI0("Locals", fixture.LocalsAddr, 64)
	for b.Loop() {
		f.Call(b, &dst, 5)
	}
}
