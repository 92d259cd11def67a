// The way from Go to a kernel whose name is known at run time only: Go cannot call an address.

#include "funcdata.h"
#include "textflag.h"

// func call(entry uintptr, args *[maxArguments]uint64)
//
// The kernel is an ABI0 leaf, which cannot be stopped inside, so that the arguments below need no pointer map.
TEXT ·call(SB), 0, $80-16
	NO_LOCAL_POINTERS
	MOVQ      entry+0(FP), AX
	MOVQ      args+8(FP), BX
	VMOVDQU64 (BX), Z0
	VMOVDQU64 Z0, 0(SP)
	VMOVDQU   64(BX), X0
	VMOVDQU   X0, 64(SP)
	VZEROUPPER
	CALL      AX
	RET
