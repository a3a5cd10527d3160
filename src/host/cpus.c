// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMX operation of each CPU.
 *
 * CR4.VMXE tells who owns VMX: we set it before the core's VMXON and clear it after its VMXOFF,
 * through the kernel's shadow of CR4, and never touch a CPU on which it was set already. kvm_intel
 * keeps the same rule, so of the two the one that first creates a VM has VMX until its last VM is
 * gone.
 */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/printk.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>

#include <minivmx/host.h>

#include "compat.h"
#include "cpus.h"
#include "holder.h"
#include "world.h"

DEFINE_PER_CPU(struct cpu_vmx, cpu_vmx);

/*
 * How many VMs there are. Changes with users_lock and the CPU hotplug lock (read) held; the latter
 * is taken first.
 */
static unsigned int users;
static DEFINE_MUTEX(users_lock);
static bool going_down;
static enum cpuhp_state hotplug_state;

bool cpus_going_down(void)
{
	return READ_ONCE(going_down);
}

/* ---- One CPU; interrupts off ---- */

static bool vmxe_set_here(void)
{
	/* The register itself, too: others may have set it behind the kernel's shadow. */
	return (cr4_read_shadow() | __read_cr4()) & X86_CR4_VMXE;
}

static int enter_vmx(struct cpu_vmx *here)
{
	int r;

	if (here->on)
		return 0;
	if (vmxe_set_here())
		return -EBUSY;
	if (!here->checked) {
		r = core_check_processor_compatibility();
		if (r)
			return r;
		here->checked = true;
	}

	/* Not every CPU can trace with Intel PT in VMX operation. */
	intel_pt_handle_vmx(1);
	cr4_set_bits(X86_CR4_VMXE);
	/* Before it is true: an NMI that kills the machine in between must find it. */
	WRITE_ONCE(here->on, true);
	r = core_cpu_vmxon(here->region);
	if (r) {
		WRITE_ONCE(here->on, false);
		cr4_clear_bits(X86_CR4_VMXE);
		intel_pt_handle_vmx(0);
		return r;
	}
	uret_cpu_start();
	segments_cpu_start();
	return 0;
}

static void leave_vmx(struct cpu_vmx *here)
{
	if (!here->on)
		return;
	uret_cpu_stop();
	core_cpu_vmxoff();
	cr4_clear_bits(X86_CR4_VMXE);
	WRITE_ONCE(here->on, false);
	intel_pt_handle_vmx(0);
}

static void enter_vmx_here(void *unused)
{
	struct cpu_vmx *here = this_cpu_ptr(&cpu_vmx);

	here->error = enter_vmx(here);
}

static void leave_vmx_here(void *unused)
{
	leave_vmx(this_cpu_ptr(&cpu_vmx));
}

void cpus_emergency_off(void)
{
	struct cpu_vmx *here = this_cpu_ptr(&cpu_vmx);

	if (!READ_ONCE(here->on))
		return;
	WRITE_ONCE(here->on, false);
	core_cpu_emergency_off();
	cr4_clear_bits(X86_CR4_VMXE);
}

/* ---- Every CPU ---- */

static void report_error(int cpu, int error)
{
	if (error == -EBUSY)
		holder_report(cpu);
	else if (error && host_log_allowed())
		pr_err("CPU %d can't enter VMX operation (error %d)\n", cpu, error);
}

/* The hotplug lock and users_lock are held. */
static int enter_vmx_everywhere(void)
{
	int cpu, r;

	on_each_cpu(enter_vmx_here, NULL, 1);
	for_each_online_cpu(cpu) {
		r = per_cpu(cpu_vmx, cpu).error;
		if (!r)
			continue;
		on_each_cpu(leave_vmx_here, NULL, 1);
		report_error(cpu, r);
		return r;
	}
	return 0;
}

int cpus_get(void)
{
	int r = 0;

	emergency_take_slot();
	cpus_read_lock();
	mutex_lock(&users_lock);
	if (going_down)
		r = -EIO;
	else if (!users)
		r = enter_vmx_everywhere();
	if (!r)
		users++;
	mutex_unlock(&users_lock);
	cpus_read_unlock();
	return r;
}

void cpus_put(void)
{
	cpus_read_lock();
	mutex_lock(&users_lock);
	if (!--users)
		on_each_cpu(leave_vmx_here, NULL, 1);
	mutex_unlock(&users_lock);
	cpus_read_unlock();
}

/* ---- CPUs come and go, and so does the machine ---- */

/*
 * The hotplug lock is held for writing, so users can't change. A CPU that won't do is refused while
 * VMs are there.
 */
static int cpu_comes(unsigned int cpu)
{
	unsigned long flags;
	int r = 0;

	if (users && !going_down) {
		local_irq_save(flags);
		r = enter_vmx(this_cpu_ptr(&cpu_vmx));
		local_irq_restore(flags);
		report_error(cpu, r);
	}
	return r;
}

static int cpu_goes(unsigned int cpu)
{
	struct cpu_vmx *here = this_cpu_ptr(&cpu_vmx);
	unsigned long flags;

	local_irq_save(flags);
	leave_vmx(here);
	local_irq_restore(flags);
	/* What comes back may be another CPU. */
	here->checked = false;
	return 0;
}

/* One CPU is left, interrupts are off, and every task is frozen. */
static int suspend(COMPAT_SYSCORE_PARAMETER)
{
	leave_vmx(this_cpu_ptr(&cpu_vmx));
	return 0;
}

static void resume(COMPAT_SYSCORE_PARAMETER)
{
	int r = 0;

	if (users && !going_down)
		r = enter_vmx(this_cpu_ptr(&cpu_vmx));
	if (r)
		pr_err("VMX does not come back after suspend (error %d): VMs can't run any more\n",
		       r);
}

COMPAT_DEFINE_SYSCORE(syscore, suspend, resume);

/*
 * Firmware, and a kernel started by kexec, expect VMX to be off: it would block INIT (SDM Vol. 3C,
 * 24.8).
 */
static int on_reboot(struct notifier_block *block, unsigned long event, void *data)
{
	mutex_lock(&users_lock);
	WRITE_ONCE(going_down, true);
	on_each_cpu(leave_vmx_here, NULL, 1);
	mutex_unlock(&users_lock);
	return NOTIFY_OK;
}

static struct notifier_block reboot_notifier = {
	.notifier_call = on_reboot,
};

/* ---- Module load and unload ---- */

static void check_unused_here(void *unused)
{
	__this_cpu_write(cpu_vmx.error, vmxe_set_here() ? -EBUSY : 0);
}

int cpus_check_unused(void)
{
	int cpu, r = 0;

	cpus_read_lock();
	on_each_cpu(check_unused_here, NULL, 1);
	for_each_online_cpu(cpu) {
		r = per_cpu(cpu_vmx, cpu).error;
		if (r) {
			report_error(cpu, r);
			break;
		}
	}
	cpus_read_unlock();
	return r;
}

static void free_regions(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		free_page((unsigned long)per_cpu(cpu_vmx, cpu).region);
		per_cpu(cpu_vmx, cpu).region = NULL;
	}
}

static int alloc_regions(void)
{
	struct page *page;
	int cpu;

	for_each_possible_cpu(cpu) {
		page = alloc_pages_node(cpu_to_node(cpu), GFP_KERNEL | __GFP_ZERO, 0);
		if (!page) {
			free_regions();
			return -ENOMEM;
		}
		per_cpu(cpu_vmx, cpu).region = page_address(page);
		core_init_vmx_region(page_address(page));
	}
	return 0;
}

/*
 * Into VMX operation and out again, once on each CPU: what doesn't work is better known now than at
 * the first VM.
 */
static int probe_every_cpu(void)
{
	int r;

	cpus_read_lock();
	mutex_lock(&users_lock);
	r = enter_vmx_everywhere();
	on_each_cpu(leave_vmx_here, NULL, 1);
	mutex_unlock(&users_lock);
	cpus_read_unlock();
	return r;
}

int cpus_init(void)
{
	int r;

	uret_init();
	r = alloc_regions();
	if (r)
		return r;
	r = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "minivmx:online", cpu_comes, cpu_goes);
	if (r < 0)
		goto out_regions;
	hotplug_state = r;
	r = probe_every_cpu();
	if (r)
		goto out_hotplug;
	r = emergency_init();
	if (r)
		goto out_hotplug;
	compat_register_syscore(&syscore);
	register_reboot_notifier(&reboot_notifier);
	return 0;

out_hotplug:
	cpuhp_remove_state_nocalls(hotplug_state);
out_regions:
	free_regions();
	return r;
}

void cpus_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	compat_unregister_syscore(&syscore);
	emergency_exit();
	cpuhp_remove_state_nocalls(hotplug_state);
	free_regions();
}
