/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The whole way of a PC's boot loader in one program: real mode, flat protected mode, PAE paging
 * with long mode enabled, 64-bit mode, and back by compatibility mode and protected mode to real
 * mode, where it says goodbye.
 */
#include "guest.inc"

#define PML4 0x10000
#define PDPT 0x11000
#define DIRECTORY 0x12000
#define SEL_CODE32 0x08
#define SEL_DATA32 0x10
#define SEL_CODE64 0x18
#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR4_PAE 0x20
#define CR0_PE 1
#define CR0_PG 0x80000000

        .code16
        .globl start
start:  GUEST_NOTE GUEST_MODE_REAL
        cli
        movw    $line_real, %si
        call    print16
        lgdtl   gdt_pointer
        movl    %cr0, %eax
        orb     $CR0_PE, %al
        movl    %eax, %cr0
        ljmpw   $SEL_CODE32, $protected

        .code32
protected:
        movl    $SEL_DATA32, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $0x7c00, %esp
        movl    $line_protected, %esi
        call    print32

        /* An identity map of 1 GiB in 2 MiB pages. */
        cld
        movl    $PML4, %edi
        xorl    %eax, %eax
        movl    $(3 * 4096 / 4), %ecx
        rep     stosl
        movl    $(PDPT + 3), PML4
        movl    $(DIRECTORY + 3), PDPT
        movl    $DIRECTORY, %edi
        movl    $0x83, %eax
        movl    $512, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b

        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $PML4, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        movl    $line_compatibility, %esi
        call    print32
        ljmpl   $SEL_CODE64, $long_mode

        .code64
long_mode:
        movl    $line_long, %esi
        call    print64
        /* A far return is the way back: 64-bit code has no far jump with an immediate. */
        pushq   $SEL_CODE32
        pushq   $leave_long
        lretq

        .code32
leave_long:
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        movl    $MSR_EFER, %ecx
        rdmsr
        andl    $~EFER_LME, %eax
        wrmsr
        xorl    %eax, %eax
        movl    %eax, %cr4
        movl    $line_protected_again, %esi
        call    print32
        movl    $SEL_DATA16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        ljmpl   $SEL_CODE16, $protected16

        .code16
protected16:
        movl    %cr0, %eax
        andb    $~CR0_PE, %al
        movl    %eax, %cr0
        ljmpw   $0, $real_again
real_again:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $line_real_again, %si
        call    print16
        hlt

/* Each width's print routine: a NUL-terminated string at SI to the serial port. */
.macro PRINT name
\name:  lodsb
        testb   %al, %al
        jz      2f
        movb    %al, %ah
        movw    $LSR, %dx
1:      inb     %dx, %al
        testb   $LSR_TRANSMIT_EMPTY, %al
        jz      1b
        movw    $GUEST_PORT_SERIAL, %dx
        movb    %ah, %al
        outb    %al, %dx
        jmp     \name
2:      ret
.endm
        .code16
        PRINT   print16
        .code32
        PRINT   print32
        .code64
        PRINT   print64

        .section .rodata
line_real:              .asciz "real mode, 16 bits\n"
line_protected:         .asciz "  -> protected mode, 32 bits, flat\n"
line_compatibility:     .asciz "    -> paging on, EFER.LMA set: compatibility mode, 32 bits\n"
line_long:              .asciz "      -> 64-bit mode\n"
line_protected_again:   .asciz "  <- paging off: protected mode\n"
line_real_again:        .asciz "real mode again\n"

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 32-bit code */
        .quad   0x00cf93000000ffff      /* 32-bit data */
        .quad   0x00af9b000000ffff      /* 64-bit code */
        .quad   0x00009b000000ffff      /* 16-bit code, limit 64 KiB as real mode needs it */
        .quad   0x000093000000ffff      /* 16-bit data */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
