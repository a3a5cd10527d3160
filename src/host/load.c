// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's state in the CPU follows its thread: onto a CPU when the thread is scheduled in, off it
 * when scheduled out.
 */
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>

#include "cpus.h"
#include "objects.h"
#include "world.h"

/*
 * Preemption is off. A CPU that is going offline has left VMX operation while a thread may still
 * come by for a moment: it stays unloaded then, which keeps it out of the guest, until it is moved
 * elsewhere.
 */
static void attach(struct host_vcpu *vcpu, int cpu)
{
	vcpu->loaded = cpus_vmx_on_here();
	if (!vcpu->loaded)
		return;
	WRITE_ONCE(vcpu->cpu, cpu);
	/* Whoever ran here in between left data in the cache. */
	vcpu->area.flush_l1d = 1;
	core_vcpu_load(vcpu->core, cpu);
}

static void detach(struct host_vcpu *vcpu)
{
	segments_load_host(vcpu);
	if (vcpu->loaded)
		core_vcpu_put(vcpu->core);
	vcpu->loaded = false;
}

static struct host_vcpu *notified_vcpu(struct preempt_notifier *notifier)
{
	return container_of(notifier, struct host_vcpu, preempt_notifier);
}

static void sched_in(struct preempt_notifier *notifier, int cpu)
{
	attach(notified_vcpu(notifier), cpu);
}

static void sched_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	detach(notified_vcpu(notifier));
}

static struct preempt_ops preempt_ops = {
	.sched_in = sched_in,
	.sched_out = sched_out,
};

void vcpu_init_preempt_notifier(struct host_vcpu *vcpu)
{
	preempt_notifier_init(&vcpu->preempt_notifier, &preempt_ops);
}

int vcpu_load(struct host_vcpu *vcpu)
{
	int cpu = get_cpu();

	while (!cpus_vmx_on_here()) {
		put_cpu();
		/* It may not come back at all: see resume() in cpus.c. */
		if (cpus_going_down() || fatal_signal_pending(current))
			return -EIO;
		schedule_timeout_killable(1);
		cpu = get_cpu();
	}
	preempt_notifier_register(&vcpu->preempt_notifier);
	attach(vcpu, cpu);
	put_cpu();
	return 0;
}

void vcpu_put(struct host_vcpu *vcpu)
{
	preempt_disable();
	detach(vcpu);
	preempt_notifier_unregister(&vcpu->preempt_notifier);
	preempt_enable();
}
