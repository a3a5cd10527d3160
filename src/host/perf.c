// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's performance counters while a guest runs: perf says which MSRs must hold what then.
 * Counters that exclude guests stop, those that exclude the host start; and PEBS stops where the
 * CPU doesn't see to it itself, for it would write its records by the host's addresses into the
 * guest's memory.
 *
 * The values are written shortly before the entry and after the exit. An NMI of perf that comes in
 * between writes its own again: a counter may then count a stretch of the guest, which VM entry's
 * and exit's own switch of these MSRs would avoid.
 */
#include <asm/msr.h>

#include "objects.h"
#include "world.h"

void perf_enter_msrs(struct host_vcpu *vcpu)
{
	const struct perf_guest_switch_msr *msrs = vcpu->perf_msrs;
	int i;

	for (i = 0; i < vcpu->perf_count; i++) {
		if (msrs[i].host != msrs[i].guest)
			wrmsrl(msrs[i].msr, msrs[i].guest);
	}
}

void perf_leave_msrs(struct host_vcpu *vcpu)
{
	int i;

	for (i = 0; i < vcpu->perf_count; i++) {
		if (vcpu->perf_msrs[i].host != vcpu->perf_msrs[i].guest)
			wrmsrl(vcpu->perf_msrs[i].msr, vcpu->perf_msrs[i].host);
	}
}
