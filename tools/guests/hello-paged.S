/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Starts in flat protected mode, builds 32-bit page tables of its own and turns paging on: the low
 * 4 MiB stay where they are, and two virtual pages far apart show the same frame.
 */
#define GUEST_BITS 32
#include "guest.inc"
#include "print.inc"

#define DIRECTORY 0x200000
#define TABLE_LOW 0x201000
#define TABLE_HIGH 0x202000
#define FRAME 0x300000
#define ALIAS_A 0x40000000
#define ALIAS_B 0x40005000
#define PRESENT_WRITABLE 3
#define CR0_PG 0x80000000

        .globl start
start:  GUEST_NOTE GUEST_MODE_PROTECTED
        cld
        xorl    %eax, %eax
        movl    $DIRECTORY, %edi
        movl    $(3 * 4096 / 4), %ecx
        rep     stosl

        movl    $(TABLE_LOW | PRESENT_WRITABLE), DIRECTORY
        movl    $(TABLE_HIGH | PRESENT_WRITABLE), DIRECTORY + (ALIAS_A >> 22) * 4
        movl    $(FRAME | PRESENT_WRITABLE), TABLE_HIGH
        movl    $(FRAME | PRESENT_WRITABLE), TABLE_HIGH + ((ALIAS_B >> 12) & 1023) * 4
        movl    $PRESENT_WRITABLE, %eax
        movl    $TABLE_LOW, %edi
1:      stosl
        addl    $4096, %eax
        cmpl    $TABLE_HIGH, %edi
        jb      1b

        movl    $DIRECTORY, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        SAY     "Hello from 32-bit paging.\n  CR0="
        movb    $8, %cl
        call    print_hex
        SAY     " CR3="
        movl    %cr3, %eax
        call    print_hex

        movl    $0xcafe, ALIAS_A
        SAY     "\n  written at 40000000, read at 40005000: "
        movl    ALIAS_B, %eax
        movb    $4, %cl
        call    print_hex

        /* Point the second page elsewhere: INVLPG must make it seen. */
        movl    $0xbeef, FRAME + 0x1000
        movl    $(FRAME + 0x1000 + PRESENT_WRITABLE), TABLE_HIGH + ((ALIAS_B >> 12) & 1023) * 4
        invlpg  ALIAS_B
        SAY     "\n  remapped to the next frame:            "
        movl    ALIAS_B, %eax
        call    print_hex
        SAY     "\n"
        hlt
