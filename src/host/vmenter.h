/* SPDX-License-Identifier: GPL-2.0-only */
/* What vmenter.S knows of C's structures; entry.c asserts that each is true. */
#ifndef MINIVMX_HOST_VMENTER_H
#define MINIVMX_HOST_VMENTER_H

#define AREA_REGS 0
#define AREA_RAX (AREA_REGS + 0 * 8)
#define AREA_RCX (AREA_REGS + 1 * 8)
#define AREA_RDX (AREA_REGS + 2 * 8)
#define AREA_RBX (AREA_REGS + 3 * 8)
#define AREA_RBP (AREA_REGS + 5 * 8)
#define AREA_RSI (AREA_REGS + 6 * 8)
#define AREA_RDI (AREA_REGS + 7 * 8)
#define AREA_R8 (AREA_REGS + 8 * 8)
#define AREA_R9 (AREA_REGS + 9 * 8)
#define AREA_R10 (AREA_REGS + 10 * 8)
#define AREA_R11 (AREA_REGS + 11 * 8)
#define AREA_R12 (AREA_REGS + 12 * 8)
#define AREA_R13 (AREA_REGS + 13 * 8)
#define AREA_R14 (AREA_REGS + 14 * 8)
#define AREA_R15 (AREA_REGS + 15 * 8)
#define AREA_HOST_RSP 136
#define AREA_SPEC_CTRL 144
#define AREA_LAUNCHED 152
#define AREA_SAVE_SPEC_CTRL 156

/* The VMCS field HOST_RSP: SDM Vol. 3D, appendix B.4.4 */
#define VMCS_HOST_RSP 0x6c14

#ifndef __ASSEMBLY__
#include <minivmx/host.h>

/*
 * The world switch: 0 after a VM exit, 1 when VM entry failed before it left the host. [irqoff, not
 * instrumented]
 */
u32 minivmx_enter(struct vcpu_area *area);
/* Where a VM exit comes back to: the VMCS's host RIP. Not to be called. */
void minivmx_vmexit(void);
/* Calls an entry point of the IDT as if its event came now. [irqoff] */
void minivmx_call_gate(unsigned long entry);
#endif

#endif
