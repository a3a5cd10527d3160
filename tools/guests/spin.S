/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Never ends, and never exits by itself: for Ctrl-C and --timeout. It runs with interrupts
 * enabled, since Bochs 2.7 keeps the host's interrupts masked while a guest has them disabled.
 */
#include "guest.inc"
#include "print16.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_REAL
        SAY     "spinning; stop me\n"
        sti
1:      pause
        jmp     1b
