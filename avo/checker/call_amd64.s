// The one way into a function under check. It cannot be generated: it switches stacks, and it breaks every calling
// convention on purpose.

#include "go_asm.h"
#include "textflag.h"

// All state lives in one Go variable, reached without a register, because before and after the call no register is ours
// and after a broken function not even SP is.
#define NOW(field) ·now+field(SB)
#define GP(r) NOW(state_gp+8*r)
#define OUT(r) NOW(state_gpOut+8*r)
#define MASK(r) NOW(state_opmask+8*r)
#define ZMM(r) NOW(state_zmm+64*r)
#define ZMMOUT(r) NOW(state_zmmOut+64*r)

// func call()
//
// Go cannot preempt assembly, and a signal handler runs on a stack of its own, so the foreign SP is never walked: the
// assembler marks a function that writes SP, and tracebacks stop there.
TEXT ·call(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ    SP, NOW(state_goSP)
	MOVQ    BP, NOW(state_goBP)
	STMXCSR NOW(state_goMXCSR)

	CMPL NOW(state_checked), $0
	JEQ  enter

	KMOVQ MASK(0), K0
	KMOVQ MASK(1), K1
	KMOVQ MASK(2), K2
	KMOVQ MASK(3), K3
	KMOVQ MASK(4), K4
	KMOVQ MASK(5), K5
	KMOVQ MASK(6), K6
	KMOVQ MASK(7), K7

	VMOVDQU64 ZMM(0), Z0
	VMOVDQU64 ZMM(1), Z1
	VMOVDQU64 ZMM(2), Z2
	VMOVDQU64 ZMM(3), Z3
	VMOVDQU64 ZMM(4), Z4
	VMOVDQU64 ZMM(5), Z5
	VMOVDQU64 ZMM(6), Z6
	VMOVDQU64 ZMM(7), Z7
	VMOVDQU64 ZMM(8), Z8
	VMOVDQU64 ZMM(9), Z9
	VMOVDQU64 ZMM(10), Z10
	VMOVDQU64 ZMM(11), Z11
	VMOVDQU64 ZMM(12), Z12
	VMOVDQU64 ZMM(13), Z13
	VMOVDQU64 ZMM(14), Z14
	VMOVDQU64 ZMM(15), Z15
	VMOVDQU64 ZMM(16), Z16
	VMOVDQU64 ZMM(17), Z17
	VMOVDQU64 ZMM(18), Z18
	VMOVDQU64 ZMM(19), Z19
	VMOVDQU64 ZMM(20), Z20
	VMOVDQU64 ZMM(21), Z21
	VMOVDQU64 ZMM(22), Z22
	VMOVDQU64 ZMM(23), Z23
	VMOVDQU64 ZMM(24), Z24
	VMOVDQU64 ZMM(25), Z25
	VMOVDQU64 ZMM(26), Z26
	VMOVDQU64 ZMM(27), Z27
	VMOVDQU64 ZMM(28), Z28
	VMOVDQU64 ZMM(29), Z29
	VMOVDQU64 ZMM(30), Z30
	VMOVDQU64 ZMM(31), Z31

enter:
	MOVL $1, NOW(state_armed)
	MOVQ GP(0), AX
	MOVQ GP(1), CX
	MOVQ GP(2), DX
	MOVQ GP(3), BX
	MOVQ GP(4), SP
	MOVQ GP(5), BP
	MOVQ GP(6), SI
	MOVQ GP(7), DI
	MOVQ GP(8), R8
	MOVQ GP(9), R9
	MOVQ GP(10), R10
	MOVQ GP(11), R11
	MOVQ GP(12), R12
	MOVQ GP(13), R13
	MOVQ GP(14), R14
	MOVQ GP(15), R15
	CALL *NOW(state_entry)      // through memory: every register holds what the caller of a function may hold
	MOVQ SP, OUT(4)
	MOVQ NOW(state_goSP), SP
	MOVL $0, NOW(state_armed)

	CMPL NOW(state_checked), $0
	JEQ  done

	MOVQ    BX, OUT(3)
	MOVQ    BP, OUT(5)
	MOVQ    R12, OUT(12)
	MOVQ    R13, OUT(13)
	MOVQ    R14, OUT(14)
	MOVQ    R15, OUT(15)
	STMXCSR NOW(state_mxcsrOut)
	PUSHFQ
	POPQ    AX
	MOVQ    AX, NOW(state_flagsOut)

	VMOVDQU64 Z0, ZMMOUT(0)
	VMOVDQU64 Z1, ZMMOUT(1)
	VMOVDQU64 Z2, ZMMOUT(2)
	VMOVDQU64 Z3, ZMMOUT(3)
	VMOVDQU64 Z4, ZMMOUT(4)
	VMOVDQU64 Z5, ZMMOUT(5)
	VMOVDQU64 Z6, ZMMOUT(6)
	VMOVDQU64 Z7, ZMMOUT(7)
	VMOVDQU64 Z8, ZMMOUT(8)
	VMOVDQU64 Z9, ZMMOUT(9)
	VMOVDQU64 Z10, ZMMOUT(10)
	VMOVDQU64 Z11, ZMMOUT(11)
	VMOVDQU64 Z12, ZMMOUT(12)
	VMOVDQU64 Z13, ZMMOUT(13)
	VMOVDQU64 Z14, ZMMOUT(14)
	VMOVDQU64 Z15, ZMMOUT(15)

done:
	MOVQ NOW(state_goBP), BP
	JMP  ·leave(SB)

// leave returns to the caller of call, with SP and BP as they were when call began. A function that faulted ends here too,
// sent by onSignal. Go reloads R14 (g) and X15 (zero) itself after a call into assembly.
TEXT ·leave(SB), NOSPLIT|NOFRAME, $0-0
	CLD
	LDMXCSR NOW(state_goMXCSR)
	VZEROUPPER
	RET

// onSignal is a signal handler: DI the signal, SI its siginfo_t, DX the ucontext_t. When the function under check raised it
// on this thread, it writes down where and resumes in leave, as if the function had returned. Every other signal goes to
// Go's handler, untouched. It runs on Go's signal stack and must leave the C callee-saved registers alone.
#define sys_gettid 186
#define si_addr 16
#define uc_rbp 120
#define uc_rsp 160
#define uc_rip 168
#define uc_err 192
#define uc_trapno 200

TEXT ·onSignal(SB), NOSPLIT|NOFRAME, $0-0
	CMPL NOW(state_armed), $0
	JEQ  forward
	MOVL $sys_gettid, AX
	SYSCALL
	CMPL AX, NOW(state_tid)
	JNE  forward

	MOVL $0, NOW(state_armed)
	MOVL DI, NOW(state_signal)
	MOVQ si_addr(SI), AX
	MOVQ AX, NOW(state_faultAddr)
	MOVQ uc_rip(DX), AX
	MOVQ AX, NOW(state_faultPC)
	MOVQ uc_err(DX), AX
	MOVQ AX, NOW(state_faultErr)
	MOVQ uc_trapno(DX), AX
	MOVQ AX, NOW(state_faultTrap)
	MOVQ NOW(state_goSP), AX
	MOVQ AX, uc_rsp(DX)
	MOVQ NOW(state_goBP), AX
	MOVQ AX, uc_rbp(DX)
	LEAQ ·leave(SB), AX
	MOVQ AX, uc_rip(DX)
	RET

forward:
	MOVQ ·goHandler(SB), AX
	JMP  AX

// sigaction wants the address of the assembly itself, which Go code cannot name.
DATA ·onSignalAddr(SB)/8, $·onSignal(SB)
GLOBL ·onSignalAddr(SB), RODATA, $8
