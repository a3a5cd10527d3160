/* SPDX-License-Identifier: GPL-2.0-only */
/* VMX operation of the CPU a test runs on, and the pages it needs. */
#ifndef MINIVMX_KUNIT_VMX_CPU_H
#define MINIVMX_KUNIT_VMX_CPU_H

#include <kunit/test.h>

#include "probe.h"

enum { VMX_PAGES = 4 };

/* test->priv of every test that uses VMX. */
struct vmx_cpu {
	u64 region; /* of VMXON; physical */
	u64 vmcs[VMX_PAGES]; /* with the right revision identifier, never loaded; physical */
	void *pages[VMX_PAGES + 1];
	u32 revision;
};

/* A test's init and exit functions. */
int vmx_cpu_init(struct kunit *test);
void vmx_cpu_exit(struct kunit *test);

/*
 * Calls body(argument) in VMX operation with interrupts off, then leaves VMX operation. The test fails, and body isn't called,
 * when somebody else has VMX. body must not assert: its thread would end there, with interrupts off.
 */
void vmx_run(struct kunit *test, void (*body)(struct vmx_cpu *cpu, void *argument), void *argument);

/* Clears and loads a VMCS: what comes before most tests. [irqoff], in VMX operation */
u32 vmx_load(u64 vmcs);

/* The error number of an instruction that ended in VMfailValid, SDM Vol. 3C, 31.4. [irqoff] */
u32 vmx_error(void);

#endif
