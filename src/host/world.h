/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of the host's CPU state makes way for a guest's, when, and how it comes back. */
#ifndef MINIVMX_HOST_WORLD_H
#define MINIVMX_HOST_WORLD_H

#include <linux/types.h>

struct host_vcpu;

/* segments.c: FS, GS, DS, ES, LDT and IA32_KERNEL_GS_BASE. Both do nothing when it is done already. [atomic] */
void segments_load_guest(struct host_vcpu *vcpu);
void segments_load_host(struct host_vcpu *vcpu);

/* uret.c: MSRs that stay the guest's until this CPU returns to user mode. */
void uret_init(void);			       /* module load */
void uret_cpu_start(void);		       /* this CPU enters VMX operation [irqoff] */
void uret_cpu_stop(void);		       /* this CPU leaves it [irqoff] */
void uret_load_guest(struct host_vcpu *vcpu);  /* [atomic] */

/* l1d.c: the L1 data cache flush before VM entry. */
int l1d_init(bool ept);			       /* module load, with the corrected parameters: 0 or -ENOMEM */
void l1d_exit(void);
bool l1d_flushes(bool ept);		       /* whether no guest needs to flush it for a nested one; before l1d_init() */
void l1d_flush_before_entry(struct host_vcpu *vcpu); /* [irqoff], part of the entry: not to be instrumented */

/* perf.c: performance counters. [irqoff] */
void perf_enter_guest(struct host_vcpu *vcpu);
void perf_leave_guest(struct host_vcpu *vcpu);

/* work.c: what a task must do before it may stay in a guest. */
bool work_pending_before_entry(void);	       /* [irqoff] */
int work_do_before_entry(void);		       /* -EINTR: a signal waits [sleep] */

/* kick.c */
int kick_init(void);			       /* 0 or -ENOMEM */
void kick_exit(void);

#endif
