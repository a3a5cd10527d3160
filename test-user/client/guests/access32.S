/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest of the access test in 32-bit code: access/loop.inc has the text. */
#include "guest.inc"
#include "../access/layout.h"

#define AX %eax
#define BX %ebx
#define CX %ecx
#define SI %esi
#define DI %edi
#define BP %ebp
#define PUSHM pushl
#define POPF  popfl
#define IRETX iretl
#define SEL_USER_CODE A_SEL_USER32
#define STUBS         access32_stubs
#define USER_CODE     access32_user
#define USER_CODE_END access32_user_end

        .code32
GUEST access32
#include "../access/loop.inc"
GUEST_END access32
