/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tour of what makes a guest leave, and of what does not: port I/O of each size and as strings,
 * memory-mapped I/O, CPUID, an MSR that is not there, control and debug registers, faults that the
 * guest handles itself. Each step says what it saw and whether that is right; the count of wrong
 * ones is the run's status.
 */
#define GUEST_BITS 64
#include "guest.inc"
#include "print.inc"

#define SCRATCH_PORT (GUEST_PORT_SERIAL + 7)
#define UNKNOWN_MSR 0x4d564d58
#define UNMAPPED 0x123456789000 /* canonical, beyond the identity map */
#define CR0_WP 0x10000
#define DR7_FIXED 0x400         /* bit 10 reads as 1: SDM Vol. 3B, 18.2.4 */
#define DR7_VALUE (DR7_FIXED | 0x2)
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

/* Prints "ok" or "WRONG" by a comparison of the flags just made. */
.macro VERDICT
        call    verdict
.endm

/*
 * Runs one instruction that must fault: the vector that came goes to R14, the error code to R15.
 */
.macro FAULTING instruction:vararg
        movq    $88f, resume
        movl    $-1, %r14d
        \instruction
88:
.endm

        .globl start
start:  GUEST_NOTE GUEST_MODE_LONG
        call    set_idt
        call    ports
        call    strings
        call    mmio
        call    cpuid_and_tsc
        call    faults
        call    control_registers
        call    debug_registers
        movl    wrong, %eax
        testl   %eax, %eax
        jz      1f
        movw    $GUEST_PORT_EXIT, %dx
        outl    %eax, %dx
1:      SAY     "all as it should be\n"
        hlt

ports:
        SAY     "OUT and IN, 1 byte:                "
        movw    $SCRATCH_PORT, %dx
        movb    $0x5a, %al
        outb    %al, %dx
        xorl    %eax, %eax
        inb     %dx, %al
        cmpl    $0x5a, %eax
        VERDICT
        SAY     "IN, 2 bytes, a port of nobody:     "
        movw    $0x1230, %dx
        xorl    %eax, %eax
        inw     %dx, %ax
        cmpl    $0xffff, %eax
        VERDICT
        SAY     "IN, 4 bytes, the same port:        "
        xorl    %eax, %eax
        inl     %dx, %eax
        cmpl    $-1, %eax
        VERDICT
        SAY     "the debug port answers:            "
        inb     $GUEST_PORT_DEBUG, %al
        cmpb    $GUEST_PORT_DEBUG, %al
        VERDICT
        ret

strings:
        movl    $line, %esi
        movl    $(line_end - line), %ecx
        movw    $GUEST_PORT_SERIAL, %dx
        cld
        rep     outsb
        SAY     "  and RSI, RCX are behind it:      "
        addl    %esi, %ecx              /* RCX is 0 */
        cmpl    $line_end, %ecx
        VERDICT
        movl    $backwards_end - 1, %esi
        movl    $(backwards_end - backwards), %ecx
        std
        rep     outsb
        cld
        SAY     "REP INSB fills memory:             "
        movw    $SCRATCH_PORT, %dx
        movb    $0x77, %al
        outb    %al, %dx
        movl    $buffer, %edi
        movl    $4, %ecx
        rep     insb
        cmpl    $0x77777777, buffer
        VERDICT
        ret

mmio:
        movl    $GUEST_MMIO_BASE, %ebx
        SAY     "MMIO read:                         "
        movl    (%rbx), %eax
        cmpl    $GUEST_MAGIC, %eax
        VERDICT
        SAY     "MMIO write, then reads by parts:   "
        movq    $0x8877665544332211, %rax
        movq    %rax, GUEST_MMIO_SCRATCH(%rbx)
        movzbl  GUEST_MMIO_SCRATCH + 1(%rbx), %eax
        cmpl    $0x22, %eax
        jne     1f
        movw    GUEST_MMIO_SCRATCH + 4(%rbx), %ax
        cmpl    $0x6655, %eax
1:      VERDICT
        SAY     "MMIO write of a constant:          "
        movl    $0x600dcafe, GUEST_MMIO_SCRATCH + 8(%rbx)
        movl    GUEST_MMIO_SCRATCH + 8(%rbx), %ecx
        cmpl    $0x600dcafe, %ecx
        VERDICT
        ret

cpuid_and_tsc:
        SAY     "CPUID names a vendor:              "
        xorl    %eax, %eax
        cpuid
        orl     %ecx, %ebx
        orl     %edx, %ebx
        cmpl    $0, %ebx
        setne   %al
        cmpb    $1, %al
        VERDICT
        SAY     "the time-stamp counter goes on:    "
        rdtsc
        shlq    $32, %rdx
        leaq    (%rdx, %rax), %rbx
        movl    $100000, %ecx           /* it may tick more slowly than instructions pass */
1:      rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        cmpq    %rbx, %rax
        loope   1b
        seta    %al
        cmpb    $1, %al
        VERDICT
        ret

faults:
        SAY     "RDMSR of an unknown one: #GP(0)    "
        movl    $UNKNOWN_MSR, %ecx
        FAULTING rdmsr
        cmpl    $VECTOR_GP, %r14d
        jne     1f
        testl   %r15d, %r15d
1:      VERDICT
        SAY     "WRMSR of an unknown one: #GP(0)    "
        movl    $UNKNOWN_MSR, %ecx
        FAULTING wrmsr
        cmpl    $VECTOR_GP, %r14d
        jne     1f
        testl   %r15d, %r15d
1:      VERDICT
        SAY     "an undefined instruction: #UD      "
        FAULTING ud2
        cmpl    $VECTOR_UD, %r14d
        VERDICT
        SAY     "an unmapped address: #PF, CR2      "
        movq    $UNMAPPED, %rbx
        FAULTING movb $1, (%rbx)
        cmpl    $VECTOR_PF, %r14d
        jne     1f
        cmpl    $2, %r15d               /* a write to a page that is not present */
        jne     1f
        movq    %cr2, %rax
        cmpq    %rbx, %rax
1:      VERDICT
        ret

control_registers:
        SAY     "CR0.WP set, read back, cleared:    "
        movq    %cr0, %rbx
        movq    %rbx, %rax
        orq     $CR0_WP, %rax
        movq    %rax, %cr0
        movq    %cr0, %rcx
        movq    %rbx, %cr0
        cmpq    %rax, %rcx
        VERDICT
        SAY     "CR8 keeps the priority it got:     "
        movl    $9, %eax
        movq    %rax, %cr8
        movq    %cr8, %rbx
        xorl    %eax, %eax
        movq    %rax, %cr8
        cmpq    $9, %rbx
        VERDICT
        SAY     "CR4, a reserved bit: #GP           "
        movq    %cr4, %rax
        btsq    $62, %rax
        FAULTING movq %rax, %cr4
        cmpl    $VECTOR_GP, %r14d
        VERDICT
        ret

debug_registers:
        SAY     "DR7 written twice, read back:      "
        movl    $nowhere, %eax
        movq    %rax, %db0
        movl    $DR7_VALUE, %eax
        movq    %rax, %db7
        movl    $DR7_FIXED, %ebx
        movq    %rbx, %db7
        movq    %rax, %db7
        movq    %db7, %rcx
        movq    %rbx, %db7              /* leaves no breakpoint; the flags are undefined after it */
        cmpq    %rax, %rcx
        VERDICT
        SAY     "DR0 kept its address:              "
        movq    %db0, %rax
        cmpq    $nowhere, %rax
        VERDICT
        ret
nowhere:
        ud2

verdict:
        je      1f
        SAY     "WRONG\n"
        incl    wrong
        ret
1:      SAY     "ok\n"
        ret

/*
 * Builds gates for the three vectors that are caught. The others keep an empty gate: a surprise
 * ends in a triple fault.
 */
set_idt:
        movl    $VECTOR_UD, %ecx
        movl    $catch_ud, %eax
        call    set_gate
        movl    $VECTOR_GP, %ecx
        movl    $catch_gp, %eax
        call    set_gate
        movl    $VECTOR_PF, %ecx
        movl    $catch_pf, %eax
        call    set_gate
        lidt    idt_pointer
        ret

/* Vector RCX is handled at EAX, which lies below 4 GiB: SDM Vol. 3A, figure 6-8. */
set_gate:
        shll    $4, %ecx
        movw    %ax, idt(%rcx)
        movw    $GUEST_SEL_CODE64, idt + 2(%rcx)
        movw    $0x8e00, idt + 4(%rcx)  /* present, DPL 0, interrupt gate */
        shrl    $16, %eax
        movw    %ax, idt + 6(%rcx)
        ret

/* The handlers note what came and go on at the place that FAULTING left in resume. */
catch_ud:
        movl    $VECTOR_UD, %r14d
        jmp     1f
catch_gp:
        movl    $VECTOR_GP, %r14d
        popq    %r15
        jmp     1f
catch_pf:
        movl    $VECTOR_PF, %r14d
        popq    %r15
1:      pushq   resume
        popq    (%rsp)
        iretq

        .section .rodata
line:   .ascii  "REP OUTSB wrote this line at one go\n"
line_end:
backwards:
        .ascii  "\n)tes si FD nehw( sdrawkcab eno siht dnA"
backwards_end:
idt_pointer:
        .word   (VECTOR_PF + 1) * 16 - 1
        .quad   idt

        .bss
        .balign 16
idt:    .skip   (VECTOR_PF + 1) * 16
resume: .skip   8
wrong:  .skip   4
buffer: .skip   4
