/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An undefined instruction without an IDT: #UD, then #GP, then a double fault that finds no gate
 * either. The vCPU shuts down.
 */
#define GUEST_BITS 32
#include "guest.inc"
#include "print.inc"
        .globl start
start:  GUEST_NOTE GUEST_MODE_PROTECTED
        SAY     "an undefined instruction, and no IDT: this is the end\n"
        ud2
        SAY     "nobody reads this\n"
        hlt
