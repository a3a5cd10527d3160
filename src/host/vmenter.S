/* SPDX-License-Identifier: GPL-2.0-only */
/* The few instructions around VM entry and VM exit. */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>

#include "vmenter.h"

#ifndef CREDIT_CALL_DEPTH
#define CREDIT_CALL_DEPTH /* since Linux 6.2 */
#endif

/* A call whose return address nothing returns to: the trap is for speculation that does. */
.macro LEAVE_RETURN_ADDRESS
	ANNOTATE_INTRA_FUNCTION_CALL
	call	.Lleft_\@
	int3
.Lleft_\@:
.endm

/*
 * The CPU's stack of return addresses holds what the guest called. All its entries are replaced
 * where the guest could steer the host's returns, and where only the last may be wrong ("PBRSB")
 * this one. The kernel's FILL_RETURN_BUFFER does the same in a loop of more than twice as many
 * instructions.
 */
.macro FILL_RETURN_STACK
	ALTERNATIVE_2 "jmp .Lreturn_stack_filled", "", X86_FEATURE_RSB_VMEXIT, \
		"jmp .Llast_return_address", X86_FEATURE_RSB_VMEXIT_LITE
	.rept	RSB_CLEAR_LOOPS - 1
	LEAVE_RETURN_ADDRESS
	.endr
	add	$8 * (RSB_CLEAR_LOOPS - 1), %rsp
	CREDIT_CALL_DEPTH
.Llast_return_address:
	LEAVE_RETURN_ADDRESS
	add	$8, %rsp
	lfence
.Lreturn_stack_filled:
.endm

.section .noinstr.text, "ax"

/*
 * u32 minivmx_enter(struct vcpu_area *area)
 *
 * The stack below the callee-saved registers holds one thing, area, and HOST_RSP points at it: that
 * is all a VM exit has to find its way back. SPEC_CTRL takes the guest's value as late, and the
 * host's as early as possible; between them must be neither a return nor an indirect branch.
 */
SYM_FUNC_START(minivmx_enter)
	push	%rbp
	mov	%rsp, %rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rdi

	cmp	%rsp, AREA_HOST_RSP(%rdi)
	je	.Lhost_rsp_written
	mov	$VMCS_HOST_RSP, %eax
.Lwrite_host_rsp:
	vmwrite	%rsp, %rax
	jbe	.Lfail
	mov	%rsp, AREA_HOST_RSP(%rdi)
.Lhost_rsp_written:

	ALTERNATIVE "jmp .Lguest_spec_ctrl_set", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	AREA_SPEC_CTRL(%rdi), %eax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	je	.Lguest_spec_ctrl_set
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
.Lguest_spec_ctrl_set:

	/* Below 1, that is with CF, means VMLAUNCH; nothing up to the branch changes CF. */
	cmpl	$1, AREA_LAUNCHED(%rdi)

	mov	AREA_RAX(%rdi), %rax
	mov	AREA_RCX(%rdi), %rcx
	mov	AREA_RDX(%rdi), %rdx
	mov	AREA_RBX(%rdi), %rbx
	mov	AREA_RBP(%rdi), %rbp
	mov	AREA_RSI(%rdi), %rsi
	mov	AREA_R8(%rdi), %r8
	mov	AREA_R9(%rdi), %r9
	mov	AREA_R10(%rdi), %r10
	mov	AREA_R11(%rdi), %r11
	mov	AREA_R12(%rdi), %r12
	mov	AREA_R13(%rdi), %r13
	mov	AREA_R14(%rdi), %r14
	mov	AREA_R15(%rdi), %r15
	mov	AREA_RDI(%rdi), %rdi

	/*
	 * VERW: changes ZF only. Last, so that nothing of the host gets into the buffers after it.
	 */
	CLEAR_CPU_BUFFERS

	jc	.Llaunch

	/*
	 * The CPU goes on at minivmx_vmexit with the stack as it is here: tell objtool's unwinder.
	 */
	UNWIND_HINT_SAVE
.Lresume:
	vmresume
	jmp	.Lfail
.Llaunch:
	vmlaunch
	jmp	.Lfail

	/* #UD: VMX was turned off under us, for the machine is going down. */
	_ASM_EXTABLE(.Lwrite_host_rsp, .Lfail)
	_ASM_EXTABLE(.Lresume, .Lfail)
	_ASM_EXTABLE(.Llaunch, .Lfail)

SYM_INNER_LABEL(minivmx_vmexit, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ENDBR

	push	%rax
	mov	8(%rsp), %rax
	pop	AREA_RAX(%rax)
	mov	%rcx, AREA_RCX(%rax)
	mov	%rdx, AREA_RDX(%rax)
	mov	%rbx, AREA_RBX(%rax)
	mov	%rbp, AREA_RBP(%rax)
	mov	%rsi, AREA_RSI(%rax)
	mov	%rdi, AREA_RDI(%rax)
	mov	%r8, AREA_R8(%rax)
	mov	%r9, AREA_R9(%rax)
	mov	%r10, AREA_R10(%rax)
	mov	%r11, AREA_R11(%rax)
	mov	%r12, AREA_R12(%rax)
	mov	%r13, AREA_R13(%rax)
	mov	%r14, AREA_R14(%rax)
	mov	%r15, AREA_R15(%rax)

	/* The result, in a register that calls keep. */
	xor	%ebx, %ebx

.Lclear_registers:
	/*
	 * What the guest left in registers must not steer the host, not even speculatively before
	 * it is overwritten.
	 */
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebp, %ebp
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d

	/* Before the first return whose call was made before the guest ran. */
	FILL_RETURN_STACK

	pop	%rdi

	ALTERNATIVE "jmp .Lhost_spec_ctrl_set", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	cmpl	$0, AREA_SAVE_SPEC_CTRL(%rdi)
	je	.Lguest_spec_ctrl_saved
	rdmsr
	mov	%eax, AREA_SPEC_CTRL(%rdi)
	mov	%edx, AREA_SPEC_CTRL + 4(%rdi)
.Lguest_spec_ctrl_saved:
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	/*
	 * With IBRS as the kernel's mitigation the write itself is the barrier, even of an equal
	 * value.
	 */
	ALTERNATIVE "", "jmp .Lwrite_host_spec_ctrl", X86_FEATURE_KERNEL_IBRS
	cmp	AREA_SPEC_CTRL(%rdi), %eax
	je	.Lspec_ctrl_barrier
.Lwrite_host_spec_ctrl:
	xor	%edx, %edx
	wrmsr
.Lspec_ctrl_barrier:
	/* The branch around WRMSR must not be speculated past. */
	lfence
.Lhost_spec_ctrl_set:

	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%ebx, %eax
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET

.Lfail:
	mov	$1, %ebx
	jmp	.Lclear_registers
SYM_FUNC_END(minivmx_enter)

/*
 * void minivmx_call_gate(unsigned long entry)
 *
 * Builds the frame that event delivery would push (SDM Vol. 3A, 6.14.2) and calls the handler, whose
 * IRET comes back here with interrupts still off.
 */
SYM_FUNC_START(minivmx_call_gate)
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	push	$__KERNEL_DS
	push	%rbp
	pushf
	push	$__KERNEL_CS
	CALL_NOSPEC rdi
	/* IRET popped the frame; objtool does not know that, but RBP says the same. */
	mov	%rbp, %rsp
	pop	%rbp
	RET
SYM_FUNC_END(minivmx_call_gate)
