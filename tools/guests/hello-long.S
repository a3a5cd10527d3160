/* SPDX-License-Identifier: GPL-2.0-only */
/* Says hello from 64-bit mode and shows a register that only this mode has. */
#define GUEST_BITS 64
#include "guest.inc"
#include "print.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_LONG
        SAY     "Hello from 64-bit long mode.\n  CR0="
        movq    %cr0, %rax
        movb    $8, %cl
        call    print_hex
        SAY     " CR3="
        movq    %cr3, %rax
        call    print_hex
        SAY     " CR4="
        movq    %cr4, %rax
        call    print_hex
        SAY     " EFER="
        movl    $0xc0000080, %ecx
        rdmsr
        movb    $8, %cl
        call    print_hex
        SAY     "\n  R15 * R15 = "
        movq    $4000000007, %r15
        movq    %r15, %rax
        imulq   %r15, %rax
        movb    $0, %cl
        call    print_decimal
        SAY     "\n"
        hlt
