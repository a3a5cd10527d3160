/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A firmware image of one page that ends at 4 GiB, entered as a CPU comes out of RESET: CS
 * selector F000 with base FFFF0000, IP FFF0. Data is read through CS, since the other segments
 * have base 0.
 */
#include "guest.inc"
        .code16
        .globl start
start:  GUEST_NOTE GUEST_MODE_RESET
        movw    $(hello - start + 0xf000), %si
1:      movb    %cs:(%si), %al
        incw    %si
        testb   %al, %al
        jz      3f
        movb    %al, %ah
        movw    $LSR, %dx
2:      inb     %dx, %al
        testb   $LSR_TRANSMIT_EMPTY, %al
        jz      2b
        movb    %ah, %al
        movw    $GUEST_PORT_SERIAL, %dx
        outb    %al, %dx
        jmp     1b
3:      cli
        hlt

hello:  .asciz  "Hello from the reset vector, F000:FFF0 at 0xfffffff0.\n"

        .org    0xff0
reset_vector:
        jmp     start
        .org    0xfff
        .byte   0
