/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Prints the primes below 200 and counts those below 10,000 with Eratosthenes' sieve, in 32-bit
 * protected mode.
 */
#define GUEST_BITS 32
#include "guest.inc"
#include "print.inc"

#define LIMIT 10000
#define SHOWN 200
#define PER_LINE 16

        .globl start
start:  GUEST_NOTE GUEST_MODE_PROTECTED
        SAY     "The primes below 200:\n"
        movl    $2, %ebx                /* the candidate */
        xorl    %esi, %esi              /* primes found */
next:   cmpb    $0, composite(%ebx)
        jne     skip
        incl    %esi
        movl    %ebx, %edi
        imull   %edi, %edi
1:      cmpl    $LIMIT, %edi
        jae     2f
        movb    $1, composite(%edi)
        addl    %ebx, %edi
        jmp     1b
2:      cmpl    $SHOWN, %ebx
        jae     skip
        movl    %ebx, %eax
        movb    $4, %cl
        call    print_decimal
        testl   $(PER_LINE - 1), %esi
        jnz     skip
        SAY     "\n"
skip:   incl    %ebx
        cmpl    $LIMIT, %ebx
        jb      next

        SAY     "\nThere are "
        movl    %esi, %eax
        movb    $0, %cl
        call    print_decimal
        SAY     " primes below 10000.\n"
        hlt

        .bss
composite:
        .skip   LIMIT
