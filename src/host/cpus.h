/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMX operation of each CPU: entered on all of them for the first VM, left after the last, and kept
 * right through CPU hotplug, suspend, reboot, kexec and panic.
 */
#ifndef MINIVMX_HOST_CPUS_H
#define MINIVMX_HOST_CPUS_H

#include <linux/percpu.h>
#include <linux/types.h>

/*
 * Module load, in this order: cpus_check_unused() before the core's hardware_setup, cpus_init()
 * after it. -EBUSY: VMX belongs to somebody else; -EIO: a CPU differs from the others or can't
 * enter VMX operation. Logged. [sleep]
 */
int cpus_check_unused(void);
int cpus_init(void);
void cpus_exit(void);

/* One more, one less VM. cpus_get(): -EBUSY, -EIO; logged. [sleep] */
int cpus_get(void);
void cpus_put(void);

struct cpu_vmx {
	void *region; /* of VMXON; one page, kept while the module is loaded */
	bool checked; /* offers what the CPU of hardware_setup does */
	bool on;
	int error; /* what the last attempt on this CPU came to */
};
DECLARE_PER_CPU(struct cpu_vmx, cpu_vmx); /* cpus.c's; others ask: */

/* Whether this CPU is in VMX operation by our doing. [preemption off] */
static inline bool cpus_vmx_on_here(void)
{
	return __this_cpu_read(cpu_vmx.on);
}
/* Whether the machine is going down, so that VMX stays off. [any] */
bool cpus_going_down(void);

/*
 * emergency.c: the kernel's one slot for a callback that ends VMX operation in a panic or crash.
 * [sleep]
 */
int emergency_init(void);
void emergency_exit(void);
/* Takes the slot unless kvm has, or may want it now. */
void emergency_take_slot(void);
/* The callback, in cpus.c. [any] */
void cpus_emergency_off(void);

#endif
