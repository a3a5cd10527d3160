/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Starts in flat protected mode and turns on PAE paging with tables of its own: the first GiB is
 * identity-mapped by 2 MiB pages, and the second GiB's first page shows the frame at 4 MiB.
 */
#define GUEST_BITS 32
#include "guest.inc"
#include "print.inc"

#define PDPT 0x200000
#define DIRECTORY_0 0x201000
#define DIRECTORY_1 0x202000
#define PRESENT 1
#define PRESENT_WRITABLE_LARGE 0x83
#define PRESENT_WRITABLE 3
#define CR4_PAE 0x20
#define CR0_PG 0x80000000

        .globl start
start:  GUEST_NOTE GUEST_MODE_PROTECTED
        cld
        xorl    %eax, %eax
        movl    $PDPT, %edi
        movl    $(3 * 4096 / 4), %ecx
        rep     stosl

        movl    $(DIRECTORY_0 | PRESENT), PDPT
        movl    $(DIRECTORY_1 | PRESENT), PDPT + 8
        movl    $DIRECTORY_0, %edi
        movl    $PRESENT_WRITABLE_LARGE, %eax
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        cmpl    $DIRECTORY_1, %edi
        jb      1b
        movl    $(0x400000 | PRESENT_WRITABLE_LARGE), DIRECTORY_1

        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $PDPT, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        SAY     "Hello from PAE paging.\n  CR0="
        movb    $8, %cl
        call    print_hex
        SAY     " CR4="
        movl    %cr4, %eax
        call    print_hex

        movl    $0x1badb002, 0x40000010
        SAY     "\n  written at 40000010, read at 00400010: "
        movl    0x400010, %eax
        call    print_hex

        /* The CPU keeps the PDPTEs in registers that MOV to CR3 reloads: SDM Vol. 3A, 4.4.1. */
        movl    $0, PDPT + 8
        movl    %cr3, %eax
        movl    %eax, %cr3
        SAY     "\n  the second GiB unmapped again, the first still here.\n"
        hlt
