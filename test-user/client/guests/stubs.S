/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exception and interrupt stubs: one of 16 bytes a vector, 64 vectors. Each appends a record (vector,
 * error code, CR2, RIP, flags) to the log. After a fault (vector < 32, and LOG_RESUME is not 0) the
 * guest goes on at LOG_RESUME, since returning would only fault again; otherwise it returns.
 */
#include "guest.inc"

        .set STUBS, 64

        .code32
        .globl guest_stubs32, guest_stubs32_end
        .balign 16
guest_stubs32:
        .set v, 0
        .rept STUBS
        .balign 16
        .if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
        push $0
        .endif
        push $v
        jmp common32
        .set v, v + 1
        .endr
        .balign 16
common32:                               /* stack: vector, error, eip, cs, eflags */
        pusha                           /* 32 bytes */
        mov $G_LOG, %ebx
        mov (%ebx), %ecx
        imul $LOG_RECORD_SIZE, %ecx, %edx
        incl (%ebx)
        lea 16(%ebx, %edx), %edi
        mov 32(%esp), %eax
        mov %eax, REC_VECTOR(%edi)
        mov 36(%esp), %eax
        mov %eax, REC_ERROR(%edi)
        mov %cr2, %eax
        mov %eax, REC_CR2(%edi)
        movl $0, REC_CR2+4(%edi)
        mov 40(%esp), %eax
        mov %eax, REC_RIP(%edi)
        movl $0, REC_RIP+4(%edi)
        mov 48(%esp), %eax
        mov %eax, REC_FLAGS(%edi)
        movl $0, REC_FLAGS+4(%edi)
        cmpl $32, 32(%esp)
        jae 1f
        mov 8(%ebx), %eax
        test %eax, %eax
        jz 1f
        mov %eax, 40(%esp)
1:      popa
        add $8, %esp
        iret
guest_stubs32_end:

        .code64
        .globl guest_stubs64, guest_stubs64_end
        .balign 16
guest_stubs64:
        .set v, 0
        .rept STUBS
        .balign 16
        .if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
        push $0
        .endif
        push $v
        jmp common64
        .set v, v + 1
        .endr
        .balign 16
common64:                               /* stack: vector, error, rip, cs, rflags, rsp, ss */
        push %rax
        push %rbx
        push %rcx
        push %rdi                       /* 32 bytes */
        mov $G_LOG, %ebx
        mov (%rbx), %ecx
        imul $LOG_RECORD_SIZE, %ecx, %edi
        incl (%rbx)
        lea 16(%rbx, %rdi), %rdi
        mov 32(%rsp), %rax
        mov %eax, REC_VECTOR(%rdi)
        mov 40(%rsp), %rax
        mov %eax, REC_ERROR(%rdi)
        mov %cr2, %rax
        mov %rax, REC_CR2(%rdi)
        mov 48(%rsp), %rax
        mov %rax, REC_RIP(%rdi)
        mov 64(%rsp), %rax
        mov %rax, REC_FLAGS(%rdi)
        cmpl $32, 32(%rsp)
        jae 1f
        mov 8(%rbx), %rax
        test %rax, %rax
        jz 1f
        mov %rax, 48(%rsp)
1:      pop %rdi
        pop %rcx
        pop %rbx
        pop %rax
        add $16, %rsp
        iretq
guest_stubs64_end:

/* Real mode: a record's vector only; the IVT points vector v at G_STUBS + 16 * v. */
        .code16
        .globl guest_stubs16, guest_stubs16_end
        .balign 16
guest_stubs16:
        .set v, 0
        .rept STUBS
        .balign 16
        push $v
        jmp common16
        .set v, v + 1
        .endr
        .balign 16
common16:                               /* stack: vector, ip, cs, flags */
        pushal
        push %ds
        push %bp
        mov %sp, %bp                    /* bp: +0 bp, +2 ds, +4 pushal (32), +36 vector, +38 ip */
        mov $(G_LOG >> 4), %ax
        mov %ax, %ds
        mov 0, %ecx
        imul $LOG_RECORD_SIZE, %cx, %di
        incl 0
        add $16, %di
        movzwl 36(%bp), %eax
        mov %eax, REC_VECTOR(%di)
        movl $0, REC_ERROR(%di)
        movl $0, REC_CR2(%di)
        movl $0, REC_CR2+4(%di)
        movzwl 38(%bp), %eax
        mov %eax, REC_RIP(%di)
        movl $0, REC_RIP+4(%di)
        movzwl 42(%bp), %eax
        mov %eax, REC_FLAGS(%di)
        movl $0, REC_FLAGS+4(%di)
        cmpw $32, 36(%bp)
        jae 1f
        mov 8, %ax
        test %ax, %ax
        jz 1f
        mov %ax, 38(%bp)
1:      pop %bp
        pop %ds
        popal
        add $2, %sp
        iret
guest_stubs16_end:
