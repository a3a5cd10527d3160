/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest: 16-bit code at LOOP_CODE. EAX runs through a linear congruential generator, ECX counts its steps, the count is
 * also in memory at LOOP_COUNT for whoever watches, and every step writes to one of 16 pages. Ends with HLT after EDX steps.
 */
#include "loop.h"

        .section .note.GNU-stack, "", @progbits
        .section .rodata
        .globl loop_guest, loop_guest_end
        .code16
loop_guest:
1:      imull $LOOP_FACTOR, %eax, %eax
        addl $LOOP_SUMMAND, %eax
        incl %ecx
        movl %ecx, LOOP_COUNT
        movw %cx, %bx
        shlw $12, %bx
        movl %eax, %fs:(%bx)
        cmpl %edx, %ecx
        jne 1b
        hlt
        jmp 1b
loop_guest_end:
