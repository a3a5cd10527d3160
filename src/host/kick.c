// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests to vCPUs, and the interrupts that make a running one see them.
 *
 * A vCPU says that it is in the guest, then looks for requests; a requester sets the request, then
 * looks whether the vCPU is in the guest. With a full barrier on both sides at least one sees the
 * other, so a vCPU either stays out or gets an interrupt. The interrupt's handler runs only once
 * the guest was left, so waiting for it waits for the exit.
 */
#include <linux/cpumask.h>
#include <linux/percpu.h>
#include <linux/smp.h>

#include "objects.h"
#include "world.h"

/* Whom to interrupt, gathered by the CPU that asks: a mask may be too large for the stack. */
static DEFINE_PER_CPU(cpumask_var_t, kick_mask);

int kick_init(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		if (!zalloc_cpumask_var_node(&per_cpu(kick_mask, cpu), GFP_KERNEL,
					     cpu_to_node(cpu))) {
			kick_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

void kick_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_cpumask_var(per_cpu(kick_mask, cpu));
}

static void ack_kick(void *unused)
{
	/* To have been interrupted is all there is to do. */
}

/* Whether the vCPU must be interrupted to see a request that was just set. */
static bool request_one(struct host_vcpu *vcpu, u32 requests)
{
	__atomic_fetch_or(&vcpu->area.requests, requests, __ATOMIC_RELAXED);
	smp_mb();
	return READ_ONCE(vcpu->area.mode) == VCPU_IN_GUEST;
}

void host_request_all(struct host_vm *vm, host_u32 requests)
{
	unsigned int i, count = vm_vcpu_count(vm);
	struct host_vcpu *vcpu;
	struct cpumask *mask;

	if (requests & VCPU_REQUEST_VM_DEAD)
		WRITE_ONCE(vm->dead, true);

	preempt_disable();
	mask = this_cpu_cpumask_var_ptr(kick_mask);
	cpumask_clear(mask);
	for (i = 0; i < count; i++) {
		vcpu = vm_vcpu(vm, i);
		if (request_one(vcpu, requests))
			cpumask_set_cpu(READ_ONCE(vcpu->cpu), mask);
		if (requests & VCPU_REQUEST_VM_DEAD)
			rcuwait_wake_up(&vcpu->wait);
	}
	/* Never this CPU: whoever runs here isn't in a guest. */
	if (!cpumask_empty(mask))
		smp_call_function_many(mask, ack_kick, NULL, true);
	preempt_enable();
}
