package checker

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// goHandler is Go's own signal handler, where onSignal in call_amd64.s sends what is not ours.
var goHandler uintptr

// onSignalAddr is the address of onSignal.
var onSignalAddr uintptr

// sigaction is the kernel's struct of that name (linux/arch/x86/include/uapi/asm/signal.h), not libc's.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// installHandler puts onSignal before Go's handler, for good. debug.SetPanicOnFault cannot do this job: Go dies on a fault
// whose PC is not Go code, and would unwind our stack from one in Go assembly.
var installHandler = sync.OnceFunc(func() {
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP, unix.SIGALRM} {
		var act sigaction
		change := func(new, old *sigaction) {
			if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(new)),
				uintptr(unsafe.Pointer(old)), unsafe.Sizeof(act.mask), 0, 0); errno != 0 {
				panic(fmt.Sprintf("checker: sigaction %v: %v", sig, errno))
			}
		}
		change(nil, &act)
		if goHandler == 0 {
			goHandler = act.handler
		}
		if act.handler != goHandler {
			panic(fmt.Sprintf("checker: %v is not handled where Go's runtime handles the others", sig))
		}
		act.handler = onSignalAddr
		change(&act, nil)
	}
})

// startTimer sends SIGALRM to thread tid after limit, unless stopped. It is the kernel's timer because Go's need a processor,
// and the function under check may hold the only one, or have a garbage collection wait for it.
func startTimer(tid uint32) (stop func()) {
	check := func(call string, errno unix.Errno) {
		if errno != 0 {
			panic(fmt.Sprintf("checker: %s: %v", call, errno))
		}
	}
	event := struct { // struct sigevent
		value       uint64
		signo, kind int32
		tid         uint32
		_           [44]byte
	}{signo: int32(unix.SIGALRM), kind: 4 /* SIGEV_THREAD_ID */, tid: tid}
	var timer int32
	_, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)),
		uintptr(unsafe.Pointer(&timer)))
	check("timer_create", errno)
	after := unix.ItimerSpec{Value: unix.NsecToTimespec(limit.Nanoseconds())}
	_, _, errno = unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&after)), 0, 0, 0)
	check("timer_settime", errno)
	return func() {
		_, _, errno := unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(timer), 0, 0)
		check("timer_delete", errno)
	}
}

// Bits of a page fault's error code and trap numbers (Intel SDM volume 3, 7.15).
const (
	pfWrite = 1 << 1
	pfFetch = 1 << 4

	trapDivide     = 0
	trapBreakpoint = 3
	trapOpcode     = 6
	trapProtection = 13
	trapPage       = 14
)

// faulted says how the call ended that a signal ended.
func (f Func) faulted(c frame) string {
	at := fmt.Sprintf("pc %#x", now.faultPC)
	if off := now.faultPC - uint64(f.entry); off < 1<<20 {
		at = fmt.Sprintf("%s+%#x", f.Name, off)
	}
	if unix.Signal(now.signal) == unix.SIGALRM {
		return fmt.Sprintf("has not returned after %v, at %s", limit, at)
	}
	switch now.faultTrap {
	case trapDivide:
		return "divides by zero at " + at
	case trapBreakpoint:
		return "runs into INT3 before " + at
	case trapOpcode:
		return "runs an instruction that this CPU does not have, at " + at
	case trapProtection:
		return "faults at " + at + ": a non-canonical address, or a misaligned operand of an instruction that wants alignment"
	case trapPage:
		did := "reads"
		switch {
		case now.faultErr&pfFetch != 0:
			did = "jumps to"
		case now.faultErr&pfWrite != 0:
			did = "writes"
		}
		addr := uintptr(now.faultAddr)
		where := fmt.Sprintf("%#x, which is no buffer of this test's", addr)
		if c.stack.guards(addr) {
			where = "beyond the end of its stack"
		} else if b := bufferNear(addr); b != nil {
			where = b.describe(addr)
		}
		return fmt.Sprintf("%s %s, at %s", did, where, at)
	}
	return fmt.Sprintf("stops with %v at %s", unix.Signal(now.signal), at)
}
