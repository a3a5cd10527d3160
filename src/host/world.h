/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of the host's CPU state makes way for a guest's, when, and how it comes back. */
#ifndef MINIVMX_HOST_WORLD_H
#define MINIVMX_HOST_WORLD_H

#include <linux/types.h>

struct host_vcpu;

/*
 * segments.c: FS, GS, DS, ES, LDT and IA32_KERNEL_GS_BASE. Both do nothing when it is done already.
 * [atomic]
 */
void segments_load_guest(struct host_vcpu *vcpu);
void segments_load_host(struct host_vcpu *vcpu);

/* uret.c: MSRs that stay the guest's until this CPU returns to user mode. Module load: */
void uret_init(void);
/* This CPU enters VMX operation, leaves it. [irqoff] */
void uret_cpu_start(void);
void uret_cpu_stop(void);
/* Loads what differs from what this CPU has. [atomic] */
void uret_load_guest(struct host_vcpu *vcpu);

/*
 * l1d.c: the L1 data cache flush before VM entry. Module load, with the corrected parameters: 0 or
 * -ENOMEM
 */
int l1d_init(bool ept);
void l1d_exit(void);
/* Whether entries flush it or needn't, as the parameter is now; also before l1d_init(). */
bool l1d_flushes(bool ept);
/*
 * Part of the entry: not to be instrumented. Whether it has cleared the CPU's buffers, too.
 * [irqoff]
 */
bool l1d_flush_before_entry(struct host_vcpu *vcpu);

/* perf.c: performance counters. [irqoff] */
void perf_enter_guest(struct host_vcpu *vcpu);
void perf_leave_guest(struct host_vcpu *vcpu);

/* work.c: what a task must do before it may stay in a guest. */
/* Whether there is anything. [irqoff] */
bool work_pending_before_entry(void);
/* Does it; -EINTR: a signal waits. [sleep] */
int work_do_before_entry(void);

/* kick.c: module load and unload; 0 or -ENOMEM */
int kick_init(void);
void kick_exit(void);

#endif
