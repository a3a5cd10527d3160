// SPDX-License-Identifier: GPL-2.0-only
/*
 * The callback that ends VMX operation when the kernel crashes.
 *
 * The kernel has one slot for it and warns when it is taken twice. kvm takes it without asking
 * (6.1: when kvm_intel is loaded; 6.12: when it first enters VMX operation), so it is only ours
 * while kvm_intel is not there: it is given back before kvm_intel's init runs, and taken again
 * after it is gone. While kvm has the slot, its callback still executes VMXOFF on every CPU with
 * CR4.VMXE set, ours included; only our VMCSs aren't cleared first.
 */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/string.h>
#include <asm/reboot.h>

#include "cpus.h"
#include "holder.h"

static DEFINE_MUTEX(slot_lock);
static bool slot_is_ours;

/*
 * A module shows up in /sys/module only after its coming was announced. In between it already
 * counts as a user of kvm.ko, on which it depends, so one of the two always tells.
 */
static bool kvm_may_want_slot(void)
{
	return holder_module_present("kvm_intel") || holder_kvm_in_use();
}

static void take_slot(void)
{
	lockdep_assert_held(&slot_lock);
	if (slot_is_ours)
		return;
	cpu_emergency_register_virt_callback(cpus_emergency_off);
	slot_is_ours = true;
}

static void give_slot_back(void)
{
	lockdep_assert_held(&slot_lock);
	if (!slot_is_ours)
		return;
	cpu_emergency_unregister_virt_callback(cpus_emergency_off);
	slot_is_ours = false;
}

void emergency_take_slot(void)
{
	mutex_lock(&slot_lock);
	if (!slot_is_ours && !kvm_may_want_slot())
		take_slot();
	mutex_unlock(&slot_lock);
}

static int on_module(struct notifier_block *block, unsigned long event, void *data)
{
	const struct module *module = data;

	if (strcmp(module->name, "kvm_intel"))
		return NOTIFY_DONE;
	mutex_lock(&slot_lock);
	if (event == MODULE_STATE_COMING)
		give_slot_back(); /* its init has not run yet */
	else if (event == MODULE_STATE_GOING)
		take_slot(); /* its exit, or what its init did, is over */
	mutex_unlock(&slot_lock);
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = {
	.notifier_call = on_module,
};

int emergency_init(void)
{
	int r = register_module_notifier(&module_notifier);

	if (!r)
		emergency_take_slot();
	return r;
}

void emergency_exit(void)
{
	unregister_module_notifier(&module_notifier);
	mutex_lock(&slot_lock);
	give_slot_back();
	mutex_unlock(&slot_lock);
}
