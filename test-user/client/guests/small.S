/* SPDX-License-Identifier: GPL-2.0-only */
#include "guest.inc"

        .code16
GUEST out_then_hlt
        mov $0x5a, %al
        out %al, $PORT_OUT
        hlt
GUEST_END out_then_hlt

/* Halts again whenever it is run on. The same bytes in every mode. */
GUEST hlt_forever
1:      hlt
        jmp 1b
GUEST_END hlt_forever
