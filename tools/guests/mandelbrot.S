/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Mandelbrot set in text, in 64-bit mode with SSE2 doubles: the guest's floating-point state
 * at work.
 */
#define GUEST_BITS 64
#include "guest.inc"
#include "print.inc"

#define COLUMNS 64
#define ROWS 21
#define ITERATIONS 36           /* four to a shade */
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR4_OSFXSR 0x200
#define CR4_OSXMMEXCPT 0x400

        .globl start
start:  GUEST_NOTE GUEST_MODE_LONG
        /*
         * SSE instructions are undefined until the operating system says that it saves their
         * state: SDM Vol. 3A, 14.1.
         */
        movq    %cr0, %rax
        andl    $~CR0_EM, %eax
        orl     $CR0_MP, %eax
        movq    %rax, %cr0
        movq    %cr4, %rax
        orl     $(CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
        movq    %rax, %cr4

        movsd   top, %xmm1              /* c's imaginary part */
        movl    $ROWS, %r8d
row:    movsd   left, %xmm0             /* c's real part */
        movl    $COLUMNS, %r9d
column: xorpd   %xmm2, %xmm2            /* z = 0 */
        xorpd   %xmm3, %xmm3
        xorl    %ebx, %ebx
1:      movapd  %xmm2, %xmm4
        mulsd   %xmm4, %xmm4
        movapd  %xmm3, %xmm5
        mulsd   %xmm5, %xmm5
        movapd  %xmm4, %xmm6
        addsd   %xmm5, %xmm6            /* |z| squared */
        ucomisd four, %xmm6
        ja      2f
        mulsd   %xmm2, %xmm3            /* z = z * z + c */
        addsd   %xmm3, %xmm3
        addsd   %xmm1, %xmm3
        movapd  %xmm4, %xmm2
        subsd   %xmm5, %xmm2
        addsd   %xmm0, %xmm2
        incl    %ebx
        cmpl    $ITERATIONS, %ebx
        jb      1b
2:      shrl    $2, %ebx
        movb    shades(%rbx), %al
        call    print_char
        addsd   step_x, %xmm0
        decl    %r9d
        jnz     column
        movb    $'\n', %al
        call    print_char
        addsd   step_y, %xmm1
        decl    %r8d
        jnz     row
        hlt

        .section .rodata
        .balign 8
left:   .double -2.15
top:    .double -1.15
step_x: .double 0.044
step_y: .double 0.115
four:   .double 4.0
shades: .ascii  " .:-=+*#%@"
