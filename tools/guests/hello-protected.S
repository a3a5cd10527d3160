/* SPDX-License-Identifier: GPL-2.0-only */
/* Says hello from flat 32-bit protected mode, with what the VMM handed over. */
#define GUEST_BITS 32
#include "guest.inc"
#include "print.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_PROTECTED
        movl    %eax, %esi              /* GUEST_MAGIC */
        movl    %ebx, %edi              /* memory in KiB */
        SAY     "Hello from 32-bit protected mode.\n  CR0="
        movl    %cr0, %eax
        movb    $8, %cl
        call    print_hex
        SAY     " CR4="
        movl    %cr4, %eax
        call    print_hex
        SAY     " CS="
        movl    %cs, %eax
        movb    $4, %cl
        call    print_hex
        SAY     "\n  the VMM's mark: "
        movl    %esi, %eax
        movl    $4, %ebp
1:      call    print_char
        shrl    $8, %eax
        decl    %ebp
        jnz     1b
        SAY     ", memory: "
        movl    %edi, %eax
        movb    $0, %cl
        call    print_decimal
        SAY     " KiB\n"
        hlt
