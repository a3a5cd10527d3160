/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every vCPU adds to one counter ten thousand times with a locked instruction; the first one waits
 * for the others and checks the sum.
 * Try: minivmx run smp.bin --cpus 4
 * Who waits does so with interrupts enabled, so that the wait can be interrupted by the host on
 * any machine (see spin.S).
 */
#define GUEST_BITS 64
#include "guest.inc"
#include "print.inc"

#define ADDITIONS 10000

        .globl start
start:  GUEST_NOTE GUEST_MODE_LONG
        sti
        movl    %ecx, %r12d             /* this vCPU */
        movl    %edx, %r13d             /* of so many */

        /* One line at a time: take the turn by number. */
1:      pause
        cmpl    %r12d, turn
        jne     1b
        SAY     "vCPU "
        movl    %r12d, %eax
        xorl    %ecx, %ecx
        call    print_decimal
        SAY     " is here, its stack at "
        movq    %rsp, %rax
        movb    $6, %cl
        call    print_hex
        SAY     "\n"
        lock    incl turn

        movl    $ADDITIONS, %ecx
2:      lock    incl counter
        loop    2b
        lock    incl finished
        testl   %r12d, %r12d
        jnz     done

3:      pause
        cmpl    %r13d, finished
        jne     3b
        SAY     "the counter is at "
        movl    counter, %eax
        xorl    %ecx, %ecx
        call    print_decimal
        imull   $ADDITIONS, %r13d
        cmpl    %r13d, counter
        jne     wrong
        SAY     ", as it must be.\n"
done:   cli
        hlt
wrong:  SAY     ": additions were lost!\n"
        movb    $1, %al
        movw    $GUEST_PORT_EXIT, %dx
        outb    %al, %dx
        hlt

        .bss
        .balign 4
turn:           .skip 4
counter:        .skip 4
finished:       .skip 4
