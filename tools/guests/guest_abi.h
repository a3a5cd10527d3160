/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a guest program and the VMM that runs it (`minivmx run`) agree on. The assembler and the
 * C++ compiler both read this file, so it holds plain numbers and nothing else. All addresses are
 * guest-physical, all sizes bytes.
 *
 * A guest is a flat binary. The VMM puts it at the load address of its mode and starts it at the
 * first byte:
 *
 *   mode        load       the vCPU at the first instruction
 *   real        0x7c00     16-bit real mode, CS = DS = ES = SS = 0: as a boot sector expects it
 *   protected   0x100000   32-bit protected mode, flat segments from the GDT below, no paging
 *   paged       0x100000   the same with 32-bit paging (4 MiB pages), identity-mapped
 *   pae         0x100000   the same with PAE paging (2 MiB pages), identity-mapped
 *   long        0x100000   64-bit mode, 4-level paging (2 MiB pages), identity-mapped
 *   reset       so that    the state after RESET, at F000:FFF0 (linear 0xfffffff0): the file is a
 *               it ends    firmware image of whole 4 KiB pages
 *               at 4 GiB
 *
 * The identity map covers the low 4 GiB. Interrupts are off and the IDT is empty: an exception
 * before LIDT ends in a triple fault. Except after RESET the registers say:
 *
 *   EAX  GUEST_MAGIC            ECX  index of this vCPU, from 0
 *   EBX  memory size in KiB     EDX  number of vCPUs (all of them start at the entry)
 *   ESP  top of this vCPU's own stack: GUEST_STACK_TOP, less GUEST_STACK_SIZE for each vCPU before
 *        it; in real mode the same with the *_REAL values
 *
 * A vCPU ends with HLT; the run ends well when all have. Writing a status to GUEST_PORT_EXIT ends
 * the run at once.
 */
#ifndef MINIVMX_GUEST_ABI_H
#define MINIVMX_GUEST_ABI_H

#define GUEST_MAGIC 0x584d564d /* "MVMX" */

#define GUEST_LOAD_REAL 0x7c00
#define GUEST_LOAD_FLAT 0x100000

/* The VMM's own tables lie between the BIOS data area's end and 0x7c00. */
#define GUEST_GDT             0x500
#define GUEST_PAGE_TABLES     0x1000 /* six pages at most: PML4, PDPT, four PDs */
#define GUEST_STACK_TOP       0x80000
#define GUEST_STACK_SIZE      0x1000
#define GUEST_STACK_TOP_REAL  0x7c00
#define GUEST_STACK_SIZE_REAL 0x400
#define GUEST_CPUS_MAX        16

/* Selectors in the GDT at GUEST_GDT. */
#define GUEST_SEL_CODE32  0x08
#define GUEST_SEL_DATA    0x10
#define GUEST_SEL_CODE64  0x18
#define GUEST_GDT_ENTRIES 4

/*
 * The note: a guest may name its mode, so that `minivmx run FILE` needs no --mode. The file then
 * starts with a two-byte short jump (the same in all modes) over the note; GUEST_NOTE in guest.inc
 * writes both.
 */
#define GUEST_NOTE_OFFSET 4  /* GUEST_MAGIC, 32 bits, little-endian */
#define GUEST_NOTE_MODE   8  /* one of GUEST_MODE_*, 8 bits */
#define GUEST_NOTE_SIZE   12 /* bytes of the file up to the note's end */

#define GUEST_MODE_REAL      0
#define GUEST_MODE_PROTECTED 1
#define GUEST_MODE_PAGED     2
#define GUEST_MODE_PAE       3
#define GUEST_MODE_LONG      4
#define GUEST_MODE_RESET     5

/* Ports. */
#define GUEST_PORT_SERIAL 0x3f8 /* a 16550A without interrupts */
#define GUEST_PORT_DEBUG  0xe9  /* bytes for the log; reads as 0xe9, as under Bochs */
#define GUEST_PORT_EXIT   0xf4  /* ends the run: 0 is success */

/*
 * A page of registers for trying MMIO: the first 32 bits read as GUEST_MAGIC, the rest keeps what
 * is written. Other unbacked memory reads as ones and ignores writes.
 */
#define GUEST_MMIO_BASE    0xd0000000
#define GUEST_MMIO_SIZE    0x1000
#define GUEST_MMIO_SCRATCH 0x10

#endif
