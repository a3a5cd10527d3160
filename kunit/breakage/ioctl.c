// SPDX-License-Identifier: GPL-2.0-only
/* The test build's ioctls. */
#define pr_fmt(fmt) "minivmx_test: " fmt

#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/printk.h>
#include <linux/uaccess.h>

#include "../../src/host/breakage.h"
#include "../../src/host/objects.h"
#include "breakage.h"
#include "core.h"

void breakage_init(void)
{
	add_taint(TAINT_TEST, LOCKDEP_STILL_OK);
	pr_info("a test build: its clients can break VM entries\n");
}

static int break_next_entry(struct host_vcpu *vcpu, const void __user *user)
{
	struct minivmx_breakage breakage;

	/*
	 * A vCPU that moves to another CPU gets that CPU's host state, and what it had before is
	 * put back afterwards.
	 */
	if (num_online_cpus() != 1)
		return -EOPNOTSUPP;
	if (copy_from_user(&breakage, user, sizeof(breakage)))
		return -EFAULT;
	return core_breakage_set(vcpu->core, &breakage);
}

static int get_result(struct host_vcpu *vcpu, void __user *user)
{
	struct minivmx_breakage_result result = {};
	int r = core_breakage_result(vcpu->core, &result);

	if (r)
		return r;
	return copy_to_user(user, &result, sizeof(result)) ? -EFAULT : 0;
}

long breakage_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case MINIVMX_BREAK_ENTRY:
		return break_next_entry(vcpu, user);
	case MINIVMX_GET_BREAKAGE:
		return get_result(vcpu, user);
	default:
		return -EINVAL;
	}
}
