/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Echoes what comes in through the serial port, in capitals, until the line hangs up (the VMM's
 * input has ended).
 * Try: echo some text | minivmx run echo.bin --input -
 */
#include "guest.inc"
#include "print16.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_REAL
        sti                             /* as in spin.S */
        SAY     "echo: send me text\n"
wait:   movw    $LSR, %dx
        inb     %dx, %al
        testb   $LSR_DATA_READY, %al
        jnz     receive
        movw    $MODEM_STATUS, %dx
        inb     %dx, %al
        testb   $MODEM_CARRIER, %al
        jnz     wait
        SAY     "echo: the line hung up\n"
        cli
        hlt

receive:
        movw    $GUEST_PORT_SERIAL, %dx
        inb     %dx, %al
        cmpb    $'a', %al
        jb      1f
        cmpb    $'z', %al
        ja      1f
        subb    $('a' - 'A'), %al
1:      call    print_char
        jmp     wait
