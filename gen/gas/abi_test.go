package gas_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/cpuid/v2"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
)

// callee has functions that take every kind of argument in registers and on the stack, write every register that C expects
// back, and return every kind of result. They use nothing beyond SSE2 and AVX.
func callee(ctx *build.Context) {
	// zt_pack stores its arguments, each widened to 8 bytes.
	ctx.Function("zt_pack")
	ctx.SignatureExpr("func(out *[13]int64, a int8, b uint16, c int32, d bool, x float32, e int64, f uint8, h int16, y float64, i uint32, j int64, k *byte) int64")
	local := ctx.AllocLocal(24)
	scratch := []reg.GPPhysical{reg.RBX, reg.RBP, reg.R12, reg.R13, reg.R14, reg.R15}
	out := reg.RSI // an argument register of another argument
	ctx.Load(ctx.Param("out"), out)
	for k, name := range []string{"a", "b", "c", "d", "e", "f", "h", "i", "j", "k"} {
		r := scratch[k%len(scratch)]
		ctx.Load(ctx.Param(name), r)
		ctx.MOVQ(r, local.Offset(8*(k%3)))
		ctx.MOVQ(local.Offset(8*(k%3)), r)
		ctx.MOVQ(r, Mem{Base: out, Disp: 8 * k})
	}
	ctx.Load(ctx.Param("x"), reg.X3)
	ctx.MOVSS(reg.X3, Mem{Base: out, Disp: 80})
	ctx.Load(ctx.Param("y"), reg.X3)
	ctx.MOVSD(reg.X3, Mem{Base: out, Disp: 88})
	ctx.MOVQ(I32(-7), reg.RDI)
	for _, r := range scratch {
		ctx.MOVQ(reg.RDI, r)
	}
	ctx.TESTQ(reg.RDI, reg.RDI)
	ctx.JMI(LabelRef("negative"))
	ctx.Store(reg.RSI, ctx.ReturnIndex(0))
	ctx.RET()
	ctx.Label("negative")
	ctx.Store(reg.RDI, ctx.ReturnIndex(0))
	ctx.RET()

	// More floats than registers.
	ctx.Function("zt_ninth")
	ctx.SignatureExpr("func(a, b, c, d, e, f, h, i, j float32) float32")
	ctx.Load(ctx.Param("j"), reg.X0)
	ctx.Load(ctx.Param("h"), reg.X1)
	ctx.VSUBSS(reg.X1, reg.X0, reg.X5)
	ctx.Store(reg.X5, ctx.ReturnIndex(0))
	ctx.MOVQ(I32(0), reg.RAX)
	ctx.VMOVQ(reg.RAX, reg.X0)
	ctx.RET()

	ctx.Function("zt_low")
	ctx.SignatureExpr("func(a int64) int8")
	ctx.Load(ctx.Param("a"), reg.RCX)
	ctx.MOVB(reg.CL, NewParamAddr("ret", 8))
	ctx.RET()

	ctx.Function("zt_double")
	ctx.SignatureExpr("func(p *float64) float64")
	ctx.Load(ctx.Param("p"), reg.RAX)
	ctx.VMOVSD(Mem{Base: reg.RAX}, reg.X9)
	ctx.VADDSD(reg.X9, reg.X9, reg.X9)
	ctx.Store(reg.X9, ctx.ReturnIndex(0))
	ctx.RET()

	// Data that other files see, reached relative to rip.
	numbers := ctx.StaticGlobal("zt_numbers")
	ctx.AddDatum(0, I32(-5))
	ctx.AddDatum(4, I32(6))
	ctx.Function("zt_number")
	ctx.SignatureExpr("func(k uint32) int32")
	ctx.Load(ctx.Param("k"), reg.RAX)
	ctx.LEAQ(numbers, reg.RDX)
	ctx.MOVL(Mem{Base: reg.RDX, Index: reg.RAX, Scale: 4}, reg.EAX)
	ctx.Store(reg.EAX, ctx.ReturnIndex(0))
	ctx.RET()

	// Nothing to save, nothing to read.
	ctx.Function("zt_nothing")
	ctx.SignatureExpr("func()")
	ctx.RET()
}

// caller fills the registers that a callee preserves, calls zt_pack through them and looks at them again. The stack
// pointer must come back too, or the return would not work.
const caller = `
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern int64_t zt_pack(int64_t *out, int8_t a, uint16_t b, int32_t c, _Bool d, float x, int64_t e, uint8_t f, int16_t h,
                       double y, uint32_t i, int64_t j, const char *k);
extern float zt_ninth(float a, float b, float c, float d, float e, float f, float h, float i, float j);
extern int8_t zt_low(int64_t a);
extern double zt_double(const double *p);
extern int32_t zt_number(uint32_t k);
extern void zt_nothing(void);

extern int64_t preserved(int64_t *out, int64_t registers[6]);
__asm__(
    ".text\npreserved:\n"
    "  push %rbx\n  push %rbp\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n  push %rsi\n"
    "  mov $11, %ebx\n  mov $12, %ebp\n  mov $13, %r12d\n  mov $14, %r13d\n  mov $15, %r14d\n  mov $16, %r15d\n"
    "  xor %esi, %esi\n  xor %edx, %edx\n  xor %ecx, %ecx\n  xor %r8d, %r8d\n  xor %r9d, %r9d\n"
    "  sub $64, %rsp\n  call zt_pack\n  add $64, %rsp\n  pop %rsi\n"
    "  mov %rbx, (%rsi)\n  mov %rbp, 8(%rsi)\n  mov %r12, 16(%rsi)\n  mov %r13, 24(%rsi)\n"
    "  mov %r14, 32(%rsi)\n  mov %r15, 40(%rsi)\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbp\n  pop %rbx\n  ret\n");

static int failures, steps;
static void *home; // the address that unwind returns to

static void check(const char *what, int64_t got, int64_t want) {
    if (got != want) {
        printf("%s is %lld, want %lld\n", what, (long long) got, (long long) want);
        failures++;
    }
}

static void step(int signal) {
    void *frames[32];
    int n = backtrace(frames, 32), found = 0;
    for (int i = 0; i < n; i++) {
        found |= frames[i] == home;
    }
    steps++;
    failures += !found;
}

// unwind steps through zt_pack and takes a backtrace at each of its instructions.
static __attribute__((noinline)) void unwind(int64_t *out) {
    home = __builtin_return_address(0);
    step(0); // loads what backtrace needs
    signal(SIGTRAP, step);
    __asm__ volatile("pushfq\n  orq $0x100, (%%rsp)\n  popfq" ::: "memory", "cc");
    int64_t result = zt_pack(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "");
    __asm__ volatile("pushfq\n  andq $~0x100, (%%rsp)\n  popfq" ::: "memory", "cc");
    check("result", result, -7);
    check("enough steps", steps > 60, 1);
    check("backtraces that end early", failures, 0);
}

int main(void) {
    int64_t out[13];
    memset(out, 0, sizeof out);
    out[12] = 99;
    const char *k = "k";
    check("result", zt_pack(out, -1, 65535, -3, 1, 1.5f, INT64_MIN, 255, -300, -2.25, 4000000000u, 1LL << 40, k), -7);
    check("a", out[0], -1);
    check("b", out[1], 65535);
    check("c", out[2], -3);
    check("d", out[3], 1);
    check("e", out[4], INT64_MIN);
    check("f", out[5], 255);
    check("h", out[6], -300);
    check("i", out[7], 4000000000);
    check("j", out[8], 1LL << 40);
    check("k", out[9], (int64_t) k);
    float x;
    double y;
    memcpy(&x, &out[10], sizeof x);
    memcpy(&y, &out[11], sizeof y);
    check("4 x", (int64_t) (4 * x), 6);
    check("4 y", (int64_t) (4 * y), -9);
    check("canary", out[12], 99);

    int64_t registers[6];
    check("result", preserved(out, registers), -7);
    for (int i = 0; i < 6; i++) {
        check("preserved register", registers[i], 11 + i);
    }
    check("ninth", (int64_t) zt_ninth(1, 2, 3, 4, 5, 6, 7, 8, 30), 23);
    check("low", zt_low(0x1234567890fe), -2);
    y = 21;
    check("double", (int64_t) zt_double(&y), 42);
    check("number", zt_number(1), 6);
    zt_nothing();
    unwind(out);
    return failures != 0;
}
`

func TestCallFromC(t *testing.T) {
	if !cpuid.CPU.Supports(cpuid.AVX) {
		t.Skip("this CPU has no AVX")
	}
	f := compiled(t, callee)
	for _, s := range f.Sections {
		if g, ok := s.(*ir.Global); ok {
			g.Symbol.Static = false
		}
	}
	dir := t.TempDir()
	var asm bytes.Buffer
	if err := gas.Print(&asm, f, ""); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"callee.s": asm.Bytes(), "callee.S": asm.Bytes(), "caller.c": []byte(caller)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, cc := range []string{"cc", "clang-19"} {
		for _, source := range []string{"callee.s", "callee.S"} {
			t.Run(cc+" "+source, func(t *testing.T) {
				program := filepath.Join(dir, cc)
				cmd := exec.Command(cc, "-O1", "-fno-omit-frame-pointer", "-mno-red-zone", "-Wall", "-Werror", "-Wl,--fatal-warnings", "-o", program, "caller.c", source)
				cmd.Dir = dir
				if cmd.Err != nil {
					t.Skip(cmd.Err)
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				shared := exec.Command(cc, "-shared", "-Wl,-z,text", "-o", program+".so", source) // needs position independence
				shared.Dir = dir
				if out, err := shared.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if out, err := exec.Command(program).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			})
		}
	}
}
