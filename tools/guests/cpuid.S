/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What CPUID tells this guest: vendor, name, version, address sizes and features in plain words.
 */
#define GUEST_BITS 64
#include "guest.inc"
#include "print.inc"

        .globl start
start:  GUEST_NOTE GUEST_MODE_LONG
        SAY     "vendor:     "
        xorl    %eax, %eax
        cpuid
        movl    %eax, highest_basic
        movl    %ebx, text
        movl    %edx, text + 4
        movl    %ecx, text + 8
        movl    $text, %esi
        call    print_string

        SAY     "\nname:       "
        movl    $0x80000000, %eax
        cpuid
        movl    %eax, highest_extended
        cmpl    $0x80000004, %eax
        jb      no_name
        movl    $0x80000002, %ebp
        movl    $text, %edi
1:      movl    %ebp, %eax
        cpuid
        movl    %eax, (%rdi)
        movl    %ebx, 4(%rdi)
        movl    %ecx, 8(%rdi)
        movl    %edx, 12(%rdi)
        addl    $16, %edi
        incl    %ebp
        cmpl    $0x80000004, %ebp
        jbe     1b
        movb    $0, (%rdi)
        movl    $text, %esi
2:      lodsb                           /* old CPUs pad the name in front */
        cmpb    $' ', %al
        je      2b
        decl    %esi
        call    print_string
        jmp     version
no_name:
        SAY     "(none)"

version:
        /*
         * The extended family and model count only for some families: SDM Vol. 2A, CPUID, leaf 1.
         */
        movl    $1, %eax
        cpuid
        movl    %eax, %ebp
        SAY     "\nfamily:     "
        shrl    $8, %eax
        andl    $15, %eax
        movl    %eax, %edi
        cmpl    $15, %eax
        jne     1f
        movl    %ebp, %ebx
        shrl    $20, %ebx
        andl    $255, %ebx
        addl    %ebx, %eax
1:      xorl    %ecx, %ecx
        call    print_decimal
        SAY     ", model "
        movl    %ebp, %eax
        shrl    $4, %eax
        andl    $15, %eax
        cmpl    $6, %edi
        je      2f
        cmpl    $15, %edi
        jne     3f
2:      movl    %ebp, %ebx
        shrl    $12, %ebx
        andl    $0xf0, %ebx
        orl     %ebx, %eax
3:      call    print_decimal
        SAY     ", stepping "
        movl    %ebp, %eax
        andl    $15, %eax
        call    print_decimal

        cmpl    $0x80000008, highest_extended
        jb      features
        SAY     "\naddresses:  "
        movl    $0x80000008, %eax
        cpuid
        movl    %eax, %ebp
        movzbl  %al, %eax
        xorl    %ecx, %ecx
        call    print_decimal
        SAY     " bits physical, "
        movl    %ebp, %eax
        movzbl  %ah, %eax
        call    print_decimal
        SAY     " linear"

features:
        SAY     "\nit has:\n"
        movl    $table, %ebp
next:   movl    (%rbp), %eax            /* leaf */
        cmpl    $-1, %eax
        je      done
        movl    highest_basic, %ebx
        testl   %eax, %eax
        jns     1f
        movl    highest_extended, %ebx
1:      cmpl    %ebx, %eax
        ja      advance
        xorl    %ecx, %ecx
        cpuid
        movl    %eax, registers
        movl    %ebx, registers + 4
        movl    %ecx, registers + 8
        movl    %edx, registers + 12
        movzbl  4(%rbp), %eax
        movzbl  5(%rbp), %ecx
        btl     %ecx, registers(, %rax, 4)
        jnc     advance
        SAY     "  "
        leaq    6(%rbp), %rsi
        call    print_string
        SAY     "\n"
advance:
        addl    $6, %ebp
2:      cmpb    $0, (%rbp)
        leal    1(%rbp), %ebp
        jne     2b
        jmp     next
done:   hlt

#define IN_EBX 1
#define IN_ECX 2
#define IN_EDX 3
.macro FEATURE leaf, register, bit, text:vararg
        .long   \leaf
        .byte   \register, \bit
        .asciz  \text
.endm
        .section .rodata
table:  FEATURE 1, IN_EDX, 0,  "x87 floating point"
        FEATURE 1, IN_EDX, 4,  "a time-stamp counter"
        FEATURE 1, IN_EDX, 5,  "model-specific registers"
        FEATURE 1, IN_EDX, 6,  "physical addresses beyond 4 GiB (PAE)"
        FEATURE 1, IN_EDX, 9,  "a local APIC"
        FEATURE 1, IN_EDX, 23, "MMX"
        FEATURE 1, IN_EDX, 25, "SSE"
        FEATURE 1, IN_EDX, 26, "SSE2"
        FEATURE 1, IN_ECX, 0,  "SSE3"
        FEATURE 1, IN_ECX, 9,  "SSSE3"
        FEATURE 1, IN_ECX, 19, "SSE4.1"
        FEATURE 1, IN_ECX, 20, "SSE4.2"
        FEATURE 1, IN_ECX, 25, "AES instructions"
        FEATURE 1, IN_ECX, 26, "XSAVE"
        FEATURE 1, IN_ECX, 28, "AVX"
        FEATURE 7, IN_EBX, 5,  "AVX2"
        FEATURE 1, IN_ECX, 30, "RDRAND"
        FEATURE 7, IN_EBX, 18, "RDSEED"
        FEATURE 1, IN_ECX, 17, "process-context identifiers"
        FEATURE 7, IN_EBX, 10, "INVPCID"
        FEATURE 1, IN_ECX, 21, "an x2APIC"
        FEATURE 1, IN_ECX, 3,  "MONITOR and MWAIT"
        FEATURE 1, IN_ECX, 5,  "VMX of its own (nested virtualization)"
        FEATURE 7, IN_EBX, 7,  "SMEP: no execution of user pages by the kernel"
        FEATURE 7, IN_EBX, 20, "SMAP: no access to user pages by the kernel"
        FEATURE 0x80000001, IN_EDX, 20, "no-execute pages"
        FEATURE 0x80000001, IN_EDX, 26, "1 GiB pages"
        FEATURE 0x80000001, IN_EDX, 27, "RDTSCP"
        FEATURE 0x80000001, IN_EDX, 29, "64-bit long mode"
        FEATURE 1, IN_ECX, 31, "a hypervisor under it"
        .long   -1

        .bss
        .balign 4
highest_basic:          .skip 4
highest_extended:       .skip 4
registers:              .skip 16
text:                   .skip 52
