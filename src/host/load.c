// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's state in the CPU follows its thread: onto a CPU when the thread is scheduled in, off it
 * when scheduled out. As long as the thread is pinned, with preemption off, it isn't scheduled, and
 * no notifier is needed.
 */
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <asm/processor.h>

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
	if (vcpu->cpu != cpu) {
		WRITE_ONCE(vcpu->cpu, cpu);
		/* What this CPU has of its MSRs may be from an earlier visit. */
		vcpu->area.uret_dirty = 1;
		vcpu->area.host_gs_base = cpu_kernelmode_gs_base(cpu);
	}
	/* Whoever ran here in between, be it user space, left data in the cache. */
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

/* The number of this CPU, which is in VMX operation, with preemption off; or -EIO. */
static int get_vmx_cpu(void)
{
	int cpu = get_cpu();

	while (unlikely(!cpus_vmx_on_here())) {
		put_cpu();
		/* It may not come back at all: see resume() in cpus.c. */
		if (cpus_going_down() || fatal_signal_pending(current))
			return -EIO;
		schedule_timeout_killable(1);
		cpu = get_cpu();
	}
	return cpu;
}

int vcpu_load(struct host_vcpu *vcpu)
{
	int r = vcpu_load_pinned(vcpu);

	if (!r)
		host_let_sleep(vcpu);
	return r;
}

int vcpu_load_pinned(struct host_vcpu *vcpu)
{
	int cpu = get_vmx_cpu();

	if (unlikely(cpu < 0))
		return cpu;
	attach(vcpu, cpu);
	vcpu->pinned = true;
	return 0;
}

void host_let_sleep(struct host_vcpu *vcpu)
{
	if (!vcpu->pinned)
		return;
	vcpu->pinned = false;
	preempt_notifier_register(&vcpu->preempt_notifier);
	preempt_enable();
}

void vcpu_put(struct host_vcpu *vcpu)
{
	if (!vcpu->pinned) {
		preempt_disable();
		preempt_notifier_unregister(&vcpu->preempt_notifier);
	}
	vcpu->pinned = false;
	detach(vcpu);
	preempt_enable();
}
