/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of the host's CPU state makes way for a guest's, when, and how it comes back. */
#ifndef MINIVMX_HOST_WORLD_H
#define MINIVMX_HOST_WORLD_H

#include <linux/jump_label.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/types.h>
#include <asm/perf_event.h>

#include "objects.h"

/*
 * segments.c: FS, GS, DS, ES, LDT and IA32_KERNEL_GS_BASE. Both do nothing when it is done already.
 */
/* This CPU enters VMX operation. [irqoff] */
void segments_cpu_start(void);
void segments_load_guest(struct host_vcpu *vcpu); /* [irqoff] */
void segments_load_host(struct host_vcpu *vcpu); /* [atomic] */

/* uret.c: MSRs that stay the guest's until this CPU returns to user mode. Module load: */
void uret_init(void);
/* This CPU enters VMX operation, leaves it. [irqoff] */
void uret_cpu_start(void);
void uret_cpu_stop(void);
/* Whose values this CPU has in these MSRs, as far as they differ from the host's; NULL: nobody's. */
DECLARE_PER_CPU(const struct host_vcpu *, uret_owner);
/* Loads what differs from what this CPU has. [irqoff] */
void uret_load_own(struct host_vcpu *vcpu);
static inline void uret_load_guest(struct host_vcpu *vcpu)
{
	if (unlikely(__this_cpu_read(uret_owner) != vcpu || vcpu->area.uret_dirty))
		uret_load_own(vcpu);
}

/*
 * l1d.c: the L1 data cache flush before VM entry. Module load, with the corrected parameters: 0 or
 * -ENOMEM
 */
int l1d_init(bool ept);
void l1d_exit(void);
/* Whether entries flush it or needn't, as the parameter is now; also before l1d_init(). */
bool l1d_flushes(bool ept);
DECLARE_STATIC_KEY_FALSE(l1d_flush_wanted);
bool l1d_flush(struct host_vcpu *vcpu);
/*
 * Part of the entry: not to be instrumented. Whether it has cleared the CPU's buffers, too.
 * [irqoff]
 */
static __always_inline bool l1d_flush_before_entry(struct host_vcpu *vcpu)
{
	return static_branch_unlikely(&l1d_flush_wanted) && l1d_flush(vcpu);
}

/* perf.c: performance counters. [irqoff] */
void perf_enter_msrs(struct host_vcpu *vcpu);
void perf_leave_msrs(struct host_vcpu *vcpu);
static inline void perf_enter_guest(struct host_vcpu *vcpu)
{
	/*
	 * The count is only set when there are MSRs. They are this CPU's, and stay as they are
	 * until interrupts are on.
	 */
	vcpu->perf_msrs = perf_guest_get_msrs(&vcpu->perf_count, NULL);
	if (unlikely(vcpu->perf_msrs))
		perf_enter_msrs(vcpu);
}
static inline void perf_leave_guest(struct host_vcpu *vcpu)
{
	if (unlikely(vcpu->perf_msrs))
		perf_leave_msrs(vcpu);
}

/* work.c: does what a task must do before it may stay in a guest; -EINTR: a signal waits. [sleep] */
int work_do_before_entry(void);

/* kick.c: module load and unload; 0 or -ENOMEM */
int kick_init(void);
void kick_exit(void);

#endif
