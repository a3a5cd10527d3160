/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest of the access test in 64-bit code: access/loop.inc has the text. */
#include "guest.inc"
#include "../access/layout.h"

#define AX %rax
#define BX %rbx
#define CX %rcx
#define SI %rsi
#define DI %rdi
#define BP %rbp
#define PUSHM pushq
#define POPF  popfq
#define IRETX iretq
#define SEL_USER_CODE A_SEL_USER64
#define STUBS         access64_stubs
#define USER_CODE     access64_user
#define USER_CODE_END access64_user_end

        .code64
GUEST access64
#include "../access/loop.inc"
GUEST_END access64
