// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding other hypervisors. Modules can't look others up by name, but their own directory in
 * /sys/module leads to the set of all of them.
 */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/printk.h>

#include <minivmx/host.h>

#include "holder.h"

static struct kobject *find_module_directory(const char *name)
{
	return kset_find_obj(THIS_MODULE->mkobj.kobj.kset, name);
}

bool holder_module_present(const char *name)
{
	struct kobject *directory = find_module_directory(name);

	kobject_put(directory);
	return directory;
}

bool holder_kvm_in_use(void)
{
	struct kobject *directory = find_module_directory("kvm");
	struct module *kvm;
	bool in_use;

	if (!directory)
		return false;
	/* No module behind it: built into the kernel, where nothing counts its users. */
	kvm = container_of(directory, struct module_kobject, kobj)->mod;
	in_use = !kvm || module_refcount(kvm) > 0;
	kobject_put(directory);
	return in_use;
}

void holder_report(int cpu)
{
	static const char *const known[] = { "kvm_intel", "vboxdrv", "vmmon", "jailhouse" };
	int i;

	if (!host_log_allowed())
		return;
	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if (!holder_module_present(known[i]))
			continue;
		pr_err("VMX is in use (CR4.VMXE is set on CPU %d), it seems by %s: end its virtual machines, or: modprobe -r %s\n",
		       cpu, known[i], known[i]);
		return;
	}
	pr_err("VMX is in use by another hypervisor (CR4.VMXE is set on CPU %d): unload it, and try again\n",
	       cpu);
}
