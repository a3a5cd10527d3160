/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stands in for the decompressor of a kernel that was unpacked beforehand (emulated/unpacked.py): GRUB enters here in
 * 32-bit protected mode with %esi = boot_params; the kernel wants 64-bit mode over identity-mapped memory and the same
 * in %rsi (Documentation/x86/boot.rst, "64-bit Boot Protocol"). ENTRY is the physical address where the kernel wants to be
 * entered; this code is linked at its own, before the kernel's memory.
 */
	.set	CR0_PG, 1 << 31
	.set	CR4_PAE, 1 << 5
	.set	MSR_EFER, 0xc0000080
	.set	EFER_LME, 1 << 8
	.set	PRESENT_WRITABLE, 0x3
	.set	LARGE_PAGE, 0x80

	.text
	.code32
	.globl	_start
_start:
	cli
	lgdt	gdt_pointer
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$level4, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0
	ljmp	$0x10, $long_mode

	.code64
long_mode:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%esi, %esi
	movl	$ENTRY, %eax
	jmp	*%rax

	.balign	8
	/* The selectors the boot protocol names: 0x10 for code, 0x18 for data. */
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	/* The first 4 GiB, in pages of 2 MiB, each at its own address. */
	.balign	4096
level4:	.quad	level3 + PRESENT_WRITABLE
	.fill	511, 8, 0
level3:	.quad	level2 + PRESENT_WRITABLE, level2 + 0x1000 + PRESENT_WRITABLE
	.quad	level2 + 0x2000 + PRESENT_WRITABLE, level2 + 0x3000 + PRESENT_WRITABLE
	.fill	508, 8, 0
level2:	.set	page, 0
	.rept	2048
	.quad	page + PRESENT_WRITABLE + LARGE_PAGE
	.set	page, page + (1 << 21)
	.endr
