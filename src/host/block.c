// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs that sleep, and what wakes them or brings them out of the guest.
 *
 * While it sleeps a vCPU's thread is scheduled out like any other, so its state is put and loaded
 * by the preempt notifier.
 */
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>

#include "compat.h"
#include "objects.h"

void host_vcpu_kick(struct host_vcpu *vcpu)
{
	u32 before;

	/* Who is preempted between the request and its interrupt would delay that of others. */
	preempt_disable();
	/* A full barrier: see kick.c. */
	before = __atomic_fetch_or(&vcpu->area.requests, VCPU_REQUEST_EVENT, __ATOMIC_SEQ_CST);
	rcuwait_wake_up(&vcpu->wait);
	/* The first who asks interrupts it; who comes before it has left the guest relies on that. */
	if (!(before & VCPU_REQUEST_EVENT) && READ_ONCE(vcpu->area.mode) == VCPU_IN_GUEST) {
		const int cpu = READ_ONCE(vcpu->cpu);

		if (cpu != smp_processor_id() && cpu_online(cpu))
			smp_send_reschedule(cpu);
	}
	preempt_enable();
}

void host_yield(void)
{
	yield();
}

bool host_vcpu_block(struct host_vcpu *vcpu)
{
	bool runnable;

	prepare_to_rcuwait(&vcpu->wait);
	for (;;) {
		/* In this order: who makes the vCPU runnable wakes it after. */
		set_current_state(TASK_INTERRUPTIBLE);
		runnable = core_vcpu_runnable(vcpu->core);
		if (runnable || signal_pending(current) || READ_ONCE(vcpu->vm->dead))
			break;
		schedule();
	}
	finish_rcuwait(&vcpu->wait);
	return runnable;
}
