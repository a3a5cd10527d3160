// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls that KVM lacks, MINIVMX_*, on a vCPU. As with KVM's, arguments are copied in once, and
 * what they mean is the core's to know.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <minivmx.h>

#include "breakage.h"
#include "objects.h"

/* More than a client can have use for: what the kernel sets aside while it answers. */
#define MOST_CONTROL_STEPS 512

static int get_controls(struct host_vcpu *vcpu, struct minivmx_controls __user *user)
{
	struct minivmx_control_step *steps;
	struct minivmx_controls controls;
	void __user *to;
	u32 room;
	int r;

	if (copy_from_user(&controls, user, sizeof(controls)))
		return -EFAULT;
	if (controls.pad || memchr_inv(controls.reserved, 0, sizeof(controls.reserved)))
		return -EINVAL;
	to = u64_to_user_ptr(controls.steps);
	room = min_t(u32, controls.count, MOST_CONTROL_STEPS);
	/* One at least, so that the core has somewhere to point at. */
	steps = kvcalloc(max_t(u32, room, 1), sizeof(*steps), GFP_KERNEL);
	if (!steps)
		return -ENOMEM;
	controls.count = room;
	r = core_get_controls(vcpu->core, &controls, steps);
	if (!r && copy_to_user(to, steps, array_size(controls.count, sizeof(*steps))))
		r = -EFAULT;
	kvfree(steps);
	/* -E2BIG is to say how much room there should be. */
	if ((!r || r == -E2BIG) && copy_to_user(user, &controls, sizeof(controls)))
		r = -EFAULT;
	return r;
}

/* The same for the findings of an audit. */
#define MOST_FINDINGS 64

static int get_entry_audit(struct host_vcpu *vcpu, struct minivmx_entry_audit __user *user)
{
	struct minivmx_audit_finding *findings;
	struct minivmx_entry_audit audit;
	int r;

	if (copy_from_user(&audit, user, sizeof(audit)))
		return -EFAULT;
	if (audit.pad || memchr_inv(audit.reserved, 0, sizeof(audit.reserved)))
		return -EINVAL;
	audit.count = min_t(u32, audit.count, MOST_FINDINGS);
	findings = kvcalloc(max_t(u32, audit.count, 1), sizeof(*findings), GFP_KERNEL);
	if (!findings)
		return -ENOMEM;
	r = core_get_entry_audit(vcpu->core, &audit, findings);
	if (!r && copy_to_user(u64_to_user_ptr(audit.findings), findings,
			       array_size(audit.count, sizeof(*findings))))
		r = -EFAULT;
	kvfree(findings);
	if ((!r || r == -E2BIG) && copy_to_user(user, &audit, sizeof(audit)))
		r = -EFAULT;
	return r;
}

/* NULL for none, or an ERR_PTR(). */
static void *copy_ranges(u64 address, u32 count, size_t size)
{
	if (!count)
		return NULL;
	if (count > MINIVMX_MAX_INTERCEPT_RANGES)
		return ERR_PTR(-EINVAL);
	return memdup_user(u64_to_user_ptr(address), array_size(count, size));
}

static int set_intercepts(struct host_vcpu *vcpu, const struct minivmx_intercepts __user *user)
{
	struct minivmx_intercepts asked;
	struct minivmx_port_range *ports;
	struct minivmx_msr_range *msrs;
	int r;

	if (copy_from_user(&asked, user, sizeof(asked)))
		return -EFAULT;
	ports = copy_ranges(asked.ports, asked.port_count, sizeof(*ports));
	if (IS_ERR(ports))
		return PTR_ERR(ports);
	msrs = copy_ranges(asked.msrs, asked.msr_count, sizeof(*msrs));
	r = PTR_ERR_OR_ZERO(msrs);
	if (!r) {
		r = core_set_intercepts(vcpu->core, &asked, ports, msrs);
		kfree(msrs);
	}
	kfree(ports);
	return r;
}

long vcpu_own_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case MINIVMX_GET_CONTROLS:
		return get_controls(vcpu, user);
	case MINIVMX_GET_ENTRY_AUDIT:
		return get_entry_audit(vcpu, user);
	case MINIVMX_SET_INTERCEPTS:
		return set_intercepts(vcpu, user);
	default:
		return breakage_ioctl(vcpu, ioctl, user);
	}
}
