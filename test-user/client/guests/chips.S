/* SPDX-License-Identifier: GPL-2.0-only */
/* Drivers of a PC's interrupt controllers and timer, and writes that nobody has memory for. */
#include "guest.inc"

#define PIC1 0x20
#define PIC2 0xa0
#define CHIPS_MEMORY 0xe000 /* the segment of 0xe0000 */

.macro OUTB value, port
        mov $\value, %al
        out %al, $\port
.endm

/* One stub an IRQ: reports it, ends it. */
.macro IRQ_STUB number
        .balign 16
        push %ax
        mov $\number, %al
        out %al, $PORT_OUT
        mov $0x20, %al
        .if \number >= 8
        out %al, $PIC2
        .endif
        out %al, $PIC1
        pop %ax
        iret
.endm

        .code16
/* Vectors 0x20 to 0x2f are the sixteen IRQs; sleeps for ever, each IRQ is reported. */
GUEST chips_irqs
        xor %ax, %ax
        mov %ax, %ds
        mov $(0x20 * 4), %bx
        mov $AT(chips_stubs), %ax
1:      mov %ax, (%bx)
        movw $0, 2(%bx)
        add $4, %bx
        add $16 * 2, %ax
        cmp $(0x30 * 4), %bx
        jne 1b
        OUTB 0x11, PIC1
        OUTB 0x20, (PIC1 + 1)
        OUTB 0x04, (PIC1 + 1)
        OUTB 0x01, (PIC1 + 1)
        OUTB 0x11, PIC2
        OUTB 0x28, (PIC2 + 1)
        OUTB 0x02, (PIC2 + 1)
        OUTB 0x01, (PIC2 + 1)
        mov $0x4d0, %dx         /* IRQs 5 and 11 are level triggered */
        mov $0x20, %al
        out %al, %dx
        inc %dx
        mov $0x08, %al
        out %al, %dx
        OUTB 0x34, 0x43         /* the PIT: a tick a millisecond, once IRQ 0 is unmasked */
        OUTB 0xa9, 0x40
        OUTB 0x04, 0x40
        in %dx, %al
        OUTB 0xff, PORT_OUT     /* ready */
        sti
2:      hlt
        jmp 2b
        .balign 32
chips_stubs:
        .set number, 0
        .rept 16
        .balign 32
        IRQ_STUB %number
        .set number, number + 1
        .endr
GUEST_END chips_irqs

/* A word to a port, four bytes to memory that isn't there, twice. */
GUEST chips_writes
        mov $CHIPS_MEMORY, %ax
        mov %ax, %es
        mov $0xc000, %dx
        mov $2, %cx
1:      mov $0x1234, %ax
        out %ax, %dx
        mov $0x55667788, %eax
        mov %eax, %es:(0x10)
        loop 1b
        hlt
GUEST_END chips_writes
