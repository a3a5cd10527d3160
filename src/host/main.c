// SPDX-License-Identifier: GPL-2.0-only
/* The module: its parameters, and the order in which things come to life and go. */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/module.h>
#include <linux/preempt.h>

#include <minivmx/host.h>

#include "breakage.h"
#include "clock.h"
#include "compat.h"
#include "cpus.h"
#include "debugfs.h"
#include "device.h"
#include "host_info.h"
#include "objects.h"
#include "shrinker.h"
#include "world.h"

/*
 * Names, types, permissions and defaults are kvm_intel's. The core keeps a pointer to them: what
 * the hardware lacks reads back as off, and dump_invalid_vmcs may change at any time.
 */
static struct core_params params = {
	.vnmi = true,
	.preemption_timer = true,
	.ept = true,
	.eptad = true,
	.vpid = true,
	.unrestricted_guest = true,
	.flexpriority = true,
	.pml = true,
	.enable_apicv = true,
	.emulate_invalid_guest_state = true,
	.dump_invalid_vmcs = false,
	.error_on_inconsistent_vmcs_config = true,
	.ple_gap = 128,
	.ple_window = 4096,
	.report = 1,
};

#define PARAMETER(name, type, permissions, description)                                            \
	module_param_named(name, params.name, type, permissions);                                  \
	MODULE_PARM_DESC(name, description)

PARAMETER(vnmi, bool, 0444, "virtual NMIs");
PARAMETER(preemption_timer, bool, 0444, "VMX-preemption timer");
PARAMETER(ept, bool, 0444, "extended page tables");
PARAMETER(eptad, bool, 0444, "accessed and dirty flags in extended page tables");
PARAMETER(vpid, bool, 0444, "virtual-processor identifiers");
PARAMETER(unrestricted_guest, bool, 0444, "real mode and unpaged protected mode run directly");
PARAMETER(flexpriority, bool, 0444, "virtualized APIC accesses");
PARAMETER(pml, bool, 0444, "page-modification logging");
PARAMETER(enable_apicv, bool, 0444,
	  "APIC-register virtualization, virtual-interrupt delivery, posted interrupts");
PARAMETER(emulate_invalid_guest_state, bool, 0444,
	  "without unrestricted_guest, emulate instructions while the guest's segments don't fit");
PARAMETER(dump_invalid_vmcs, bool, 0644, "print the whole VMCS after a failed VM entry");
PARAMETER(error_on_inconsistent_vmcs_config, bool, 0444,
	  "refuse to load when capabilities contradict each other, instead of doing without");
PARAMETER(ple_gap, uint, 0444,
	  "pause-loop exiting: largest gap between two PAUSEs of a loop, in TSC ticks; 0: off");
PARAMETER(ple_window, uint, 0444, "pause-loop exiting: how long a loop may run, in TSC ticks");
PARAMETER(report, uint, 0444,
	  "at load, print no report (0), a screen (1), or every control bit (2)");

static int setup_core(void)
{
	struct core_host_info info;
	int r;

	describe_host(&info, &params);
	/* All of it on one CPU; cpus_init() compares the others with that one. */
	migrate_disable();
	r = core_hardware_setup(&params, &info);
	migrate_enable();
	return r;
}

/* Between two VM entries interrupts are off, and what is answered there may signal an eventfd. */
static int check_kernel(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		return 0;
	pr_err("kernels with PREEMPT_RT are not supported: their locks sleep where interrupts are off here\n");
	return -EOPNOTSUPP;
}

static int __init minivmx_init(void)
{
	int r;

	r = check_kernel();
	if (r)
		return r;
	r = cpus_check_unused();
	if (r)
		return r;
	r = setup_core();
	if (r)
		return r;
	r = l1d_init(params.ept);
	if (r)
		goto out_core;
	r = kick_init();
	if (r)
		goto out_l1d;
	r = cpus_init();
	if (r)
		goto out_kick;
	r = shrinker_init(!params.ept);
	if (r)
		goto out_cpus;
	preempt_notifier_inc();
	clock_init();
	breakage_init();
	debugfs_init();
	r = device_init();
	if (r)
		goto out_debugfs;
	return 0;

out_debugfs:
	debugfs_exit();
	clock_exit();
	preempt_notifier_dec();
	shrinker_exit();
out_cpus:
	cpus_exit();
out_kick:
	kick_exit();
out_l1d:
	l1d_exit();
out_core:
	core_hardware_unsetup();
	return r;
}

static void __exit minivmx_exit(void)
{
	device_exit();
	mmu_notifiers_exit();
	debugfs_exit();
	clock_exit();
	preempt_notifier_dec();
	shrinker_exit();
	cpus_exit();
	kick_exit();
	l1d_exit();
	core_hardware_unsetup();
}

module_init(minivmx_init);
module_exit(minivmx_exit);

MODULE_DESCRIPTION("A small hypervisor for Intel VT-x with KVM's interface");
MODULE_LICENSE("GPL");
