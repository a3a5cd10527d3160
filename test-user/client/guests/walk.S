/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One guest that walks through the modes by itself: real, protected, paged, PAE, long, and back to real.
 * It reports a number in each, so that every CR0, CR3, CR4 and EFER write is known to have worked.
 * Loaded at G_CODE with the tables of common/layout.h; a PAE set at W_PAE, a long-mode set at W_LONG and a
 * 32-bit set at W_PAGED are written by the client.
 */
#include "guest.inc"

#define W_PAGED 0x100000
#define W_PAE 0x110000
#define W_LONG 0x120000

        .code16
GUEST walk
        cli
        REPORT $0x16
        lgdtl %cs:AT(gdt_pointer)
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmpl $SEL_CODE32, $AT(protected)

        .code32
protected:
        mov $SEL_DATA, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $G_STACK, %esp
        REPORT $0x32
        /* 32-bit paging with 4 MiB pages. */
        mov $0x10, %eax
        mov %eax, %cr4
        mov $W_PAGED, %eax
        mov %eax, %cr3
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        jmp 1f
1:      REPORT $0x3210
        mov %cr3, %eax
        out %eax, $PORT_OUT
        /* Off, and on again with PAE. */
        mov %cr0, %eax
        and $0x7fffffff, %eax
        mov %eax, %cr0
        mov $0x20, %eax
        mov %eax, %cr4
        mov $W_PAE, %eax
        mov %eax, %cr3
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        jmp 1f
1:      REPORT $0x36
        mov %cr4, %eax
        out %eax, $PORT_OUT
        /* A new CR3 loads the PDPTEs anew: the same memory seen at 1 GiB. */
        push $0x12345678
        mov $W_PAE+0x20, %eax
        mov %eax, %cr3
        mov G_STACK-4+0x40000000, %eax
        out %eax, $PORT_OUT
        /* Long mode: paging off, EFER.LME, paging on; then into 64-bit code. */
        mov %cr0, %eax
        and $0x7fffffff, %eax
        mov %eax, %cr0
        mov $0xc0000080, %ecx
        rdmsr
        or $0x100, %eax
        wrmsr
        mov $W_LONG, %eax
        mov %eax, %cr3
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        rdmsr                           /* LMA is set now */
        out %eax, $PORT_OUT
        ljmp $SEL_CODE64, $AT(long64)

        .code64
long64:
        REPORT $0x64
        mov $0x123456789abcdef0, %rax
        shr $32, %rax
        out %eax, $PORT_OUT
        /* Compatibility mode and back down to real mode. */
        push $SEL_CODE32
        mov $AT(compat), %eax
        push %rax
        lretq

        .code32
compat:
        REPORT $0x6432
        mov %cr0, %eax
        and $0x7fffffff, %eax
        mov %eax, %cr0                  /* leaves long mode: LMA goes */
        mov $0xc0000080, %ecx
        rdmsr
        out %eax, $PORT_OUT
        and $~0x100, %eax
        wrmsr
        ljmp $SEL_CODE16, $AT(protected16)

        .code16
protected16:
        mov $SEL_DATA16, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        lidtl AT(real_idt)
        mov %cr0, %eax
        and $~1, %al
        mov %eax, %cr0
        ljmp $0, $AT(real_again)
real_again:
        xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $0x9f00, %sp
        REPORT $0x1616
        int $0x21                       /* through the real-mode vectors */
        REPORT $0x1617
        hlt

        .balign 4
gdt_pointer:
        .word 0x3f
        .long G_GDT
real_idt:
        .word 0x3ff
        .long 0
GUEST_END walk

/* What the reset vector holds; the client puts it at 0xfffffff0. */
        .code16
GUEST reset_jump
        ljmp $0, $G_CODE
GUEST_END reset_jump
