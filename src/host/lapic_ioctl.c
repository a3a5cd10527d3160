// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU's ioctls around its local APIC, and whether it runs at all. */
#include <linux/kvm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "objects.h"

static long get_lapic(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_lapic_state *state = kzalloc(sizeof(*state), GFP_KERNEL_ACCOUNT);
	long r;

	if (!state)
		return -ENOMEM;
	r = core_get_lapic(vcpu->core, state);
	if (!r && copy_to_user(user, state, sizeof(*state)))
		r = -EFAULT;
	kfree(state);
	return r;
}

static long set_lapic(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_lapic_state *state = memdup_user(user, sizeof(*state));
	long r;

	if (IS_ERR(state))
		return PTR_ERR(state);
	r = core_set_lapic(vcpu->core, state);
	kfree(state);
	return r;
}

static long get_mp_state(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_mp_state state = {};
	int r = core_get_mp_state(vcpu->core, &state.mp_state);

	if (r)
		return r;
	return copy_to_user(user, &state, sizeof(state)) ? -EFAULT : 0;
}

static long set_mp_state(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_mp_state state;

	if (copy_from_user(&state, user, sizeof(state)))
		return -EFAULT;
	return core_set_mp_state(vcpu->core, state.mp_state);
}

static long set_vapic_addr(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_vapic_addr vapic;

	/* Before the pointer is looked at, as in KVM. */
	if (!core_has_lapic(vcpu->core))
		return -EINVAL;
	if (copy_from_user(&vapic, user, sizeof(vapic)))
		return -EFAULT;
	return core_set_vapic_addr(vcpu->core, vapic.vapic_addr);
}

static long tpr_access_reporting(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_tpr_access_ctl control;
	int r;

	if (copy_from_user(&control, user, sizeof(control)))
		return -EFAULT;
	r = core_set_tpr_access_reporting(vcpu->core, control.enabled, control.flags);
	if (r)
		return r;
	return copy_to_user(user, &control, sizeof(control)) ? -EFAULT : 0;
}

long vcpu_lapic_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case KVM_GET_LAPIC:
		return core_has_lapic(vcpu->core) ? get_lapic(vcpu, user) : -EINVAL;
	case KVM_SET_LAPIC:
		return core_has_lapic(vcpu->core) ? set_lapic(vcpu, user) : -EINVAL;
	case KVM_GET_MP_STATE:
		return get_mp_state(vcpu, user);
	case KVM_SET_MP_STATE:
		return set_mp_state(vcpu, user);
	case KVM_SET_VAPIC_ADDR:
		return set_vapic_addr(vcpu, user);
	case KVM_TPR_ACCESS_REPORTING:
		return tpr_access_reporting(vcpu, user);
	default:
		return -EINVAL;
	}
}
