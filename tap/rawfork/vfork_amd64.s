// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func vfork(call, a1, a2, a3 uintptr) (r, errno uintptr)
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ a3+24(FP), DX
	MOVQ $0, R10
	MOVQ $0, R8
	MOVQ $0, R9
	MOVQ call+0(FP), AX
	POPQ R12 // the return address
	SYSCALL
	PUSHQ R12
	CMPQ AX, $0xfffffffffffff001
	JLS done
	NEGQ AX
	MOVQ $0, r+32(FP)
	MOVQ AX, errno+40(FP)
	RET
done:
	MOVQ AX, r+32(FP)
	MOVQ $0, errno+40(FP)
	RET
