/* SPDX-License-Identifier: GPL-2.0-only */
/* Says hello from 16-bit real mode, with the segment and stack registers it was started with. */
#include "guest.inc"
#include "print16.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_REAL
        SAY     "Hello from 16-bit real mode.\n  CS="
        movw    %cs, %ax
        call    print_hex
        SAY     " DS="
        movw    %ds, %ax
        call    print_hex
        SAY     " SS="
        movw    %ss, %ax
        call    print_hex
        SAY     " SP="
        movw    %sp, %ax
        call    print_hex

        /* Real mode's 20-bit addresses: two segments, one byte of memory. */
        movw    $0x1000, %ax
        movw    %ax, %ds
        movw    $0x0fff, %bx
        movw    %bx, %es
        movb    $'!', (0)
        movb    %es:(0x10), %al
        xorw    %bx, %bx
        movw    %bx, %ds
        SAY     "\n  written at 1000:0000, read at 0fff:0010: '"
        call    print_char
        SAY     "'\n"
        hlt
