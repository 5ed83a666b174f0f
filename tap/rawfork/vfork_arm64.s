// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func vfork(call, a1, a2, a3 uintptr) (r, errno uintptr)
TEXT ·vfork(SB),NOSPLIT,$0-48
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD a3+24(FP), R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD ZR, R5
	MOVD call+0(FP), R8
	SVC
	CMN $4095, R0
	BCC done
	NEG R0, R0
	MOVD ZR, r+32(FP)
	MOVD R0, errno+40(FP)
	RET
done:
	MOVD R0, r+32(FP)
	MOVD ZR, errno+40(FP)
	RET
